//! Image references as Docker reads them: `busybox` is `docker.io/library/busybox:latest`.

use std::fmt;
use std::str::FromStr;

use crate::{Digest, Error, Result};

const DEFAULT_HOST: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
const MAX_NAME: usize = 255;

/// A name at a registry, complete with host, and with a tag or a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Host and port of the registry, `docker.io` for short names.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Path at the registry, such as `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; none only where there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of a pinned reference.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The digest if there is one, else the tag: what a registry is asked for.
    pub fn identifier(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_else(|| DEFAULT_TAG.to_owned()),
        }
    }

    /// The same pinned to a digest.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The same without a digest, with `latest` where there is no tag.
    pub fn tagged(&self) -> Self {
        let tag = self.tag.clone().unwrap_or_else(|| DEFAULT_TAG.to_owned());
        Self { digest: None, tag: Some(tag), ..self.clone() }
    }

    /// The same under another host and path.
    pub fn relocated(&self, host: &str, repository: &str) -> Result<Self> {
        let rest = self.to_string();
        let suffix = rest.get(self.host.len() + 1 + self.repository.len()..).unwrap_or_default();
        format!("{host}/{repository}{suffix}").parse()
    }

    /// Short as people write it: without Docker's host, `library/` and `latest`.
    pub fn familiar(&self) -> String {
        let mut text = match self.host.as_str() {
            DEFAULT_HOST => self.repository.strip_prefix("library/").unwrap_or(&self.repository).to_owned(),
            host => format!("{host}/{}", self.repository),
        };
        if let Some(tag) = &self.tag
            && (tag != DEFAULT_TAG || self.digest.is_some())
        {
            text.push_str(&format!(":{tag}"));
        }
        if let Some(digest) = &self.digest {
            text.push_str(&format!("@{digest}"));
        }
        text
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |why: &str| {
            let why = hint(text).map_or_else(|| why.to_owned(), |hint| format!("{why}; {hint}"));
            Error::Invalid { what: format!("image name {text:?}"), why }
        };
        if text.is_empty() {
            return Err(invalid("it is empty"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(digest.parse::<Digest>().map_err(|error| invalid(&error.to_string()))?))
            }
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag {
            check_tag(tag).map_err(invalid)?;
        }
        let (host, path) = match name.split_once('/') {
            Some((host, path)) if is_host(host) => (host, path.to_owned()),
            _ => (DEFAULT_HOST, name.to_owned()),
        };
        let host = if host == "index.docker.io" { DEFAULT_HOST } else { host };
        let repository = if host == DEFAULT_HOST && !path.contains('/') { format!("library/{path}") } else { path };
        check_host(host).map_err(invalid)?;
        check_repository(&repository).map_err(invalid)?;
        if host.len() + 1 + repository.len() > MAX_NAME {
            return Err(invalid("it is longer than 255 characters"));
        }
        if name.len() == 64 && Digest::from_hex(name).is_ok() {
            return Err(invalid("64 hexadecimal digits are the identifier of an image, not a name"));
        }
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        Ok(Self { host: host.to_owned(), repository, tag, digest })
    }
}

/// What the writer of a bad name may have meant.
fn hint(text: &str) -> Option<String> {
    if let Some((_, rest)) = text.split_once("://") {
        return Some(format!("leave the scheme away: {rest:?}"));
    }
    if text != text.trim() {
        return Some(format!("leave the spaces away: {:?}", text.trim()));
    }
    if text.ends_with(':') || text.ends_with('/') {
        return Some(format!("leave the end away: {:?}", text.trim_end_matches([':', '/'])));
    }
    let lower = text.to_lowercase();
    (lower != text && lower.parse::<Reference>().is_ok()).then(|| format!("did you mean {lower:?}?"))
}

/// Whether the first part of a name is a host: only hosts have a dot, a port or capitals, or are `localhost`.
fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_host(host: &str) -> std::result::Result<(), &'static str> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or("its host has a `[` without `]`")?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err("its host is not an IPv6 address");
            }
            match port.strip_prefix(':') {
                None if !port.is_empty() => return Err("only a port may follow the address of its host"),
                port => (None, port),
            }
        }
        None => match host.split_once(':') {
            Some((name, port)) => (Some(name), Some(port)),
            None => (Some(host), None),
        },
    };
    if let Some(port) = port
        && !(port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok())
    {
        return Err("its port is not a number up to 65535");
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    match name {
        Some(name) if !name.split('.').all(label) => Err("its host is not a host name"),
        _ => Ok(()),
    }
}

fn check_repository(path: &str) -> std::result::Result<(), &'static str> {
    for part in path.split('/') {
        if part.is_empty() {
            return Err("a part of its path is empty");
        }
        if part.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err("its path must be lower case");
        }
        let mut rest = part;
        loop {
            let word = rest.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit())).unwrap_or(rest.len());
            if word == 0 {
                return Err("a part of its path must begin and end with a letter or digit");
            }
            rest = &rest[word..];
            if rest.is_empty() {
                break;
            }
            let separator = rest.find(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).unwrap_or(rest.len());
            let (between, after) = rest.split_at(separator);
            if !matches!(between, "." | "_" | "__") && !between.bytes().all(|b| b == b'-') {
                return Err("its path may hold only a-z, 0-9 and single `.`, `_`, `__` or `-` between them");
            }
            rest = after;
        }
    }
    Ok(())
}

fn check_tag(tag: &str) -> std::result::Result<(), &'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = tag.as_bytes();
    if bytes.is_empty() || bytes.len() > 128 {
        return Err("its tag must have 1 to 128 characters");
    }
    if !word(bytes[0]) || !bytes.iter().all(|b| word(*b) || matches!(b, b'.' | b'-')) {
        return Err("its tag may hold only letters, digits, `_`, `.` and `-`, and not begin with the last two");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_docker_reads_them() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, full, familiar) in [
            ("busybox", "docker.io/library/busybox:latest", "busybox"),
            ("busybox:1.35", "docker.io/library/busybox:1.35", "busybox:1.35"),
            ("team/app", "docker.io/team/app:latest", "team/app"),
            ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox"),
            ("index.docker.io/library/busybox", "docker.io/library/busybox:latest", "busybox"),
            ("localhost/app", "localhost/app:latest", "localhost/app"),
            ("localhost:5000/app:1", "localhost:5000/app:1", "localhost:5000/app:1"),
            ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest", "127.0.0.1:5000/a/b"),
            ("registry.example/a__b/c-d.e", "registry.example/a__b/c-d.e:latest", "registry.example/a__b/c-d.e"),
            ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app"),
            ("Host/app", "Host/app:latest", "Host/app"),
            ("docker.io/library/busybox:latest", "docker.io/library/busybox:latest", "busybox"),
            ("docker.io/team/app:1", "docker.io/team/app:1", "team/app:1"),
            ("library/busybox", "docker.io/library/busybox:latest", "busybox"),
            ("localhost", "docker.io/library/localhost:latest", "localhost"),
            ("busybox:5000", "docker.io/library/busybox:5000", "busybox:5000"),
            ("team/deep/app", "docker.io/team/deep/app:latest", "team/deep/app"),
            ("host.example/app:5000", "host.example/app:5000", "host.example/app:5000"),
            ("host:80/app", "host:80/app:latest", "host:80/app"),
            ("host-1.example/app", "host-1.example/app:latest", "host-1.example/app"),
            ("team/a---b", "docker.io/team/a---b:latest", "team/a---b"),
            ("app:V1.0_rc-2", "docker.io/library/app:V1.0_rc-2", "app:V1.0_rc-2"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!((reference.to_string().as_str(), reference.familiar().as_str()), (full, familiar), "{text}");
        }
        let long = "a".repeat(63);
        assert_eq!(long.parse::<Reference>().unwrap().familiar(), long);
        let pinned: Reference = format!("busybox@{digest}").parse().unwrap();
        assert_eq!(pinned.to_string(), format!("docker.io/library/busybox@{digest}"));
        let both: Reference = format!("busybox:1@{digest}").parse().unwrap();
        assert_eq!(both.familiar(), format!("busybox:1@{digest}"));
        assert_eq!(both.identifier(), digest);
        assert_eq!(both.tagged().to_string(), "docker.io/library/busybox:1");
        assert_eq!(pinned.tagged().to_string(), "docker.io/library/busybox:latest");
        let moved = both.relocated("mirror.example:5000", "hub/busybox").unwrap();
        assert_eq!(moved.to_string(), format!("mirror.example:5000/hub/busybox:1@{digest}"));
    }

    #[test]
    fn both_spellings_read_back_as_the_same_reference() {
        let digest = Digest::of(b"");
        for text in
            ["busybox", "a/b:1", "localhost:5000/x", &format!("q.example/a@{digest}"), &format!("a:latest@{digest}")]
        {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            assert_eq!(reference.familiar().parse::<Reference>().unwrap(), reference);
        }
    }

    #[test]
    fn errors_tell_what_was_meant() {
        for (text, hint) in [
            ("Team/App", "did you mean \"team/app\"?"),
            ("https://host.example/app", "leave the scheme away: \"host.example/app\""),
            (" busybox", "leave the spaces away: \"busybox\""),
            ("busybox:", "leave the end away: \"busybox\""),
            ("host.example/", "leave the end away: \"host.example\""),
            ("busybox@sha256:12", "expected `sha256:` and 64"),
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
    }

    #[test]
    fn bad_names_are_refused() {
        for text in [
            "",
            ":tag",
            "a:",
            "UPPER",
            "a//b",
            "-a",
            "a-",
            "a..b",
            "a___b",
            "a@sha256:xyz",
            "a:ta g",
            "a b",
            "host.example:port/a",
            "host.example/",
            "registry.example/UP",
            "host:+80/a",
            "host:99999/a",
            "host:/a",
            "[::1]x/a",
            "[::1/a",
            "[zz]/a",
            "-host.example/a",
            "host..example/a",
            "under_score.example/a",
            "a@",
            "a\n",
            "a/",
            "/a",
            "é",
            "a:é",
            &"a".repeat(64),
            &format!("a/{}", "b".repeat(254)),
            &format!("a:{}", "t".repeat(129)),
            "a:.x",
            "x/../y",
            "http://x/y",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
