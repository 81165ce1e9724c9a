//! Platforms as Go names them: reading, normalising, writing. Knows nothing of images.

use std::fmt;

/// An operating system and a processor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Platform {
    /// For instance `linux`.
    pub os: String,
    /// For instance `arm64`.
    pub architecture: String,
    /// For instance `v7`.
    pub variant: Option<String>,
}

impl Platform {
    /// A platform in its normal form: `aarch64` is `arm64`, `arm64/v8` is `arm64`, `arm` is `arm/v7`.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            os => os.to_owned(),
        };
        let variant = variant.map(str::to_ascii_lowercase).filter(|variant| !variant.is_empty());
        let (architecture, variant) = match (architecture.to_ascii_lowercase().as_str(), variant.as_deref()) {
            ("x86_64" | "x86-64" | "amd64", variant) => {
                ("amd64".to_owned(), variant.filter(|v| *v != "v1").map(str::to_owned))
            }
            ("aarch64" | "arm64", variant) => {
                ("arm64".to_owned(), variant.filter(|v| *v != "8" && *v != "v8").map(str::to_owned))
            }
            ("i386" | "i486" | "i686" | "x86", _) => ("386".to_owned(), None),
            ("armhf", _) => ("arm".to_owned(), Some("v7".to_owned())),
            ("armel", _) => ("arm".to_owned(), Some("v6".to_owned())),
            ("arm", None) => ("arm".to_owned(), Some("v7".to_owned())),
            ("arm", Some(variant)) => ("arm".to_owned(), Some(format!("v{}", variant.trim_start_matches('v')))),
            (architecture, variant) => (architecture.to_owned(), variant.map(str::to_owned)),
        };
        Self { os, architecture, variant }
    }

    /// Reads `os/architecture[/variant]`; what is missing comes from `default`. None if it is malformed.
    pub fn parse(text: &str, default: &Self) -> Option<Self> {
        let fine =
            |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(fine) {
            return None;
        }
        match parts[..] {
            [one] if is_os(one) => Some(Self::new(one, &default.architecture, default.variant.as_deref())),
            [one] => Some(Self::new(&default.os, one, None)),
            [os, architecture] => Some(Self::new(os, architecture, None)),
            [os, architecture, variant] => Some(Self::new(os, architecture, Some(variant))),
            _ => None,
        }
    }
}

fn is_os(text: &str) -> bool {
    matches!(
        text.to_ascii_lowercase().as_str(),
        "linux"
            | "windows"
            | "darwin"
            | "macos"
            | "freebsd"
            | "netbsd"
            | "openbsd"
            | "dragonfly"
            | "solaris"
            | "plan9"
            | "wasi"
            | "js"
    )
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_normalises() {
        let host = Platform::new("linux", "amd64", None);
        for (text, expected) in [
            ("linux/amd64", Some("linux/amd64")),
            ("linux/arm64/v8", Some("linux/arm64")),
            ("linux/aarch64", Some("linux/arm64")),
            ("linux/arm", Some("linux/arm/v7")),
            ("linux/arm/6", Some("linux/arm/v6")),
            ("arm64", Some("linux/arm64")),
            ("windows", Some("windows/amd64")),
            ("LINUX/X86_64", Some("linux/amd64")),
            ("", None),
            ("linux/", None),
            ("a/b/c/d", None),
            ("lin ux/amd64", None),
        ] {
            assert_eq!(Platform::parse(text, &host).map(|p| p.to_string()).as_deref(), expected, "{text}");
        }
    }
}
