//! Directories on the server: listing, walking, making and removing them.

use std::collections::HashSet;

use cooperage_sdk::events::check_cancelled;
use cooperage_sdk::{Context, Error, ErrorKind, Result};

use super::Client;
use super::faults::done;
use super::listing::{self, Entry, Form, Kind};
use super::session::{Mode, Session};
use crate::edge::CHUNK;
use crate::paths;

const MOST_BYTES: usize = 16 << 20;
const DEEPEST: usize = 64;
const MOST_ENTRIES: usize = 500_000;

/// What a directory has, sorted by name.
///
/// # Errors
/// `not-found` and the like; `conflict` for a listing with names that are none.
pub fn list(client: &mut Client, directory: &str) -> Result<Vec<Entry>> {
    client
        .again(|session| {
            let form = if session.features.mlst { Form::Machine } else { Form::People };
            in_form(session, directory, form)
        })
        .with_context(|| format!("cannot list {directory}"))
}

/// The same without entering the directory, where a server lists for machines: one that somebody else may remove meanwhile
/// must not be the working directory of a server with one for all its sessions. The path must be none that a server takes
/// for an option or a pattern.
///
/// # Errors
/// As for [`list`].
pub fn list_from_outside(client: &mut Client, directory: &str) -> Result<Vec<Entry>> {
    let listed = client.again(|session| match session.features.mlst {
        true => listing::parse(Form::Machine, &fetch(session, "MLSD", Some(directory))?),
        false => in_form(session, directory, Form::People),
    });
    listed.with_context(|| format!("cannot list {directory}"))
}

/// The same as [`list`], with symbolic links shown as what they are wherever the server shows them at all: a listing for
/// machines may show what they lead to, and that must not be removed in their place.
fn list_links(client: &mut Client, directory: &str) -> Result<Vec<Entry>> {
    let listed = client.again(|session| in_form(session, directory, Form::People));
    match listed {
        Err(error) if error.kind == ErrorKind::Unsupported => list(client, directory),
        result => result.with_context(|| format!("cannot list {directory}")),
    }
}

fn in_form(session: &mut Session, directory: &str, form: Form) -> Result<Vec<Entry>> {
    // Without an argument: what looks like an option or a pattern in a name would be taken for one.
    session.enter(directory)?;
    if form == Form::Machine {
        match fetch(session, "MLSD", None) {
            Err(error) if error.kind == ErrorKind::Unsupported => session.features.mlst = false,
            result => return listing::parse(Form::Machine, &result?),
        }
    }
    // Names with a dot are listed only to who asks for them, and some servers take the question for a name.
    match fetch(session, "LIST", Some("-a")) {
        Ok(text) if !text.is_empty() => listing::parse(Form::People, &text),
        Err(error) if !matches!(error.kind, ErrorKind::NotFound | ErrorKind::Unsupported) => Err(error),
        _ => listing::parse(Form::People, &fetch(session, "LIST", None)?),
    }
}

fn fetch(session: &mut Session, verb: &str, argument: Option<&str>) -> Result<Vec<u8>> {
    let mut data = session.begin(Mode::Ascii, 0, verb, argument)?;
    let mut text = Vec::new();
    loop {
        match data.read(CHUNK) {
            Ok(bytes) if bytes.is_empty() => break,
            Ok(bytes) => text.extend(bytes),
            Err(error) => return Err(session.why(data, error)),
        }
        if text.len() > MOST_BYTES {
            let large = Error::limit(format!("the listing has more than {MOST_BYTES} bytes"));
            return Err(session.why(data, large));
        }
    }
    session.end(data)?;
    Ok(text)
}

/// All that lies below a directory: paths relative to it, directories before what they have.
///
/// # Errors
/// Those of [`list`]; `limit` for what goes too deep or has too many names.
pub fn walk(client: &mut Client, base: &str) -> Result<Vec<(String, Entry)>> {
    let mut found: Vec<(String, Entry)> = Vec::new();
    let mut ahead = vec![(String::new(), 0)];
    while let Some((directory, depth)) = ahead.pop() {
        check_cancelled()?;
        let entries = list(client, &paths::join(base, &directory))?;
        if found.len() + entries.len() > MOST_ENTRIES {
            return Err(Error::limit(format!("{base} has more than {MOST_ENTRIES} names")));
        }
        let place = |name: &str| if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
        let at = |entry: &Entry| (place(&entry.name), depth + 1);
        let directories = entries.iter().filter(|entry| entry.kind == Kind::Directory);
        ahead.extend(directories.map(at).rev());
        if depth == DEEPEST && ahead.last().is_some_and(|(_, deep)| *deep > DEEPEST) {
            return Err(Error::limit(format!("{base} goes deeper than {DEEPEST} directories"))
                .hint("a symbolic link on the server may lead in a circle"));
        }
        found.extend(entries.into_iter().map(|entry| (place(&entry.name), entry)));
    }
    Ok(found)
}

/// Makes directories, and remembers which are there.
#[derive(Debug, Default)]
pub struct Directories {
    known: HashSet<String>,
}

impl Directories {
    /// Makes a directory and those that it lies in; one that is there stays as it is.
    ///
    /// # Errors
    /// Those of the server.
    pub fn make(&mut self, client: &mut Client, path: &str) -> Result<()> {
        if path == "/" || self.known.contains(path) {
            return Ok(());
        }
        if exists(client, path)? {
            self.known.insert(path.to_owned());
            return Ok(());
        }
        if let Some((parent, _)) = paths::split(path) {
            self.make(client, parent)?;
        }
        let made = client.again(|session| session.must("MKD", path));
        // Another one may have made it meanwhile, or a try whose answer was lost.
        if let Err(error) = made
            && !exists(client, path)?
        {
            return Err(error).with_context(|| format!("cannot make the directory {path}"));
        }
        self.known.insert(path.to_owned());
        Ok(())
    }
}

/// Whether a path is a directory.
///
/// # Errors
/// Those of the connection.
pub fn exists(client: &mut Client, path: &str) -> Result<bool> {
    let reply = client.again(|session| session.command("CWD", Some(path)))?;
    match reply.code {
        250 | 200 => Ok(true),
        550 | 553 => Ok(false),
        _ => done(reply).map(|_| true),
    }
}

/// Removes a file or an empty directory, or a directory with all that it has. Nothing is removed twice: whatever
/// breaks ends it. Gives how many names are gone.
///
/// # Errors
/// `not-found` if there is nothing, and those of the server.
pub fn remove(client: &mut Client, path: &str, recursive: bool) -> Result<u64> {
    let Some((parent, name)) = paths::split(path) else {
        return Err(Error::invalid_input("the root directory of the server cannot be removed"));
    };
    let entries = list_links(client, parent)?;
    let Some(entry) = entries.iter().find(|entry| entry.name == name) else {
        return Err(Error::not_found(format!("{path} is not there")));
    };
    let mut gone = 0;
    remove_entry(client, parent, entry, recursive, 0, &mut gone)
        .map_err(|error| if gone > 0 { error.because(format!("{gone} names were removed before")) } else { error })?;
    Ok(gone)
}

/// Removes these names of a directory with all that they have.
///
/// # Errors
/// Those of the server.
pub fn remove_names(client: &mut Client, directory: &str, names: &HashSet<String>) -> Result<u64> {
    let mut gone = 0;
    for entry in list_links(client, directory)?.iter().filter(|entry| names.contains(&entry.name)) {
        remove_entry(client, directory, entry, true, 0, &mut gone)?;
    }
    Ok(gone)
}

fn remove_entry(
    client: &mut Client,
    directory: &str,
    entry: &Entry,
    recursive: bool,
    depth: usize,
    gone: &mut u64,
) -> Result<()> {
    check_cancelled()?;
    let path = paths::join(directory, &entry.name);
    if entry.kind == Kind::Directory && recursive {
        if depth > DEEPEST {
            return Err(Error::limit(format!("{path} goes deeper than {DEEPEST} directories")));
        }
        for below in list_links(client, &path)? {
            remove_entry(client, &path, &below, true, depth + 1, gone)?;
        }
    }
    let verb = if entry.kind == Kind::Directory { "RMD" } else { "DELE" };
    client.once(|session| session.must(verb, &path)).with_context(|| format!("cannot remove {path}"))?;
    *gone += 1;
    Ok(())
}
