//! Reads what a guest writes into the records of tree operations. Whatever this host does not know is `unsupported`,
//! never ignored: an option that is silently dropped may be the one that kept a secret.

use cooperage_solve::{CopyOptions, Error, ErrorKind, Mount, MountKind, Network, Process, Sharing, Tree};

use crate::bindings::imports::cooperage::plugin::trees;

/// A process without what can be wrong with it.
pub(super) fn process(process: trees::Process) -> Result<Process, Error> {
    let (mut hostname, mut shm_size) = (None, None);
    let mut limits = cooperage_solve::Limits::default();
    for (name, value) in process.options {
        match name.as_str() {
            "hostname" => hostname = Some(value),
            "shm-size" => shm_size = Some(size(&name, &value)?),
            "memory" => limits.memory = Some(size(&name, &value)?),
            "cpus" => limits.cpus = Some(processors(&name, &value)?),
            "pids" => limits.pids = Some(size(&name, &value)?),
            "timeout" => limits.timeout = Some(std::time::Duration::from_millis(size(&name, &value)?)),
            _ => return Err(unknown("a process", &name)),
        }
    }
    if process.args.is_empty() {
        return Err(Error::invalid("a process needs a program to run"));
    }
    let network = match process.network {
        trees::Network::Default => Network::Default,
        trees::Network::None => Network::None,
        trees::Network::Host => Network::Host,
    };
    let trees::Process { args, env, cwd, user, stdin, .. } = trees::Process { options: Vec::new(), ..process };
    Ok(Process { args, env, cwd, user, network, stdin, hostname, shm_size, limits })
}

/// Copy options without what can be wrong with them.
pub(super) fn copy_options(options: trees::CopyOptions) -> Result<CopyOptions, Error> {
    if let Some((name, _)) = options.options.first() {
        return Err(unknown("a copy", name));
    }
    let trees::CopyOptions { owner, mode, exclude, parents, link, unpack, .. } = options;
    Ok(CopyOptions { owner, mode, exclude, parents, link, unpack })
}

/// A mount without its source, which the caller has looked up already.
pub(super) struct MountRequest {
    pub kind: String,
    pub target: String,
    pub path: String,
    pub identity: String,
    pub read_only: bool,
    pub options: Vec<(String, String)>,
}

/// A mount without what can be wrong with it.
pub(super) fn mount(request: MountRequest, source: Option<Tree>) -> Result<Mount, Error> {
    let MountRequest { kind, target, path, identity, read_only, options } = request;
    let options = Options::read(&kind, options)?;
    let root = |path: String| if path.is_empty() { "/".to_owned() } else { path };
    let kind = match kind.as_str() {
        "bind" => {
            let source = source.ok_or_else(|| Error::invalid(format!("the bind mount at {target} has no source")))?;
            MountKind::Bind { source, path: root(path) }
        }
        "cache" => MountKind::Cache {
            identity,
            source: source.map(|tree| (tree, root(path))),
            sharing: options.sharing,
            mode: options.mode.unwrap_or(0o755),
            uid: options.uid,
            gid: options.gid,
        },
        "tmpfs" => MountKind::Tmpfs { size: options.size },
        "secret" => MountKind::Secret {
            name: path,
            mode: options.mode.unwrap_or(0o400),
            uid: options.uid,
            gid: options.gid,
            required: options.required,
            env: options.env,
        },
        other => {
            return Err(Error::new(ErrorKind::Unsupported, format!("there is no mount of kind `{other}`"))
                .hint("there are bind, cache, tmpfs and secret"));
        }
    };
    Ok(Mount { target, kind, read_only })
}

#[derive(Default)]
struct Options {
    mode: Option<u32>,
    uid: u32,
    gid: u32,
    size: Option<u64>,
    sharing: Sharing,
    required: bool,
    env: Option<String>,
}

impl Options {
    fn read(kind: &str, list: Vec<(String, String)>) -> Result<Self, Error> {
        let known: &[&str] = match kind {
            "cache" => &["mode", "uid", "gid", "sharing"],
            "tmpfs" => &["size"],
            "secret" => &["mode", "uid", "gid", "required", "env"],
            _ => &[],
        };
        let mut options = Self::default();
        for (name, value) in list {
            if !known.contains(&name.as_str()) {
                return Err(unknown(&format!("a {kind} mount"), &name));
            }
            match name.as_str() {
                "mode" => options.mode = Some(octal(&value)?),
                "uid" => options.uid = number(&name, &value)?,
                "gid" => options.gid = number(&name, &value)?,
                "size" => options.size = Some(size(&name, &value)?),
                "sharing" => options.sharing = sharing(&value)?,
                "required" => options.required = boolean(&name, &value)?,
                _ => options.env = Some(value),
            }
        }
        Ok(options)
    }
}

pub(super) fn unknown(what: &str, name: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{what} has no option `{name}`")).hint("a newer coop may know it")
}

fn octal(value: &str) -> Result<u32, Error> {
    let mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| Error::invalid(format!("`{value}` are not octal permission bits")))
}

fn number(name: &str, value: &str) -> Result<u32, Error> {
    value.parse().map_err(|_| Error::invalid(format!("{name}: `{value}` is not a number")))
}

fn size(name: &str, value: &str) -> Result<u64, Error> {
    value.parse().map_err(|_| Error::invalid(format!("{name}: `{value}` is not a whole number")))
}

fn processors(name: &str, value: &str) -> Result<f64, Error> {
    let number = value.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| Error::invalid(format!("{name}: `{value}` is not a number of processors")))
}

fn boolean(name: &str, value: &str) -> Result<bool, Error> {
    value.parse().map_err(|_| Error::invalid(format!("{name}: `{value}` is neither `true` nor `false`")))
}

fn sharing(value: &str) -> Result<Sharing, Error> {
    match value {
        "shared" => Ok(Sharing::Shared),
        "private" => Ok(Sharing::Private),
        "locked" => Ok(Sharing::Locked),
        _ => Err(Error::invalid(format!("sharing: `{value}` is none of shared, private, locked"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: &str, options: &[(&str, &str)]) -> MountRequest {
        MountRequest {
            kind: kind.into(),
            target: "/x".into(),
            path: String::new(),
            identity: "id".into(),
            read_only: false,
            options: options.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        }
    }

    fn kind_of(kind: &str, options: &[(&str, &str)]) -> ErrorKind {
        mount(request(kind, options), None).unwrap_err().kind
    }

    #[test]
    fn what_is_not_known_is_unsupported() {
        assert_eq!(kind_of("ssh", &[]), ErrorKind::Unsupported);
        assert_eq!(kind_of("tmpfs", &[("mode", "755")]), ErrorKind::Unsupported);
        assert_eq!(kind_of("cache", &[("encrypted", "true")]), ErrorKind::Unsupported);
        assert_eq!(kind_of("cache", &[("sharing", "sometimes")]), ErrorKind::InvalidInput);
        assert_eq!(kind_of("secret", &[("mode", "99999")]), ErrorKind::InvalidInput);
        assert_eq!(kind_of("bind", &[]), ErrorKind::InvalidInput);
    }

    #[test]
    fn defaults_are_those_of_a_dockerfile() {
        let MountKind::Secret { mode, required, .. } = mount(request("secret", &[]), None).unwrap().kind else {
            panic!()
        };
        assert_eq!((mode, required), (0o400, false));
        let options = [("sharing", "locked"), ("mode", "0700"), ("uid", "5")];
        let MountKind::Cache { mode, uid, sharing, .. } = mount(request("cache", &options), None).unwrap().kind else {
            panic!()
        };
        assert_eq!((mode, uid, sharing), (0o700, 5, Sharing::Locked));
    }
}
