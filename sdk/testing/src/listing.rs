//! A list of files as text: every path with its kind, permissions and owner, and the contents that count. Recordings keep
//! layers so. A line is a path and what is there: `null` where it is gone, a text where it is an ordinary file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cooperage_store::layer::{Entry, Kind};
use cooperage_store::layers::{LayerId, Layers, Source};
use cooperage_store::{Digest, Store};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::exchange::Body;
use crate::read::parse;
use crate::veil::Veil;

/// Where contents lie that are no text, or a long one, and where listings do.
pub(crate) const PLACE: &str = "recorded";
/// Longer texts get a file.
pub(crate) const LONGEST: usize = 16 << 10;

/// What is at a path.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Listed {
    Text(String),
    Entry(Details),
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Details {
    kind: Word,
    content: Option<Body>,
    /// Bytes of a file whose content is not known.
    size: Option<u64>,
    mode: Option<String>,
    owner: Option<String>,
    /// Of symbolic and hard links.
    target: String,
    /// Seconds since 1970.
    time: i64,
    /// Whether a directory hides what is below it.
    opaque: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    #[default]
    File,
    Directory,
    Symlink,
    Hardlink,
    /// Devices and the like; they come back as fifos, which everybody may make.
    Other,
}

/// A path of a listing.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) entry: Entry,
    /// None also where nobody knows it.
    pub(crate) content: Option<Vec<u8>>,
}

impl Item {
    /// Whether it is a file that is not known but for its size.
    pub(crate) fn is_bare(&self) -> bool {
        matches!(self.entry.kind, Kind::File { size, .. } if size > 0) && self.content.is_none()
    }
}

/// Files that are bare.
pub(crate) fn bare(items: &[Item]) -> BTreeSet<Vec<u8>> {
    items.iter().filter(|item| item.is_bare()).map(|item| item.entry.path.clone()).collect()
}

/// Reads a listing of a case.
pub(crate) fn read(folder: &Path, file: &str) -> Result<Vec<Item>, String> {
    let path = folder.join(file);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let listed: BTreeMap<String, Option<Listed>> =
        parse(&text).map_err(|(line, _, message)| format!("{}:{line}: {message}", path.display()))?;
    let item = |(path, listed): (&String, &Option<Listed>)| {
        item(path, listed, folder).map_err(|error| format!("{file}: {path}: {error}"))
    };
    listed.iter().map(item).collect()
}

fn item(path: &str, listed: &Option<Listed>, folder: &Path) -> Result<Item, String> {
    let bytes = path.trim_matches('/').as_bytes().to_vec();
    let details = match listed {
        None => return Ok(Item { entry: Entry::whiteout(bytes), content: None }),
        Some(Listed::Text(text)) => Details { content: Some(Body::Text(text.clone())), ..Details::default() },
        Some(Listed::Entry(details)) => details.clone(),
    };
    let content = details.content.as_ref().map(|body| body.bytes(folder)).transpose()?;
    let size = content.as_ref().map_or(details.size.unwrap_or(0), |content| content.len() as u64);
    let target = details.target.clone().into_bytes();
    let (kind, usual) = match details.kind {
        Word::File => (Kind::File { size, digest: None, offset: 0 }, 0o644),
        Word::Directory => (Kind::Directory { opaque: details.opaque }, 0o755),
        Word::Symlink => (Kind::Symlink { target }, 0o777),
        Word::Hardlink => {
            let target = details.target.trim_matches('/').as_bytes().to_vec();
            (Kind::Hardlink { target }, 0o644)
        }
        Word::Other => (Kind::Fifo, 0o644),
    };
    let mode = details.mode.as_deref().map(|mode| u32::from_str_radix(mode, 8).map_err(|_| format!("{mode}: no mode")));
    let (uid, gid) = owner(details.owner.as_deref().unwrap_or("0:0"))?;
    let mode = mode.transpose()?.unwrap_or(usual);
    let entry = Entry { path: bytes, kind, mode, uid, gid, mtime: details.time, mtime_nanos: 0, xattrs: Vec::new() };
    Ok(Item { entry, content })
}

fn owner(text: &str) -> Result<(u32, u32), String> {
    let pair = text.split_once(':').and_then(|(user, group)| Some((user.parse().ok()?, group.parse().ok()?)));
    pair.ok_or_else(|| format!("the owner {text:?} is not NUMBER:NUMBER"))
}

/// What goes into a layer: contents that nobody knows are zeros, which [`crate::reads::Reads`] keeps from being read.
pub(crate) fn entries(items: Vec<Item>) -> Vec<(Entry, Source)> {
    let source = |item: &Item| match (&item.entry.kind, &item.content) {
        (Kind::File { .. }, Some(content)) => Source::Bytes(content.clone()),
        (Kind::File { size, .. }, None) => Source::Bytes(vec![0; usize::try_from(*size).unwrap_or(0)]),
        _ => Source::None,
    };
    items.into_iter().map(|item| (item.entry.clone(), source(&item))).collect()
}

/// What is written of a layer.
pub(crate) struct Sheet<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) veil: &'a Veil,
    /// Whether times are kept: those of processes are the hour's.
    pub(crate) times: bool,
}

impl Sheet<'_> {
    /// Writes a layer of a store with the contents of the files in `used`; gives the path in the case.
    pub(crate) fn layer(
        &mut self,
        name: &str,
        store: &Store,
        id: &LayerId,
        used: &BTreeSet<Vec<u8>>,
    ) -> std::io::Result<String> {
        let layers = store.layers();
        let toc = layers.toc(id).map_err(std::io::Error::other)?;
        let mut lines = Vec::new();
        for entry in toc.iter() {
            let content = match used.contains(&entry.path) {
                true => content(layers, id, entry)?,
                false => None,
            };
            lines.push((entry.clone(), content));
        }
        self.write(name, lines)
    }

    /// Writes entries; a file without its content is written with its size alone.
    pub(crate) fn write(&mut self, name: &str, lines: Vec<(Entry, Option<Vec<u8>>)>) -> std::io::Result<String> {
        let mut text = String::new();
        for (entry, content) in lines {
            let path = format!("/{}", String::from_utf8_lossy(&entry.path));
            let value = self.value(&entry, content)?;
            text.push_str(&format!("{}: {value}\n", json!(path)));
        }
        std::fs::create_dir_all(self.folder.join(PLACE))?;
        let file = format!("{PLACE}/{name}.yaml");
        std::fs::write(self.folder.join(&file), text)?;
        Ok(file)
    }

    fn value(&mut self, entry: &Entry, content: Option<Vec<u8>>) -> std::io::Result<Value> {
        let text = |bytes: &[u8]| json!(String::from_utf8_lossy(bytes));
        let (mut value, usual) = match &entry.kind {
            Kind::Whiteout => return Ok(Value::Null),
            Kind::File { size, .. } => match content {
                Some(content) => {
                    (json!({ "content": body(&self.veil.bytes(&content), &mut str::to_owned, self.folder)? }), 0o644)
                }
                None => (json!({ "size": size }), 0o644),
            },
            Kind::Directory { opaque: true } => (json!({ "kind": "directory", "opaque": true }), 0o755),
            Kind::Directory { .. } => (json!({ "kind": "directory" }), 0o755),
            Kind::Symlink { target } => (json!({ "kind": "symlink", "target": text(target) }), 0o777),
            Kind::Hardlink { target } => (json!({ "kind": "hardlink", "target": text(target) }), entry.mode),
            _ => (json!({ "kind": "other" }), 0o644),
        };
        if entry.mode != usual {
            value["mode"] = json!(format!("{:04o}", entry.mode));
        }
        if (entry.uid, entry.gid) != (0, 0) {
            value["owner"] = json!(format!("{}:{}", entry.uid, entry.gid));
        }
        if self.times && entry.mtime != 0 {
            value["time"] = json!(entry.mtime);
        }
        match value.as_object() {
            Some(map) if map.len() == 1 && map.get("content").is_some_and(Value::is_string) => {
                Ok(map["content"].clone())
            }
            _ => Ok(value),
        }
    }
}

fn content(layers: &Layers, id: &LayerId, entry: &Entry) -> std::io::Result<Option<Vec<u8>>> {
    match entry.kind {
        Kind::File { .. } => layers.read(id, &entry.path, u64::MAX).map(Some).map_err(std::io::Error::other),
        _ => Ok(None),
    }
}

/// Bytes in the form in which they are easiest to read. Long ones and those that are no text get a file of the case.
/// The caller has hidden what nobody may see; `renamed` takes out of texts what differs from run to run.
pub(crate) fn body(bytes: &[u8], renamed: &mut dyn FnMut(&str) -> String, folder: &Path) -> std::io::Result<Value> {
    match std::str::from_utf8(bytes) {
        // Carriage returns would not come back from YAML as they went in.
        Ok(text) if text.len() <= LONGEST && !text.contains('\r') => Ok(json!(renamed(text))),
        _ => {
            let name = format!("{PLACE}/{}", &Digest::of(bytes).hex()[..16]);
            std::fs::create_dir_all(folder.join(PLACE))?;
            std::fs::write(folder.join(&name), bytes)?;
            Ok(json!({ "file": name }))
        }
    }
}

/// Does to an upper directory of an overlay what a listing says.
pub(crate) fn place(items: &[Item], upper: &Path, userxattr: bool) -> std::io::Result<()> {
    let mut sorted: Vec<&Item> = items.iter().collect();
    sorted.sort_by(|one, other| one.entry.path.cmp(&other.entry.path));
    for item in sorted.iter().filter(|item| !matches!(item.entry.kind, Kind::Hardlink { .. })) {
        one(item, upper, userxattr)?;
    }
    for item in sorted {
        if let Kind::Hardlink { target } = &item.entry.kind {
            std::fs::hard_link(below(upper, target), below(upper, &item.entry.path))?;
        }
    }
    Ok(())
}

fn below(upper: &Path, path: &[u8]) -> std::path::PathBuf {
    use std::os::unix::ffi::OsStrExt;
    upper.join(std::ffi::OsStr::from_bytes(path))
}

fn one(item: &Item, upper: &Path, userxattr: bool) -> std::io::Result<()> {
    use rustix::fs::{CWD, FileType, Mode, XattrFlags};
    use std::os::unix::fs::PermissionsExt;
    let entry = &item.entry;
    let path = below(upper, &entry.path);
    match &entry.kind {
        Kind::Directory { opaque } => {
            std::fs::create_dir_all(&path)?;
            if *opaque {
                let name = if userxattr { "user.overlay.opaque" } else { "trusted.overlay.opaque" };
                rustix::fs::setxattr(&path, name, b"y", XattrFlags::empty())?;
            }
        }
        Kind::File { size, .. } => match &item.content {
            Some(content) => std::fs::write(&path, content)?,
            None => std::fs::File::create(&path)?.set_len(*size)?,
        },
        Kind::Symlink { target } => {
            use std::os::unix::ffi::OsStrExt;
            std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target), &path)?;
        }
        // The kernel lets everybody make this one device: it stands for what is gone.
        Kind::Whiteout => rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0)?,
        _ => rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o644), 0)?,
    }
    if matches!(entry.kind, Kind::Whiteout) {
        return Ok(());
    }
    // Without the right to give files away they stay ours, which is all that such a user would see of the process, too.
    let _ = std::os::unix::fs::lchown(&path, Some(entry.uid), Some(entry.gid));
    if !matches!(entry.kind, Kind::Symlink { .. }) {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(entry.mode))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever becomes a file of its own: what is long, has carriage returns, or is no text.
    #[test]
    fn no_content_is_written_with_a_secret_in_it() {
        let veil = Veil::new([("TOKEN", "hunter22")]);
        let long = format!("{}hunter22", "x".repeat(LONGEST));
        for content in [&b"hunter22"[..], b"hunter22\r\n", b"\xffhunter22", long.as_bytes()] {
            let folder = tempfile::tempdir().unwrap();
            let kind = Kind::File { size: content.len() as u64, digest: None, offset: 0 };
            let path = b"a".to_vec();
            let entry = Entry { path, kind, mode: 0o644, uid: 0, gid: 0, mtime: 0, mtime_nanos: 0, xattrs: Vec::new() };
            let mut sheet = Sheet { folder: folder.path(), veil: &veil, times: false };
            sheet.write("layer", vec![(entry, Some(content.to_vec()))]).unwrap();
            let files = std::fs::read_dir(folder.path().join(PLACE)).unwrap();
            let all: Vec<u8> = files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
            let has = |text: &[u8]| all.windows(text.len()).any(|window| window == text);
            assert!(has(b"***TOKEN***") && !has(b"hunter22"), "{}", String::from_utf8_lossy(content));
        }
    }
}
