//! Connections for protocols other than HTTP: TCP with TLS done by the host, and services that switch protocols.

use std::io;
use std::time::Duration;

use crate::Result;
use crate::content::CHUNK;

pub use crate::bindings::imports::cooperage::plugin::connections::Connection;
pub use wasip2::io::poll::Pollable;
use wasip2::io::poll::poll;

/// How long to wait. None leaves it to the host.
#[derive(Debug, Clone, Copy, Default)]
pub struct Patience {
    /// For the connection.
    pub connect: Option<Duration>,
    /// For each read and write.
    pub idle: Option<Duration>,
}

impl Patience {
    fn options(self) -> Vec<(String, String)> {
        let named = [("connect-timeout", self.connect), ("idle-timeout", self.idle)];
        named.into_iter().filter_map(|(name, time)| Some((name.to_owned(), time?.as_millis().to_string()))).collect()
    }
}

/// Connects to a host by name or address. Needs a grant of class `tcp`.
///
/// # Errors
/// `denied` when the grants do not allow it, `unavailable` for faults of the network.
pub fn connect(host: &str, port: u16, patience: Patience) -> Result<Connection> {
    Connection::open(host, port, &patience.options())
}

/// Lets a service of this machine switch from HTTP to another protocol. Needs a grant of class `service` with `UPGRADE`
/// and the path among its requests.
///
/// # Errors
/// `denied` when the grants do not allow it, `unavailable` if the service does not switch.
pub fn upgrade(
    method: &str,
    url: &str,
    protocol: &str,
    headers: &[(String, String)],
    patience: Patience,
) -> Result<Connection> {
    Connection::upgrade(method, url, protocol, headers, &patience.options())
}

/// Waits until one of several things is ready, and says which are, by their places in the list.
#[must_use]
pub fn wait(any: &[&Pollable]) -> Vec<usize> {
    poll(any).into_iter().map(|index| index as usize).collect()
}

impl io::Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let max = u32::try_from(buffer.len()).unwrap_or(CHUNK).min(CHUNK);
        let chunk = Connection::read(self, max)?;
        buffer[..chunk.len()].copy_from_slice(&chunk);
        Ok(chunk.len())
    }
}

impl io::Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = &bytes[..bytes.len().min(CHUNK as usize)];
        Connection::write(self, chunk)?;
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
