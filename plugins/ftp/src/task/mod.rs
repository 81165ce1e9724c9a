//! The role `task`: one action with the files of a server.

pub mod hashing;
pub mod local;
pub mod mirror;
pub mod parameters;
pub mod send;

use std::io::Write;

use cooperage_sdk::events::Step;
use cooperage_sdk::layer::LayerWriter;
use cooperage_sdk::{Context, Error, Result};
use serde_json::{Value, json};

use crate::client::Client;
use crate::client::directories::{self, Directories};
use crate::client::download::Stamp;
use crate::client::listing::{Entry, Kind};
use crate::client::upload;
use crate::edge::{Files, Store};
use crate::fetch::Fetch;
use crate::paths;
use crate::url::Url;
use parameters::{Action, Download, Parameters, Rename};

/// What an action needs beside the server.
pub struct Outside<'o> {
    /// The input of the step, if it has one.
    pub input: Option<&'o dyn Files>,
    /// The content store.
    pub store: &'o dyn Store,
}

impl<'o> Outside<'o> {
    fn input(&self) -> Result<&'o dyn Files> {
        self.input
            .ok_or_else(|| Error::invalid_input("the step has no input").hint("name the step it works on with `in:`"))
    }
}

/// What was done.
#[derive(Debug, Default, PartialEq)]
pub struct Done {
    /// Files moved.
    pub files: u64,
    /// Bytes that they have.
    pub bytes: u64,
    /// What a directory has.
    pub entries: Option<Value>,
    /// What the action was about.
    pub url: String,
    /// Files that were there already.
    pub unchanged: Option<u64>,
    /// Names removed.
    pub removed: Option<u64>,
}

/// Does what the parameters ask for. Only a download writes into the layer, and makes one.
///
/// # Errors
/// Those of the input and of the server.
pub fn run<W: Write>(
    client: &mut Client,
    outside: &Outside,
    url: &Url,
    parameters: &Parameters,
    layer: impl FnOnce() -> LayerWriter<W>,
) -> Result<(Done, Option<LayerWriter<W>>)> {
    let action = parameters.action()?;
    let base = client.absolute(&url.path)?;
    let shown = |client: &Client, path: &str| client.server().url(&paths::join(&base, path));
    let done = match action {
        Action::Upload(wanted) => send::upload(client, outside, parameters, &base, wanted)?,
        Action::Mirror(wanted) => mirror::mirror(client, outside, parameters, &base, wanted)?,
        Action::Download(wanted) => {
            let (done, layer) = download(client, outside, parameters, &base, wanted, layer())?;
            return Ok((done, Some(layer)));
        }
        Action::List(path) => {
            let entries = directories::list(client, &paths::join(&base, path))?;
            let entries = entries.iter().map(shown_entry).collect();
            Done { entries: Some(entries), url: shown(client, path), ..Done::default() }
        }
        Action::Delete(wanted) => {
            let url = shown(client, &wanted.path);
            let removed = directories::remove(client, &paths::join(&base, &wanted.path), wanted.recursive);
            Done { removed: Some(removed.with_context(|| format!("cannot delete {url}"))?), url, ..Done::default() }
        }
        Action::Rename(Rename { from, to }) => {
            let (from, to, url) = (paths::join(&base, from), paths::join(&base, to), shown(client, to));
            let what = || format!("cannot rename {from} to {to}");
            client.once(|session| upload::rename(session, &from, &to)).with_context(what)?;
            Done { url, ..Done::default() }
        }
        Action::MakeDirectory(path) => {
            Directories::default().make(client, &paths::join(&base, path))?;
            Done { url: shown(client, path), ..Done::default() }
        }
    };
    Ok((done, None))
}

fn download<W: Write>(
    client: &mut Client,
    outside: &Outside,
    parameters: &Parameters,
    base: &str,
    wanted: &Download,
    layer: LayerWriter<W>,
) -> Result<(Done, LayerWriter<W>)> {
    let from = paths::join(base, &wanted.from);
    let url = client.server().url(&from);
    let to = wanted.to.as_deref().map(|to| to.trim_matches('/'));
    let step = Step::new(format!("download {url}"));
    step.run(|step| {
        let mut fetch = Fetch::new(layer, outside.store, parameters.mode, step);
        let slash = wanted.from.is_empty() || wanted.from.ends_with('/');
        if slash || directories::exists(client, &from)? {
            paths::check_in_layer(to.unwrap_or_default())?;
            fetch.below(client, &from, to.unwrap_or_default())?;
        } else {
            let name = paths::split(&from).map(|(_, name)| name).unwrap_or_default();
            let to = match wanted.to.as_deref() {
                Some(to) if to.ends_with('/') || to.is_empty() => {
                    paths::join(to, name).trim_start_matches('/').to_owned()
                }
                _ => to.unwrap_or(name).to_owned(),
            };
            paths::check_in_layer(&to)?;
            let stamp = client.again(|session| Stamp::of(session, &from));
            let stamp = stamp.with_context(|| format!("cannot fetch {url}"))?;
            fetch.file(client, &from, &to, 0o644, Some(stamp))?;
        }
        Ok((Done { files: fetch.files, bytes: fetch.bytes, url: url.clone(), ..Done::default() }, fetch.layer))
    })
}

fn shown_entry(entry: &Entry) -> Value {
    let (kind, target) = match &entry.kind {
        Kind::File => ("file", None),
        Kind::Directory => ("directory", None),
        Kind::Symlink(target) => ("symlink", target.as_deref()),
        Kind::Other => ("other", None),
    };
    let mut shown = json!({ "name": entry.name, "kind": kind });
    let size = entry.size.filter(|_| entry.kind == Kind::File).map(Value::from);
    let mode = entry.mode.map(|mode| Value::from(format!("{mode:04o}")));
    let modified = entry.modified.clone().map(Value::from);
    for (name, value) in [("size", size), ("modified", modified), ("mode", mode), ("target", target.map(Value::from))] {
        if let Some(value) = value {
            shown[name] = value;
        }
    }
    shown
}
