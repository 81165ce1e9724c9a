//! The outside as the contract gives it.

use std::cell::RefCell;
use std::io::Read;
use std::rc::Rc;

use cooperage_sdk::content::{self, Archive, Reader, Writer};
use cooperage_sdk::events::{Step, check_cancelled};
use cooperage_sdk::http::{self, Request, Response, Timeouts};
use cooperage_sdk::layer::LayerWriter;
use cooperage_sdk::time::System;
use cooperage_sdk::trees::{FileKind, Tree};
use cooperage_sdk::{Context, Error, Result, registries, secrets};

use crate::edge::{Answer, Bytes, Chain, Deadline, Edge, Exchange, Files, Held, Http, Material, Sink, Vault};

const ANY_BYTES: &str = "application/octet-stream";

/// The outside of one plugin call.
pub struct Guest {
    input: Option<Rc<Tree>>,
    made: RefCell<Option<Tree>>,
}

impl Guest {
    /// With the tree of the step's `in`, if it has one.
    pub fn new(input: Option<Rc<Tree>>) -> Self {
        Self { input, made: RefCell::new(None) }
    }

    /// As the core sees it.
    pub fn edge(&self) -> Edge<'_> {
        Edge { http: self, files: self, vault: self, clock: &System }
    }

    /// The tree that was made.
    pub fn made(&self) -> Result<Tree> {
        self.made.take().ok_or_else(|| Error::internal("no file was made"))
    }

    fn tree(&self) -> Result<&Rc<Tree>> {
        let missing =
            || Error::invalid_input("the step has no input").hint("name the step that has the files with `in:`");
        self.input.as_ref().ok_or_else(missing)
    }
}

impl Http for Guest {
    fn send(&self, exchange: &Exchange) -> Result<Answer> {
        check_cancelled()?;
        let mut request = Request::new(exchange.method.clone(), exchange.url.clone());
        request.headers = exchange.headers.clone();
        request.body = body(exchange);
        if let Some(deadline) = exchange.deadline {
            let left = Some(deadline.left()?);
            request.timeouts = Timeouts { connect: left, first_byte: left, between_bytes: left };
        }
        let mut response = request.send()?;
        Ok(Answer {
            status: response.status,
            headers: std::mem::take(&mut response.headers),
            url: response.url.clone(),
            body: Box::new(Incoming { response, deadline: exchange.deadline }),
        })
    }
}

fn body(exchange: &Exchange) -> http::Body {
    let length = exchange.length();
    if length == Some(0) {
        return http::Body::Empty;
    }
    let mut chain = Chain::new(exchange.payload.clone());
    let step = Step::new(format!("upload to {}", exchange.url.authority()));
    let (deadline, mut done) = (exchange.deadline, 0);
    let next = Box::new(move |max| {
        check_cancelled()?;
        if let Some(deadline) = deadline {
            deadline.left()?;
        }
        let bytes = chain.chunk(max)?;
        done += bytes.len() as u64;
        step.bytes(done, length);
        Ok(bytes)
    });
    match length {
        Some(length) => http::Body::Stream { next, length },
        None => http::Body::Chunked { next },
    }
}

struct Incoming {
    response: Response,
    deadline: Option<Deadline>,
}

impl Bytes for Incoming {
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>> {
        check_cancelled()?;
        if let Some(deadline) = self.deadline {
            deadline.left()?;
        }
        self.response.chunk(max)
    }
}

struct File {
    tree: Rc<Tree>,
    path: String,
    size: u64,
}

impl Material for File {
    fn length(&self) -> Option<u64> {
        Some(self.size)
    }

    fn open(&self) -> Result<Box<dyn Bytes>> {
        Ok(Box::new(self.tree.open(&self.path)?))
    }
}

struct Packed {
    tree: Rc<Tree>,
    path: String,
}

impl Material for Packed {
    fn length(&self) -> Option<u64> {
        None
    }

    fn open(&self) -> Result<Box<dyn Bytes>> {
        Ok(Box::new(self.tree.pack(&[("path".to_owned(), self.path.clone())])?))
    }
}

struct Image {
    image: String,
    format: String,
    name: Option<String>,
}

impl Material for Image {
    fn length(&self) -> Option<u64> {
        None
    }

    fn open(&self) -> Result<Box<dyn Bytes>> {
        Ok(Box::new(registries::save(&self.image, &self.format, self.name.as_deref())?))
    }
}

struct Blob {
    digest: String,
    size: u64,
}

impl Material for Blob {
    fn length(&self) -> Option<u64> {
        Some(self.size)
    }

    fn open(&self) -> Result<Box<dyn Bytes>> {
        Ok(Box::new(content::open(&self.digest)?))
    }
}

impl Bytes for Reader {
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>> {
        Reader::read(self, max)
    }
}

impl Bytes for Archive {
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>> {
        Archive::read(self, max)
    }
}

impl Files for Guest {
    fn input(&self, path: &str) -> Result<Rc<dyn Material>> {
        let tree = self.tree()?;
        let path = absolute(path);
        let found = tree.stat(&path, true).with_context(|| format!("cannot send {path}"))?;
        match found {
            Some(found) if found.kind == FileKind::Regular => {
                Ok(Rc::new(File { tree: tree.clone(), path, size: found.size }))
            }
            Some(found) if found.kind == FileKind::Directory => {
                Err(Error::invalid_input(format!("{path} of the step's input is a directory"))
                    .hint("send a directory as an archive with `pack`"))
            }
            Some(_) => Err(Error::invalid_input(format!("{path} of the step's input is no regular file"))),
            None => Err(Error::not_found(format!("the step's input has no file {path}"))),
        }
    }

    fn pack(&self, path: &str) -> Result<Rc<dyn Material>> {
        let tree = self.tree()?;
        let path = absolute(path);
        match tree.stat(&path, true).with_context(|| format!("cannot send {path}"))? {
            Some(found) if found.kind == FileKind::Directory => Ok(Rc::new(Packed { tree: tree.clone(), path })),
            Some(_) => Err(Error::invalid_input(format!("{path} of the step's input is no directory"))
                .hint("send a file with `file`")),
            None => Err(Error::not_found(format!("the step's input has no directory {path}"))),
        }
    }

    fn image(&self, image: &str, format: &str, name: Option<&str>) -> Result<Rc<dyn Material>> {
        let (image, format, name) = (image.to_owned(), format.to_owned(), name.map(str::to_owned));
        Ok(Rc::new(Image { image, format, name }))
    }

    fn measured(&self, material: &dyn Material) -> Result<Rc<dyn Material>> {
        let (writer, mut bytes) = (Writer::new(), material.open()?);
        loop {
            check_cancelled()?;
            let chunk = bytes.chunk(content::CHUNK)?;
            if chunk.is_empty() {
                break;
            }
            writer.write(&chunk)?;
        }
        let kept = Writer::commit(writer, ANY_BYTES, None)?;
        Ok(Rc::new(Blob { digest: kept.digest, size: kept.size }))
    }

    fn held(&self, digest: &str) -> Result<Option<Held>> {
        match content::stat(digest)? {
            Some(size) => Ok(Some(Held { bytes: Box::new(content::open(digest)?), size })),
            None => Ok(None),
        }
    }

    fn sink(&self) -> Box<dyn Sink> {
        Box::new(Keeper(Writer::new()))
    }

    fn keep(&self, path: &str, mode: u32, size: u64, bytes: &mut dyn Read) -> Result<()> {
        let mut layer = LayerWriter::new();
        layer.file_from(path, mode, size, bytes)?;
        self.made.replace(Some(layer.finish()?));
        Ok(())
    }
}

fn absolute(path: &str) -> String {
    format!("/{}", path.trim_start_matches('/'))
}

struct Keeper(Writer);

impl Sink for Keeper {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Writer::write(&self.0, bytes)
    }

    fn commit(self: Box<Self>, expected: Option<&str>) -> Result<Held> {
        let kept = Writer::commit(self.0, ANY_BYTES, expected)?;
        Ok(Held { bytes: Box::new(content::open(&kept.digest)?), size: kept.size })
    }
}

impl Vault for Guest {
    fn reveal(&self, name: &str) -> Result<Vec<u8>> {
        secrets::reveal(name)
    }
}
