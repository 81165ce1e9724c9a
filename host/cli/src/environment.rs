//! The environment of the process, read once: the only place that reads variables.

use std::collections::BTreeMap;
use std::path::PathBuf;

use cooperage_engine::http::ProxySettings;

/// The variables, and who we were when the process began.
pub(crate) struct Environment {
    variables: BTreeMap<String, String>,
    superuser: bool,
}

impl Environment {
    /// Reads the environment. Variables that are not text are left out.
    #[allow(clippy::disallowed_methods, reason = "this is the one place")]
    pub(crate) fn read() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self {
            variables: std::env::vars_os().filter_map(text).collect(),
            superuser: rustix::process::geteuid().is_root(),
        }
    }

    /// The value of a variable that is set and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// All variables.
    pub(crate) fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    fn home(&self) -> PathBuf {
        PathBuf::from(self.get("HOME").unwrap_or("/"))
    }

    /// A directory of the XDG specification, or its default below the home directory.
    fn base(&self, variable: &str, default: &str) -> PathBuf {
        self.get(variable)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .unwrap_or_else(|| self.home().join(default))
    }

    /// Where the store is, unless the user says otherwise.
    pub(crate) fn default_root(&self) -> PathBuf {
        if self.superuser {
            return PathBuf::from("/var/lib/cooperage");
        }
        self.base("XDG_DATA_HOME", ".local/share").join("cooperage")
    }

    /// Where the user's configuration is.
    pub(crate) fn config_directory(&self) -> PathBuf {
        self.base("XDG_CONFIG_HOME", ".config").join("cooperage")
    }

    /// What can be made again: compiled plugins, plugins from registries.
    pub(crate) fn cache_directory(&self) -> PathBuf {
        self.base("XDG_CACHE_HOME", ".cache").join("cooperage")
    }

    /// The login file that is written, and further ones that are read.
    pub(crate) fn login_files(&self) -> (PathBuf, Vec<PathBuf>) {
        let docker = self.get("DOCKER_CONFIG").map_or_else(|| self.home().join(".docker"), PathBuf::from);
        let podman = self.get("REGISTRY_AUTH_FILE").map(PathBuf::from);
        let podman = podman.or_else(|| Some(PathBuf::from(self.get("XDG_RUNTIME_DIR")?).join("containers/auth.json")));
        (docker.join("config.json"), podman.into_iter().collect())
    }

    /// Directories with certificates by host, as Docker has them.
    pub(crate) fn certificate_directories(&self) -> Vec<PathBuf> {
        vec![self.config_directory().join("certs.d"), PathBuf::from("/etc/docker/certs.d")]
    }

    /// Proxies, by the usual variables. HTTP_PROXY in capitals is not read: a CGI server would set it.
    pub(crate) fn proxies(&self) -> ProxySettings {
        let get = |names: [&str; 2]| names.into_iter().find_map(|name| self.get(name)).map(str::to_owned);
        ProxySettings {
            http: self.get("http_proxy").map(str::to_owned),
            https: get(["https_proxy", "HTTPS_PROXY"]),
            no_proxy: get(["no_proxy", "NO_PROXY"]),
        }
    }

    /// SOURCE_DATE_EPOCH in seconds.
    pub(crate) fn epoch(&self) -> Result<Option<u64>, String> {
        let Some(text) = self.get("SOURCE_DATE_EPOCH") else { return Ok(None) };
        text.parse().map(Some).map_err(|_| format!("SOURCE_DATE_EPOCH is {text:?}, expected seconds since 1970"))
    }
}
