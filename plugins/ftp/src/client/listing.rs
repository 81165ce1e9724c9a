//! Listings: for machines (`MLSD`, RFC 3659) where the server has them, else what `LIST` prints, in the forms of Unix
//! and of Windows. A name that could mean something outside of the directory is refused, whatever else is listed.

use std::collections::HashSet;

use cooperage_sdk::{Error, Result};

use crate::paths;

/// What a listed name is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, and where it leads if the server says so.
    Symlink(Option<String>),
    /// Anything else.
    Other,
}

/// One name of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name, without any directory.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Bytes of a file, if the server says.
    pub size: Option<u64>,
    /// The time as the server writes it.
    pub modified: Option<String>,
    /// Permission bits, if the server says.
    pub mode: Option<u32>,
}

impl Entry {
    fn new(name: &str, kind: Kind) -> Self {
        Self { name: name.to_owned(), kind, size: None, modified: None, mode: None }
    }
}

/// What lists the entries of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `MLSD`.
    Machine,
    /// `LIST`.
    People,
}

/// More names than this in one directory are refused.
const MOST: usize = 200_000;

/// Reads a listing, and gives its entries sorted by name. Without error, no name is there twice.
///
/// # Errors
/// `conflict` for names that are none, `limit` for too many.
pub fn parse(form: Form, text: &[u8]) -> Result<Vec<Entry>> {
    let text = std::str::from_utf8(text)
        .map_err(|_| Error::unsupported("the server lists a name that is not UTF-8").hint("rename it on the server"))?;
    let mut entries = Vec::new();
    for line in text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).filter(|line| !line.is_empty()) {
        let entry = match form {
            Form::Machine => machine(line)?,
            Form::People => people(line)?,
        };
        let Some(entry) = entry.filter(|entry| !matches!(entry.name.as_str(), "." | "..")) else { continue };
        if !paths::is_name(&entry.name) {
            return Err(Error::conflict(format!("the server lists {:?}, which is no name in a directory", entry.name)));
        }
        entries.push(entry);
        if entries.len() > MOST {
            return Err(Error::limit(format!("the directory has more than {MOST} names")));
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let mut seen = HashSet::new();
    if let Some(twice) = entries.iter().find(|entry| !seen.insert(&entry.name)) {
        return Err(Error::conflict(format!("the server lists {:?} twice", twice.name)));
    }
    Ok(entries)
}

/// `type=file;size=5;modify=20261121163327; name`.
fn machine(line: &str) -> Result<Option<Entry>> {
    let unread = || Error::conflict(format!("the server lists {line:?}, which is no line of MLSD"));
    let (facts, name) = line.split_once(' ').ok_or_else(unread)?;
    let mut entry = Entry::new(name, Kind::Other);
    for fact in facts.split(';').filter(|fact| !fact.is_empty()) {
        let (key, value) = fact.split_once('=').ok_or_else(unread)?;
        match key.to_ascii_lowercase().as_str() {
            "type" => {
                let lower = value.to_ascii_lowercase();
                entry.kind = match lower.as_str() {
                    "file" => Kind::File,
                    "dir" => Kind::Directory,
                    // The directory itself and its parent, sometimes by their full names.
                    "cdir" | "pdir" => return Ok(None),
                    _ if lower.starts_with("os.unix=slink") || lower.starts_with("os.unix=symlink") => {
                        let target = value.split_once(':').map(|(_, target)| target.to_owned());
                        Kind::Symlink(target.filter(|target| !target.is_empty()))
                    }
                    _ => Kind::Other,
                };
            }
            "size" => entry.size = value.parse().ok(),
            "modify" => entry.modified = Some(value.to_owned()),
            "unix.mode" => entry.mode = u32::from_str_radix(value, 8).ok().map(|mode| mode & 0o7777),
            _ => {}
        }
    }
    Ok(Some(entry))
}

fn people(line: &str) -> Result<Option<Entry>> {
    if line.strip_prefix("total ").is_some_and(|rest| rest.trim().bytes().all(|byte| byte.is_ascii_digit())) {
        return Ok(None);
    }
    let entry = if line.starts_with(|c: char| c.is_ascii_digit()) { windows(line) } else { unix(line) };
    entry
        .map(Some)
        .ok_or_else(|| Error::unsupported(format!("the server lists files in a form that is not known: {line:?}")))
}

/// `-rw-r--r--    1 ftp      ftp         5 Nov 21 16:33 name`: eight words, one space, and the name.
fn unix(line: &str) -> Option<Entry> {
    let mut words = [""; 8];
    let mut rest = line;
    for word in &mut words {
        rest = rest.trim_start_matches(' ');
        let end = rest.find(' ')?;
        (*word, rest) = rest.split_at(end);
    }
    let name = rest.strip_prefix(' ')?;
    let [permissions, _, _, _, size, month, day, time] = words;
    let mut entry = Entry::new(name, Kind::Other);
    match permissions.chars().next()? {
        '-' => {
            entry.kind = Kind::File;
            entry.size = Some(size.parse().ok()?);
        }
        'd' => entry.kind = Kind::Directory,
        'l' => {
            let (link, target) = name.split_once(" -> ").map_or((name, None), |(link, target)| (link, Some(target)));
            entry.name = link.to_owned();
            entry.kind = Kind::Symlink(target.map(str::to_owned));
        }
        'b' | 'c' | 'p' | 's' => {}
        _ => return None,
    }
    entry.mode = mode(permissions);
    entry.modified = Some(format!("{month} {day} {time}"));
    Some(entry)
}

/// `11-21-26  04:33PM       <DIR>          name`.
fn windows(line: &str) -> Option<Entry> {
    let mut rest = line;
    let mut words = [""; 3];
    for word in &mut words {
        rest = rest.trim_start_matches(' ');
        let end = rest.find(' ')?;
        (*word, rest) = rest.split_at(end);
    }
    let [date, time, what] = words;
    if !date.contains('-') || !time.contains(':') {
        return None;
    }
    // Ten columns for the size of a directory, one space for that of a file.
    let mut entry = Entry::new(rest.trim_start_matches(' '), Kind::Directory);
    if what != "<DIR>" {
        entry.kind = Kind::File;
        entry.size = Some(what.parse().ok()?);
    }
    entry.modified = Some(format!("{date} {time}"));
    Some(entry)
}

/// The bits of `-rwxr-sr-x`.
fn mode(text: &str) -> Option<u32> {
    let letters: Vec<char> = text.chars().skip(1).take(9).collect();
    let mut mode = 0;
    for (at, letter) in letters.iter().enumerate() {
        let (bit, special) = (0o400 >> at, 0o4000 >> (at / 3));
        match letter {
            '-' => {}
            'r' | 'w' | 'x' => mode |= bit,
            's' | 't' => mode |= bit | special,
            'S' | 'T' => mode |= special,
            _ => return None,
        }
    }
    (letters.len() == 9).then_some(mode)
}

#[cfg(test)]
mod tests {
    use cooperage_sdk::ErrorKind;

    use super::*;

    type Expected<'e> = Option<(&'e str, Kind, Option<u64>, Option<&'e str>, Option<u32>)>;

    #[track_caller]
    fn check(form: Form, line: &str, expected: Expected) {
        let found = parse(form, format!("{line}\r\n").as_bytes()).unwrap();
        let expected = expected.map(|(name, kind, size, modified, mode)| Entry {
            name: name.into(),
            kind,
            size,
            modified: modified.map(Into::into),
            mode,
        });
        assert_eq!(found.first(), expected.as_ref(), "{line:?}");
    }

    #[test]
    fn machines_lists() {
        let check = |line, expected| check(Form::Machine, line, expected);
        check(
            "type=file;size=5;modify=20261121163327;UNIX.mode=0755; a b ",
            Some(("a b ", Kind::File, Some(5), Some("20261121163327"), Some(0o755))),
        );
        check("Type=dir;Modify=20261121163327; d", Some(("d", Kind::Directory, None, Some("20261121163327"), None)));
        check("type=cdir; /home/u", None);
        check("type=pdir; ..", None);
        check("type=dir; ..", None);
        check("type=OS.unix=slink:/t; l", Some(("l", Kind::Symlink(Some("/t".into())), None, None, None)));
        check("type=OS.unix=symlink; l", Some(("l", Kind::Symlink(None), None, None, None)));
        check("type=OS.unix=chr-1/2; c", Some(("c", Kind::Other, None, None, None)));
        check("  name", Some((" name", Kind::Other, None, None, None)));
    }

    #[test]
    fn lists_for_people() {
        let check = |line, expected| check(Form::People, line, expected);
        let time = Some("Nov 21 16:33");
        check(
            "-rwsr-x--t    1 0        0               5 Nov 21 16:33  a  b",
            Some((" a  b", Kind::File, Some(5), time, Some(0o5751))),
        );
        check("drwxr-xr-x   2 u g 4096 Nov 21 16:33 d", Some(("d", Kind::Directory, None, time, Some(0o755))));
        check(
            "lrwxrwxrwx   1 u g 4 Nov 21 16:33 l -> ../t",
            Some(("l", Kind::Symlink(Some("../t".into())), None, time, Some(0o777))),
        );
        check("prw-r--r-- 1 u g 0 Nov 21  2025 p", Some(("p", Kind::Other, None, Some("Nov 21 2025"), Some(0o644))));
        check("drwxr-xr-x 2 u g 4096 Nov 21 16:33 ..", None);
        check("total 12", None);
        check(
            "11-21-26  04:33PM                    5 a b",
            Some(("a b", Kind::File, Some(5), Some("11-21-26 04:33PM"), None)),
        );
        check(
            "2026-11-21  16:33       <DIR>          d",
            Some(("d", Kind::Directory, None, Some("2026-11-21 16:33"), None)),
        );
    }

    #[test]
    fn tricks_are_refused() {
        for (form, text, kind) in [
            (Form::Machine, "type=file; /etc/passwd", ErrorKind::Conflict),
            (Form::Machine, "type=file; ../../x", ErrorKind::Conflict),
            (Form::Machine, "type=dir; a/b", ErrorKind::Conflict),
            (Form::Machine, "type=file; a\rDELE b", ErrorKind::Conflict),
            (Form::Machine, "type=file;", ErrorKind::Conflict),
            (Form::Machine, "type=file; ", ErrorKind::Conflict),
            (Form::Machine, "type=file; a\r\ntype=dir; a", ErrorKind::Conflict),
            (Form::People, "-rw-r--r-- 1 u g 5 Nov 21 16:33 ../x", ErrorKind::Conflict),
            (Form::People, "-rw-r--r-- 1 u g 5 Nov 21 16:33 /x", ErrorKind::Conflict),
            (Form::People, "-rw-r--r-- 1 u g -5 Nov 21 16:33 x", ErrorKind::Unsupported),
            (Form::People, "+i8388621.48594,m825718503,r,s280,\tdjb.html", ErrorKind::Unsupported),
            (Form::People, "<html>", ErrorKind::Unsupported),
        ] {
            assert_eq!(parse(form, text.as_bytes()).unwrap_err().kind, kind, "{text:?}");
        }
        assert_eq!(parse(Form::Machine, b"type=file; \xff").unwrap_err().kind, ErrorKind::Unsupported);
    }

    #[test]
    fn entries_are_sorted() {
        let names = parse(Form::Machine, b"type=file; b\r\ntype=file; B\ntype=file; a\r\n").unwrap();
        assert_eq!(names.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["B", "a", "b"]);
    }
}
