//! An outside for the core: HTTP over real sockets, files and secrets in memory, a clock that does not wait.

#![allow(dead_code)] // each test binary uses a part of it

pub mod peer;
pub mod sockets;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::rc::Rc;
use std::time::Duration;

use cooperage_plugin_http::edge::{Bytes, Edge, Files, Filling, Held, Material, Sink, Vault};
use cooperage_plugin_http::parameters::Parameters;
use cooperage_plugin_http::task::{Done, perform};
use cooperage_sdk::time::Clock;
use cooperage_sdk::{Error, Result};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sockets::Sockets;

type Contents = Rc<RefCell<HashMap<String, Vec<u8>>>>;

/// What a test has instead of a host.
#[derive(Default)]
pub struct World {
    pub http: Sockets,
    pub input: HashMap<String, Vec<u8>>,
    pub secrets: HashMap<String, Vec<u8>>,
    pub contents: Contents,
    /// Path, permissions and bytes of the file that was made.
    pub made: RefCell<Option<(String, u32, Vec<u8>)>>,
    pub pauses: RefCell<Vec<Duration>>,
    elapsed: Cell<Duration>,
}

impl World {
    pub fn new() -> Self {
        let secrets = HashMap::from([("TOKEN".to_owned(), b"s3cret\n".to_vec())]);
        Self { secrets, ..Self::default() }
    }

    pub fn edge(&self) -> Edge<'_> {
        Edge { http: &self.http, files: self, vault: self, clock: self }
    }

    /// Does a step; a failure leaves no file.
    pub fn run(&self, parameters: Value) -> Result<Done> {
        let parameters: Parameters = serde_json::from_value(parameters).unwrap();
        self.made.replace(None);
        let done = perform(self.edge(), &parameters);
        assert!(done.is_ok() || self.made.borrow().is_none(), "a failure leaves no file");
        done
    }

    pub fn made(&self) -> Vec<u8> {
        self.made.borrow().as_ref().expect("a file").2.clone()
    }
}

/// The value of an output.
pub fn output<'d>(done: &'d Done, name: &str) -> &'d Value {
    done.values.iter().find(|(n, _)| n == name).map_or(&Value::Null, |(_, value)| value)
}

/// Message, causes and hint, one per line.
pub fn shown(error: &Error) -> String {
    let lines = std::iter::once(&error.message).chain(&error.context).chain(&error.hint);
    lines.cloned().collect::<Vec<_>>().join("\n")
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

/// Bytes of which nobody knows the number, as those of archives.
struct Endless(Vec<u8>);

impl Material for Endless {
    fn length(&self) -> Option<u64> {
        None
    }

    fn open(&self) -> Result<Box<dyn Bytes>> {
        self.0.open()
    }
}

impl Files for World {
    fn input(&self, path: &str) -> Result<Rc<dyn Material>> {
        let file = self.input.get(path).ok_or_else(|| Error::not_found(format!("no file {path}")))?;
        Ok(Rc::new(file.clone()))
    }

    fn pack(&self, path: &str) -> Result<Rc<dyn Material>> {
        Ok(Rc::new(Endless(format!("packed {path}").into_bytes())))
    }

    fn image(&self, image: &str, format: &str, name: Option<&str>) -> Result<Rc<dyn Material>> {
        Ok(Rc::new(Endless(format!("image {image} {format} {name:?}").into_bytes())))
    }

    fn measured(&self, material: &dyn Material) -> Result<Rc<dyn Material>> {
        let mut bytes = Vec::new();
        Filling(&mut *material.open()?).read_to_end(&mut bytes)?;
        Ok(Rc::new(bytes))
    }

    fn held(&self, digest: &str) -> Result<Option<Held>> {
        Ok(self.contents.borrow().get(digest).cloned().map(held))
    }

    fn sink(&self) -> Box<dyn Sink> {
        Box::new(Hashing { bytes: Vec::new(), contents: self.contents.clone() })
    }

    fn keep(&self, path: &str, mode: u32, size: u64, bytes: &mut dyn Read) -> Result<()> {
        let mut kept = Vec::new();
        bytes.take(size).read_to_end(&mut kept)?;
        if kept.len() as u64 != size {
            return Err(Error::conflict(format!("{path} ends early")));
        }
        self.made.replace(Some((path.to_owned(), mode, kept)));
        Ok(())
    }
}

fn held(bytes: Vec<u8>) -> Held {
    Held { size: bytes.len() as u64, bytes: Box::new(Cursor::new(bytes)) }
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

    fn commit(self: Box<Self>, expected: Option<&str>) -> Result<Held> {
        let digest = digest(&self.bytes);
        if expected.is_some_and(|expected| expected != digest) {
            return Err(Error::conflict(format!("the content is {digest}")));
        }
        self.contents.borrow_mut().insert(digest, self.bytes.clone());
        Ok(held(self.bytes))
    }
}

impl Vault for World {
    fn reveal(&self, name: &str) -> Result<Vec<u8>> {
        self.secrets.get(name).cloned().ok_or_else(|| Error::not_found(format!("no secret {name}")))
    }
}

impl Clock for World {
    fn pause(&self, time: Duration) -> Result<()> {
        self.pauses.borrow_mut().push(time);
        self.elapsed.set(self.elapsed.get() + time);
        Ok(())
    }

    fn elapsed(&self) -> Duration {
        self.elapsed.get()
    }

    fn now(&self) -> u64 {
        784_111_777
    }
}
