//! Where a repository is and which part of it is wanted, from URLs and paths as users write them.

use cooperage_sdk::http::Url;
use cooperage_sdk::{Error, Result};

/// What a URL of a source says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The repository.
    pub url: Url,
    /// Branch, tag, full name or commit; empty is the repository's choice.
    pub reference: String,
    /// Names of directories on the way to the part that is wanted.
    pub subdirectory: Vec<String>,
}

/// Reads the URL of a repository.
///
/// # Errors
/// `unsupported` for another transport than HTTP, `invalid-input` for what is no URL or has a password in it.
pub fn repository(text: &str) -> Result<Url> {
    let plain = text.strip_prefix("git+").filter(|rest| is_http(rest)).unwrap_or(text);
    if !is_http(plain) {
        return Err(not_http(text));
    }
    let (_, rest) = plain.split_once("://").unwrap_or_default();
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    if rest[..end].contains('@') {
        // The URL is not quoted: what is before the @ may be a password.
        return Err(Error::invalid_input("the URL of the repository has a user name or a password in it")
            .because("URLs are written into logs and caches")
            .hint(
                "take it out; give a step `username` and `password: { secret: NAME }` or `token: { secret: NAME }`, \
                 and a build the secret GIT_AUTH_TOKEN",
            ));
    }
    if plain.contains('#') {
        return Err(Error::invalid_input(format!("{text} has a fragment"))
            .hint("write what follows the # as `ref` and `subdirectory`"));
    }
    let url: Url = plain.parse()?;
    if url.query().is_some() {
        return Err(Error::unsupported(format!("{text} has a query, which git's protocol has no place for"))
            .hint("write the ref and the directory behind a #, as in https://host/team/app.git#main:docs"));
    }
    Ok(url)
}

/// Reads the URL of a source: `https://host/x.git#ref:directory`, with or without `git+` before it.
///
/// # Errors
/// Those of [`repository`], and `invalid-input` for a directory outside.
pub fn source(text: &str) -> Result<Place> {
    let (url, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
    Ok(Place { url: repository(url)?, reference: reference.to_owned(), subdirectory: subdirectory(directory)? })
}

/// The names of a directory's path; a slash at either end means nothing.
///
/// # Errors
/// `invalid-input` for a path that leads out of the repository.
pub fn subdirectory(path: &str) -> Result<Vec<String>> {
    let names = path.split('/').filter(|name| !matches!(*name, "" | "."));
    names
        .map(|name| match name {
            ".." => Err(Error::invalid_input(format!("the subdirectory {path:?} leads out of the repository"))
                .hint("write its path from the root of the repository, without ..")),
            name => Ok(name.to_owned()),
        })
        .collect()
}

/// Where a submodule is, by what `.gitmodules` says of it: a URL, or a path relative to the repository that has it.
///
/// # Errors
/// As for [`repository`], and `invalid-input` for a path beyond the host.
pub fn submodule(of: &Url, text: &str) -> Result<Url> {
    if !text.starts_with("./") && !text.starts_with("../") {
        return repository(text);
    }
    let above = of.to_string();
    let origin_end = above.len() - of.path_and_query().len();
    let (origin, path) = above.split_at(origin_end);
    let mut names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    for name in text.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names
                    .pop()
                    .ok_or_else(|| Error::invalid_input(format!("{text:?} leads beyond the host of {above}")))?;
            }
            name => names.push(name),
        }
    }
    repository(&format!("{origin}/{}", names.join("/")))
}

fn is_http(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    matches!(scheme.as_deref(), Some("http" | "https"))
}

/// A text of any form without what stands before the @ of its host, which may be a password.
fn without_user(text: &str) -> String {
    let is_scheme = |scheme: &str| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let rest = text.split_once(":/").filter(|(scheme, _)| is_scheme(scheme)).map_or(text, |(_, rest)| rest);
    let rest = rest.trim_start_matches('/');
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{}{}", &text[..text.len() - rest.len()], &rest[at + 1..]),
        None => text.to_owned(),
    }
}

fn not_http(text: &str) -> Error {
    let text = &without_user(text);
    // `host:path` has no scheme; what it says is written as a URL below.
    let by_ssh = text.strip_prefix("ssh://").or_else(|| text.strip_prefix("git+ssh://"));
    let address = by_ssh.or_else(|| text.strip_prefix("git://")).map(str::to_owned).or_else(|| {
        let (host, path) = text.split_once(':').filter(|(host, _)| !host.contains('/'))?;
        Some(format!("{host}/{path}"))
    });
    let error = Error::unsupported(format!("{text} is not fetched: only http and https are spoken"));
    match address {
        Some(address) if !address.contains("//") => {
            let (host, path) = address.split_once('/').unwrap_or((&address, ""));
            // The port of another protocol is of no use.
            let host = host.split(':').next().unwrap_or_default();
            error.hint(format!("write https://{host}/{path}, with a token instead of a key if it is private"))
        }
        _ => error.hint("write the http or https URL of the repository"),
    }
}

#[cfg(test)]
mod tests {
    use cooperage_sdk::ErrorKind;

    use super::*;

    #[test]
    fn sources() {
        for (text, url, reference, directory) in [
            ("https://git.example/a.git", "https://git.example/a.git", "", ""),
            ("https://git.example/a.git#main", "https://git.example/a.git", "main", ""),
            ("https://git.example/a.git#v1:docs/en/", "https://git.example/a.git", "v1", "docs/en"),
            ("https://git.example/a.git#:./docs", "https://git.example/a.git", "", "docs"),
            ("git+https://git.example/a", "https://git.example/a", "", ""),
            ("git+http://127.0.0.1:8080/a#refs/pull/1/head:x", "http://127.0.0.1:8080/a", "refs/pull/1/head", "x"),
            ("HTTPS://Git.Example:443/a.git", "https://git.example/a.git", "", ""),
        ] {
            let place = source(text).unwrap();
            assert_eq!(place.url.to_string(), url);
            assert_eq!(place.reference, reference);
            assert_eq!(place.subdirectory.join("/"), directory);
        }
    }

    #[test]
    fn other_transports_are_told_what_to_write() {
        for (text, hint) in [
            ("git@git.example:team/app.git", "https://git.example/team/app.git"),
            ("ssh://git@git.example:2222/team/app.git", "https://git.example/team/app.git"),
            ("git+ssh://git@git.example/team/app.git", "https://git.example/team/app.git"),
            ("git://git.example/app.git#main", "https://git.example/app.git"),
            ("ssh://alice:s3cret@git.example/app.git", "https://git.example/app.git"),
            ("alice:s3cret@git.example:team/a@b.git", "https://git.example/team/a@b.git"),
            ("git+ssh://alice:s3@cret@git.example:22/app.git", "https://git.example/app.git"),
            ("ftp://alice:s3cret@git.example/app.git", "http or https"),
            ("https:/alice:s3cret@git.example/app.git", "http or https"),
            ("//alice:s3cret@git.example/app.git", "http or https"),
            ("file:///srv/app.git", "http or https"),
            ("/srv/app.git", "http or https"),
            ("", "http or https"),
        ] {
            let error = source(text).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Unsupported, "{text}");
            assert!(error.hint.as_ref().unwrap().contains(hint), "{text}: {:?}", error.hint);
            assert!(["alice", "s3", "cret"].iter().all(|part| !format!("{error:?}").contains(part)), "{error:?}");
        }
    }

    #[test]
    fn what_is_no_place() {
        for text in [
            "https://alice:s3cret@git.example/a.git",
            "https://token@git.example/a.git",
            "https:///a.git",
            "https://git.example/a b.git",
            "https://git.example/a.git\nx",
            "https://git.example/a.git#main:../x",
        ] {
            let error = source(text).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidInput, "{text}");
            assert!(!format!("{error:?}").contains("s3cret"));
        }
        assert!(repository("https://git.example/a.git#x").is_err());
        assert_eq!(source("https://git.example/a.git?ref=x").unwrap_err().kind, ErrorKind::Unsupported);
    }

    #[test]
    fn submodules() {
        let of: Url = "https://git.example:8443/team/app.git".parse().unwrap();
        for (text, expected) in [
            ("../lib.git", Some("https://git.example:8443/team/lib.git")),
            ("./lib.git", Some("https://git.example:8443/team/app.git/lib.git")),
            ("../../other/lib", Some("https://git.example:8443/other/lib")),
            ("https://other.example/lib.git", Some("https://other.example/lib.git")),
            ("../../../lib", None),
            ("git@other.example:lib.git", None),
            ("/srv/lib.git", None),
            ("--upload-pack=evil", None),
            ("https://other.example/a\nb", None),
        ] {
            assert_eq!(submodule(&of, text).ok().map(|url| url.to_string()).as_deref(), expected, "{text}");
        }
    }
}
