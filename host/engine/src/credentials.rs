//! The user's registry credentials: Docker's `config.json`, its helpers, and files of the same form such as Podman's
//! `auth.json`. Knows nothing of registries beyond their names, and never writes a secret to a log or an error.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use serde_json::{Map, Value, json};

/// The key under which Docker keeps what belongs to Docker Hub, for historical reasons.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// Docker's user name for an identity token in a helper.
const TOKEN_USER: &str = "<token>";

/// How to prove who the user is. Its debug form shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// User name; empty with an identity token.
    pub username: String,
    /// Password, or the identity token (an OAuth2 refresh token).
    pub password: String,
    /// Whether `password` is an identity token.
    pub identity_token: bool,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.identity_token { "identity token" } else { "password" };
        write!(f, "Credential({:?}, {kind})", self.username)
    }
}

/// Why credentials cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is not what Docker writes.
    #[error("{path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A helper program failed.
    #[error("credential helper `{helper}` cannot {verb} the credentials of {host}: {reason}")]
    Helper {
        /// Name of the program.
        helper: String,
        /// `get`, `store` or `erase`.
        verb: &'static str,
        /// The registry.
        host: String,
        /// What went wrong; never output that may hold a secret.
        reason: String,
    },
}

/// Where a login was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// In a helper, by the name of its program.
    Helper(String),
    /// Readable in a file.
    File(PathBuf),
}

/// The files that hold credentials. All calls block: helpers are processes.
#[derive(Debug, Clone)]
pub struct Credentials {
    config: PathBuf,
    others: Vec<PathBuf>,
}

impl Credentials {
    /// Reads `config` (Docker's `config.json`), then `others` in order; writes to `config` only. None need exist.
    pub fn new(config: PathBuf, others: Vec<PathBuf>) -> Self {
        Self { config, others }
    }

    /// What the user has for a registry (`host` or `host:port`; Docker Hub by any of its names), or for `repository`
    /// in particular, as Podman's file allows.
    pub fn get(&self, host: &str, repository: Option<&str>) -> Result<Option<Credential>, Error> {
        for path in std::iter::once(&self.config).chain(&self.others) {
            let Some(bytes) = read(path)? else { continue };
            let file = parse(path, &bytes)?;
            for key in keys(&file, host, repository) {
                match docker_credential::get_credential_from_reader(bytes.as_slice(), &key) {
                    Ok(found) => return Ok(Some(found.into())),
                    Err(error) => match describe(error) {
                        None => {}
                        Some(reason) => {
                            let helper = helper_of(&file, &key).unwrap_or_else(|| path.display().to_string());
                            return Err(Error::Helper { helper, verb: "get", host: host.to_owned(), reason });
                        }
                    },
                }
            }
        }
        Ok(None)
    }

    /// Keeps a credential, in the helper that the user has configured for this registry or in general, else in the
    /// file, as `docker login` does.
    pub fn store(&self, host: &str, credential: &Credential) -> Result<Stored, Error> {
        let mut file = self.load()?;
        let key = storage_key(host);
        if let Some(helper) = helper_of(&file, &key) {
            let user = if credential.identity_token { TOKEN_USER } else { &credential.username };
            let input = json!({ "ServerURL": key, "Username": user, "Secret": credential.password });
            call(&helper, "store", host, &input.to_string())?;
            // Docker lists such registries too, with nothing in the entry.
            auths(&mut file).insert(key, json!({}));
            self.save(&file)?;
            return Ok(Stored::Helper(helper));
        }
        let entry = if credential.identity_token {
            let user = base64(&format!("{}:", credential.username));
            json!({ "auth": user, "identitytoken": credential.password })
        } else {
            json!({ "auth": base64(&format!("{}:{}", credential.username, credential.password)) })
        };
        auths(&mut file).insert(key, entry);
        self.save(&file)?;
        Ok(Stored::File(self.config.clone()))
    }

    /// Forgets the credential of a registry; whether there was one.
    pub fn erase(&self, host: &str) -> Result<bool, Error> {
        let mut file = self.load()?;
        let key = storage_key(host);
        let mut found = false;
        if let Some(helper) = helper_of(&file, &key)
            && self.get(host, None)?.is_some()
        {
            call(&helper, "erase", host, &key)?;
            found = true;
        }
        let list = auths(&mut file);
        let before = list.len();
        list.retain(|entry, _| *entry != key && !same_registry(entry, host));
        if list.len() < before {
            found = true;
            self.save(&file)?;
        }
        Ok(found)
    }

    fn load(&self) -> Result<Map<String, Value>, Error> {
        match read(&self.config)? {
            Some(bytes) => parse(&self.config, &bytes),
            None => Ok(Map::new()),
        }
    }

    /// Replaces the file in one step, readable by the user alone. A symbolic link stays one.
    fn save(&self, file: &Map<String, Value>) -> Result<(), Error> {
        let target = std::fs::canonicalize(&self.config).unwrap_or_else(|_| self.config.clone());
        let failed = |source| Error::File { path: target.clone(), source };
        let directory = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        {
            use std::os::unix::fs::DirBuilderExt as _;
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        }
        let mut text = serde_json::to_vec_pretty(file).expect("JSON values can be written");
        text.push(b'\n');
        let temporary = directory.join(format!(".config.json.{}", std::process::id()));
        let write = || {
            use std::os::unix::fs::OpenOptionsExt as _;
            let _ = std::fs::remove_file(&temporary);
            let mut out = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            out.write_all(&text)?;
            out.sync_all()?;
            std::fs::rename(&temporary, &target)
        };
        write().map_err(|source| {
            let _ = std::fs::remove_file(&temporary);
            failed(source)
        })
    }
}

impl From<DockerCredential> for Credential {
    fn from(found: DockerCredential) -> Self {
        match found {
            DockerCredential::IdentityToken(password) => {
                Self { username: String::new(), password, identity_token: true }
            }
            DockerCredential::UsernamePassword(username, password) => {
                Self { username, password, identity_token: false }
            }
        }
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File { path: path.to_owned(), source }),
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Map<String, Value>, Error> {
    let malformed = |reason: String| Error::Malformed { path: path.to_owned(), reason };
    if bytes.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(file)) => Ok(file),
        Ok(_) => Err(malformed("not a JSON object".into())),
        // The parser's message names line and column, never a value.
        Err(error) => Err(malformed(format!("not JSON: line {}, column {}", error.line(), error.column()))),
    }
}

fn is_hub(host: &str) -> bool {
    matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io" | HUB_KEY)
}

fn storage_key(host: &str) -> String {
    if is_hub(host) { HUB_KEY.to_owned() } else { host.to_owned() }
}

fn same_registry(key: &str, host: &str) -> bool {
    let key_host = key.trim_start_matches("https://").trim_start_matches("http://");
    let key_host = if key_host == key { key } else { key_host.split('/').next().unwrap_or(key_host) };
    key_host == host || (is_hub(host) && is_hub(key_host))
}

/// The keys to ask for, the most particular first. Keys with a path are asked only if the file has them: to ask a
/// helper for each prefix would start a process per prefix.
fn keys(file: &Map<String, Value>, host: &str, repository: Option<&str>) -> Vec<String> {
    let mut keys = Vec::new();
    if let (Some(auths), Some(repository)) = (file.get("auths").and_then(Value::as_object), repository) {
        let hub = if is_hub(host) { "docker.io" } else { host };
        let mut path = format!("{hub}/{repository}");
        while path.len() > hub.len() {
            if auths.contains_key(&path) {
                keys.push(path.clone());
            }
            path.truncate(path.rfind('/').unwrap_or(0));
        }
    }
    keys.push(storage_key(host));
    if is_hub(host) {
        keys.push("docker.io".to_owned());
    }
    keys
}

/// What went wrong; none if there simply is no credential.
fn describe(error: CredentialRetrievalError) -> Option<String> {
    match error {
        CredentialRetrievalError::NoCredentialConfigured | CredentialRetrievalError::ConfigNotFound => None,
        CredentialRetrievalError::HelperFailure { stdout, stderr, .. } => {
            // The message that the reference helpers share.
            if stdout.contains("credentials not found") || stderr.contains("credentials not found") {
                return None;
            }
            Some(stderr.lines().next().filter(|line| !line.is_empty()).unwrap_or("it failed").to_owned())
        }
        CredentialRetrievalError::HelperCommunicationError => {
            Some("it cannot be started; is it installed and in PATH?".to_owned())
        }
        other => Some(other.to_string()),
    }
}

fn helper_of(file: &Map<String, Value>, key: &str) -> Option<String> {
    let own = file.get("credHelpers").and_then(|helpers| helpers.get(key)).and_then(Value::as_str);
    let name = own.filter(|n| !n.is_empty()).or_else(|| file.get("credsStore").and_then(Value::as_str))?;
    (!name.is_empty()).then(|| format!("docker-credential-{name}"))
}

fn auths(file: &mut Map<String, Value>) -> &mut Map<String, Value> {
    let entry = file.entry("auths").or_insert_with(|| json!({}));
    if !entry.is_object() {
        *entry = json!({});
    }
    entry.as_object_mut().expect("made one")
}

fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn call(helper: &str, verb: &'static str, host: &str, input: &str) -> Result<(), Error> {
    let failed = |reason: String| Error::Helper { helper: helper.to_owned(), verb, host: host.to_owned(), reason };
    let mut child = Command::new(helper)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not read its input says why by its exit status.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("").to_owned();
    Err(failed(if reason.is_empty() { output.status.to_string() } else { reason }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, Credentials) {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.json");
        std::fs::write(&config, text).unwrap();
        (directory, Credentials::new(config, Vec::new()))
    }

    fn password(username: &str, password: &str) -> Credential {
        Credential { username: username.into(), password: password.into(), identity_token: false }
    }

    #[test]
    fn reads_what_docker_writes() {
        // base64 of "alice:p:w"
        let (_keep, c) = file(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"YWxpY2U6cDp3"},
                "r.example:5000":{"auth":"YWxpY2U6cDp3"},
                "token.example":{"auth":"eDo=","identitytoken":"refresh"},
                "r.example:5000/team":{"username":"team","password":"t"}}}"#,
        );
        for hub in ["docker.io", "registry-1.docker.io", "index.docker.io"] {
            assert_eq!(c.get(hub, Some("library/busybox")).unwrap(), Some(password("alice", "p:w")), "{hub}");
        }
        assert_eq!(c.get("r.example:5000", None).unwrap(), Some(password("alice", "p:w")));
        assert_eq!(c.get("r.example:5000", Some("team/app")).unwrap(), Some(password("team", "t")));
        assert_eq!(c.get("r.example:5000", Some("teams/app")).unwrap(), Some(password("alice", "p:w")));
        assert_eq!(c.get("r.example", None).unwrap(), None);
        assert!(c.get("token.example", None).unwrap().unwrap().identity_token);
    }

    #[test]
    fn other_files_come_after() {
        let (keep, first) = file(r#"{"auths":{"a.example":{"username":"a","password":"1"}}}"#);
        let other = keep.path().join("auth.json");
        std::fs::write(
            &other,
            r#"{"auths":{"a.example":{"username":"b","password":"2"},"b.example":{"username":"b","password":"2"}}}"#,
        )
        .unwrap();
        let c = Credentials::new(first.config, vec![keep.path().join("none.json"), other]);
        assert_eq!(c.get("a.example", None).unwrap(), Some(password("a", "1")));
        assert_eq!(c.get("b.example", None).unwrap(), Some(password("b", "2")));
    }

    #[test]
    fn login_and_logout_keep_the_rest_of_the_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let (keep, c) = file(
            r#"{"proxies":{"default":{"httpProxy":"x"}},"auths":{"a.example":{"auth":"YTox","email":"e"}},"detachKeys":"ctrl-z"}"#,
        );
        c.store("docker.io", &password("alice", "s3cret")).unwrap();
        let token = Credential { username: String::new(), password: "refresh".into(), identity_token: true };
        assert_eq!(c.store("azure.example", &token).unwrap(), Stored::File(keep.path().join("config.json")));
        assert_eq!(c.get("docker.io", None).unwrap(), Some(password("alice", "s3cret")));
        assert_eq!(c.get("azure.example", None).unwrap(), Some(token));
        let path = keep.path().join("config.json");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(c.erase("docker.io").unwrap());
        assert!(!c.erase("docker.io").unwrap());
        assert!(c.erase("azure.example").unwrap());
        let now: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            now,
            json!({"proxies":{"default":{"httpProxy":"x"}},"auths":{"a.example":{"auth":"YTox","email":"e"}},"detachKeys":"ctrl-z"})
        );
        assert_eq!(std::fs::read_dir(keep.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_link_stays_a_link_and_directories_are_made() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().join("deep/er/real.json");
        Credentials::new(real.clone(), Vec::new()).store("a.example", &password("a", "1")).unwrap();
        let link = directory.path().join("config.json");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        Credentials::new(link.clone(), Vec::new()).store("b.example", &password("b", "2")).unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        let c = Credentials::new(real, Vec::new());
        assert!(c.get("a.example", None).unwrap().is_some() && c.get("b.example", None).unwrap().is_some());
    }

    const HELPER: &str = r#"#!/bin/sh
cd "$(dirname "$0")" && echo "$1" >> log
case "$1" in
    get) read -r key; [ -e kept ] && cat kept || { echo "credentials not found in native keychain"; exit 1; } ;;
    store) cat > kept ;;
    erase) rm kept ;;
esac
"#;

    /// Programs are found through PATH, which only a process of its own may change: this test runs itself again.
    #[test]
    fn helpers_keep_what_they_are_given() {
        use std::os::unix::fs::PermissionsExt as _;
        const NAME: &str = "credentials::tests::helpers_keep_what_they_are_given";
        const INNER: &str = "COOPERAGE_TEST_HELPERS";
        #[expect(clippy::disallowed_methods, reason = "the test speaks to itself")]
        let (inner, path) = (std::env::var(INNER).is_ok(), std::env::var("PATH").unwrap_or_default());
        let directory = tempfile::tempdir().unwrap();
        if !inner {
            let program = directory.path().join("docker-credential-test");
            std::fs::write(&program, HELPER).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            let out = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", NAME, "--nocapture"])
                .env("PATH", format!("{}:{path}", directory.path().display()))
                .env(INNER, "1")
                .output()
                .unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            assert!(String::from_utf8_lossy(&out.stdout).contains("1 passed"));
            assert_eq!(std::fs::read_to_string(directory.path().join("log")).unwrap().lines().count(), 8);
            return;
        }
        let (keep, c) = file(r#"{"credsStore":"test","x":1}"#);
        assert_eq!(c.get("r.example", None).unwrap(), None);
        assert_eq!(
            c.store("r.example", &password("alice", "s3cret")).unwrap(),
            Stored::Helper("docker-credential-test".into())
        );
        let text = std::fs::read_to_string(keep.path().join("config.json")).unwrap();
        assert!(text.contains("r.example") && !text.contains("s3cret"), "{text}");
        assert_eq!(c.get("r.example", None).unwrap(), Some(password("alice", "s3cret")));
        assert!(c.erase("r.example").unwrap());
        assert!(!c.erase("r.example").unwrap());
        let token = Credential { username: String::new(), password: "refresh".into(), identity_token: true };
        c.store("r.example", &token).unwrap();
        assert_eq!(c.get("r.example", None).unwrap(), Some(token));
    }

    #[test]
    fn mistakes_are_told_without_secrets() {
        let (_keep, c) = file(r#"{"auths":{"a.example":{"auth":"czNjcmV0"}"#);
        let error = c.get("a.example", None).unwrap_err().to_string();
        assert!(error.contains("line 1") && !error.contains("czNjcmV0"), "{error}");
        let (_keep, c) = file(r#"{"credHelpers":{"a.example":"surely-not-installed"}}"#);
        let error = c.get("a.example", None).unwrap_err().to_string();
        assert!(error.contains("docker-credential-surely-not-installed") && error.contains("PATH"), "{error}");
        assert_eq!(c.get("b.example", None).unwrap(), None);
        assert!(!format!("{:?}", password("alice", "s3cret")).contains("s3cret"));
    }
}
