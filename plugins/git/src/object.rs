//! What commits, tags and trees say (gitformat: the object formats of git). A tree is checked as a whole when it is
//! read: no name of it leads out of its directory, means git's own directory, or is there twice.

use std::collections::HashSet;

use bstr::ByteSlice;
use cooperage_sdk::{Error, Result};
use gix_validate::path::component::{Error as Fault, Mode as Leaf, Options};

use crate::id::{self, Id, Kind};
use crate::packet::shown;

/// The longest name that Linux has.
const LONGEST_NAME: usize = 255;
/// Files and directories of one commit. A few hundred bytes can describe more of them than there are atoms.
pub const MOST_ENTRIES: usize = 1_000_000;
/// Names that a layer of an image cannot have: they say what a lower layer has no more.
const WHITEOUT: &[u8] = b".wh.";

/// What is needed of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Its root directory.
    pub tree: Id,
    /// When it was committed, in seconds since 1970.
    pub time: i64,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeEntry {
    /// What it is.
    pub mode: Mode,
    /// Its name.
    pub name: Box<[u8]>,
    /// Its object; for a submodule the commit in the other repository.
    pub id: Id,
}

/// What a name in a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A directory.
    Directory,
    /// A file that nobody executes.
    File,
    /// A file that is executed.
    Executable,
    /// A symbolic link.
    Symlink,
    /// A commit of another repository.
    Submodule,
}

/// Reads a commit.
///
/// # Errors
/// `invalid-input` if it is none.
pub fn commit(content: &[u8]) -> Result<Commit> {
    let mut commit = None;
    for line in content.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty()) {
        if let Some(tree) = line.strip_prefix(b"tree ").filter(|_| commit.is_none()) {
            commit = Some((parse_id(tree).ok_or_else(|| corrupt("a commit", "it names no tree"))?, 0));
        } else if let (Some(who), Some((_, time))) = (line.strip_prefix(b"committer "), &mut commit) {
            *time = committed(who).ok_or_else(|| corrupt("a commit", "it has no time"))?;
        }
    }
    let (tree, time) = commit.ok_or_else(|| corrupt("a commit", "it names no tree"))?;
    Ok(Commit { tree, time })
}

/// The object that an annotated tag names, and what it is said to be.
///
/// # Errors
/// `invalid-input` if it is no tag.
pub fn tag(content: &[u8]) -> Result<Id> {
    let target = content.strip_prefix(b"object ").and_then(|rest| rest.get(..2 * id::LENGTH)).and_then(parse_id);
    target.ok_or_else(|| corrupt("a tag", "it names no object"))
}

/// Reads and checks a directory of a commit of which so many entries were read before.
///
/// # Errors
/// `invalid-input` if it is none, `denied` if a name in it is an attack, `unsupported` for what no layer can have,
/// `limit` if it makes more than [`MOST_ENTRIES`].
pub fn tree(content: &[u8], before: usize) -> Result<Vec<TreeEntry>> {
    let mut entries = Vec::new();
    let mut names = HashSet::new();
    let mut rest = content;
    while !rest.is_empty() {
        let (mode, name, id) = split_entry(&mut rest).ok_or_else(|| corrupt("a directory", "it ends too early"))?;
        let mode = parse_mode(mode).ok_or_else(|| {
            corrupt("a directory", &format!("{} has the mode {:?}, which git does not have", shown(name), shown(mode)))
        })?;
        if before + entries.len() == MOST_ENTRIES {
            return Err(Error::limit(format!("the commit has more than {MOST_ENTRIES} files and directories")));
        }
        check_name(name, mode)?;
        if !names.insert(name) {
            return Err(Error::denied(format!("the repository has {:?} twice in one directory", shown(name))));
        }
        entries.push(TreeEntry { mode, name: name.into(), id });
    }
    Ok(entries)
}

fn check_name(name: &[u8], mode: Mode) -> Result<()> {
    let leaf = (mode == Mode::Symlink).then_some(Leaf::Symlink);
    let options = Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };
    let text = shown(name);
    let refused = |why: &str| {
        Error::denied(format!("the repository has a name that may not be checked out: {text:?}"))
            .because(why)
            .hint("honest repositories have no such name; look at where this one comes from")
    };
    gix_validate::path::component(name.as_bstr(), leaf, options).map_err(|fault| {
        refused(match fault {
            Fault::Empty => "it is empty",
            Fault::Relative => "it leads out of its directory",
            Fault::PathSeparator => "it has a slash",
            Fault::DotGitDir => "some file system takes it for .git, the directory of git itself",
            Fault::SymlinkedGitModules => "it is a symbolic link that some file system takes for .gitmodules",
            _ => "git refuses it",
        })
    })?;
    if name.starts_with(WHITEOUT) {
        return Err(Error::unsupported(format!("the repository has a file {text:?}"))
            .because("in the layers of images, names that begin with .wh. mean files that are gone"));
    }
    if name.len() > LONGEST_NAME {
        return Err(Error::unsupported(format!("the repository has a name of {} bytes", name.len()))
            .because(format!("names have at most {LONGEST_NAME} bytes")));
    }
    Ok(())
}

/// Takes `MODE NAME\0ID` off the beginning.
fn split_entry<'b>(bytes: &mut &'b [u8]) -> Option<(&'b [u8], &'b [u8], Id)> {
    let (mode, rest) = bytes.split_at(bytes.find_byte(b' ')?);
    let (name, rest) = rest[1..].split_at(rest[1..].find_byte(0)?);
    let (id, rest) = rest[1..].split_at_checked(id::LENGTH)?;
    *bytes = rest;
    Some((mode, name, Id::from_bytes(id)?))
}

/// Old versions of git wrote other permissions than 644 and 755; who may execute is all that counts.
fn parse_mode(digits: &[u8]) -> Option<Mode> {
    if digits.is_empty() || digits.len() > 7 {
        return None;
    }
    let octal = |mode: u32, digit: &u8| Some(mode << 3 | char::from(*digit).to_digit(8)?);
    let mode = digits.iter().try_fold(0, octal)?;
    match mode & 0o170_000 {
        0o040_000 => Some(Mode::Directory),
        0o100_000 if mode & 0o100 != 0 => Some(Mode::Executable),
        0o100_000 => Some(Mode::File),
        0o120_000 => Some(Mode::Symlink),
        0o160_000 => Some(Mode::Submodule),
        _ => None,
    }
}

fn parse_id(digits: &[u8]) -> Option<Id> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The time in `Name <address> 1700000000 +0100`.
fn committed(who: &[u8]) -> Option<i64> {
    let after = &who[who.rfind_byte(b'>')? + 1..];
    let time = std::str::from_utf8(after).ok()?.split_ascii_whitespace().next()?;
    time.parse().ok()
}

/// What an object that should be something else is, for messages.
#[must_use]
pub fn unexpected(id: &Id, is: Kind, expected: Kind) -> Error {
    Error::invalid_input(format!("{id} is a {}, not a {}", is.as_str(), expected.as_str()))
}

fn corrupt(what: &str, why: &str) -> Error {
    Error::invalid_input(format!("{what} of the repository cannot be read")).because(why)
}

#[cfg(test)]
mod tests {
    use cooperage_sdk::ErrorKind;

    use super::*;

    const ID: &str = "ce013625030ba8dba906f756967f9e9ca394464a";

    fn encoded(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let id = [7; id::LENGTH];
        entries.iter().flat_map(|(mode, name)| [mode.as_bytes(), b" ", name, b"\0", &id].concat()).collect()
    }

    fn check(mode: &str, name: &[u8]) -> Result<Mode> {
        tree(&encoded(&[(mode, name)]), 0).map(|entries| entries[0].mode)
    }

    #[test]
    fn commits_and_tags() {
        let text =
            format!("tree {ID}\nparent {ID}\nauthor A <a@b> 1 +0000\ncommitter B > C <b> 1700000000 -0130\n\ntree x");
        assert_eq!(commit(text.as_bytes()).unwrap(), Commit { tree: ID.parse().unwrap(), time: 1_700_000_000 });
        let old = format!("tree {ID}\ncommitter B <b> -5 +0000\n\n");
        assert_eq!(commit(old.as_bytes()).unwrap().time, -5);
        for wrong in ["", "\ntree x", "tree x\n", "committer B <b> 1 +0000\n", &format!("tree {ID}\ncommitter B\n")] {
            assert!(commit(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert_eq!(tag(format!("object {ID}\ntype commit\n").as_bytes()).unwrap().to_string(), ID);
        assert!(tag(b"object ").is_err());
    }

    #[test]
    fn modes() {
        for (mode, expected) in [
            ("40000", Some(Mode::Directory)),
            ("040000", Some(Mode::Directory)),
            ("100644", Some(Mode::File)),
            ("100664", Some(Mode::File)),
            ("100755", Some(Mode::Executable)),
            ("120000", Some(Mode::Symlink)),
            ("160000", Some(Mode::Submodule)),
            ("60000", None),
            ("10000", None),
            ("0", None),
            ("", None),
            ("100648", None),
            ("77777777777", None),
        ] {
            assert_eq!(check(mode, b"a").ok(), expected, "{mode}");
        }
    }

    #[test]
    fn hostile_names() {
        let names: [&[u8]; 22] = [
            b"",
            b".",
            b"..",
            b"a/b",
            b"/etc",
            b"../x",
            b".git",
            b".GIT",
            b".Git",
            b".git ",
            b".git.",
            b".git...",
            b".git. . ",
            b".git::$INDEX_ALLOCATION",
            b".git:x",
            b"git~1",
            b"GIT~1",
            b"Git~1.",
            ".g\u{200c}it".as_bytes(),
            ".G\u{200d}i\u{feff}T".as_bytes(),
            "\u{202e}.git".as_bytes(),
            ".git\u{206f}".as_bytes(),
        ];
        for name in names {
            for mode in ["100644", "40000", "120000", "160000"] {
                assert_eq!(check(mode, name).unwrap_err().kind, ErrorKind::Denied, "{}", shown(name));
            }
        }
        for name in [".gitmodules", ".GitModules", "gitmod~1", "GI7EBA~1", ".gitmodules ", ".gitmod\u{200c}ules"] {
            assert_eq!(check("120000", name.as_bytes()).unwrap_err().kind, ErrorKind::Denied, "{name}");
            assert!(check("100644", name.as_bytes()).is_ok(), "{name}");
        }
    }

    #[test]
    fn honest_names() {
        let names = [".gitignore", "git", "git~2", "...", "..a", "a:b", "aux.c", "a\\b", ".github", "con", "é", " "];
        for name in names {
            assert!(check("100644", name.as_bytes()).is_ok(), "{name}");
        }
        assert!(check("100644", b"\xff\xfe").is_ok());
    }

    #[test]
    fn what_no_layer_can_have() {
        for name in [b".wh.a".to_vec(), b".wh..wh..opq".to_vec(), vec![b'a'; 256]] {
            assert_eq!(check("100644", &name).unwrap_err().kind, ErrorKind::Unsupported);
        }
        assert!(check("100644", &[b'a'; 255]).is_ok());
    }

    #[test]
    fn a_name_is_there_once() {
        let link_and_directory = encoded(&[("120000", b"a"), ("100644", b"a.b"), ("40000", b"a")]);
        assert_eq!(tree(&link_and_directory, 0).unwrap_err().kind, ErrorKind::Denied);
        assert_eq!(tree(&encoded(&[("100644", b"a"), ("100644", b"A")]), 0).unwrap().len(), 2);
    }

    #[test]
    fn no_more_is_read_than_is_allowed() {
        let two = encoded(&[("100644", b"a"), ("100644", b"..")]);
        for (before, kind) in [
            (0, ErrorKind::Denied),
            (MOST_ENTRIES - 2, ErrorKind::Denied),
            (MOST_ENTRIES - 1, ErrorKind::Limit),
            (MOST_ENTRIES, ErrorKind::Limit),
        ] {
            assert_eq!(tree(&two, before).unwrap_err().kind, kind, "{before}");
        }
    }

    #[test]
    fn directories_that_end_too_early() {
        let whole = encoded(&[("100644", b"a")]);
        for length in 1..whole.len() {
            assert_eq!(tree(&whole[..length], 0).unwrap_err().kind, ErrorKind::InvalidInput);
        }
        assert_eq!(tree(b"", MOST_ENTRIES).unwrap(), []);
    }
}
