//! One item of a list in a rule about processes: a pattern, read once.

use super::super::Side;
use super::deed::{Deed, Image};
use crate::pattern::{fits, overlap};

/// What the lists of plugins may have: their patterns are a stranger's, and each costs time.
const PLUGIN: (usize, usize) = (64, 256);
/// What the lists of users and policies may have: items, and bytes of each.
const USER: (usize, usize) = (1000, 1024);
/// A command line that is longer, in bytes, fits no pattern but `**`.
const LONGEST_LINE: usize = 16 << 10;

/// The lists that a rule may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Images,
    Commands,
    Network,
    Mounts,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Images, Self::Commands, Self::Network, Self::Mounts];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Commands => "commands",
            Self::Network => "network",
            Self::Mounts => "mounts",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Images => "a pattern of images such as `alpine:3.*` or `registry.example/**`, or `scratch`",
            Self::Commands => "a pattern of command lines such as `make **`",
            Self::Network => "`none` or `host`",
            Self::Mounts => {
                "`bind`, `tmpfs`, `cache` or `secret`, the last two optionally followed by a pattern of names"
            }
        }
    }
}

/// An item as it is written, and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub text: String,
    pattern: Pattern,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Scratch,
    /// What is absent stands for any.
    Image {
        name: String,
        tag: Option<String>,
        digest: Option<String>,
    },
    Command(String),
    Network(&'static str),
    Mount {
        kind: &'static str,
        name: Option<String>,
    },
}

impl Item {
    pub(super) fn read(kind: Kind, text: &str) -> Result<Self, String> {
        let wrong = || format!("`{}` in `{}` is not {}", text.escape_debug(), kind.name(), kind.expected());
        if text.trim() != text || text.is_empty() || text.chars().any(char::is_control) {
            return Err(wrong());
        }
        let pattern = match kind {
            Kind::Images if text == "scratch" => Pattern::Scratch,
            Kind::Images if text.contains(char::is_whitespace) => return Err(wrong()),
            Kind::Images => image(text),
            Kind::Commands => Pattern::Command(text.to_owned()),
            Kind::Network => Pattern::Network(["none", "host"].into_iter().find(|one| *one == text).ok_or_else(wrong)?),
            Kind::Mounts => mount(text).ok_or_else(wrong)?,
        };
        Ok(Self { text: text.to_owned(), pattern })
    }

    /// What any process may have mounted unless somebody says less.
    pub(super) fn harmless_mounts() -> Vec<Self> {
        ["bind", "cache", "tmpfs"]
            .map(|text| Self { text: text.to_owned(), pattern: Pattern::Mount { kind: text, name: None } })
            .into()
    }

    /// Whether this allows what a process has; a mount is meant by its number.
    pub(super) fn allows(&self, deed: &Deed<'_>, mount: usize) -> bool {
        match &self.pattern {
            Pattern::Scratch => deed.image.is_none(),
            Pattern::Image { name, tag, digest } => match &deed.image {
                None => false,
                Some(Image::Other(_)) => name == "**" && tag.is_none() && digest.is_none(),
                Some(Image::Named(image)) => {
                    let of = |pattern: &Option<String>, text: Option<&str>| {
                        pattern.as_ref().is_none_or(|pattern| text.is_some_and(|text| fits(pattern, text)))
                    };
                    fits(name, &format!("{}/{}", image.host(), image.repository()))
                        && of(tag, image.tag())
                        && of(digest, image.digest().map(|digest| digest.to_string()).as_deref())
                }
            },
            Pattern::Command(pattern) => {
                pattern == "**"
                    || (deed.command.len() <= LONGEST_LINE && is_direct(deed.program) && fits(pattern, &deed.command))
            }
            Pattern::Network(network) => deed.network == *network,
            Pattern::Mount { kind, name } => deed
                .mounts
                .get(mount)
                .is_some_and(|(wanted, called)| kind == wanted && name.as_ref().is_none_or(|name| fits(name, called))),
        }
    }

    /// Whether both may allow the same.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let either = |one: &Option<String>, two: &Option<String>| match (one, two) {
            (Some(one), Some(two)) => overlap(one, two),
            _ => true,
        };
        match (&self.pattern, &other.pattern) {
            (Pattern::Image { name: a, tag: b, digest: c }, Pattern::Image { name: x, tag: y, digest: z }) => {
                overlap(a, x) && either(b, y) && either(c, z)
            }
            (Pattern::Command(one), Pattern::Command(two)) => overlap(one, two),
            (one, two) => one == two,
        }
    }

    /// The item that allows just what a process has, as a user would write it.
    pub(super) fn exactly(kind: Kind, deed: &Deed<'_>, mount: usize) -> String {
        let star = |text: &str| if text.chars().any(char::is_control) { "**".to_owned() } else { text.to_owned() };
        match kind {
            Kind::Images => match &deed.image {
                None => "scratch".to_owned(),
                Some(Image::Named(image)) if image.tag().is_some() => image.tagged().to_string(),
                Some(Image::Named(image)) => image.to_string(),
                Some(Image::Other(_)) => "**".to_owned(),
            },
            Kind::Commands if deed.command.len() > USER.1 || !is_direct(deed.program) => "**".to_owned(),
            Kind::Commands => star(&deed.command),
            Kind::Network => deed.network.to_owned(),
            Kind::Mounts => deed.mounts.get(mount).map_or_else(String::new, |(kind, name)| {
                if name.is_empty() { (*kind).to_owned() } else { format!("{kind} {}", star(name)) }
            }),
        }
    }
}

/// `NAME[:TAG][@DIGEST]`, with Docker's host and `library/` where a name has none. A first part with a dot, a colon or a
/// star is a host.
fn image(text: &str) -> Pattern {
    let (rest, digest) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    let is_host = |host: &str| host.contains(['.', ':', '*']) || host == "localhost";
    let name = match name.split_once('/') {
        Some(("docker.io", path)) if !path.contains(['/', '*']) => format!("docker.io/library/{path}"),
        Some((host, _)) if is_host(host) => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None if name.contains("**") => name.to_owned(),
        None => format!("docker.io/library/{name}"),
    };
    Pattern::Image { name, tag: tag.map(str::to_owned), digest: digest.map(str::to_owned) }
}

fn mount(text: &str) -> Option<Pattern> {
    let (word, name) = text.split_once(' ').map_or((text, None), |(word, name)| (word, Some(name.trim())));
    let kind = ["bind", "tmpfs", "cache", "secret"].into_iter().find(|kind| *kind == word)?;
    let named = ["cache", "secret"].contains(&kind);
    (named || name.is_none()).then(|| Pattern::Mount { kind, name: name.map(str::to_owned) })
}

/// Whether a program's path leads where it seems to: `/opt/tools/../../bin/sh` is no tool of `/opt/tools/**`.
fn is_direct(program: &str) -> bool {
    program.split('/').all(|part| part != "..")
}

/// Bounds what matching can cost.
pub(super) fn bounded<'a>(items: impl Iterator<Item = &'a Item>, side: Side) -> Result<(), String> {
    let (most, longest) = if side == Side::Request { PLUGIN } else { USER };
    for (number, item) in items.enumerate() {
        if number >= most {
            return Err(format!("there are more than {most} patterns"));
        }
        if item.text.len() > longest {
            return Err(format!("a pattern has more than {longest} bytes"));
        }
    }
    Ok(())
}
