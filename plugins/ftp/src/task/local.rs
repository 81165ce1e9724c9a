//! Which files of a step's input are meant, and the paths that they have below what was named.

use cooperage_sdk::{Context, Error, Result, warn};

use crate::edge::{File, Files};

/// Files of the input.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// Whether a single file was named; then it is the only one.
    pub single: bool,
    /// Directories, relative to what was named, each after the one that it lies in.
    pub directories: Vec<String>,
    /// Files in order: relative path, path in the input, bytes.
    pub files: Vec<(String, String, u64)>,
}

/// More than this would not end.
const DEEPEST: usize = 256;

impl Local {
    /// What `from` names.
    ///
    /// # Errors
    /// `not-found` if there is nothing.
    pub fn find(input: &dyn Files, from: &str) -> Result<Self> {
        let path = format!("/{}", from.trim_matches('/'));
        let mut found = Self::default();
        match input.stat(&path).with_context(|| format!("cannot look for {from} in the input"))? {
            Some(File::Regular(size)) => {
                found.single = true;
                let name = path.rsplit('/').next().unwrap_or_default().to_owned();
                found.files.push((name, path, size));
            }
            Some(File::Directory) => found.below(input, path.trim_end_matches('/'), "", 0)?,
            Some(_) => return Err(Error::invalid_input(format!("{from} is neither a file nor a directory"))),
            None => return Err(Error::not_found(format!("the input has no {from}"))),
        }
        Ok(found)
    }

    fn below(&mut self, input: &dyn Files, base: &str, relative: &str, depth: usize) -> Result<()> {
        if depth > DEEPEST {
            return Err(Error::limit(format!("the input goes deeper than {DEEPEST} directories")));
        }
        let directory = format!("{base}/{relative}");
        for (name, what) in input.entries(&directory)? {
            if name.contains(|c: char| c.is_control()) {
                return Err(Error::invalid_input(format!("{name:?} is a name that FTP cannot carry")));
            }
            let path = if relative.is_empty() { name } else { format!("{relative}/{name}") };
            let full = format!("{base}/{path}");
            // FTP has no links: what one leads to goes in its place, unless that is a directory, which might lead on
            // in a circle.
            let what =
                if what == File::Link { input.stat(&full)?.filter(|f| *f != File::Directory) } else { Some(what) };
            match what {
                Some(File::Regular(size)) => self.files.push((path, full, size)),
                Some(File::Directory) => {
                    self.directories.push(path.clone());
                    self.below(input, base, &path, depth + 1)?;
                }
                _ => warn!("left out {path}: FTP carries files and directories only"),
            }
        }
        Ok(())
    }

    /// How many bytes all files have.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, _, size)| size).sum()
    }
}
