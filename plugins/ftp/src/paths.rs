//! Paths on the server: what users and servers name must stay below where it belongs.

use cooperage_sdk::{Error, Result};

/// More than any file system has.
const LONGEST_NAME: usize = 1024;

/// Checks a relative path that a user or a URL names. Empty parts and `.` are left to [`join`].
///
/// # Errors
/// `invalid-input` for `..` and for control characters.
pub fn check(path: &str) -> Result<()> {
    if let Some(bad) = path.chars().find(|c| c.is_control()) {
        return Err(Error::invalid_input(format!("the path {path:?} contains {bad:?}")));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(Error::invalid_input(format!("the path {path:?} contains `..`")));
    }
    Ok(())
}

/// Checks a path that a parameter names: relative to the directory of the URL.
///
/// # Errors
/// `invalid-input`.
pub fn check_parameter(path: &str) -> Result<()> {
    check(path)?;
    if path.starts_with('/') {
        return Err(Error::invalid_input(format!("the path {path:?} is absolute")).hint(
            "paths are relative to the directory of the URL; an absolute one is written `ftp://HOST//DIRECTORY`",
        ));
    }
    Ok(())
}

/// `path` below `base`, an absolute path. A path that begins with a slash is absolute itself.
#[must_use]
pub fn join(base: &str, path: &str) -> String {
    let base = if path.starts_with('/') { "" } else { base };
    let parts: Vec<&str> = base.split('/').chain(path.split('/')).filter(|part| !matches!(*part, "" | ".")).collect();
    format!("/{}", parts.join("/"))
}

/// Directory and name of an absolute path; none of the root.
#[must_use]
pub fn split(path: &str) -> Option<(&str, &str)> {
    let (directory, name) = path.trim_end_matches('/').rsplit_once('/')?;
    let directory = if directory.is_empty() { "/" } else { directory };
    (!name.is_empty()).then_some((directory, name))
}

/// Whether a name that a server lists can only mean something within the directory that was listed.
#[must_use]
pub fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() <= LONGEST_NAME
        && !name.contains(|c: char| c == '/' || c.is_control())
}

/// Checks that no part of a path in a layer begins with `.wh.`: there, such a name says that another one is gone (OCI
/// image-spec 1.1, "Whiteouts").
///
/// # Errors
/// `invalid-input`.
pub fn check_in_layer(path: &str) -> Result<()> {
    if path.split('/').any(|part| part.starts_with(".wh.")) {
        return Err(Error::invalid_input(format!(
            "{path:?} cannot be in a tree: names that begin with `.wh.` stand for removed files in layers"
        ))
        .hint("give the file another name"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined() {
        for (base, path, expected) in [
            ("/", "a", "/a"),
            ("/home/u", "a/b/", "/home/u/a/b"),
            ("/home/u/", "", "/home/u"),
            ("/home", "/etc", "/etc"),
            ("/", "", "/"),
            ("/a//b/.", "./c", "/a/b/c"),
        ] {
            assert_eq!(join(base, path), expected, "{base} {path}");
        }
    }

    #[test]
    fn paths_are_split() {
        for (path, expected) in
            [("/a/b", Some(("/a", "b"))), ("/a", Some(("/", "a"))), ("/", None), ("/a/b/", Some(("/a", "b")))]
        {
            assert_eq!(split(path), expected, "{path}");
        }
    }

    #[test]
    fn names_lead_nowhere_else() {
        for good in ["a", "a b", "...", "-rf", "*", "ä", "a\\b"] {
            assert!(is_name(good), "{good:?}");
        }
        let long = "n".repeat(2000);
        for bad in ["", ".", "..", "/etc", "a/b", "../x", "a\r\nDELE b", "a\0", "\x7f", &long] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn whiteouts_are_no_files() {
        for (path, good) in
            [("a", true), ("a/.wh", true), ("a.wh.b", true), (".wh.a", false), ("a/.wh..wh..opq/b", false)]
        {
            assert_eq!(check_in_layer(path).is_ok(), good, "{path:?}");
        }
    }

    #[test]
    fn parameters_are_relative() {
        for good in ["", "a", "a/b/", "./a", "a/..b"] {
            check_parameter(good).unwrap();
        }
        for bad in ["/", "/a", "..", "a/../b", "a\nb"] {
            assert!(check_parameter(bad).is_err(), "{bad:?}");
        }
    }
}
