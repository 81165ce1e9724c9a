//! What a COPY takes: the paths and wildcards of its source, resolved against the files there are.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;

use cooperage_store::Hasher;
use cooperage_store::layer::Kind;
use cooperage_store::layers::{LayerId, Source};

use crate::Error;
use crate::files::{Files, Item, ancestors, display, file_name, join, parent, resolve};
use crate::key::frame;
use crate::pattern::{Ignore, Pattern, clean, is_pattern};

/// One source path with all that is below it.
#[derive(Debug, Clone)]
pub(crate) struct Selected {
    /// The path as the user named it, for messages.
    pub(crate) given: String,
    /// Where it goes below the destination: the name of a file, or the kept directories with `parents`.
    pub(crate) name: Vec<u8>,
    /// Whether `name` counts for a directory too.
    pub(crate) keep_name: bool,
    /// With `parents`, the kept directories on the way to the source, by their paths below the destination.
    pub(crate) parents: Vec<(Vec<u8>, Item)>,
    /// The source itself (empty path) and what is below it, relative to it, parents first.
    pub(crate) items: Vec<(Vec<u8>, Item)>,
}

impl Selected {
    /// The source itself.
    pub(crate) fn top(&self) -> &Item {
        &self.items[0].1
    }
}

/// Resolves `paths` in `files`. A path that is not there is a fault; a wildcard that matches nothing is not.
pub(crate) fn select(
    files: &dyn Files,
    paths: &[String],
    exclude: &[String],
    parents: bool,
    what: &str,
) -> Result<Vec<Selected>, Error> {
    let exclude = Ignore::new(exclude)?;
    let mut all = Vec::new();
    for path in paths {
        for (found, given) in matches(files, path, !parents, what)? {
            let mut selected = gather(files, found, given, path, parents)?;
            leave_out(&mut selected, &exclude);
            if !selected.items.is_empty() {
                all.push(selected);
            }
        }
    }
    Ok(all)
}

/// The paths that `path` means: resolved ones, each with the name it was reached by. What a wildcard matches is
/// followed with `follow`, as if the name had been written out.
fn matches(files: &dyn Files, path: &str, follow: bool, what: &str) -> Result<Vec<(Item, Vec<u8>)>, Error> {
    let cleaned = clean(path.as_bytes());
    if !is_pattern(&cleaned) {
        let item = resolve(files, &cleaned, true)?.item;
        let item = item.ok_or_else(|| missing(files, &cleaned, what))?;
        return Ok(vec![(item, cleaned)]);
    }
    let mut fixed: Vec<u8> = Vec::new();
    let mut patterns = Vec::new();
    for part in cleaned.split(|b| *b == b'/') {
        if patterns.is_empty() && !is_pattern(part) {
            fixed = join(&fixed, part);
        } else {
            patterns.push(Pattern::glob(part)?);
        }
    }
    let start = resolve(files, &fixed, true)?;
    let mut level: Vec<Item> = start.item.into_iter().collect();
    for pattern in &patterns {
        let mut next = Vec::new();
        for item in level.iter().filter(|item| item.is_directory()) {
            next.extend(files.list(item.path())?.into_iter().filter(|item| pattern.matches(file_name(item.path()))));
        }
        level = next;
    }
    let named = |item: Item| {
        let path = item.path().to_vec();
        match item.entry.kind {
            Kind::Symlink { .. } if follow => {
                let found = resolve(files, &path, true)?.item;
                Ok((found.ok_or_else(|| missing(files, &path, what))?, path))
            }
            _ => Ok((item, path)),
        }
    };
    level.into_iter().map(named).collect()
}

fn gather(files: &dyn Files, found: Item, given: Vec<u8>, written: &str, parents: bool) -> Result<Selected, Error> {
    let from = found.path().to_vec();
    let items = match found.is_directory() || found.digest().is_none() {
        true => files.subtree(&from)?,
        false => vec![found],
    };
    let strip = if from.is_empty() { 0 } else { from.len() + 1 };
    let items: Vec<_> =
        items.into_iter().map(|item| (item.path().get(strip..).unwrap_or_default().to_vec(), item)).collect();
    if items.is_empty() {
        return Err(Error::not_found(format!("{} went away while it was read", display(&from))));
    }
    let name = match parents {
        true => below_pivot(written, &given),
        false => file_name(&given).to_vec(),
    };
    let mut kept = Vec::new();
    if parents {
        let pivot = &given[..given.len() - name.len()];
        for ancestor in ancestors(&name) {
            let found = resolve(files, &[pivot, ancestor].concat(), true)?.item;
            kept.extend(found.map(|item| (ancestor.to_vec(), item)));
        }
    }
    let given = String::from_utf8_lossy(&given).into_owned();
    Ok(Selected { given, name, keep_name: parents, parents: kept, items })
}

/// With `parents`, what stays of the path: all of it, or what follows `/./`.
fn below_pivot(written: &str, given: &[u8]) -> Vec<u8> {
    match written.split_once("/./") {
        Some((pivot, _)) => {
            let pivot = clean(pivot.as_bytes());
            let skip = if pivot.is_empty() { 0 } else { pivot.len() + 1 };
            given.get(skip..).unwrap_or_default().to_vec()
        }
        None => given.to_vec(),
    }
}

fn leave_out(selected: &mut Selected, exclude: &Ignore) {
    if exclude.is_empty() {
        return;
    }
    let name = file_name(selected.given.as_bytes()).to_vec();
    let single = !selected.top().is_directory();
    let mut kept = Vec::new();
    for (path, item) in selected.items.drain(..) {
        let subject = match (selected.keep_name, single) {
            (true, _) => &join(&selected.name, &path),
            (false, true) => &name,
            (false, false) => &path,
        };
        if (path.is_empty() && !single) || !exclude.ignores(subject) {
            kept.push((path, item));
        }
    }
    selected.items = kept;
}

/// A path is not there: say so, and name what is nearly called so.
fn missing(files: &dyn Files, path: &[u8], what: &str) -> Error {
    let error = Error::not_found(format!("{} is not in {what}", display(path)));
    let near = files.list(parent(path)).unwrap_or_default();
    let wanted = String::from_utf8_lossy(file_name(path)).into_owned();
    let nearest = near
        .iter()
        .map(|item| String::from_utf8_lossy(file_name(item.path())).into_owned())
        .map(|name| (distance(&wanted.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= wanted.len().max(name.len()) / 3)
        .min();
    match nearest {
        Some((_, name)) => error.hint(format!("did you mean {}?", display(&join(parent(path), name.as_bytes())))),
        None if what.contains("context") => error.hint("is it left out by an ignore file, or outside of the context?"),
        None => error,
    }
}

/// Levenshtein's distance of two short names.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

/// Items that are further names of a file, by index, with the index of the first that is.
pub(crate) fn same_files(items: &[(Vec<u8>, Item)]) -> HashMap<usize, usize> {
    let mut same = HashMap::new();
    if !items.iter().any(|(_, item)| item.linked) {
        return same;
    }
    let mut first: HashMap<(Option<LayerId>, &[u8]), usize> = HashMap::new();
    for (at, (_, item)) in items.iter().enumerate() {
        let file = match &item.source {
            Source::File(path) => (None, path.as_os_str().as_bytes()),
            Source::Layer { id, path } => (Some(*id), &path[..]),
            Source::None | Source::Bytes(_) => continue,
        };
        let first = *first.entry(file).or_insert(at);
        if first != at {
            same.insert(at, first);
        }
    }
    same
}

/// A digest of what was selected: names, kinds, permissions, bytes, and owners where they count; no times.
pub(crate) fn content_digest(selected: &[Selected], owners: bool) -> cooperage_store::Digest {
    let mut hasher = Hasher::new();
    for one in selected {
        frame(&mut hasher, b"source");
        frame(&mut hasher, &one.name);
        hasher.update(&[u8::from(one.keep_name)]);
        hasher.update(&(one.items.len() as u64).to_be_bytes());
        for (path, item) in &one.parents {
            frame(&mut hasher, path);
            hash_item(&mut hasher, item, owners);
        }
        let same = same_files(&one.items);
        for (at, (path, item)) in one.items.iter().enumerate() {
            frame(&mut hasher, path);
            if let Some(first) = same.get(&at) {
                frame(&mut hasher, b"same");
                hasher.update(&(*first as u64).to_be_bytes());
            }
            hash_item(&mut hasher, item, owners);
        }
    }
    hasher.finish()
}

/// Feeds everything of an item but its path and times.
pub(crate) fn hash_item(hasher: &mut Hasher, item: &Item, owners: bool) {
    let entry = &item.entry;
    hasher.update(&entry.mode.to_be_bytes());
    if owners {
        hasher.update(&entry.uid.to_be_bytes());
        hasher.update(&entry.gid.to_be_bytes());
    }
    let (tag, value): (u8, Vec<u8>) = match &entry.kind {
        Kind::File { digest, .. } => (b'f', digest.map(|d| d.as_bytes().to_vec()).unwrap_or_default()),
        Kind::Directory { opaque } => (b'd', vec![u8::from(*opaque)]),
        Kind::Symlink { target } => (b'l', target.clone()),
        Kind::Hardlink { target } => (b'h', target.clone()),
        Kind::CharDevice { major, minor } => (b'c', [major.to_be_bytes(), minor.to_be_bytes()].concat()),
        Kind::BlockDevice { major, minor } => (b'b', [major.to_be_bytes(), minor.to_be_bytes()].concat()),
        Kind::Fifo => (b'p', Vec::new()),
        Kind::Whiteout => (b'w', Vec::new()),
    };
    hasher.update(&[tag]);
    frame(hasher, &value);
    hasher.update(&(entry.xattrs.len() as u64).to_be_bytes());
    for (name, value) in &entry.xattrs {
        frame(hasher, name);
        frame(hasher, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::testing::{Listed, directory, file, link};

    fn selected(files: &Listed, path: &str, exclude: &[String], parents: bool) -> Result<Vec<Selected>, Error> {
        select(files, &[path.to_owned()], exclude, parents, "the context")
    }

    #[test]
    fn what_a_wildcard_matches_is_followed() {
        let files = Listed(vec![directory("d"), file("d/f"), link("ld", "d"), link("lf", "d/f")]);
        let found = selected(&files, "l*", &[], false).unwrap();
        let tops: Vec<(&[u8], &[u8])> = found.iter().map(|one| (&one.name[..], one.top().path())).collect();
        assert_eq!(tops, [(&b"ld"[..], &b"d"[..]), (b"lf", b"d/f")]);
        let files = Listed(vec![link("dangling", "nowhere")]);
        assert!(selected(&files, "d*", &[], false).is_err());
    }

    #[test]
    fn a_file_that_is_left_out_is_not_selected() {
        let files = Listed(vec![file("a.txt"), directory("x"), file("x/a.txt")]);
        let exclude = ["*.txt".to_owned()];
        assert!(selected(&files, "a.txt", &exclude, false).unwrap().is_empty());
        assert_eq!(selected(&files, "x", &exclude, false).unwrap()[0].items.len(), 1);
        assert_eq!(selected(&files, "x", &exclude, true).unwrap()[0].items.len(), 2);
        assert_eq!(selected(&files, "x", &["x/*.txt".to_owned()], true).unwrap()[0].items.len(), 1);
    }

    #[test]
    fn names_of_one_file_count_in_the_digest() {
        let plain = Listed(vec![directory("d"), file("d/a"), file("d/b")]);
        let mut second = file("d/b");
        (second.source, second.linked) = (file("d/a").source, true);
        let linked = Listed(vec![directory("d"), file("d/a"), second]);
        let digest = |files| content_digest(&selected(files, "d", &[], false).unwrap(), false);
        assert_ne!(digest(&plain), digest(&linked));
    }
}
