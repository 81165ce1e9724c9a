//! An outside for the client that lives in memory, over sockets: to real servers and to scripted ones.

#![allow(dead_code)] // each test binary uses a part of it

pub mod peer;
pub mod servers;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use cooperage_plugin_ftp::client::Client;
use cooperage_plugin_ftp::edge::{Chunks, File, Files, Link, Network, Payload, Sink, Store};
use cooperage_plugin_ftp::server::{Login, Server, Tls};
use cooperage_sdk::time::Clock;
use cooperage_sdk::{Descriptor, Error, Result};
use sha2::{Digest as _, Sha256};

/// Content by digest.
pub type Contents = Rc<RefCell<HashMap<String, Vec<u8>>>>;

/// What a test has instead of a host.
#[derive(Default)]
pub struct World {
    pub contents: Contents,
    pub pauses: RefCell<Vec<Duration>>,
    /// Whether pauses take time; else they are only written down.
    pub sleeps: bool,
}

impl World {
    pub fn client<'w>(&'w self, server: &'w Server) -> Client<'w> {
        Client::new(&Sockets, self, server, 3)
    }

    pub fn keep(&self, bytes: &[u8], media_type: &str) -> Descriptor {
        let digest = digest(bytes);
        self.contents.borrow_mut().insert(digest.clone(), bytes.to_vec());
        Descriptor { media_type: media_type.into(), digest, size: bytes.len() as u64, annotations: Vec::new() }
    }

    pub fn has(&self, digest: &str) -> bool {
        self.contents.borrow().contains_key(digest)
    }
}

/// A server on the loopback.
pub fn server(port: u16, login: Login) -> Server {
    Server { host: "127.0.0.1".into(), port, tls: Tls::None, login, idle: Duration::from_secs(5) }
}

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Bytes without a pattern that a mistake in offsets could hide in.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(length)
    .collect()
}

/// TCP without TLS.
pub struct Sockets;

impl Network for Sockets {
    fn connect(&self, host: &str, port: u16, idle: Duration) -> Result<Box<dyn Link>> {
        let stream = TcpStream::connect((host, port))?;
        stream.set_read_timeout(Some(idle))?;
        stream.set_write_timeout(Some(idle))?;
        Ok(Box::new(Socket(stream)))
    }
}

struct Socket(TcpStream);

impl Link for Socket {
    fn read(&mut self, max: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; max.min(64 << 10)];
        let length = self.0.read(&mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.write_all(bytes)?)
    }

    /// Nothing is encrypted; the scripted peer expects nothing else.
    fn start_tls(&mut self, _: &str) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(self.0.shutdown(Shutdown::Write)?)
    }

    fn peer(&self) -> String {
        self.0.peer_addr().map(|address| address.ip().to_string()).unwrap_or_default()
    }
}

impl Clock for World {
    fn pause(&self, time: Duration) -> Result<()> {
        self.pauses.borrow_mut().push(time);
        if self.sleeps {
            std::thread::sleep(time);
        }
        Ok(())
    }

    fn elapsed(&self) -> Duration {
        self.pauses.borrow().iter().sum()
    }

    fn now(&self) -> u64 {
        784_111_777
    }
}

impl Store for World {
    fn stat(&self, digest: &str) -> Result<Option<u64>> {
        Ok(self.contents.borrow().get(digest).map(|bytes| bytes.len() as u64))
    }

    fn payload(&self, digest: &str) -> Result<Box<dyn Payload>> {
        let contents = self.contents.borrow();
        let bytes =
            contents.get(digest).ok_or_else(|| Error::not_found(format!("the store does not have {digest}")))?;
        Ok(Box::new(bytes.clone()))
    }

    fn sink(&self) -> Box<dyn Sink> {
        Box::new(Hashing { bytes: Vec::new(), contents: self.contents.clone() })
    }
}

struct Hashing {
    bytes: Vec<u8>,
    contents: Contents,
}

impl Sink for Hashing {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn commit(self: Box<Self>, media_type: &str, expected: Option<&str>) -> Result<Descriptor> {
        let digest = digest(&self.bytes);
        if expected.is_some_and(|expected| expected != digest) {
            return Err(Error::conflict(format!("it has the digest {digest}")));
        }
        let size = self.bytes.len() as u64;
        self.contents.borrow_mut().insert(digest.clone(), self.bytes);
        Ok(Descriptor { media_type: media_type.into(), digest, size, annotations: Vec::new() })
    }
}

/// An input in memory: paths without the first slash; none is a directory. Counts how often a file is opened to be read.
#[derive(Default)]
pub struct Tree(pub BTreeMap<String, Option<Vec<u8>>>, pub Rc<Cell<usize>>);

struct Counted(Vec<u8>, Rc<Cell<usize>>);

impl Payload for Counted {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn open(&self, offset: u64) -> Result<Box<dyn Chunks>> {
        self.1.update(|opened| opened + 1);
        self.0.open(offset)
    }
}

impl Tree {
    pub fn of(files: &[(&str, &[u8])]) -> Self {
        let mut tree = Self::default();
        for (path, bytes) in files {
            let mut at = *path;
            while let Some((directory, _)) = at.rsplit_once('/') {
                tree.0.entry(directory.to_owned()).or_insert(None);
                at = directory;
            }
            tree.0.insert((*path).to_owned(), Some(bytes.to_vec()));
        }
        tree
    }

    fn at(&self, path: &str) -> Option<&Option<Vec<u8>>> {
        let path = path.trim_matches('/').replace("//", "/");
        if path.is_empty() { Some(&None) } else { self.0.get(&path) }
    }
}

fn file(content: &Option<Vec<u8>>) -> File {
    content.as_ref().map_or(File::Directory, |bytes| File::Regular(bytes.len() as u64))
}

impl Files for Tree {
    fn stat(&self, path: &str) -> Result<Option<File>> {
        Ok(self.at(path).map(file))
    }

    fn entries(&self, path: &str) -> Result<Vec<(String, File)>> {
        let path = path.trim_matches('/');
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let below = self.0.iter().filter_map(|(name, content)| Some((name.strip_prefix(&prefix)?, content)));
        Ok(below.filter(|(name, _)| !name.contains('/')).map(|(name, c)| (name.to_owned(), file(c))).collect())
    }

    fn payload(&self, path: &str) -> Result<Box<dyn Payload>> {
        let content = self.at(path).and_then(Clone::clone).ok_or_else(|| Error::not_found(path))?;
        Ok(Box::new(Counted(content, self.1.clone())))
    }

    fn identity(&self) -> Result<String> {
        Ok(digest(format!("{:?}", self.0).as_bytes()))
    }
}

/// Bytes that fail after a part of them.
pub struct Failing(pub Vec<u8>, pub usize);

impl Payload for Failing {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn open(&self, _: u64) -> Result<Box<dyn Chunks>> {
        Ok(Box::new(Once(Some(self.0[..self.1].to_vec()))))
    }
}

struct Once(Option<Vec<u8>>);

impl Chunks for Once {
    fn chunk(&mut self, _: usize) -> Result<Vec<u8>> {
        self.0.take().ok_or_else(|| Error::internal("the disk is on fire"))
    }
}

/// The files of an archive, read by a tool that we did not write: lines of `PATH BYTES` for files, `PATH/` for
/// directories, `PATH -> TARGET` for links.
pub fn unpacked(archive: &[u8]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("archive");
    std::fs::write(&file, archive).unwrap();
    let output = std::process::Command::new("tar").arg("-tvf").arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = words[5..].join(" ");
        if words[0].starts_with('-') { format!("{} {name} {}", words[0], words[2]) } else { name }
    };
    text.lines().map(line).collect()
}
