//! Puts files into a directory of the user, which may have others in it. They are made beside what is there first, so that
//! a failure leaves the directory as it was; then each is moved to its name.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::unpack::remove_tree;
use super::write::arrange;
use super::{Layers, Source, UnpackOptions};
use crate::layer::entry::Entry;
use crate::layer::extract::Target;
use crate::{Error, Result};

/// How the name begins of what is not in its place yet.
const FRESH: &str = ".cooperage-";

impl Layers {
    /// Puts entries into `directory`, which is made if it is not there. Owners, devices and attributes that only root may
    /// set are left out. A symbolic link in the directory is never followed.
    pub fn put(&self, entries: Vec<(Entry, Source)>, directory: &Path) -> Result<()> {
        let (toc, sources) = arrange(entries)?;
        let contents = self.contents(&toc, sources)?;
        let options = UnpackOptions { userxattr: true, privileged: false };
        fs::create_dir_all(directory).map_err(Error::io("making", directory))?;
        remove_leftovers(directory)?;
        let fresh = directory.join(format!("{FRESH}{}", std::process::id()));
        remove_tree(&fresh)?;
        let files = |target: &Target| self.copy_files(target, &toc, &contents).map(drop);
        let made = Target::create(&fresh, options).and_then(|target| {
            let _taken = lock(&fresh)?;
            target.make(&toc, || files(&target))
        });
        let put = made.and_then(|()| {
            let mut moves = Vec::new();
            plan(&fresh, directory, &mut moves)?;
            moves.iter().try_for_each(|(from, to)| rename(from, to))
        });
        // The first failure is the one to tell.
        let removed = remove_tree(&fresh);
        put.and(removed)
    }
}

/// Marks a directory as somebody's at work, for as long as the file is open; none if it is marked already.
fn lock(path: &Path) -> Result<Option<File>> {
    let file = File::open(path).map_err(Error::io("opening", path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(Error::io("locking", path)(error)),
    }
}

/// Removes what processes left that were killed.
fn remove_leftovers(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory).map_err(Error::io("reading", directory))? {
        let entry = entry.map_err(Error::io("reading", directory))?;
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(FRESH)).and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some() && entry.file_type().is_ok_and(|kind| kind.is_dir()) && lock(&entry.path())?.is_some() {
            remove_tree(&entry.path())?;
        }
    }
    Ok(())
}

/// What has to be moved where, once all of it can be.
fn plan(from: &Path, to: &Path, moves: &mut Vec<(PathBuf, PathBuf)>) -> Result<()> {
    for entry in fs::read_dir(from).map_err(Error::io("reading", from))? {
        let entry = entry.map_err(Error::io("reading", from))?;
        let (path, goal) = (entry.path(), to.join(entry.file_name()));
        let is_directory = entry.file_type().map_err(Error::io("reading", &path))?.is_dir();
        match fs::symlink_metadata(&goal) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => moves.push((path, goal)),
            Err(error) => return Err(Error::io("reading", &goal)(error)),
            Ok(there) if there.is_dir() && is_directory => plan(&path, &goal, moves)?,
            Ok(there) if !there.is_dir() && !is_directory => moves.push((path, goal)),
            Ok(there) => {
                let (is, wanted) = if there.is_dir() { ("a", "file") } else { ("no", "directory") };
                let why =
                    format!("it is {is} directory, and a {wanted} of the build has this name; move it away first");
                return Err(Error::Invalid { what: goal.display().to_string(), why });
            }
        }
    }
    Ok(())
}

/// A directory that its owner may not write to cannot be moved without root's rights: it learns of its new parent.
fn rename(from: &Path, to: &Path) -> Result<()> {
    let denied = match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => error,
        result => return result.map_err(Error::io("writing", to)),
    };
    let failed = || Error::io("writing", to);
    let mode = fs::symlink_metadata(from).map_err(failed())?;
    if !mode.is_dir() {
        return Err(failed()(denied));
    }
    fs::set_permissions(from, PermissionsExt::from_mode(0o700)).map_err(failed())?;
    fs::rename(from, to).and_then(|()| fs::set_permissions(to, mode.permissions())).map_err(failed())
}
