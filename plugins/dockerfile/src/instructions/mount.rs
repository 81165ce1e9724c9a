//! `RUN --mount=type=...`: reads one mount. Does not know what `from` refers to.

use crate::fault::{Fault, nearest};

/// What a mount shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountKind {
    /// A part of a context, stage or image.
    Bind,
    /// A directory that lasts from run to run.
    Cache,
    /// An empty directory in memory.
    Tmpfs,
    /// A file with a secret.
    Secret,
}

/// Who may use a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Everybody.
    Shared,
    /// Whoever comes second gets another one.
    Private,
    /// Whoever comes second waits.
    Locked,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What it shows.
    pub kind: MountKind,
    /// `from`
    pub from: Option<String>,
    /// `source`, or empty
    pub source: String,
    /// `target`, or empty
    pub target: String,
    /// Whether writing is refused.
    pub read_only: bool,
    /// `size` of a tmpfs, in bytes
    pub size: Option<u64>,
    /// `id`, or empty
    pub id: String,
    /// `sharing` of a cache
    pub sharing: Option<Sharing>,
    /// Whether a secret must be there.
    pub required: bool,
    /// `env` of a secret
    pub env: Option<String>,
    /// `mode`, as octal digits
    pub mode: Option<u32>,
    /// `uid`
    pub uid: Option<u32>,
    /// `gid`
    pub gid: Option<u32>,
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "required",
    "size",
    "id",
    "sharing",
    "mode",
    "uid",
    "gid",
    "env",
];

/// The `from` of a mount, without reading the rest: stages are found before variables have values.
pub fn mount_from(value: &str) -> Result<Option<String>, Fault> {
    for field in fields(value)? {
        if let Some((key, from)) = field.split_once('=')
            && key.eq_ignore_ascii_case("from")
            && !from.is_empty()
        {
            if from.contains('$') {
                return Err(Fault::invalid("from= of a mount does not expand variables")
                    .hint("name a stage with FROM ... AS name, which does, and use that name"));
            }
            return Ok(Some(from.to_owned()));
        }
    }
    Ok(None)
}

/// Reads a mount; `expand` gives the values their variables.
pub fn mount(value: &str, expand: &mut dyn FnMut(&str) -> Result<String, Fault>) -> Result<Mount, Fault> {
    let fields = fields(value)?;
    let mut mount = Mount {
        kind: MountKind::Bind,
        from: mount_from(value)?,
        source: String::new(),
        target: String::new(),
        read_only: true,
        size: None,
        id: String::new(),
        sharing: None,
        required: false,
        env: None,
        mode: None,
        uid: None,
        gid: None,
    };
    let mut read_only = None;
    for field in &fields {
        let (key, given) = match field.split_once('=') {
            Some((key, given)) => (key.to_ascii_lowercase(), Some(expand(given)?)),
            None => (field.to_ascii_lowercase(), None),
        };
        if !KEYS.contains(&key.as_str()) {
            let hint = nearest(&key, KEYS).unwrap_or_else(|| format!("a mount knows {}", KEYS.join(", ")));
            return Err(Fault::invalid(format!("unexpected {key:?} in --mount={value}")).hint(hint));
        }
        match (key.as_str(), given) {
            ("readonly" | "ro", given) => read_only = Some(switch(&key, given)?),
            ("readwrite" | "rw", given) => read_only = Some(!switch(&key, given)?),
            ("required", given) => mount.required = switch(&key, given)?,
            (_, None) => {
                return Err(
                    Fault::invalid(format!("{key} of a mount needs a value")).hint(format!("write {key}=VALUE"))
                );
            }
            ("type", Some(given)) => mount.kind = kind(&given)?,
            ("source" | "src", Some(given)) => mount.source = given,
            ("target" | "dst" | "destination", Some(given)) => mount.target = given,
            ("size", Some(given)) => mount.size = Some(bytes(&given).ok_or_else(|| bad(&key, &given))?),
            ("id", Some(given)) => mount.id = given,
            ("sharing", Some(given)) => mount.sharing = Some(sharing(&given)?),
            ("mode", Some(given)) => mount.mode = Some(u32::from_str_radix(&given, 8).map_err(|_| bad(&key, &given))?),
            ("uid", Some(given)) => mount.uid = Some(given.parse().map_err(|_| bad(&key, &given))?),
            ("gid", Some(given)) => mount.gid = Some(given.parse().map_err(|_| bad(&key, &given))?),
            ("env", Some(given)) => mount.env = Some(given),
            _ => {}
        }
    }
    mount.read_only = read_only.unwrap_or(matches!(mount.kind, MountKind::Bind | MountKind::Secret));
    agrees(&mount, &fields)?;
    Ok(mount)
}

/// Options that this kind of mount does not have are mistakes, not decoration.
fn agrees(mount: &Mount, fields: &[String]) -> Result<(), Fault> {
    let has = |name: &str| {
        fields.iter().any(|field| field.split('=').next().is_some_and(|key| key.eq_ignore_ascii_case(name)))
    };
    let kind = match mount.kind {
        MountKind::Bind => "bind",
        MountKind::Cache => "cache",
        MountKind::Tmpfs => "tmpfs",
        MountKind::Secret => "secret",
    };
    let allowed: &[&str] = match mount.kind {
        MountKind::Bind => &[],
        MountKind::Cache => &["mode", "uid", "gid", "sharing"],
        MountKind::Tmpfs => &["size"],
        MountKind::Secret => &["mode", "uid", "gid", "required", "env"],
    };
    for option in ["mode", "uid", "gid", "sharing", "size", "required", "env"] {
        if has(option) && !allowed.contains(&option) {
            return Err(Fault::invalid(format!("a {kind} mount has no {option}")));
        }
    }
    if mount.kind == MountKind::Secret {
        if mount.from.is_some() {
            return Err(Fault::invalid("a secret mount has no from"));
        }
        if !mount.source.is_empty() && !mount.id.is_empty() {
            return Err(Fault::invalid("a secret mount has either id or source, not both"));
        }
        if mount.source.is_empty() && mount.id.is_empty() && mount.target.is_empty() {
            return Err(Fault::invalid("a secret mount needs id or target").hint("write --mount=type=secret,id=NAME"));
        }
    } else if mount.target.is_empty() {
        return Err(Fault::invalid(format!("a {kind} mount needs a target")).hint("add target=PATH"));
    }
    Ok(())
}

fn bad(key: &str, value: &str) -> Fault {
    Fault::invalid(format!("invalid {key}={value} of a mount"))
}

fn switch(key: &str, value: Option<String>) -> Result<bool, Fault> {
    match value.as_deref() {
        None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
        Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(bad(key, other)),
    }
}

fn kind(value: &str) -> Result<MountKind, Fault> {
    match value.to_ascii_lowercase().as_str() {
        "bind" => Ok(MountKind::Bind),
        "cache" => Ok(MountKind::Cache),
        "tmpfs" => Ok(MountKind::Tmpfs),
        "secret" => Ok(MountKind::Secret),
        "ssh" => {
            Err(Fault::unsupported("mounts of type ssh are not supported").hint("mount a key with type=secret instead"))
        }
        _ => {
            let hint = nearest(value, ["bind", "cache", "tmpfs", "secret"])
                .unwrap_or_else(|| "it is bind, cache, tmpfs or secret".into());
            Err(Fault::invalid(format!("unknown type {value:?} of a mount")).hint(hint))
        }
    }
}

fn sharing(value: &str) -> Result<Sharing, Fault> {
    match value.to_ascii_lowercase().as_str() {
        "shared" => Ok(Sharing::Shared),
        "private" => Ok(Sharing::Private),
        "locked" => Ok(Sharing::Locked),
        _ => Err(bad("sharing", value).hint("it is shared, private or locked")),
    }
}

/// `64m`, `1.5GiB`, `512`: units are powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    let power = match text[end..].trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return None,
    };
    let size = number * 1024f64.powi(power);
    (size < u64::MAX as f64).then_some(size as u64)
}

/// The fields of one line of CSV: a field in double quotes may hold commas, and `""` is a quote in it.
fn fields(value: &str) -> Result<Vec<String>, Fault> {
    let mut fields = Vec::new();
    let mut rest = value;
    loop {
        let Some(quoted) = rest.strip_prefix('"') else {
            let end = rest.find(',').unwrap_or(rest.len());
            fields.push(rest[..end].to_owned());
            match rest.get(end + 1..) {
                Some(next) => rest = next,
                None => return Ok(fields),
            }
            continue;
        };
        let mut field = String::new();
        let mut chars = quoted.char_indices().peekable();
        let end = loop {
            match chars.next() {
                Some((_, '"')) if chars.peek().is_some_and(|(_, c)| *c == '"') => {
                    chars.next();
                    field.push('"');
                }
                Some((at, '"')) => break at + 1,
                Some((_, c)) => field.push(c),
                None => {
                    return Err(Fault::invalid(format!("a quote in --mount={value} is never closed")));
                }
            }
        };
        fields.push(field);
        match quoted[end..].strip_prefix(',') {
            Some(next) => rest = next,
            None if quoted[end..].is_empty() => return Ok(fields),
            None => {
                return Err(Fault::invalid(format!("--mount={value} goes on after a closing quote")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<Mount, Fault> {
        mount(value, &mut |text| Ok(text.replace("$D", "/data")))
    }

    #[test]
    fn reads_every_kind() {
        let bind = read("target=/src").unwrap();
        assert_eq!((bind.kind, bind.read_only), (MountKind::Bind, true));
        assert!(!read("type=bind,rw,source=a,dst=$D").unwrap().read_only);
        let cache = read("type=cache,target=$D/x,id=n,sharing=locked,uid=1000,mode=0700").unwrap();
        assert_eq!(
            (cache.target.as_str(), cache.id.as_str(), cache.mode, cache.uid),
            ("/data/x", "n", Some(0o700), Some(1000))
        );
        assert_eq!((cache.sharing, cache.read_only), (Some(Sharing::Locked), false));
        assert_eq!(read("type=tmpfs,target=/t,size=1.5k").unwrap().size, Some(1536));
        let secret = read("type=secret,id=n,env=TOKEN,required").unwrap();
        assert_eq!((secret.env.as_deref(), secret.required, secret.target.as_str()), (Some("TOKEN"), true, ""));
        assert_eq!(read("\"type=bind\",\"source=a,b\",target=/x").unwrap().source, "a,b");
        assert_eq!(mount_from("type=bind,from=base,target=/x").unwrap().as_deref(), Some("base"));
    }

    #[test]
    fn refuses_with_a_reason() {
        for (value, part) in [
            ("type=bnd,target=/x", "unknown type"),
            ("type=ssh", "not supported"),
            ("tagret=/x", "unexpected \"tagret\""),
            ("type=bind,target=/x,uid=1", "has no uid"),
            ("type=cache", "needs a target"),
            ("type=secret", "needs id or target"),
            ("type=secret,id=a,src=b", "either id or source"),
            ("target=/x,from=$X", "does not expand"),
            ("target", "needs a value"),
            ("type=tmpfs,target=/t,size=lots", "invalid size"),
            ("\"type=bind", "never closed"),
            ("\"type=bind\"x", "goes on"),
            ("type=cache,target=/x,ro=maybe", "invalid ro"),
        ] {
            let fault = read(value).unwrap_err();
            assert!(fault.message.contains(part), "{value}: {fault}");
        }
        assert_eq!(read("tagret=/x").unwrap_err().hint.as_deref(), Some("did you mean target?"));
    }
}
