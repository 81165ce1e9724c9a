//! Paths with slashes: cleaning and joining as Go's `path` package does.

/// The shortest equal path; `..` does not leave the root of an absolute path.
pub fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => drop(parts.pop()),
                _ if absolute => {}
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".into(),
        (false, false) => parts.join("/"),
    }
}

/// A path as seen from an absolute directory, cleaned.
pub fn join(directory: &str, path: &str) -> String {
    match path.starts_with('/') {
        true => clean(path),
        false => clean(&format!("/{directory}/{path}")),
    }
}

/// The destination of a COPY: as `join`, but a trailing slash, which means "a directory", stays.
pub fn destination(directory: &str, path: &str) -> String {
    let joined = join(directory, path);
    let is_directory = path.is_empty() || path == "." || path.ends_with('/');
    match is_directory && joined != "/" {
        true => joined + "/",
        false => joined,
    }
}

/// The last part of a path.
pub fn base(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_and_keeps_what_matters() {
        for (directory, path, expected) in [
            ("/app", "", "/app/"),
            ("/app", ".", "/app/"),
            ("/app", "./", "/app/"),
            ("/app", "x", "/app/x"),
            ("/app", "x/", "/app/x/"),
            ("/app", "x/.", "/app/x"),
            ("/app", "../x", "/x"),
            ("/app", "/y/../z", "/z"),
            ("/app", "/", "/"),
            ("", "a", "/a"),
            ("/", ".", "/"),
        ] {
            assert_eq!(destination(directory, path), expected, "{directory} {path}");
        }
        assert_eq!(clean("a/../../b//c/."), "../b/c");
        assert_eq!(clean("./"), ".");
        assert_eq!(join("/", "../../etc"), "/etc");
        assert_eq!(base("/run/x/"), "x");
    }
}
