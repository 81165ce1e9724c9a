//! Prepares what a process sees beside its tree: other trees, caches, memory and secrets. Mounts nothing itself.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cooperage_sandbox as sandbox;
use cooperage_store::layer::Kind;

use crate::build::{Build, blocking};
use crate::files::{Files, display, resolve};
use crate::pattern::clean;
use crate::run::directory_name;
use crate::tree::{Mount, MountKind, Sharing};
use crate::{Error, ErrorKind, Tree};

/// Mounts ready for the sandbox.
#[derive(Default)]
pub(crate) struct Prepared {
    pub(crate) mounts: Vec<sandbox::Mount>,
    /// Variables that hold secrets.
    pub(crate) env: Vec<(String, String)>,
    /// Locks of caches; they go when the run is over.
    pub(crate) held: Vec<File>,
}

/// Attributes of a cache directory that does not exist yet.
struct NewCache<'a> {
    seed: Option<&'a (Tree, String)>,
    mode: u32,
    uid: u32,
    gid: u32,
}

impl NewCache<'_> {
    /// What tells caches apart: caches of one name that are to belong to different users are different caches.
    fn identity(&self, name: &str) -> String {
        match (self.mode, self.uid, self.gid) {
            (0o755, 0, 0) => name.to_owned(),
            (mode, uid, gid) => format!("{name}\0{mode:o} {uid}:{gid}"),
        }
    }
}

impl Build {
    pub(crate) async fn prepare_mounts(&self, mounts: &[Mount]) -> Result<Prepared, Error> {
        let mut prepared = Prepared::default();
        for mount in mounts {
            let target = mount.target.clone();
            let read_only = mount.read_only;
            match &mount.kind {
                MountKind::Bind { source, path } => {
                    let mount = self.bind(source, path, target, read_only).await?;
                    prepared.mounts.push(mount);
                }
                MountKind::Cache { identity, source, sharing, mode, uid, gid } => {
                    let new = NewCache { seed: source.as_ref(), mode: *mode, uid: *uid, gid: *gid };
                    let (source, lock) = self.cache_directory(identity, *sharing, new).await?;
                    prepared.held.push(lock);
                    prepared.mounts.push(sandbox::Mount::Bind { source, target, read_only });
                }
                MountKind::Tmpfs { size } => {
                    prepared.mounts.push(sandbox::Mount::Tmpfs { target, size: *size, mode: 0o1777 });
                }
                MountKind::Secret { name, mode, uid, gid, required, env } => {
                    let value = self.options().secrets.get(name);
                    let Some(value) = value else {
                        if *required {
                            return Err(Error::not_found(format!("the secret {name:?} was not supplied"))
                                .hint(format!("add --secret id={name},src=FILE or --secret id={name},env=NAME")));
                        }
                        continue;
                    };
                    if let Some(variable) = env {
                        let text = String::from_utf8(value.to_vec()).map_err(|_| {
                            Error::invalid(format!("the secret {name:?} is not text and cannot be a variable"))
                        })?;
                        prepared.env.push((variable.clone(), text));
                    }
                    if !target.is_empty() {
                        let (bytes, mode, uid, gid) = (value.to_vec(), *mode, *uid, *gid);
                        prepared.mounts.push(sandbox::Mount::File { bytes, target, mode, uid, gid });
                    }
                }
            }
        }
        Ok(prepared)
    }

    async fn bind(&self, source: &Tree, path: &str, target: String, read_only: bool) -> Result<sandbox::Mount, Error> {
        let evaluated = self.evaluate(source, true).await?;
        let files = self.stack_files(&evaluated).await?;
        let wanted = clean(path.as_bytes());
        let resolved = blocking(move || resolve(files.as_ref(), &wanted, true)).await?;
        if resolved.item.is_none() {
            return Err(Error::not_found(format!("{path} is not in the tree to mount at {target}")));
        }
        let lowers = self.unpacked(&evaluated).await?;
        let sub_path = String::from_utf8_lossy(&resolved.path).into_owned();
        Ok(sandbox::Mount::Overlay { lowers, sub_path, target, read_only })
    }

    /// The directory of a cache, and the lock that keeps it ours.
    async fn cache_directory(
        &self,
        identity: &str,
        sharing: Sharing,
        new: NewCache<'_>,
    ) -> Result<(PathBuf, File), Error> {
        let caches = self.options().store.root().join("cache").join("mounts");
        std::fs::create_dir_all(&caches).map_err(|error| Error::io("making a cache mount", &error))?;
        let name = directory_name(&new.identity(identity));
        for number in 0.. {
            let directory = match number {
                0 => caches.join(&name),
                _ => caches.join(format!("{name}.{number}")),
            };
            if let Some(lock) = self.lock_cache(&directory, sharing).await? {
                if !directory.exists() {
                    self.seed(&directory, &new).await?;
                }
                return Ok((directory, lock));
            }
        }
        Err(Error::internal("no cache directory is free"))
    }

    /// Locks a cache: none if it is another's and `sharing` wants one of its own.
    async fn lock_cache(&self, directory: &Path, sharing: Sharing) -> Result<Option<File>, Error> {
        let failed = |error: std::io::Error| Error::io("locking a cache mount", &error);
        let file = File::create(directory.with_extension("lock")).map_err(failed)?;
        loop {
            let locked = match sharing {
                Sharing::Shared => file.try_lock_shared(),
                Sharing::Private | Sharing::Locked => file.try_lock(),
            };
            match locked {
                Ok(()) => return Ok(Some(file)),
                Err(std::fs::TryLockError::WouldBlock) if sharing == Sharing::Private => return Ok(None),
                Err(std::fs::TryLockError::WouldBlock) => {}
                Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
            }
            if self.options().cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Makes a new cache directory, whole or not at all.
    async fn seed(&self, directory: &Path, new: &NewCache<'_>) -> Result<(), Error> {
        use std::os::unix::fs::PermissionsExt;
        let failed = |error: std::io::Error| Error::io("making a cache mount", &error);
        let fresh = directory.with_extension(format!("{}.new", std::process::id()));
        let _ = std::fs::remove_dir_all(&fresh);
        std::fs::create_dir(&fresh).map_err(failed)?;
        if let Some((tree, path)) = new.seed {
            let files = self.files(tree).await?;
            let (path, into) = (clean(path.as_bytes()), fresh.clone());
            blocking(move || copy_out(files.as_ref(), &path, &into)).await?;
        }
        std::fs::set_permissions(&fresh, PermissionsExt::from_mode(new.mode)).map_err(failed)?;
        if (new.uid, new.gid) != (0, 0) {
            std::os::unix::fs::chown(&fresh, Some(new.uid), Some(new.gid)).map_err(failed)?;
        }
        match std::fs::rename(&fresh, directory) {
            Ok(()) => Ok(()),
            // Another run was faster, and its directory is as good.
            Err(_) if directory.exists() => std::fs::remove_dir_all(&fresh).map_err(failed),
            Err(error) => Err(failed(error)),
        }
    }
}

/// Copies regular files, directories and links of a tree into a fresh directory of ours.
fn copy_out(files: &dyn Files, path: &[u8], into: &Path) -> Result<(), Error> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;
    /// A cache starts small; more than this belongs into an image.
    const LARGEST: u64 = 1 << 30;
    let failed = |error: std::io::Error| Error::io("filling a cache mount", &error);
    let start = resolve(files, path, true)?;
    if start.item.is_none() {
        return Err(Error::new(ErrorKind::NotFound, format!("{} is not there to start a cache with", display(path))));
    }
    for item in files.subtree(&start.path)? {
        let below = item.path().get(start.path.len()..).unwrap_or_default();
        let below = below.strip_prefix(b"/").unwrap_or(below);
        if below.is_empty() {
            continue;
        }
        let target = into.join(std::ffi::OsStr::from_bytes(below));
        match &item.entry.kind {
            Kind::Directory { .. } => std::fs::create_dir(&target).map_err(failed)?,
            Kind::Symlink { target: link } => {
                std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(link), &target).map_err(failed)?;
                continue;
            }
            Kind::File { .. } => std::fs::write(&target, files.read(&item, LARGEST)?).map_err(failed)?,
            _ => continue,
        }
        std::fs::set_permissions(&target, PermissionsExt::from_mode(item.entry.mode)).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_of_different_users_are_different() {
        let name = |mode, uid, gid| NewCache { seed: None, mode, uid, gid }.identity("go");
        assert_eq!(name(0o755, 0, 0), "go");
        assert_ne!(name(0o700, 0, 0), name(0o755, 0, 0));
        assert_ne!(name(0o755, 1, 0), name(0o755, 0, 1));
    }
}
