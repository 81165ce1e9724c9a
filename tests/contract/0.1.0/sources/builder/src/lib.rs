//! A builder of the release: uses the images and every lazy operation on trees. Parameters: `base`, an image to start
//! from; `run`, whether a process is part of the image.

#![allow(missing_docs)]

wit_bindgen::generate!({
    path: "../../../../../wit/cooperage-plugin-0.1.0",
    world: "builder-plugin",
    with: { "wasi:io/poll@0.2.12": wasip2::io::poll },
    generate_all,
});

use cooperage::plugin::images;
use cooperage::plugin::trees::{CopyOptions, Mount, Network, Origin, Process, Selection, Tree};
use cooperage::plugin::types::{Error, ErrorKind};
use exports::cooperage::plugin::builder::{Guest as Builder, Image, Request};
use exports::cooperage::plugin::plugin::{Capability, Description, Guest as Plugin};

struct Released;

impl Plugin for Released {
    fn describe() -> Description {
        let run = Capability { class: "run".into(), request: "true".into(), reason: "to run what it is told".into() };
        Description {
            name: "released-builder".into(),
            version: "0.1.0".into(),
            summary: "Builds an image with every operation of 0.1.0".into(),
            parameters: vec![("builder".into(), r#"{"type":"object"}"#.into())],
            capabilities: vec![run],
            provides: Vec::new(),
            annotations: vec![("org.opencontainers.image.licenses".into(), "Apache-2.0".into())],
        }
    }
}

impl Builder for Released {
    fn detect() -> Result<u8, Error> {
        let context = Tree::context("", &Selection { include: Vec::new(), exclude: Vec::new() })?;
        Ok(if context.stat("/Releasefile", true)?.is_some() { 100 } else { 0 })
    }

    fn build(request: Request) -> Result<Vec<Image>, Error> {
        if request.parameters.contains("\"fail\"") {
            return Err(failure());
        }
        let wanted = images::Request { reference: "base:1".into(), platform: request.platforms.first().cloned() };
        let base = images::resolve(&[wanted]).remove(0)?;
        let selection = Selection { include: Vec::new(), exclude: vec!["*.log".into()] };
        let context = Tree::context("", &selection)?;
        let stage = Tree::scratch().make_directory("/stage", 0o755, None, &origin("stage"));
        let stage = stage.copy(&context, &["/Releasefile".into()], "/stage/", &options(), &origin("COPY Releasefile"));
        let mut tree = Tree::image(&base)
            .copy(&context, &[".".into()], "/app/", &options(), &origin("COPY . /app/"))
            .copy(&stage, &["/stage".into()], "/stage/", &options(), &origin("COPY --from=stage"))
            .write_file("/app/release", b"0.1.0", 0o640, Some("7:8"), &origin("write"))
            .remove("/app/unwanted", &origin("remove"));
        if request.parameters.contains("\"run\"") {
            tree = tree.run(&process(), &[mount(&stage)], &origin("RUN true"));
        }
        let epoch = request.epoch.map_or_else(|| "none".to_owned(), |seconds| seconds.to_string());
        let mut annotations = request.labels;
        annotations.extend(request.arguments);
        annotations.push(("base".into(), base.reference()));
        annotations.push(("manifest".into(), base.manifest().digest));
        annotations.push(("base-platform".into(), base.platform().architecture));
        annotations.push(("base-config".into(), base.config().len().to_string()));
        annotations.push(("epoch".into(), epoch));
        let platform = request.platforms.into_iter().next().unwrap_or(request.build_platform);
        let config = r#"{"config":{"Cmd":["/app/release"]}}"#.to_owned();
        Ok(vec![Image { tree, platform, config, annotations }])
    }
}

fn failure() -> Error {
    Error {
        kind: ErrorKind::Conflict,
        message: "what happened".into(),
        context: vec!["outer".into(), "inner".into()],
        hint: Some("what to do".into()),
        location: None,
        retry_after: Some(1500),
    }
}

fn origin(name: &str) -> Origin {
    Origin { name: name.into(), created_by: name.into(), location: None }
}

fn options() -> CopyOptions {
    let (owner, mode) = (None, None);
    CopyOptions { owner, mode, exclude: Vec::new(), parents: false, link: false, unpack: false, options: Vec::new() }
}

fn process() -> Process {
    Process {
        args: vec!["/bin/true".into()],
        env: vec![("PATH".into(), "/bin".into())],
        cwd: "/".into(),
        user: String::new(),
        network: Network::None,
        stdin: Vec::new(),
        options: vec![("hostname".into(), "released".into())],
    }
}

fn mount(source: &Tree) -> Mount<'_> {
    Mount {
        kind: "bind".into(),
        target: "/mnt".into(),
        source: Some(source),
        path: String::new(),
        identity: String::new(),
        read_only: true,
        options: Vec::new(),
    }
}

export!(Released);
