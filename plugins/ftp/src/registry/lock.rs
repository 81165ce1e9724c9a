//! A lock by a directory: making one is the only thing that an FTP server does for exactly one of several clients.
//!
//! The lock is `.coop-lock`, and in it lies a directory with a name by chance, which tells one holder from the next. A
//! holder has it for the few commands that change one small file. So a lock that shows the same holder for three times as
//! long as one of them may take belongs to nobody any more: it is put aside by renaming, which again succeeds for exactly
//! one, and removed.
//!
//! Between looking at a lock and putting it aside its holder may have come and gone and another one have it. Whoever
//! put it aside sees that by the name in it, and puts it back; and every holder looks for its own name once more when
//! all that it writes is on the server, right before that gets its name.

use std::time::Duration;

use cooperage_sdk::random;
use cooperage_sdk::{Context, Error, ErrorKind, Result, debug, warn};

use crate::client::Client;
use crate::client::directories::{list_from_outside, remove};
use crate::client::upload::rename;
use crate::paths;

const NAME: &str = ".coop-lock";
/// Refusals in a row although there is no lock.
const MOST_REFUSED: u32 = 3;

/// How long to wait for others.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Between looking and looking again.
    pub pause: Duration,
    /// A holder that stays for so long is gone.
    pub stale: Duration,
    /// In all.
    pub limit: Duration,
}

impl Patience {
    /// With holders that wait at most `idle` for each answer of the server, or a minute if that is longer: theirs need
    /// not be the same.
    #[must_use]
    pub fn new(idle: Duration) -> Self {
        let stale = idle.max(Duration::from_secs(60)) * 3;
        Self { pause: Duration::from_millis(400), stale, limit: stale + Duration::from_secs(120) }
    }
}

/// A lock that is held.
#[derive(Debug)]
pub struct Lock {
    path: String,
    owner: String,
}

impl Lock {
    /// Waits for the lock of a directory.
    ///
    /// # Errors
    /// `unavailable` if others hold it for too long, and those of the server.
    pub fn acquire(client: &mut Client, directory: &str, patience: Patience) -> Result<Self> {
        let path = paths::join(directory, NAME);
        let owner = paths::join(&path, &format!("{:016x}", random()));
        let shown = client.server().url(&path);
        let (mut seen, mut still, mut waited, mut refused) = (None, Duration::ZERO, Duration::ZERO, 0);
        loop {
            match client.again(|session| session.must("MKD", &path)) {
                Ok(_) => {
                    client.again(|session| session.must("MKD", &owner)).context("cannot mark the lock")?;
                    return Ok(Self { path, owner });
                }
                Err(error) if matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Cancelled) => return Err(error),
                Err(error) => {
                    let Some(holder) = holder(client, &path)? else {
                        refused += 1;
                        if refused == MOST_REFUSED {
                            return Err(error).with_context(|| format!("cannot make the lock {shown}"));
                        }
                        continue;
                    };
                    refused = 0;
                    if seen.as_ref() != Some(&holder) {
                        debug!("waiting for the lock {shown}, held as {holder:?}");
                        (seen, still) = (Some(holder), Duration::ZERO);
                    } else if still >= patience.stale {
                        put_aside(client, directory, &path, &holder)?;
                        (seen, still) = (None, Duration::ZERO);
                        continue;
                    }
                }
            }
            if waited >= patience.limit {
                return Err(Error::unavailable(format!("others hold the lock {shown} all the time"))
                    .hint(format!("if nobody pushes there, remove the directory {path} from the server")));
            }
            // Part of it by chance, so that those who wait do not come back together.
            let pause = patience.pause / 2 + patience.pause.mul_f64((random() % 1000) as f64 / 1000.0);
            client.clock().pause(pause)?;
            still += pause;
            waited += pause;
        }
    }

    /// Makes sure that it is still held.
    ///
    /// # Errors
    /// `unavailable` if it is not.
    pub fn check(&self, client: &mut Client) -> Result<()> {
        let own = self.owner.rsplit('/').next().unwrap_or_default();
        if holder(client, &self.path)?.is_some_and(|names| names.iter().any(|name| name == own)) {
            return Ok(());
        }
        Err(Error::unavailable(format!("the lock {} was taken away", client.server().url(&self.path)))
            .hint("try again"))
    }

    /// Gives it back.
    ///
    /// # Errors
    /// Those of the server.
    pub fn release(self, client: &mut Client) -> Result<()> {
        // A session that broke is begun again: a lock that stays makes all others wait.
        let gone = |error: &Error| error.kind == ErrorKind::NotFound;
        for path in [&self.owner, &self.path] {
            // Some servers refuse to remove the directory that the session is in.
            client.again(|session| session.command("CWD", Some("/")))?;
            match client.again(|session| session.must("RMD", path)) {
                Err(error) if !gone(&error) => {
                    return Err(error).with_context(|| format!("cannot remove the lock {path}"));
                }
                // Whatever is there now is not ours.
                Err(_) => return Ok(()),
                Ok(_) => {}
            }
        }
        Ok(())
    }
}

/// The names in a lock; none if there is no lock.
fn holder(client: &mut Client, path: &str) -> Result<Option<Vec<String>>> {
    match list_from_outside(client, path) {
        Ok(entries) => Ok(Some(entries.into_iter().map(|entry| entry.name).collect())),
        // For what is no directory RFC 3659 has 501, which elsewhere means a command that is not known.
        Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Unsupported) => Ok(None),
        Err(error) => Err(error),
    }
}

fn put_aside(client: &mut Client, directory: &str, path: &str, seen: &[String]) -> Result<()> {
    let aside = paths::join(directory, &format!("{NAME}.{:016x}", random()));
    if let Err(error) = client.once(|session| rename(session, path, &aside)) {
        debug!("somebody else was faster with {path}: {}", error.message);
        return Ok(());
    }
    if holder(client, &aside)?.as_deref() != Some(seen) {
        return client.once(|session| rename(session, &aside, path)).context("cannot give a lock back");
    }
    warn!("removed the lock {}, which its holder left behind", client.server().url(path));
    remove(client, &aside, true).map(drop)
}
