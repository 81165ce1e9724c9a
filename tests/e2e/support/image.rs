//! What is in an image, told by skopeo and umoci, not by us.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use serde_json::Value;

use super::{Machine, tool};

impl Machine {
    /// Every entry of an image of the store as `mode uid:gid path`, with `-> target` or `= text`. Needs root and umoci.
    #[track_caller]
    pub fn tree(&self, image: &str) -> Vec<String> {
        let layout = self.path("tree-layout");
        let bundle = self.path("tree-bundle");
        for directory in [&layout, &bundle] {
            if directory.exists() {
                std::fs::remove_dir_all(directory).unwrap();
            }
        }
        self.ok(&["image", "export", image, "-o", "type=oci-dir,dest=tree-layout"]);
        let tag = image.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        tool("umoci", ["unpack", "--image", &format!("{}:{tag}", layout.display()), &bundle.display().to_string()]);
        let mut entries = Vec::new();
        list(&bundle.join("rootfs"), "", &mut entries);
        entries.sort_by(|a, b| path_of(a).cmp(path_of(b)));
        entries
    }

    /// The same without the files of `base:1`.
    #[track_caller]
    pub fn tree_above_base(&self, image: &str) -> Vec<String> {
        let base = self.tree("base:1");
        self.tree(image).into_iter().filter(|entry| !base.contains(entry)).collect()
    }

    /// The configuration as it lies in the image. Needs skopeo.
    #[track_caller]
    pub fn configuration(&self, image: &str) -> Value {
        self.ok(&["image", "export", image, "-o", "type=oci,dest=configuration.tar"]);
        let archive = format!("oci-archive:{}", self.text("configuration.tar"));
        // Raw, for the other form leaves out what only Docker knows.
        tool("skopeo", ["inspect", "--config", "--raw", &archive]).json()
    }
}

fn path_of(entry: &str) -> &str {
    entry.splitn(3, ' ').nth(2).unwrap_or_default()
}

fn list(directory: &Path, prefix: &str, entries: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        let metadata = entry.metadata().unwrap();
        let name = format!("{prefix}/{}", entry.file_name().display());
        let owner = format!("{}:{}", metadata.uid(), metadata.gid());
        let mode = metadata.mode() & 0o7777;
        if kind.is_symlink() {
            entries.push(format!("link {owner} {name} -> {}", std::fs::read_link(&path).unwrap().display()));
        } else if kind.is_dir() {
            entries.push(format!("{mode:04o} {owner} {name}/"));
            list(&path, &name, entries);
        } else if kind.is_file() && metadata.len() <= 200 {
            let content = std::fs::read(&path).unwrap();
            entries.push(format!("{mode:04o} {owner} {name} = {}", content.escape_ascii()));
        } else if kind.is_file() {
            entries.push(format!("{mode:04o} {owner} {name}"));
        } else {
            assert!(kind.is_fifo() || kind.is_char_device() || kind.is_block_device(), "{name}");
            entries.push(format!("special {owner} {name}"));
        }
    }
}
