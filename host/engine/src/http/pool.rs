//! Keeps connections that have nothing to do, a few per authority and for a short while.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;

use super::address::Reach;
use super::body::RequestBody;
use super::rule::Origin;

/// How long a connection may take to become free after its answer was read; one whose request body is still being
/// sent by then is not worth keeping.
const SETTLE: Duration = Duration::from_secs(1);

/// What connections may stand in for each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Network(Origin),
    Socket(PathBuf),
}

/// A connection that can take a request.
pub(crate) struct Connection {
    pub sender: SendRequest<RequestBody>,
    /// The address at the other end; none behind a proxy or on a unix socket.
    pub peer: Option<IpAddr>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

pub(crate) struct Pool {
    idle: Mutex<HashMap<Key, Vec<Idle>>>,
    per_key: usize,
    keep: Duration,
}

impl Pool {
    pub fn new(per_key: usize, keep: Duration) -> Arc<Self> {
        Arc::new(Self { idle: Mutex::default(), per_key, keep })
    }

    /// The connection used last that is still open and leads where the caller may go: one that was opened under a
    /// wider grant must not serve a narrower one.
    pub fn take(&self, key: &Key, reach: Reach) -> Option<Connection> {
        let mut idle = self.idle.lock().expect("not poisoned");
        let list = idle.get_mut(key)?;
        list.retain(|i| i.since.elapsed() < self.keep && i.connection.sender.is_ready());
        let at = list.iter().rposition(|i| i.connection.peer.is_none_or(|peer| reach.admits(peer)))?;
        Some(list.remove(at).connection)
    }

    fn put(&self, key: Key, connection: Connection) {
        let mut idle = self.idle.lock().expect("not poisoned");
        idle.retain(|_, list| {
            list.retain(|i| i.since.elapsed() < self.keep && !i.connection.sender.is_closed());
            !list.is_empty()
        });
        let list = idle.entry(key).or_default();
        if list.len() >= self.per_key {
            list.remove(0);
        }
        list.push(Idle { connection, since: Instant::now() });
    }
}

/// A connection in use and where it goes back to.
pub(crate) struct Lease {
    pub connection: Connection,
    pub key: Key,
    pub pool: Arc<Pool>,
}

impl Lease {
    /// Returns the connection once it is free. Without a runtime, or if it does not get free, it is closed.
    pub fn give_back(self) {
        let Self { mut connection, key, pool } = self;
        if connection.sender.is_ready() {
            pool.put(key, connection);
        } else if !connection.sender.is_closed()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                if let Ok(Ok(())) = tokio::time::timeout(SETTLE, connection.sender.ready()).await {
                    pool.put(key, connection);
                }
            });
        }
    }
}
