//! Names of stages and images, and what is wrong with them.

use crate::fault::{Fault, nearest};
use crate::instructions::Stage;

/// The latest stage of a name.
pub fn latest(stages: &[Stage], name: &str) -> Option<usize> {
    let same = |stage: &Stage| stage.name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name));
    stages.iter().rposition(same)
}

/// The stage that the user wants, by name or number.
pub fn find_target(stages: &[Stage], name: &str) -> Result<usize, Fault> {
    let named = latest(stages, name);
    let number = || name.parse::<usize>().ok().filter(|number| *number < stages.len());
    named.or_else(number).ok_or_else(|| {
        let names: Vec<&str> = stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
        let hint = nearest(name, names.iter().copied()).unwrap_or_else(|| match names.is_empty() {
            true => "no stage of this Dockerfile has a name; a number counts from 0".into(),
            false => format!("there are {}", names.join(", ")),
        });
        Fault::not_found(format!("there is no stage {name:?} to build")).hint(hint)
    })
}

/// What stands before the first `/` is a host if it cannot be part of a repository's name.
fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.chars().any(|c| c.is_ascii_uppercase())
}

/// Mistakes in the name of an image that are better said here, where the line is known.
pub fn check_reference(reference: &str) -> Result<(), Fault> {
    let wrong = |message: String| Err(Fault::invalid(message));
    if reference.chars().any(|c| c.is_whitespace() || c.is_control()) || reference.contains("://") {
        return wrong(format!("invalid name {reference:?} of an image"));
    }
    let name = reference.split('@').next().unwrap_or_default();
    let (host, path) = match name.split_once('/') {
        Some((host, path)) if is_host(host) => (host, path),
        _ => ("", name),
    };
    let repository = path.rsplit_once(':').map_or(path, |(repository, _)| repository);
    if repository.is_empty() {
        return wrong(format!("invalid name {reference:?} of an image"));
    }
    if repository.chars().any(|c| c.is_ascii_uppercase()) {
        let host = if host.is_empty() { String::new() } else { format!("{host}/") };
        return Err(Fault::invalid(format!("invalid name {reference:?} of an image: it must be lower case"))
            .hint(format!("did you mean {host}{}?", repository.to_lowercase())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        for fine in ["a", "a/b:Tag", "localhost/a", "host:5000/a@sha256:00", "REGISTRY/a", "a.b/c_d/e--f:1"] {
            assert_eq!(check_reference(fine), Ok(()), "{fine}");
        }
        for wrong in ["A", "a/B", "host:5000/A:1", "a b", ":1", "@sha256:0", "https://a/b"] {
            assert!(check_reference(wrong).is_err(), "{wrong}");
        }
    }
}
