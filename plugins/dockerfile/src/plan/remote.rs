//! Sources of ADD that are URLs: which part of what they bring is copied, and with which parameters it is fetched.

use serde_json::{Map, Value};

use crate::fault::Fault;

/// A source that is a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// As it is written.
    pub url: String,
    /// Whether it is a repository, whose files are copied, and not one file.
    pub is_git: bool,
    name: String,
}

/// Reads a source; none if it is a path. Who serves a scheme, if anybody does, the host knows.
pub fn read(source: &str) -> Result<Option<Remote>, Fault> {
    let lower = source.to_ascii_lowercase();
    let scp = source.strip_prefix("git@").is_some_and(|rest| rest.contains(':'));
    if scp || lower.starts_with("git://") || lower.starts_with("ssh://") {
        return Err(Fault::unsupported(format!("repositories are reached by only HTTP, not as {source}"))
            .hint("write its https:// address, with .git at the end"));
    }
    let Some((scheme, rest)) = source.split_once("://") else { return Ok(None) };
    let scheme = scheme.to_ascii_lowercase();
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if !scheme.starts_with(|first: char| first.is_ascii_lowercase()) || !scheme.bytes().all(letters) {
        return Ok(None);
    }
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let is_git = scheme.starts_with("git+") || (scheme.starts_with("http") && path.ends_with(".git"));
    let name = path.split_once('/').map_or("", |(_, path)| path.rsplit('/').next().unwrap_or_default());
    let name = if name.is_empty() || matches!(name, "." | "..") { "download" } else { name };
    Ok(Some(Remote { url: source.to_owned(), is_git, name: name.to_owned() }))
}

impl Remote {
    /// What of the tree that is fetched gets copied.
    pub fn path(&self) -> String {
        if self.is_git { "/".to_owned() } else { format!("/{}", self.name) }
    }

    /// Parameters for whoever serves the URL.
    pub fn parameters(&self, checksum: Option<&str>, keep_git_dir: bool) -> Value {
        let mut parameters = Map::new();
        if let Some(checksum) = checksum {
            parameters.insert("checksum".to_owned(), checksum.into());
        }
        if self.is_git && keep_git_dir {
            parameters.insert("keep_git_dir".to_owned(), true.into());
        }
        if !self.is_git {
            parameters.insert("filename".to_owned(), self.name.clone().into());
        }
        Value::Object(parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_of_what() {
        for (source, expected) in [
            ("a/b", None),
            ("a:/b", None),
            ("9x://h/f", None),
            ("dir/x://f", None),
            ("https://h/a/f.tgz?x=1#y", Some((false, "/f.tgz"))),
            ("HTTP://h/f", Some((false, "/f"))),
            ("http://h", Some((false, "/download"))),
            ("https://h/a/..", Some((false, "/download"))),
            ("https://h/a.git#v1:docs", Some((true, "/"))),
            ("git+https://h/a", Some((true, "/"))),
            ("ftp://h/a.git", Some((false, "/a.git"))),
            ("chest://h/f", Some((false, "/f"))),
        ] {
            let remote = read(source).unwrap();
            let found = remote.as_ref().map(|remote| (remote.is_git, remote.path()));
            assert_eq!(found, expected.map(|(git, path)| (git, path.to_owned())), "{source}");
        }
        for source in ["git@h:a.git", "git://h/a", "SSH://h/a"] {
            assert!(read(source).is_err(), "{source}");
        }
    }

    #[test]
    fn parameters_are_those_of_the_kind() {
        let parameters = |source: &str| read(source).unwrap().unwrap().parameters(Some("sha256:00"), true).to_string();
        assert_eq!(parameters("https://h/f"), r#"{"checksum":"sha256:00","filename":"f"}"#);
        assert_eq!(parameters("https://h/a.git"), r#"{"checksum":"sha256:00","keep_git_dir":true}"#);
    }
}
