//! From a name to a commit: which refs a server has, asked for by their beginnings, and which of them is meant.

use std::fmt;
use std::ops::ControlFlow;

use cooperage_sdk::{Error, Result};

use crate::id::Id;
use crate::packet::{Packet, Packets, shown, trimmed};
use crate::server::{Server, refusal, refused};

/// Refs that are read at most. Only those are sent that begin as one that was asked for.
const MOST_REFS: usize = 1_000_000;
/// Names that a message suggests.
const MOST_SUGGESTED: usize = 8;

/// What is wanted of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// What the repository itself offers.
    Head,
    /// A commit, or a tag, by its full id.
    Commit(Id),
    /// A branch, a tag or a full name such as `refs/pull/1/head`.
    Named(String),
}

/// A ref that a server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ref {
    /// Its full name; that of the branch where it is `HEAD` that was found.
    pub name: String,
    /// What it points to: a commit, or an annotated tag.
    pub id: Id,
    /// The commit.
    pub commit: Id,
}

impl Reference {
    /// From what the user wrote; nothing is `HEAD`.
    ///
    /// # Errors
    /// `invalid-input` for what cannot be the name of a ref.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() || text == "HEAD" {
            return Ok(Self::Head);
        }
        if let Ok(id) = text.parse() {
            return Ok(Self::Commit(id));
        }
        // git-check-ref-format; a line end would also be one in the request.
        let bad = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
        let part = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
        if text.len() > 1024
            || text.contains(bad)
            || text.contains("..")
            || text.contains("@{")
            || text.split('/').any(part)
        {
            return Err(Error::invalid_input(format!("{text:?} is no name of a branch or tag"))
                .hint("write a branch, a tag, a full name such as refs/heads/main, or a commit id of 40 digits"));
        }
        Ok(Self::Named(text.to_owned()))
    }

    /// The full names that it can stand for, the likeliest first: where a branch and a tag have one name, git's
    /// checkout takes the branch.
    fn candidates(&self) -> Vec<String> {
        match self {
            Self::Head | Self::Commit(_) => vec!["HEAD".to_owned()],
            Self::Named(name) if name.starts_with("refs/") => vec![name.clone()],
            Self::Named(name) => ["refs/heads", "refs/tags", "refs"].map(|place| format!("{place}/{name}")).to_vec(),
        }
    }

    /// Finds it among the refs of a server. A commit stands for no ref, and `HEAD` is found for it.
    ///
    /// # Errors
    /// `not-found` if the server has none of that name.
    pub fn find(&self, server: &Server<'_>) -> Result<Ref> {
        let candidates = self.candidates();
        // One for each name, however often the server repeats it.
        let mut found = vec![None; candidates.len()];
        list(server, &candidates, |listed| {
            if let Some(at) = candidates.iter().position(|candidate| *candidate == listed.asked) {
                found[at].get_or_insert(listed.found);
            }
            ControlFlow::Continue(())
        })?;
        found.into_iter().flatten().next().ok_or_else(|| self.missing(server))
    }

    fn missing(&self, server: &Server<'_>) -> Error {
        let known = branches(server);
        let error = match self {
            Self::Named(name) => Error::not_found(format!("the repository has no branch and no tag {name:?}")),
            _ if known.is_empty() => Error::not_found("the repository is empty"),
            _ => Error::not_found("the repository does not say which of its branches is the main one"),
        };
        let is_short_id =
            |name: &str| (4..40).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        match self {
            Self::Named(name) if is_short_id(name) => {
                error.hint("if it is meant to be a commit, write all 40 digits of its id")
            }
            _ if known.is_empty() => error,
            _ => error.hint(format!("its branches are {known}")),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => f.write_str("HEAD"),
            Self::Commit(id) => id.fmt(f),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// Some branches of a server, for a message. What else it has is not even read.
fn branches(server: &Server<'_>) -> String {
    let mut known: Vec<String> = Vec::new();
    let take = |listed: Listed| {
        let Some(name) = listed.asked.strip_prefix("refs/heads/") else { return ControlFlow::Continue(()) };
        if known.len() == MOST_SUGGESTED {
            known.push("…".to_owned());
            return ControlFlow::Break(());
        }
        known.push(shown(name.as_bytes()));
        ControlFlow::Continue(())
    };
    // A message without suggestions is better than another message.
    let _ = list(server, &["refs/heads/".to_owned()], take);
    known.join(", ")
}

struct Listed {
    asked: String,
    found: Ref,
}

/// Tells of the refs that begin with one of the prefixes, until there are no more or enough was heard.
fn list(server: &Server<'_>, prefixes: &[String], mut take: impl FnMut(Listed) -> ControlFlow<()>) -> Result<()> {
    let arguments = ["peel".to_owned(), "symrefs".to_owned()].into_iter();
    let mut packets = server.command("ls-refs", arguments.chain(prefixes.iter().map(|p| format!("ref-prefix {p}"))))?;
    for _ in 0..MOST_REFS {
        match packets.read()? {
            Packet::Data => {
                if parse(&packets)?.is_some_and(|listed| take(listed).is_break()) {
                    return Ok(());
                }
            }
            Packet::Flush => return Ok(()),
            _ => return Err(Error::unavailable("the server ended the list of its refs in the middle")),
        }
    }
    Err(Error::limit(format!("the server has more than {MOST_REFS} refs of that name")))
}

/// `ID NAME[ symref-target:NAME][ peeled:ID]`; none for a branch that is not born yet.
fn parse(packets: &Packets) -> Result<Option<Listed>> {
    let line = packets.data();
    if let Some(text) = refusal(line) {
        return Err(refused(&text));
    }
    let line = String::from_utf8_lossy(trimmed(line));
    let mut words = line.split(' ');
    let (id, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if id == "unborn" {
        return Ok(None);
    }
    let id: Id = id.parse().map_err(|_| Error::invalid_input("the server sends a list of refs that cannot be read"))?;
    let mut found = Ref { name: name.to_owned(), id, commit: id };
    for attribute in words {
        if let Some(target) = attribute.strip_prefix("symref-target:") {
            target.clone_into(&mut found.name);
        } else if let Some(peeled) = attribute.strip_prefix("peeled:") {
            found.commit = peeled.parse()?;
        }
    }
    Ok(Some(Listed { asked: name.to_owned(), found }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reference_can_be() {
        let id = "ce013625030ba8dba906f756967f9e9ca394464a";
        for (text, expected) in [
            ("", Some(Reference::Head)),
            ("HEAD", Some(Reference::Head)),
            (id, Some(Reference::Commit(id.parse().unwrap()))),
            (&id[1..], Some(Reference::Named(id[1..].to_owned()))),
            ("main", Some(Reference::Named("main".to_owned()))),
            ("feature/x-1.2", Some(Reference::Named("feature/x-1.2".to_owned()))),
            ("refs/pull/1/head", Some(Reference::Named("refs/pull/1/head".to_owned()))),
            ("a b", None),
            ("a\nb", None),
            ("main~1", None),
            ("main^", None),
            ("a..b", None),
            ("main@{1}", None),
            ("/main", None),
            ("main/", None),
            ("a//b", None),
            (".a", None),
            ("a.lock", None),
        ] {
            assert_eq!(Reference::parse(text).ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn branches_come_before_tags() {
        let names = Reference::parse("v1").unwrap().candidates();
        assert_eq!(names, ["refs/heads/v1", "refs/tags/v1", "refs/v1"]);
        assert_eq!(Reference::parse("refs/tags/v1").unwrap().candidates(), ["refs/tags/v1"]);
    }
}
