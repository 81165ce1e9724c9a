//! A source of the release: `released://NAME` is a tree with one file that has the name in it. It fetches only the
//! version that it resolved.

#![allow(missing_docs)]

wit_bindgen::generate!({
    path: "../../../../../wit/cooperage-plugin-0.1.0",
    world: "source-plugin",
    with: { "wasi:io/poll@0.2.12": wasip2::io::poll },
    generate_all,
});

use cooperage::plugin::events::{self, Level, Step};
use cooperage::plugin::sources::Version;
use cooperage::plugin::trees::{Origin, Tree};
use cooperage::plugin::types::{Error, ErrorKind};
use exports::cooperage::plugin::plugin::{Description, Guest as Plugin};
use exports::cooperage::plugin::source::{Guest as Source, Request};

struct Released;

impl Plugin for Released {
    fn describe() -> Description {
        Description {
            name: "released-source".into(),
            version: "0.1.0".into(),
            summary: "Names as files".into(),
            parameters: Vec::new(),
            capabilities: Vec::new(),
            provides: vec!["released".into()],
            annotations: Vec::new(),
        }
    }
}

impl Source for Released {
    fn resolve(request: Request) -> Result<Version, Error> {
        let name = name(&request)?;
        Ok(Version { value: format!("v-{name}"), immutable: true, annotations: vec![("name".into(), name.into())] })
    }

    fn fetch(request: Request, version: Version) -> Result<Tree, Error> {
        let name = name(&request)?;
        if version.value != format!("v-{name}") {
            return Err(error(ErrorKind::Conflict, "that version is gone"));
        }
        let step = Step::new(&format!("bring {name}"));
        events::log(Level::Info, "fetching");
        let origin = Origin { name: "file".into(), created_by: "file".into(), location: None };
        let tree = Tree::scratch().write_file("/name", name.as_bytes(), 0o644, None, &origin);
        drop(step);
        Ok(tree)
    }
}

fn name(request: &Request) -> Result<&str, Error> {
    request.url.strip_prefix("released://").ok_or_else(|| error(ErrorKind::InvalidInput, "no URL of mine"))
}

fn error(kind: ErrorKind, message: &str) -> Error {
    Error { kind, message: message.into(), context: Vec::new(), hint: None, location: None, retry_after: None }
}

export!(Released);
