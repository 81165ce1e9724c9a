//! A builder against the unreleased contract: it answers with the image `base`, as it is, or with a file `made` put on
//! top of it.

#![allow(missing_docs)]

wit_bindgen::generate!({
    path: "../../../wit/cooperage-plugin-next",
    world: "builder-plugin",
    with: { "wasi:io/poll@0.2.12": wasip2::io::poll },
    generate_all,
});

use cooperage::plugin0_1_0::images;
use cooperage::plugin0_1_0::trees::{Origin, Tree};
use cooperage::plugin0_1_0::types::{Error, ErrorKind};
use exports::cooperage::plugin0_1_0::plugin::{Description, Guest as Plugin};
use exports::cooperage::plugin0_2_0_next::builder::{Answer, Guest as Builder, Image, Request};

const SCHEMA: &str = r#"{"type":"object","required":["base"],"additionalProperties":false,
    "properties":{"base":{"type":"string"},"make":{"type":"boolean"}}}"#;

struct Next;

impl Plugin for Next {
    fn describe() -> Description {
        Description {
            name: "next-builder".into(),
            version: "0.1.0".into(),
            summary: "Answers with an image that exists".into(),
            parameters: vec![("builder".into(), SCHEMA.into())],
            capabilities: Vec::new(),
            provides: Vec::new(),
            annotations: Vec::new(),
        }
    }
}

impl Builder for Next {
    fn detect() -> Result<u8, Error> {
        Ok(1)
    }

    fn build(request: Request) -> Result<Vec<Answer>, Error> {
        let reference = text(&request.parameters).ok_or_else(|| error("no base"))?;
        let make = request.parameters.contains("\"make\":true");
        let wanted = |platform| images::Request { reference: reference.clone(), platform: Some(platform) };
        let bases = images::resolve(&request.platforms.iter().cloned().map(wanted).collect::<Vec<_>>());
        let answer = |base: Result<images::Base, Error>| {
            let base = base?;
            if !make {
                return Ok(Answer::Existing(base));
            }
            let origin = Origin { name: "make".into(), created_by: "make".into(), location: None };
            let tree = Tree::image(&base).write_file("/made", b"made", 0o644, None, &origin);
            let image = Image { tree, platform: base.platform(), config: base.config(), annotations: Vec::new() };
            Ok(Answer::Described(image))
        };
        bases.into_iter().map(answer).collect()
    }
}

/// The value of `base`; the host has checked that it is there and a string.
fn text(parameters: &str) -> Option<String> {
    let (_, rest) = parameters.split_once("\"base\":\"")?;
    Some(rest.split_once('"')?.0.to_owned())
}

fn error(message: &str) -> Error {
    let kind = ErrorKind::InvalidInput;
    Error { kind, message: message.into(), context: Vec::new(), hint: None, location: None, retry_after: None }
}

export!(Next);
