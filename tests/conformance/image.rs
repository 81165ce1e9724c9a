//! An image in an archive as `docker save` writes it, flattened into one line of text for each path.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::Path;

use cooperage_store::Digest;
use serde_json::{Map, Value};
use tar::EntryType;

/// What a container sees of an image's configuration.
const CONFIG: [&str; 12] = [
    "Env",
    "Cmd",
    "Entrypoint",
    "WorkingDir",
    "User",
    "ExposedPorts",
    "Volumes",
    "Labels",
    "Healthcheck",
    "StopSignal",
    "OnBuild",
    "Shell",
];
/// Text up to this length is shown as it is.
const LONGEST_INLINE: usize = 80;

/// The file tree and configuration of an image.
pub struct Image {
    pub config: Map<String, Value>,
    files: BTreeMap<String, Node>,
    count: usize,
}

#[derive(Clone)]
struct Node {
    kind: &'static str,
    mode: u32,
    owner: String,
    content: Option<String>,
    target: Option<String>,
    xattrs: Vec<String>,
    /// Hard links share it.
    inode: usize,
}

impl Image {
    pub fn read(archive: &Path) -> Self {
        let mut members: HashMap<String, Vec<u8>> = HashMap::new();
        for entry in tar::Archive::new(std::fs::File::open(archive).unwrap()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            members.insert(entry.path().unwrap().to_string_lossy().into_owned(), bytes);
        }
        let json = |name: &str| serde_json::from_slice::<Value>(&members[name]).unwrap();
        let manifest = json("manifest.json");
        let document = json(manifest[0]["Config"].as_str().unwrap());
        let meaning = |key: &str| {
            let value = document["config"].get(key)?;
            let empty = match value {
                Value::Null => true,
                Value::String(text) => text.is_empty(),
                Value::Array(list) => list.is_empty(),
                Value::Object(map) => map.is_empty(),
                _ => false,
            };
            (!empty).then(|| (key.to_owned(), value.clone()))
        };
        let config = CONFIG.iter().filter_map(|key| meaning(key)).collect();
        let mut image = Self { config, files: BTreeMap::new(), count: 0 };
        for layer in manifest[0]["Layers"].as_array().unwrap() {
            image.apply(&members[layer.as_str().unwrap()]);
        }
        let root = Node { inode: usize::MAX, ..Node::plain("dir", 0o755, "0:0".to_owned()) };
        image.files.entry(".".to_owned()).or_insert(root);
        image
    }

    fn apply(&mut self, layer: &[u8]) {
        let mut added = Vec::new();
        for entry in tar::Archive::new(layer).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = normal(&entry.path_bytes());
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if name == ".wh..wh..opq" {
                self.forget(parent, false);
            } else if let Some(hidden) = name.strip_prefix(".wh.") {
                let hidden = if parent.is_empty() { hidden.to_owned() } else { format!("{parent}/{hidden}") };
                self.forget(&hidden, true);
            } else {
                let node = self.node(&mut entry, &added);
                added.push((path, node));
            }
        }
        for (path, node) in added {
            if self.files.get(&path).is_some_and(|there| (there.kind == "dir") != (node.kind == "dir")) {
                self.forget(&path, true);
            }
            self.files.insert(path, node);
        }
    }

    fn node(&mut self, entry: &mut tar::Entry<'_, &[u8]>, added: &[(String, Node)]) -> Node {
        let link = entry.link_name_bytes().map(|name| name.into_owned());
        if entry.header().entry_type() == EntryType::Link {
            let first = normal(&link.unwrap());
            let found = added.iter().rev().find(|(path, _)| *path == first).map(|(_, node)| node);
            return found.or_else(|| self.files.get(&first)).expect("a hard link names a file").clone();
        }
        let mut xattrs = Vec::new();
        for extension in entry.pax_extensions().unwrap().into_iter().flatten() {
            let extension = extension.unwrap();
            if let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") {
                let value: String = extension.value_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
                xattrs.push(format!("{}={value}", String::from_utf8_lossy(name)));
            }
        }
        xattrs.sort();
        let header = entry.header();
        let owner = format!("{}:{}", header.uid().unwrap(), header.gid().unwrap());
        let mode = header.mode().unwrap() & 0o7777;
        self.count += 1;
        let plain = |kind| Node { xattrs, inode: self.count, ..Node::plain(kind, mode, owner) };
        match header.entry_type() {
            EntryType::Directory => plain("dir"),
            EntryType::Symlink => {
                Node { target: link.map(|to| String::from_utf8_lossy(&to).into_owned()), ..plain("link") }
            }
            EntryType::Fifo => plain("fifo"),
            EntryType::Char | EntryType::Block => {
                let number = |part: std::io::Result<Option<u32>>| part.unwrap().unwrap_or_default();
                let (major, minor) = (number(header.device_major()), number(header.device_minor()));
                Node { target: Some(format!("{major}:{minor}")), ..plain("device") }
            }
            _ => {
                let mut node = plain("file");
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                node.content = Some(show(&bytes));
                node
            }
        }
    }

    fn forget(&mut self, path: &str, itself: bool) {
        let below = format!("{path}/");
        self.files.retain(|known, _| !(known.starts_with(&below) || (itself && known == path)));
    }

    /// What is in a file: short text, or a digest.
    pub fn content(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.content.as_deref()
    }

    /// One line for each path; `busybox` is content to call by that name.
    pub fn lines(&self, busybox: Option<&str>) -> BTreeMap<String, String> {
        let mut first: HashMap<usize, &str> = HashMap::new();
        let mut lines = BTreeMap::new();
        for (path, node) in &self.files {
            let mode = if node.kind == "link" { String::new() } else { format!("{:04o} ", node.mode) };
            let mut line = format!("{} {mode}{}", node.kind, node.owner);
            if let Some(content) = &node.content {
                line += &format!(" {}", if Some(content.as_str()) == busybox { "busybox" } else { content });
            }
            if let Some(target) = &node.target {
                line += &format!(" -> {target}");
            }
            if !node.xattrs.is_empty() {
                line += &format!(" {}", node.xattrs.join(","));
            }
            let name = *first.entry(node.inode).or_insert(path);
            if name != path {
                line += &format!(" = {name}");
            }
            lines.insert(path.clone(), line);
        }
        lines
    }
}

impl Node {
    fn plain(kind: &'static str, mode: u32, owner: String) -> Self {
        Self { kind, mode, owner, content: None, target: None, xattrs: Vec::new(), inode: 0 }
    }
}

fn normal(path: &[u8]) -> String {
    let path = String::from_utf8_lossy(path);
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

fn show(bytes: &[u8]) -> String {
    let text = |byte: &u8| matches!(byte, b'\t' | b'\n' | 32..127);
    if bytes.len() <= LONGEST_INLINE && bytes.iter().all(text) {
        return serde_json::to_string(&String::from_utf8_lossy(bytes)).unwrap();
    }
    Digest::of(bytes).to_string()
}
