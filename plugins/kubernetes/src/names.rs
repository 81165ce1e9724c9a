//! Names of objects, and what of an image's name matters here. What passes can stand in a URL as it is.

use cooperage_sdk::{Error, Result};

const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;
const LONGEST_IMAGE: usize = 1024;

/// Checks the name of an object (RFC 1123 subdomain, as workloads and secrets have it).
///
/// # Errors
/// `invalid-input`.
pub fn check_name(name: &str) -> Result<()> {
    let fits = name.len() <= LONGEST_NAME && name.split('.').all(is_label);
    if fits {
        return Ok(());
    }
    Err(Error::invalid_input(format!("{name:?} is no name of an object in a cluster"))
        .hint("names have lower-case letters, digits, `-` and `.`"))
}

/// Checks a name without dots, as namespaces and containers have it; `what` says which.
///
/// # Errors
/// `invalid-input`.
pub fn check_label(what: &str, name: &str) -> Result<()> {
    if is_label(name) && name.len() <= LONGEST_LABEL {
        return Ok(());
    }
    Err(Error::invalid_input(format!("{name:?} is no name of a {what}"))
        .hint(format!("a {what} has at most {LONGEST_LABEL} lower-case letters, digits and `-`")))
}

fn is_label(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let (Some(first), Some(last)) = (name.bytes().next(), name.bytes().last()) else { return false };
    plain(first) && plain(last) && name.bytes().all(|byte| plain(byte) || byte == b'-')
}

/// A name of any object as a segment of a path: kinds differ in what they allow, none allows what leads elsewhere.
///
/// # Errors
/// `invalid-input`.
pub fn segment(name: &str) -> Result<String> {
    if name.is_empty() || name.len() > LONGEST_NAME || matches!(name, "." | "..") || name.contains(['/', '%']) {
        return Err(Error::invalid_input(format!("{name:?} is no name of an object in a cluster")));
    }
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    Ok(out)
}

/// Checks that a text can be the name of an image. Whether there is such an image, the cluster finds out.
///
/// # Errors
/// `invalid-input`.
pub fn check_image(image: &str) -> Result<()> {
    let wrong = |why: &str| {
        Err(Error::invalid_input(format!("{image:?} is no image: {why}")).hint(
            "name it like `registry.example/team/app@sha256:...`, for instance with `${{ steps.push.reference }}`",
        ))
    };
    if image.is_empty() {
        return wrong("it is empty");
    }
    if image.len() > LONGEST_IMAGE || image.chars().any(|c| !c.is_ascii_graphic()) {
        return wrong("it has characters that no image has");
    }
    if image.contains("://") {
        return wrong("it has a scheme");
    }
    let repository = repository(image);
    let path = repository.rsplit_once('/').map_or(repository, |(_, last)| last);
    if path.is_empty() || image.contains("//") || image.starts_with('/') {
        return wrong("a part of it is empty");
    }
    if let Some((_, digest)) = image.split_once('@') {
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return wrong("what follows the `@` is no sha256 digest");
        }
    }
    Ok(())
}

/// The image without tag and digest.
#[must_use]
pub fn repository(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or_default();
    let name = image.rfind('/').map_or(0, |slash| slash + 1);
    image[name..].find(':').map_or(image, |colon| &image[..name + colon])
}

/// Whether two images are of one repository, with the names that Docker leaves out written out.
#[must_use]
pub fn same_repository(one: &str, other: &str) -> bool {
    full_repository(one) == full_repository(other)
}

fn full_repository(image: &str) -> String {
    let repository = repository(image);
    let (registry, path) = match repository.split_once('/') {
        Some((first, rest)) if is_registry(first) => (first, rest),
        _ => ("docker.io", repository),
    };
    let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
    let library = if registry == "docker.io" && !path.contains('/') { "library/" } else { "" };
    format!("{registry}/{library}{path}")
}

/// The registry that an image comes from.
#[must_use]
pub fn registry(image: &str) -> &str {
    match repository(image).split_once('/') {
        Some((first, _)) if is_registry(first) => first,
        _ => "docker.io",
    }
}

fn is_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_objects() {
        for name in ["a", "web-1", "a.b-c.d", "0"] {
            check_name(name).unwrap();
        }
        let long = "a".repeat(254);
        for name in ["", "A", "a/b", "..", ".", "a..b", "-a", "a-", "a_b", "a?b", "a%2fb", "é", long.as_str()] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_label("container", "a.b").is_err());
        assert!(check_label("container", &"a".repeat(64)).is_err());
        check_label("container", &"a".repeat(63)).unwrap();
    }

    #[test]
    fn segments() {
        assert_eq!(segment("system:node").unwrap(), "system:node");
        assert_eq!(segment("a b?#").unwrap(), "a%20b%3F%23");
        for name in ["", ".", "..", "a/b", "a%2e"] {
            assert!(segment(name).is_err(), "{name}");
        }
    }

    #[test]
    fn images() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for image in ["a", "a:1", "localhost:5000/a", "r.example/a/b:1", &format!("r.example:1/a@{digest}")] {
            check_image(image).unwrap();
        }
        for image in ["", "a b", "https://r.example/a", "r.example/", "/a", "a//b", "a@sha256:1", ":1", "a@", "a\n"] {
            assert!(check_image(image).is_err(), "{image}");
        }
    }

    #[test]
    fn repositories() {
        for (image, repository_of, registry_of) in [
            ("a", "a", "docker.io"),
            ("a:1", "a", "docker.io"),
            ("team/a:1@sha256:0", "team/a", "docker.io"),
            ("localhost:5000/a", "localhost:5000/a", "localhost:5000"),
            ("localhost:5000/a:1", "localhost:5000/a", "localhost:5000"),
            ("r.example/a/b@sha256:0", "r.example/a/b", "r.example"),
        ] {
            assert_eq!((repository(image), registry(image)), (repository_of, registry_of));
        }
        for (one, other, same) in [
            ("busybox:1", "docker.io/library/busybox@sha256:0", true),
            ("index.docker.io/team/a", "team/a:2", true),
            ("r.example/a", "r.example/a:1", true),
            ("r.example/a", "r.example/b", false),
            ("a", "r.example/a", false),
        ] {
            assert_eq!(same_repository(one, other), same, "{one} {other}");
        }
    }
}
