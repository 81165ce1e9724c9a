//! One entry of a layer: a path with its type and metadata. Knows nothing of contents or archives.

use std::cmp::Ordering;

use crate::Digest;

/// One path of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Relative, without a leading or trailing `/`, without empty, `.` or `..` components; empty is the root.
    pub path: Vec<u8>,
    /// What there is at the path.
    pub kind: Kind,
    /// Permission, setuid, setgid and sticky bits (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of modification in seconds since 1970; may be negative.
    pub mtime: i64,
    /// Nanoseconds beyond `mtime`. They are known of files on disk; layers in tar form do not keep them.
    pub mtime_nanos: u32,
    /// Extended attributes by name, sorted; names include their namespace, as in `user.comment`.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What there is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A directory.
    Directory {
        /// Hides what lower layers have below it.
        opaque: bool,
    },
    /// A regular file.
    File {
        /// Bytes of content.
        size: u64,
        /// SHA-256 of the content, where known.
        digest: Option<Digest>,
        /// Where the content starts in the layer's uncompressed tar stream; 0 if unknown.
        offset: u64,
    },
    /// A symbolic link.
    Symlink {
        /// The text of the link, as it is.
        target: Vec<u8>,
    },
    /// Another name of a file of the same layer.
    Hardlink {
        /// Path of the file in the same layer.
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// The path is gone; hides what lower layers have there.
    Whiteout,
}

impl Entry {
    /// A directory, owned by root, with time 0.
    pub fn directory(path: impl Into<Vec<u8>>, mode: u32) -> Self {
        Self::new(path, Kind::Directory { opaque: false }, mode)
    }

    /// A regular file of `size` bytes, owned by root, with time 0.
    pub fn file(path: impl Into<Vec<u8>>, mode: u32, size: u64) -> Self {
        Self::new(path, Kind::File { size, digest: None, offset: 0 }, mode)
    }

    /// A symbolic link, owned by root, with time 0.
    pub fn symlink(path: impl Into<Vec<u8>>, target: impl Into<Vec<u8>>) -> Self {
        Self::new(path, Kind::Symlink { target: target.into() }, 0o777)
    }

    /// A whiteout.
    pub fn whiteout(path: impl Into<Vec<u8>>) -> Self {
        Self::new(path, Kind::Whiteout, 0)
    }

    /// An entry owned by root, with time 0 and no extended attributes.
    pub fn new(path: impl Into<Vec<u8>>, kind: Kind, mode: u32) -> Self {
        Self { path: path.into(), kind, mode, uid: 0, gid: 0, mtime: 0, mtime_nanos: 0, xattrs: Vec::new() }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory { .. })
    }

    /// Size in bytes of a regular file, 0 of anything else.
    pub fn size(&self) -> u64 {
        match self.kind {
            Kind::File { size, .. } => size,
            _ => 0,
        }
    }
}

/// Orders paths bytewise with `/` below every other byte: a parent comes before its children, and a subtree is contiguous.
pub fn compare_paths(a: &[u8], b: &[u8]) -> Ordering {
    let shared = a.iter().zip(b).position(|(x, y)| x != y);
    let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
    match shared {
        Some(at) => rank(a[at]).cmp(&rank(b[at])),
        None => a.len().cmp(&b.len()),
    }
}

/// The path of the directory that holds `path`, and the name in it. The root has no name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// Whether `path` is `top` or below it; everything is below the root.
pub(crate) fn is_within(path: &[u8], top: &[u8]) -> bool {
    top.is_empty() || (path.starts_with(top) && (path.len() == top.len() || path[top.len()] == b'/'))
}

/// Whether `path` has the form that [`Entry::path`] promises.
pub(crate) fn is_valid_path(path: &[u8]) -> bool {
    path.is_empty()
        || (!path.contains(&0)
            && path.split(|&byte| byte == b'/').all(|part| !part.is_empty() && part != b"." && part != b".."))
}

/// A path for messages.
pub(crate) fn display(path: &[u8]) -> String {
    if path.is_empty() { "/".to_owned() } else { String::from_utf8_lossy(path).escape_debug().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_subtree_is_contiguous() {
        let mut paths: Vec<&[u8]> = vec![b"a/b", b"a-b", b"ab", b"a", b"", b"a/b/c", b"a.b", b"a/b-c"];
        paths.sort_by(|a, b| compare_paths(a, b));
        assert_eq!(paths, [&b""[..], b"a", b"a/b", b"a/b/c", b"a/b-c", b"a-b", b"a.b", b"ab"]);
    }

    #[test]
    fn paths_are_checked() {
        for good in [&b""[..], b"a", b"a/b", b"..a/b..", b"\xff/ "] {
            assert!(is_valid_path(good), "{good:?}");
        }
        for bad in [&b"/"[..], b"/a", b"a/", b"a//b", b"./a", b"a/..", b"..", b"a\0b", b"a/./b"] {
            assert!(!is_valid_path(bad), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn order_is_that_of_component_lists(a in "[a-c/.-]{0,8}", b in "[a-c/.-]{0,8}") {
            let parts = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
            prop_assume!(a.is_empty() || is_valid_path(a.as_bytes()));
            prop_assume!(b.is_empty() || is_valid_path(b.as_bytes()));
            prop_assert_eq!(compare_paths(a.as_bytes(), b.as_bytes()), parts(&a).cmp(&parts(&b)));
        }
    }
}
