//! Where paths lead: BuildKit asks for files by paths that may go through symlinks, and needs the symlinks as well as
//! what they lead to. Absolute targets are within the directory, as they will be in the image.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use cooperage_sdk::Result;

use super::glob::{Pattern, is_pattern, matches, names};
use super::{Entry, Files, Kind};

/// As many as Linux follows in one path. More are a circle.
const MOST_LINKS: u32 = 40;
/// A pattern can match several symlinks that lead to several more. Beyond these nothing is followed.
const MOST_PATHS: usize = 10_000;

/// Adds patterns for all that the paths lead to. False if they lead to the root, which is everything.
///
/// # Errors
/// Those of the directory.
pub fn follow(files: &dyn Files, paths: &[String], patterns: &mut Vec<Pattern>) -> Result<bool> {
    let mut follower = Follower { files, directories: BTreeMap::new(), seen: BTreeSet::new(), patterns };
    for path in paths {
        if !follower.follow(path, MOST_LINKS)? {
            return Ok(false);
        }
    }
    Ok(true)
}

struct Follower<'a> {
    files: &'a dyn Files,
    directories: BTreeMap<String, Rc<Vec<Entry>>>,
    seen: BTreeSet<String>,
    patterns: &'a mut Vec<Pattern>,
}

impl Follower<'_> {
    fn follow(&mut self, path: &str, links: u32) -> Result<bool> {
        let names = names(path);
        if names.is_empty() {
            return Ok(false);
        }
        if links == 0 || self.seen.len() >= MOST_PATHS || !self.seen.insert(names.join("/")) {
            return Ok(true);
        }
        for (at, name) in names.iter().enumerate() {
            let entries = self.entries(&names[..at])?;
            let pattern = is_pattern(name);
            let here = |entry: &&Entry| if pattern { matches(name, &entry.name) } else { entry.name == *name };
            let mut found = entries.iter().filter(here).peekable();
            let directory = found.peek().is_some_and(|entry| entry.kind == Kind::Directory);
            let mut through = false;
            for link in found.filter(|entry| entry.kind == Kind::Symlink) {
                through = true;
                let own = [&names[..at], &[&*link.name]].concat();
                self.patterns.push(Pattern::exactly(&own));
                let target = link.link_target.as_deref().unwrap_or_default();
                let base = if target.starts_with('/') { String::new() } else { names[..at].join("/") };
                let path = format!("{base}/{target}/{}", names[at + 1..].join("/"));
                if !self.follow(&path, links - 1)? {
                    return Ok(false);
                }
            }
            if through && !pattern {
                return Ok(true);
            }
            // Below a pattern, and below what is not there, no symlinks are looked for; BuildKit's own client does not.
            if pattern || !directory {
                break;
            }
        }
        self.patterns.push(Pattern::of(&names));
        Ok(true)
    }

    fn entries(&mut self, names: &[&str]) -> Result<Rc<Vec<Entry>>> {
        let path = names.join("/");
        if let Some(entries) = self.directories.get(&path) {
            return Ok(entries.clone());
        }
        let entries = Rc::new(self.files.entries(&path)?);
        self.directories.insert(path, entries.clone());
        Ok(entries)
    }
}
