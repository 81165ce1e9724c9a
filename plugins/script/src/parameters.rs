//! What a flow can say about a script, and the texts that it says sizes and times in. Knows neither images nor trees.

use std::collections::BTreeMap;

use cooperage_sdk::{Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;

/// A script, and the image that it runs in. Either `run` or `args` says what is run.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// The image to run in.
    pub image: String,
    /// The script, run by `shell`.
    pub run: Option<String>,
    /// A program and its arguments, run without a shell.
    pub args: Option<Vec<String>>,
    /// What runs the script, which becomes its last argument; `/bin/sh -e -c` by default.
    pub shell: Option<Vec<String>>,
    /// Environment variables, beside those of the image.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The working directory: the input is copied there, and what is there afterwards is the result. By default that
    /// of the image, or `/workspace` if that is the root.
    pub workdir: Option<String>,
    /// `user[:group]`, by default that of the image.
    pub user: Option<String>,
    /// Where the trees of the step's `inputs` are seen, by name; relative to the working directory. By default that is
    /// `/inputs/<name>`. What is written there is thrown away.
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
    /// What becomes the step's tree: a directory, relative to the working directory, which it is by default.
    pub result: Option<String>,
    /// Text for its standard input.
    pub stdin: Option<String>,
    /// What the script may use.
    #[serde(default)]
    pub limits: Limits,
    /// The name that the machine has for the script.
    pub hostname: Option<String>,
    /// How large `/dev/shm` is, such as `256m`.
    pub shm_size: Option<Size>,
    /// Empty directories in memory.
    #[serde(default)]
    pub tmpfs: Vec<Tmpfs>,
    /// What the script may reach.
    #[serde(default)]
    pub network: NetworkChoice,
    /// Directories that last from run to run.
    #[serde(default)]
    pub caches: Vec<Cache>,
    /// Secrets that the script sees.
    #[serde(default)]
    pub secrets: Vec<Secret>,
    /// Values for later steps: each is the text of the file at this path, relative to the working directory.
    #[serde(default)]
    pub outputs: BTreeMap<String, String>,
}

/// What a script may reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkChoice {
    /// What the user chose for this run.
    #[default]
    Default,
    /// Nothing.
    None,
    /// What the host reaches.
    Host,
}

/// A directory that lasts from run to run.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Where the script sees it; relative to the working directory.
    pub path: String,
    /// Caches with the same identity and mode are the same directory; by default the path.
    pub id: Option<String>,
    /// Whether several scripts may use it at once.
    #[serde(default)]
    pub sharing: Sharing,
    /// Whether the script may only read it.
    #[serde(default)]
    pub read_only: bool,
    /// Octal permission bits of a new cache: by default `0755`, and `0777` if the script does not run as root.
    pub mode: Option<String>,
}

/// What a script may use; what is not limited here is limited as the user chose for this run.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory, such as `512m`.
    pub memory: Option<Size>,
    /// Processors, such as `1.5`.
    pub cpus: Option<f64>,
    /// Processes and threads at a time.
    pub pids: Option<u64>,
    /// Time, such as `90s` or `10m`.
    pub timeout: Option<Time>,
}

/// An empty directory in memory.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tmpfs {
    /// Where the script sees it; relative to the working directory.
    pub path: String,
    /// How large it may become, such as `64m`.
    pub size: Option<Size>,
}

/// Bytes: a number, or a number with `k`, `m` or `g` in powers of 1,024.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Size {
    /// Bytes.
    Bytes(u64),
    /// A number with a unit.
    Text(String),
}

/// A time: seconds, or a number with `ms`, `s`, `m` or `h`.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Time {
    /// Seconds.
    Seconds(f64),
    /// A number with a unit.
    Text(String),
}

impl Size {
    /// The number of bytes.
    ///
    /// # Errors
    /// `invalid-input` if it is none, or nothing.
    pub fn bytes(&self, what: &str) -> Result<u64> {
        let wrong = |text: &dyn std::fmt::Display| {
            Error::invalid_input(format!("{what}: {text} is not a size")).hint("write for example 512m or 2g")
        };
        let text = match self {
            Self::Bytes(0) => return Err(wrong(&0)),
            Self::Bytes(bytes) => return Ok(*bytes),
            Self::Text(text) => text.trim().to_lowercase(),
        };
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let factor: u64 = match &text[digits.len()..] {
            "" | "b" => 1,
            "k" | "kb" | "kib" => 1 << 10,
            "m" | "mb" | "mib" => 1 << 20,
            "g" | "gb" | "gib" => 1 << 30,
            _ => return Err(wrong(&text)),
        };
        let number: f64 = digits.trim().parse().map_err(|_| wrong(&text))?;
        let bytes = number * factor as f64;
        // Beyond 2^53 a float no longer counts bytes.
        if !(1.0..=9e15).contains(&bytes) { Err(wrong(&text)) } else { Ok(bytes as u64) }
    }
}

impl Time {
    /// The number of milliseconds.
    ///
    /// # Errors
    /// `invalid-input` if it is none, or nothing.
    pub fn milliseconds(&self, what: &str) -> Result<u64> {
        let wrong = |text: &dyn std::fmt::Display| {
            Error::invalid_input(format!("{what}: {text} is not a time")).hint("write for example 90s or 10m")
        };
        let (number, factor, shown) = match self {
            Self::Seconds(seconds) => (*seconds, 1.0, seconds.to_string()),
            Self::Text(text) => {
                let text = text.trim();
                let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
                let factor = match &text[digits.len()..] {
                    "ms" => 0.001,
                    "" | "s" => 1.0,
                    "m" => 60.0,
                    "h" => 3600.0,
                    _ => return Err(wrong(&text)),
                };
                (digits.trim().parse().map_err(|_| wrong(&text))?, factor, text.to_owned())
            }
        };
        let milliseconds = number * factor * 1000.0;
        if (1.0..=1e12).contains(&milliseconds) { Ok(milliseconds.round() as u64) } else { Err(wrong(&shown)) }
    }
}

/// Who may use a cache at the same time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// Everybody.
    #[default]
    Shared,
    /// Everybody has their own.
    Private,
    /// One after the other.
    Locked,
}

/// A secret, as a file or as an environment variable.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// Its name.
    pub name: String,
    /// The file that the script finds it in; by default `/run/secrets/<name>`, unless `env` is there.
    pub path: Option<String>,
    /// The environment variable that the script finds it in.
    pub env: Option<String>,
    /// Octal permission bits of the file: by default `0400`, and `0444` if the script does not run as root.
    pub mode: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        let size = |text: &str| Size::Text(text.to_owned()).bytes("memory").ok();
        assert_eq!(
            [size("512m"), size("1.5g"), size("7"), size("2 KiB")],
            [Some(512 << 20), Some(3 << 29), Some(7), Some(2048)]
        );
        for wrong in ["", "m", "-1m", "0", "1x", "nan", "inf", "1e300g", "0.1"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
        assert!(Size::Bytes(0).bytes("memory").is_err() && Size::Bytes(9).bytes("memory").is_ok());
        let time = |text: &str| Time::Text(text.to_owned()).milliseconds("timeout").ok();
        assert_eq!(
            [time("90"), time("1.5m"), time("500ms"), time("2 h")],
            [Some(90_000), Some(90_000), Some(500), Some(7_200_000)]
        );
        for wrong in ["", "s", "-1s", "0", "1d", "nan", "inf"] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
        let error = Time::Seconds(-1.0).milliseconds("timeout").unwrap_err();
        assert_eq!(error.message, "timeout: -1 is not a time");
    }
}
