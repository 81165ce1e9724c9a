//! Reads the manifests that a step names from its input: files, and directories of files, from the host's trees.

use cooperage_sdk::prelude::*;
use cooperage_sdk::trees::{FileInfo, FileKind};

use crate::manifests::File;

/// No manifest is larger; all of a step may be four times as large.
const LARGEST: u64 = 8 << 20;
const LARGEST_TOGETHER: usize = 32 << 20;
const ENDINGS: [&str; 3] = [".yaml", ".yml", ".json"];

/// The files behind the paths, in order; those of a directory by name.
///
/// # Errors
/// `not-found` for what is not there, `invalid-input` for what is no manifest.
pub fn read(tree: &Tree, paths: &[String]) -> Result<Vec<File>> {
    let mut files = Vec::new();
    let mut total = 0;
    for path in paths {
        for path in expand(tree, path)? {
            let bytes = tree.read_file(&path, LARGEST).with_context(|| format!("{path} cannot be read"))?;
            total += bytes.len();
            if total > LARGEST_TOGETHER {
                return Err(Error::limit(format!("the manifests have more than {LARGEST_TOGETHER} bytes together")));
            }
            let path = path.trim_start_matches('/').to_owned();
            let text =
                String::from_utf8(bytes).map_err(|_| Error::invalid_input(format!("{path} is no text in UTF-8")))?;
            files.push(File { path, text });
        }
    }
    Ok(files)
}

fn expand(tree: &Tree, path: &str) -> Result<Vec<String>> {
    let path = format!("/{}", path.trim_matches('/').trim_start_matches("./"));
    let Some(info) = tree.stat(&path, true)? else {
        return Err(Error::not_found(format!("the step's input has no {path}"))
            .hint("paths under `apply` are in the tree that `in:` names"));
    };
    match info.kind {
        FileKind::Directory => {
            let directory = path.trim_end_matches('/');
            let found: Vec<String> = tree
                .entries(&path)?
                .iter()
                .filter(|file| is_manifest(file))
                .map(|file| format!("{directory}/{}", file.path))
                .collect();
            if found.is_empty() {
                return Err(Error::not_found(format!("{path} has no manifest")).hint(
                    "a directory gives its files that end in `.yaml`, `.yml` or `.json`; name others one by one",
                ));
            }
            Ok(found)
        }
        FileKind::Regular => Ok(vec![path]),
        _ => Err(Error::invalid_input(format!("{path} is neither a file nor a directory"))),
    }
}

fn is_manifest(file: &FileInfo) -> bool {
    let is_file = matches!(file.kind, FileKind::Regular | FileKind::Symlink);
    is_file && !file.path.starts_with('.') && ENDINGS.iter().any(|ending| file.path.ends_with(ending))
}
