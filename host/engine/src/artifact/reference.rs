//! The forms in which a user names a plugin. Resolves nothing.

use std::path::PathBuf;
use std::str::FromStr;

use cooperage_store::Digest;

use super::Error;

/// Where a plugin comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PluginReference {
    /// `dockerfile`: part of this program.
    Bundled(String),
    /// `oci://host/name:tag`, `host/name:tag@sha256:...`: from a registry.
    Registry(RegistryReference),
    /// `file:path.wasm`, or any path that ends in `.wasm`.
    File(PathBuf),
    /// `layout:directory` or `layout:directory:name`: in an OCI layout.
    Layout {
        /// The directory with `index.json`.
        directory: PathBuf,
        /// Name of the entry; may be absent if there is one only.
        name: Option<String>,
    },
}

/// A plugin in a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RegistryReference {
    /// `host` or `host:port`.
    pub host: String,
    /// Path below the host.
    pub repository: String,
    /// Tag; `latest` if neither tag nor digest was given.
    pub tag: Option<String>,
    /// Digest of the manifest.
    pub digest: Option<Digest>,
}

impl std::fmt::Display for RegistryReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

impl FromStr for RegistryReference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |reason: &str| Error::Reference { reference: text.to_owned(), reason: reason.to_owned() };
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                (name, Some(digest.parse().map_err(|_| wrong("the part after @ is no sha256 digest"))?))
            }
            None => (text, None),
        };
        let (host, path) = name.split_once('/').ok_or_else(|| wrong("it has no repository after the host"))?;
        if !host.contains(['.', ':']) && host != "localhost" {
            return Err(wrong(
                "it does not begin with a host; plugins have no default registry, write for instance docker.io/...",
            ));
        }
        let (repository, tag) = match path.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag.to_owned())),
            None => (path, None),
        };
        let component = |part: &str| {
            let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
            let inner = part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
            inner && edge(part.as_bytes().first()) && edge(part.as_bytes().last())
        };
        if host.parse::<::http::uri::Authority>().is_err()
            || host.contains('@')
            || !repository.split('/').all(component)
        {
            return Err(wrong("host or repository has characters that are not allowed (repositories are lower case)"));
        }
        let tag_ok = |tag: &str| {
            let first = tag.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
            first && tag.len() <= 128 && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if tag.as_deref().is_some_and(|tag| !tag_ok(tag)) {
            return Err(wrong("the tag has characters that are not allowed"));
        }
        let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Self { host: host.to_owned(), repository: repository.to_owned(), tag, digest })
    }
}

impl FromStr for PluginReference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |reason: &str| Error::Reference { reference: text.to_owned(), reason: reason.to_owned() };
        if let Some(reference) = text.strip_prefix("oci://") {
            return reference.parse().map(Self::Registry);
        }
        if let Some(path) = text.strip_prefix("file:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(wrong("it has no path")) } else { Ok(Self::File(path.into())) };
        }
        if let Some(rest) = text.strip_prefix("layout:") {
            let (directory, name) = match rest.rsplit_once(':') {
                Some((directory, name)) if !name.contains('/') => (directory, Some(name.to_owned())),
                _ => (rest, None),
            };
            if directory.is_empty() || name.as_deref() == Some("") {
                return Err(wrong("write layout:DIRECTORY or layout:DIRECTORY:NAME"));
            }
            return Ok(Self::Layout { directory: directory.into(), name });
        }
        // What begins like a path is one, whatever it is called.
        if text.ends_with(".wasm") || ["/", "./", "../"].iter().any(|start| text.starts_with(start)) {
            return Ok(Self::File(text.into()));
        }
        if text.contains('/') {
            return text.parse().map(Self::Registry);
        }
        let name = !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if name { Ok(Self::Bundled(text.to_owned())) } else { Err(wrong(FORMS)) }
    }
}

const FORMS: &str = "write a bundled name (dockerfile), oci://host/name:tag, file:path.wasm or layout:directory:name";

impl std::fmt::Display for PluginReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bundled(name) => f.write_str(name),
            Self::Registry(reference) => write!(f, "oci://{reference}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Layout { directory, name: None } => write!(f, "layout:{}", directory.display()),
            Self::Layout { directory, name: Some(name) } => write!(f, "layout:{}:{name}", directory.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// Each form, and what it prints as.
    #[track_caller]
    fn check(text: &str, canonical: &str) {
        let parsed: PluginReference = text.parse().unwrap();
        assert_eq!(parsed.to_string(), canonical);
        assert_eq!(canonical.parse::<PluginReference>().unwrap(), parsed);
    }

    #[test]
    fn forms() {
        check("dockerfile", "dockerfile");
        check("oci://registry.example/acme/chat:1.2", "oci://registry.example/acme/chat:1.2");
        check("registry.example/acme/chat", "oci://registry.example/acme/chat:latest");
        check(&format!("localhost:5000/chat:1@{DIGEST}"), &format!("oci://localhost:5000/chat:1@{DIGEST}"));
        check(&format!("localhost/chat@{DIGEST}"), &format!("oci://localhost/chat@{DIGEST}"));
        check("file:plugins/chat.wasm", "file:plugins/chat.wasm");
        check("file:///abs/chat.bin", "file:/abs/chat.bin");
        check("./target/chat.wasm", "file:./target/chat.wasm");
        check("layout:dist", "layout:dist");
        check("layout:/a:b/dist:chat", "layout:/a:b/dist:chat");
    }

    #[test]
    fn mistakes() {
        for text in [
            "",
            "Docker",
            "acme/chat",
            "oci://chat",
            "r.example/UPPER:1",
            "r.example/a:b:c",
            "r.example/a@sha256:12",
            "file:",
            "layout:",
            "layout:x:",
            "user@r.example/a:1",
            "r.example/../x",
            "r.example/a:.hidden",
        ] {
            assert!(text.parse::<PluginReference>().is_err(), "{text}");
        }
        let error = "acme/chat:1".parse::<PluginReference>().unwrap_err().to_string();
        assert!(error.contains("docker.io/"), "{error}");
    }
}
