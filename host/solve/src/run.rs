//! The operation that runs a process: unpacks the stack below it, runs, and keeps the upper directory as a layer.

use std::path::PathBuf;
use std::sync::Arc;

use cooperage_sandbox as sandbox;
use cooperage_store::layers::LayerId;
use cooperage_store::{Digest, Hasher};

use crate::build::{Build, blocking};
use crate::cache::Remembered;
use crate::evaluate::{Doing, Done, Evaluated};
use crate::files::Files;
use crate::key::{Key, KeyBuilder, frame};
use crate::mounts::Prepared;
use crate::record::CacheResult;
use crate::redact::Redactor;
use crate::tree::{Mount, MountKind, Process};
use crate::users::{Identity, identity};
use crate::{Error, ErrorKind, Network, Processes, Step, Tree};

impl Build {
    /// Runs a process in a tree.
    pub(crate) async fn run(
        &self,
        doing: &Doing<'_>,
        base: &Tree,
        process: &Process,
        mounts: &[Mount],
    ) -> Result<Done, Error> {
        let base = self.evaluate(base, true).await?;
        let key = self.content_key(&base, process, mounts).await?;
        if let Some(done) = self.same_content(&base, &key)? {
            return Ok(done);
        }
        let _turn = self.only_one(&key).await?;
        if let Some(done) = self.same_content(&base, &key)? {
            return Ok(done);
        }
        let sandbox = self.options().sandbox.clone().map_err(|why| {
            Error::new(ErrorKind::Unsupported, "this step runs a process, which is not possible here")
                .context_last(why)
                .hint("`coop doctor` tells what is missing and how to get it")
        })?;
        let files = self.stack_files(&base).await?;
        let lowers = self.unpacked(&base).await?;
        let prepared = self.prepare_mounts(mounts).await?;
        let permit = self.permit().await?;
        let layer = self.execute(doing.step, sandbox, files, lowers, process, prepared).await?;
        drop(permit);
        let evaluated = base.with(layer);
        let remembered = Remembered { stack: evaluated.layers.to_vec(), operations: evaluated.operations.to_vec() };
        self.0.cache.put(&key.digest, &remembered)?;
        if let (Some(id), true) = (layer, self.is_exported(doing.key)) {
            self.seal_in_background(id);
        }
        Ok(Done { evaluated, result: CacheResult::Miss })
    }

    /// The key of what the process really sees: the layers below it, not how they came to be.
    async fn content_key(&self, base: &Evaluated, process: &Process, mounts: &[Mount]) -> Result<Key, Error> {
        let layers: Vec<String> = base.layers.iter().map(|id| id.0.to_string()).collect();
        let key = KeyBuilder::new("content", "run").list("layers", &layers);
        let platform = self.options().platform.to_string();
        let mut key = crate::define::process_parts(key, process, self.options().network, &platform);
        for mount in mounts {
            let access = if mount.read_only { "ro" } else { "rw" };
            let name = format!("mount {}", mount.target);
            match &mount.kind {
                MountKind::Bind { source, path } => {
                    let evaluated = self.evaluate(source, true).await?;
                    let layers: Vec<String> = evaluated.layers.iter().map(|id| id.0.to_string()).collect();
                    key = key.part(format!("{name} path"), format!("{access} {path}")).list(&name, &layers);
                }
                MountKind::Cache { identity, .. } => key.push(name, format!("cache {access} {identity}")),
                MountKind::Tmpfs { .. } => key.push(name, "tmpfs"),
                MountKind::Secret { name: secret, env, .. } => {
                    key.push(name, format!("secret {secret} {}", env.as_deref().unwrap_or_default()));
                }
            }
        }
        Ok(key.finish())
    }

    fn same_content(&self, base: &Evaluated, key: &Key) -> Result<Option<Done>, Error> {
        if self.options().cache == crate::CacheMode::Ignore {
            return Ok(None);
        }
        let Some(Remembered { stack, operations }) = self.0.cache.get(&key.digest) else { return Ok(None) };
        let made = match stack.strip_prefix(&base.layers[..]) {
            Some([]) => None,
            Some([id]) => Some(*id),
            _ => return Ok(None),
        };
        if operations.last() != Some(&made.is_some()) {
            return Ok(None);
        }
        if let Some(id) = made
            && self.options().store.layers().get(&id)?.is_none()
        {
            return Ok(None);
        }
        Ok(Some(Done { evaluated: base.with(made), result: CacheResult::ContentHit }))
    }

    /// Waits until no other process of this store runs the same step; it is likely to leave us its result.
    async fn only_one(&self, key: &Key) -> Result<Turn, Error> {
        let directory = self.options().store.root().join("cache").join("locks");
        let failed = |error: std::io::Error| Error::io("locking a step", &error);
        std::fs::create_dir_all(&directory).map_err(failed)?;
        let path = directory.join(&key.digest.hex()[..16]);
        let file = std::fs::File::create(&path).map_err(failed)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Turn { path, _lock: file }),
                Err(std::fs::TryLockError::WouldBlock) => {}
                Err(std::fs::TryLockError::Error(error)) => return Err(failed(error)),
            }
            if self.options().cancel.is_cancelled() {
                return Err(Error::cancelled());
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// The unpacked directories of a stack, the topmost first.
    pub(crate) async fn unpacked(&self, evaluated: &Evaluated) -> Result<Vec<PathBuf>, Error> {
        self.fetch_layers(evaluated).await?;
        let (layers, options) = (self.options().store.layers().clone(), self.unpack_options());
        let unpack = |id: LayerId| {
            let layers = layers.clone();
            blocking(move || {
                let unpacked = layers.unpack(&id, options);
                unpacked.map_err(|error| Error::from(error).context(format!("unpacking the layer {}", id.0)))
            })
        };
        futures::future::try_join_all(topmost_first(&evaluated.layers).into_iter().map(unpack)).await
    }

    async fn execute(
        &self,
        step: &Step,
        sandbox: Arc<dyn Processes>,
        files: Arc<dyn Files>,
        lowers: Vec<PathBuf>,
        process: &Process,
        prepared: Prepared,
    ) -> Result<Option<LayerId>, Error> {
        let options = self.options();
        let work = options.store.work_dir()?;
        let layers = options.store.layers().clone();
        let limits = lower(options.limits, process.limits);
        let (cancel, userxattr) = (options.cancel.clone(), options.userxattr);
        let network = if process.network == Network::Default { options.network } else { process.network };
        let mut redactor = Redactor::new(&options.secrets);
        let (process, reporter, id) = (process.clone(), step.reporter().clone(), step.id());
        blocking(move || {
            let who = identity(files.as_ref(), &process.user)?;
            let root = make_root(work.path(), files.as_ref(), lowers, userxattr)?;
            let upper = root.upper.clone();
            let spec = sandbox::Spec {
                root,
                process: process_of(&process, &who, &prepared.env),
                mounts: prepared.mounts,
                network: if network == Network::Host { sandbox::Network::Host } else { sandbox::Network::None },
                limits,
                shm_size: process.shm_size,
            };
            let emit = |bytes: Vec<u8>| {
                if !bytes.is_empty() {
                    reporter.event(crate::Event::Output { step: id, bytes });
                }
            };
            let exit = sandbox.run(&spec, &mut |bytes| emit(redactor.push(bytes)), &cancel);
            emit(redactor.finish());
            drop(prepared.held);
            check(exit, &process)?;
            let id = fresh_id();
            Ok(layers.adopt(&id, &upper, userxattr)?.map(|_| id))
        })
        .await
    }
}

/// Of two limits the lower.
fn lower(one: sandbox::Limits, two: sandbox::Limits) -> sandbox::Limits {
    fn least<T: PartialOrd>(one: Option<T>, two: Option<T>) -> Option<T> {
        match (one, two) {
            (Some(one), Some(two)) => Some(if two < one { two } else { one }),
            (one, two) => one.or(two),
        }
    }
    sandbox::Limits {
        memory: least(one.memory, two.memory),
        cpus: least(one.cpus, two.cpus),
        pids: least(one.pids, two.pids),
        timeout: least(one.timeout, two.timeout),
    }
}

/// The right to run a step, until it is dropped.
struct Turn {
    path: PathBuf,
    _lock: std::fs::File,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Who waits for the lock finds the record; should there be none, the step runs twice, which harms nobody.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Directories for the overlay. The upper one is the root that the process sees, so it gets the attributes that
/// the root of the tree has.
fn make_root(
    work: &std::path::Path,
    files: &dyn Files,
    lowers: Vec<PathBuf>,
    userxattr: bool,
) -> Result<sandbox::Root, Error> {
    use std::os::unix::fs::PermissionsExt;
    let failed = |error: std::io::Error| Error::io("making the directories of a run", &error);
    let (upper, scratch) = (work.join("upper"), work.join("work"));
    for directory in [&upper, &scratch] {
        std::fs::create_dir(directory).map_err(failed)?;
    }
    if let Some(root) = files.lookup(b"")? {
        std::fs::set_permissions(&upper, PermissionsExt::from_mode(root.entry.mode)).map_err(failed)?;
        // Without the right to give files away the root stays ours, which is all such a user can see anyway.
        let _ = std::os::unix::fs::chown(&upper, Some(root.entry.uid), Some(root.entry.gid));
    }
    Ok(sandbox::Root { lowers, upper, work: scratch, userxattr })
}

fn process_of(process: &Process, who: &Identity, more: &[(String, String)]) -> sandbox::Process {
    let mut env = process.env.clone();
    env.extend(more.iter().cloned());
    if !env.iter().any(|(name, _)| name == "HOME") {
        env.push(("HOME".to_owned(), who.home.clone().unwrap_or_else(|| "/".to_owned())));
    }
    sandbox::Process {
        args: process.args.clone(),
        env,
        cwd: if process.cwd.is_empty() { "/".to_owned() } else { process.cwd.clone() },
        uid: who.uid,
        gid: who.gid,
        groups: who.groups.clone(),
        stdin: process.stdin.clone(),
        hostname: process.hostname.clone().unwrap_or_else(|| "coop".to_owned()),
        ..sandbox::Process::default()
    }
}

/// A new identity: two runs of one process need not give the same bytes.
fn fresh_id() -> LayerId {
    use std::io::Read;
    let mut hasher = Hasher::new();
    frame(&mut hasher, b"cooperage run");
    let mut random = [0u8; 32];
    let filled = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random));
    if filled.is_err() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        frame(&mut hasher, &now.as_nanos().to_be_bytes());
        frame(&mut hasher, &std::process::id().to_be_bytes());
    }
    frame(&mut hasher, &random);
    LayerId(hasher.finish())
}

fn check(exit: Result<sandbox::Exit, sandbox::Error>, process: &Process) -> Result<(), Error> {
    let command = command_line(&process.args);
    let failed = |message: String| Error::new(ErrorKind::InvalidInput, message);
    match exit {
        Ok(sandbox::Exit::Code(0)) => Ok(()),
        Ok(sandbox::Exit::Code(code)) => {
            let mut error = failed(format!("{command} ended with exit code {code}"));
            error.exit_code = Some(code);
            Err(error)
        }
        Ok(sandbox::Exit::Signal(signal)) => {
            let mut error = failed(format!("{command} was killed by signal {signal}"));
            error.exit_code = Some(128 + signal);
            Err(error)
        }
        Ok(sandbox::Exit::TimedOut) => {
            Err(Error::new(ErrorKind::Limit, format!("{command} ran longer than it may")).hint("raise --timeout"))
        }
        Ok(sandbox::Exit::OutOfMemory) => {
            Err(Error::new(ErrorKind::Limit, format!("{command} used more memory than it may")).hint("raise --memory"))
        }
        Ok(sandbox::Exit::Cancelled) => Err(Error::cancelled()),
        Err(error) => Err(Error::new(ErrorKind::Internal, error.to_string())
            .context(format!("{command} could not be run"))
            .hint("`coop doctor` tells what this machine allows")),
    }
}

/// The command as a person would type it, shortened.
fn command_line(args: &[String]) -> String {
    const LONGEST: usize = 200;
    let line = args.join(" ");
    let mut short: String = line.chars().take(LONGEST).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    format!("`{}`", short.replace('\n', "\\n"))
}

/// A digest as the name of a directory for something the user named.
pub(crate) fn directory_name(identity: &str) -> String {
    Digest::of(identity.as_bytes()).hex()[..32].to_owned()
}

/// The layers of a stack (lowest first) as overlayfs takes them: topmost first, each once. Overlayfs refuses a
/// directory that is named twice, and a layer hides all that the same layer did further down.
fn topmost_first(layers: &[LayerId]) -> Vec<LayerId> {
    let mut seen = std::collections::HashSet::new();
    layers.iter().rev().copied().filter(|id| seen.insert(*id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_that_comes_twice_is_mounted_where_it_is_highest() {
        let [a, b, c] = [b"a", b"b", b"c"].map(|name| LayerId(Digest::of(name)));
        assert_eq!(topmost_first(&[a, b, a, c]), [c, a, b]);
        assert_eq!(topmost_first(&[]), []);
    }
}
