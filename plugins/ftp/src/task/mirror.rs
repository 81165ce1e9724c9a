//! The action `mirror`: a directory on the server becomes the same as one of the input, and only what differs is sent.
//!
//! Files of a tree have no times, so what is on the server cannot be told old or new by them. Instead the directory
//! keeps a list of what was sent: the digest of each file, and the size and time that the server then gave it. A file
//! stays as it is if its digest is the listed one and the server still shows that size and time.

use std::collections::{BTreeMap, HashMap, HashSet};

use cooperage_sdk::events::Step;
use cooperage_sdk::{Context, Error, Result, debug};
use serde::{Deserialize, Serialize};

use super::hashing::Hashing;
use super::local::Local;
use super::parameters::{Mirror, Parameters};
use super::send::Sender;
use super::{Done, Outside};
use crate::client::Client;
use crate::client::directories::{self, walk};
use crate::client::download::{seconds, small};
use crate::client::listing::{Entry, Kind};
use crate::client::session::{Mode, is_time};
use crate::client::upload::Upload;
use crate::edge::Files;
use crate::paths;

/// The list, beside the files.
pub const LIST: &str = ".coop-mirror.json";
const LARGEST: usize = 64 << 20;
/// What is on its way, perhaps from somebody else.
const PART: &str = ".coop-part";

#[derive(Debug, Default, Serialize, Deserialize)]
struct Listed {
    version: u32,
    files: BTreeMap<String, Record>,
}

/// A file as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    sha256: String,
    size: u64,
    /// None if the server does not tell times.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    modified: Option<String>,
}

/// Does it.
///
/// # Errors
/// Those of input and server.
pub fn mirror(
    client: &mut Client,
    outside: &Outside,
    parameters: &Parameters,
    base: &str,
    wanted: &Mirror,
) -> Result<Done> {
    let input = outside.input()?;
    let local = Local::find(input, &wanted.from)?;
    if local.single {
        return Err(Error::invalid_input(format!("{} is a file, and a directory is mirrored", wanted.from)));
    }
    let to = paths::join(base, &wanted.to);
    let step = Step::new(format!("mirror to {}", client.server().url(&to)));
    step.run(|step| {
        let mut sender = Sender::new(parameters, input, step, local.bytes())?;
        sender.directory(client, &to)?;
        let remote: HashMap<String, Entry> = walk(client, &to)?.into_iter().collect();
        let listed = read_list(client, &to)?;
        let mut work = Work { client, input, to, remote, old: listed, new: Listed { version: 1, ..Listed::default() } };
        let mut removed = work.clear(&local, wanted.delete)?;
        let sent = work.send(&mut sender, &local, parameters.mode);
        // Also after a fault, so that what was sent need not be sent again.
        let kept = work.keep_list(sent.is_err());
        sent?;
        kept?;
        if wanted.delete {
            removed += work.remove(&local)?;
        }
        let url = work.client.server().url(&work.to);
        let unchanged = local.files.len() as u64 - sender.files;
        Ok(Done {
            files: sender.files,
            bytes: sender.bytes,
            url,
            unchanged: Some(unchanged),
            removed: Some(removed),
            ..Done::default()
        })
    })
}

struct Work<'w, 'c> {
    client: &'w mut Client<'c>,
    input: &'w dyn Files,
    to: String,
    remote: HashMap<String, Entry>,
    old: Listed,
    new: Listed,
}

impl Work<'_, '_> {
    /// Takes away what stands where something of another kind shall be.
    fn clear(&mut self, local: &Local, delete: bool) -> Result<u64> {
        let files = local.files.iter().map(|(path, ..)| (path, false));
        let wanted = files.chain(local.directories.iter().map(|path| (path, true)));
        let mut removed = 0;
        for (path, directory) in wanted {
            let Some(entry) = self.remote.get(path) else { continue };
            if (entry.kind == Kind::Directory) == directory {
                continue;
            }
            let full = paths::join(&self.to, path);
            if !delete {
                let kind = if directory { "a file" } else { "a directory" };
                return Err(Error::conflict(format!("{full} is {kind} on the server and something else in the input"))
                    .hint("`delete: true` lets it be replaced"));
            }
            removed += directories::remove(self.client, &full, true)?;
            let below = format!("{path}/");
            self.remote.retain(|other, _| other != path && !other.starts_with(&below));
        }
        Ok(removed)
    }

    fn send(&mut self, sender: &mut Sender, local: &Local, mode: Mode) -> Result<()> {
        for directory in &local.directories {
            if !self.remote.contains_key(directory) {
                sender.directory(self.client, &paths::join(&self.to, directory))?;
            }
        }
        for (relative, path, size) in &local.files {
            if relative == LIST {
                continue;
            }
            let full = paths::join(&self.to, relative);
            let payload = Hashing::new(self.input.payload(path)?);
            if self.is_there(relative, *size, &payload, mode)? {
                continue;
            }
            sender.file(self.client, &payload, &full)?;
            let modified = self.client.again(|session| session.modified(&full))?.as_deref().map(seconds);
            let sha256 = payload.digest()?;
            self.new.files.insert(relative.clone(), Record { sha256, size: *size, modified });
        }
        Ok(())
    }

    /// Whether a file was sent before and is still as it was. It is read only if nothing else says that it is not.
    fn is_there(&mut self, relative: &str, size: u64, payload: &Hashing, mode: Mode) -> Result<bool> {
        let (Some(record), Some(entry)) = (self.old.files.get(relative), self.remote.get(relative)) else {
            return Ok(false);
        };
        // Text has another size there.
        let other_size = mode == Mode::Binary && entry.size.is_some_and(|there| there != size);
        if record.size != size || other_size || entry.kind != Kind::File || record.sha256 != payload.digest()? {
            return Ok(false);
        }
        let listed = entry.modified.as_deref().filter(|time| is_time(time)).map(seconds);
        let modified = match (&record.modified, listed) {
            (None, _) => None,
            (_, Some(listed)) => Some(listed),
            _ => {
                let full = paths::join(&self.to, relative);
                self.client.again(|session| session.modified(&full))?.as_deref().map(seconds)
            }
        };
        let same = record.modified == modified;
        if same {
            self.new.files.insert(relative.to_owned(), record.clone());
        }
        Ok(same)
    }

    /// Writes the list if it says something new.
    fn keep_list(&mut self, partly: bool) -> Result<()> {
        if partly {
            for (path, record) in &self.old.files {
                self.new.files.entry(path.clone()).or_insert_with(|| record.clone());
            }
        }
        if self.old.version == self.new.version && self.old.files == self.new.files {
            return Ok(());
        }
        let text = serde_json::to_vec(&self.new)?;
        let path = paths::join(&self.to, LIST);
        let upload =
            Upload { payload: &text, path: &path, mode: Mode::Binary, atomic: true, resume: None, permissions: None };
        upload.run(self.client, &mut |_| {}).with_context(|| format!("cannot write {path}"))
    }

    /// Removes what the input does not have.
    fn remove(&mut self, local: &Local) -> Result<u64> {
        let files = local.files.iter().map(|(path, ..)| path.as_str());
        let wanted: HashSet<&str> = files.chain(local.directories.iter().map(String::as_str)).collect();
        let mut extra: BTreeMap<&str, HashSet<String>> = BTreeMap::new();
        for path in self.remote.keys().filter(|path| !wanted.contains(path.as_str())) {
            let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
            // What lies in a directory that goes, goes with it.
            let stays = directory.is_empty() || wanted.contains(directory);
            if stays && path != LIST && !name.ends_with(PART) {
                extra.entry(directory).or_default().insert(name.to_owned());
            }
        }
        let mut removed = 0;
        for (directory, names) in extra {
            debug!("removing {names:?} from {directory:?}");
            removed += directories::remove_names(self.client, &paths::join(&self.to, directory), &names)?;
        }
        Ok(removed)
    }
}

/// The list of what was sent; an empty one if there is none that can be read.
fn read_list(client: &mut Client, to: &str) -> Result<Listed> {
    let text = small(client, &paths::join(to, LIST), LARGEST)?;
    let listed: Option<Listed> = text.and_then(|text| serde_json::from_slice(&text).ok());
    Ok(listed.filter(|listed| listed.version == 1).unwrap_or_default())
}
