//! What an import means for grants: every import is linked, and does nothing without the capability it needs.

/// By the interface without its version; what is not here needs no grant.
const NEEDS: [(&str, &str); 10] = [
    ("cooperage:plugin/connections", "connections need `tcp`, or `service` for a socket of this machine"),
    ("cooperage:plugin/registries", "moving images needs `registries`"),
    ("cooperage:plugin/secrets", "secrets need `secrets`, by name"),
    ("cooperage:plugin/sources", "asking for versions behind URLs needs `sources`"),
    ("cooperage:plugin/state", "keeping values between calls needs `state`"),
    ("cooperage:plugin/trees", "processes in trees need `run`, files behind URLs `sources`; all else in trees is free"),
    ("wasi:filesystem/preopens", "files of this machine need `fs`"),
    ("wasi:http/outgoing-handler", "HTTP needs `http`, or `service` for a socket of this machine"),
    ("wasi:sockets/tcp", "TCP needs `tcp`"),
    ("wasi:sockets/udp", "UDP is always refused"),
];

/// What is needed for an import to do anything.
pub(super) fn of(import: &str) -> Option<&'static str> {
    let interface = import.split('@').next().unwrap_or_default();
    NEEDS.iter().find(|(name, _)| *name == interface).map(|(_, need)| *need)
}

/// `namespace:package@version` and the interface of an import; one that has no package is a package of its own.
pub(super) fn package(import: &str) -> (String, &str) {
    let Some((path, version)) = import.split_once('@') else { return (import.to_owned(), "") };
    match path.split_once('/') {
        Some((package, interface)) => (format!("{package}@{version}"), interface),
        None => (import.to_owned(), ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_split_and_explained() {
        assert_eq!(package("wasi:io/poll@0.2.6"), ("wasi:io@0.2.6".to_owned(), "poll"));
        assert_eq!(package("plain"), ("plain".to_owned(), ""));
        assert!(of("cooperage:plugin/trees@0.9.0").is_some_and(|need| need.contains("`run`")));
        assert_eq!(of("wasi:sockets/tcp-create-socket@0.2.6"), None);
    }
}
