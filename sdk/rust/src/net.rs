//! TCP connections with TLS done by the host, for protocols other than HTTP. Needs a grant of class `tcp`.

use std::io;
use std::time::Duration;

use crate::Result;
use crate::content::CHUNK;

pub use crate::bindings::imports::cooperage::plugin::connections::Connection;

/// How long to wait. None leaves it to the host.
#[derive(Debug, Clone, Copy, Default)]
pub struct Patience {
    /// For the connection.
    pub connect: Option<Duration>,
    /// For each read and write.
    pub idle: Option<Duration>,
}

/// Connects to a host by name or address.
///
/// # Errors
/// `denied` when the grants do not allow it, `unavailable` for faults of the network.
pub fn connect(host: &str, port: u16, patience: Patience) -> Result<Connection> {
    let named = [("connect-timeout", patience.connect), ("idle-timeout", patience.idle)];
    let options = named.into_iter().filter_map(|(name, time)| Some((name.to_owned(), time?.as_millis().to_string())));
    Connection::open(host, port, &options.collect::<Vec<_>>())
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
