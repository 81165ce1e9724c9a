//! Object ids: the SHA-1 of an object's kind, size and content. The hash is the one that detects the known ways of
//! making collisions, as git's own does, for a commit id is all that stands between a build and other people's files.

use std::fmt;
use std::str::FromStr;

use cooperage_sdk::{Error, Result};
use sha1_checked::{Digest, Sha1};

/// Bytes of an id.
pub const LENGTH: usize = 20;

/// The id of an object.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id([u8; LENGTH]);

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A commit.
    Commit,
    /// A directory.
    Tree,
    /// A file.
    Blob,
    /// An annotated tag.
    Tag,
}

impl Id {
    /// From its bytes; none if there are not 20 of them.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The first seven digits, as git abbreviates.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..7].to_owned()
    }
}

impl FromStr for Id {
    type Err = Error;

    /// Exactly 40 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::invalid_input(format!("{text:?} is no full commit id of 40 hexadecimal digits"));
        if text.len() != 2 * LENGTH || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; LENGTH];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Kind {
    /// As the header of an object has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Tree => "tree",
            Self::Blob => "blob",
            Self::Tag => "tag",
        }
    }
}

/// Computes the id of an object whose content comes in pieces.
pub struct Hasher(Sha1);

impl Hasher {
    /// Begins with what every object begins with.
    #[must_use]
    pub fn new(kind: Kind, size: u64) -> Self {
        let mut hasher = Self(Sha1::new());
        hasher.update(format!("{} {size}\0", kind.as_str()).as_bytes());
        hasher
    }

    /// The next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The id.
    ///
    /// # Errors
    /// `conflict` if the content was made to collide with another.
    pub fn finish(self) -> Result<Id> {
        let result = self.0.try_finalize();
        if result.has_collision() {
            return Err(Error::conflict("an object of the repository was made to have the id of another one")
                .because("its SHA-1 shows the traces of a collision attack"));
        }
        Ok(Id((*result.hash()).into()))
    }
}

/// The id of an object.
///
/// # Errors
/// As for [`Hasher::finish`].
pub fn of(kind: Kind, content: &[u8]) -> Result<Id> {
    let mut hasher = Hasher::new(kind, content.len() as u64);
    hasher.update(content);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_git() {
        assert_eq!(of(Kind::Blob, b"").unwrap().to_string(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        assert_eq!(of(Kind::Blob, b"hello\n").unwrap().to_string(), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(of(Kind::Tree, b"").unwrap().to_string(), "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
    }

    #[test]
    fn texts() {
        let text = "CE013625030ba8dba906f756967f9e9ca394464a";
        let id: Id = text.parse().unwrap();
        assert_eq!(id.to_string(), text.to_lowercase());
        assert_eq!(id.short(), "ce01362");
        for wrong in ["", "ce01362", "ge013625030ba8dba906f756967f9e9ca394464a", &text[1..], &format!("{text}0")] {
            assert!(wrong.parse::<Id>().is_err(), "{wrong}");
        }
        assert!("+e013625030ba8dba906f756967f9e9ca394464a".parse::<Id>().is_err());
    }
}
