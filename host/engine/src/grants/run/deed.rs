//! What a process is, as far as grants have a say in it.

use std::borrow::Cow;

use cooperage_solve::{Mount, MountKind, Network};
use cooperage_store::Reference;

use super::item::Kind;

/// How much of a command line is shown.
const SHOWN: usize = 120;

/// A process that a plugin wants to run.
#[derive(Debug, Clone)]
pub(crate) struct Deed<'a> {
    /// The image that the tree stands on, as it was resolved; none for a tree that stands on none.
    pub image: Option<Image<'a>>,
    /// The program as it is written.
    pub program: &'a str,
    /// The arguments as a shell would be given them.
    pub command: String,
    /// `none` or `host`.
    pub network: &'static str,
    /// Kind and name of each mount; a kind without names has an empty one.
    pub mounts: Vec<(&'static str, &'a str)>,
}

/// The name of an image.
#[derive(Debug, Clone)]
pub(crate) enum Image<'a> {
    Named(Reference),
    /// What is no reference, such as an image that never had a name.
    Other(&'a str),
}

impl<'a> Deed<'a> {
    /// `build` is the network that the user chose for processes that leave it open.
    pub(crate) fn new(
        image: Option<&'a str>,
        args: &'a [String],
        (network, build): (Network, Network),
        mounts: &'a [Mount],
    ) -> Self {
        let image = image.map(|text| text.parse().map_or(Image::Other(text), Image::Named));
        let network = if network == Network::Default { build } else { network };
        let mount = |mount: &'a Mount| match &mount.kind {
            MountKind::Bind { .. } => ("bind", ""),
            MountKind::Cache { identity, .. } => ("cache", identity.as_str()),
            MountKind::Tmpfs { .. } => ("tmpfs", ""),
            MountKind::Secret { name, .. } => ("secret", name.as_str()),
        };
        Self {
            image,
            program: args.first().map_or("", String::as_str),
            command: line(args),
            network: if network == Network::Host { "host" } else { "none" },
            mounts: mounts.iter().map(mount).collect(),
        }
    }

    pub(super) fn mounts_secrets(&self) -> bool {
        self.mounts.iter().any(|(kind, _)| *kind == "secret")
    }

    /// What a field of a rule does not allow, for people.
    pub(super) fn shown(&self, field: &str) -> String {
        match Kind::of(field) {
            Some(Kind::Images) => match &self.image {
                Some(image) => format!("run processes in the image {}", image.text()),
                None => "run processes in a tree that stands on no image".to_owned(),
            },
            Some(Kind::Commands) => format!("run `{}`", shortened(&self.command)),
            Some(Kind::Network) if self.network == "host" => {
                "run processes that reach the network (`--network none` keeps those from it that do not say)".to_owned()
            }
            Some(Kind::Network) => "run processes without a network".to_owned(),
            Some(Kind::Mounts) | None => {
                let mounts: Vec<String> = self.mounts.iter().map(|(kind, name)| format!("{kind} {name}")).collect();
                format!("run processes with all of these mounts: {}", mounts.join(", "))
            }
        }
    }
}

impl Image<'_> {
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Named(reference) => reference.familiar().into(),
            Self::Other("") => "without a name".into(),
            Self::Other(text) => (*text).into(),
        }
    }
}

/// Arguments as a shell would be given them, so that no two lists of arguments give the same line.
fn line(args: &[String]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&byte);
    let word = |arg: &String| {
        if !arg.is_empty() && arg.bytes().all(plain) {
            arg.clone()
        } else {
            format!("'{}'", arg.replace('\'', r"'\''"))
        }
    };
    args.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn shortened(text: &str) -> String {
    let short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}
