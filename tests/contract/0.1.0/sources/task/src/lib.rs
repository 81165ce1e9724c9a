//! A task of the release: `do` names a part of the contract, and the outputs say what came back. It uses what the
//! other three plugins of the release do not.

#![allow(missing_docs)]

wit_bindgen::generate!({
    path: "../../../../../wit/cooperage-plugin-0.1.0",
    world: "task-plugin",
    with: { "wasi:io/poll@0.2.12": wasip2::io::poll },
    generate_all,
});

use cooperage::plugin::connections::Connection;
use cooperage::plugin::content::{self, Archive, Writer};
use cooperage::plugin::events::{self, Level, Step, Unit};
use cooperage::plugin::trees::{Origin, Tree};
use cooperage::plugin::types::{Error, ErrorKind};
use cooperage::plugin::{registries, secrets, sources};
use exports::cooperage::plugin::plugin::{Capability, Description, Guest as Plugin};
use exports::cooperage::plugin::task::{Guest as Task, Outputs, Request};

struct Released;

/// What came back, by name.
type Values = Vec<(String, String)>;

impl Plugin for Released {
    fn describe() -> Description {
        let asks = |class: &str, request: &str| Capability {
            class: class.into(),
            request: request.into(),
            reason: "to use the contract".into(),
        };
        Description {
            name: "released-task".into(),
            version: "0.1.0".into(),
            summary: "Uses the contract".into(),
            parameters: vec![("task".into(), SCHEMA.into())],
            capabilities: vec![
                asks("secrets", r#"["TOKEN"]"#),
                asks("registries", r#"["push released.example/**", "pull released.example/**"]"#),
                asks("sources", r#"["released://**"]"#),
                asks("tcp", r#"["127.0.0.1:*"]"#),
                asks("service", r#"{"name":"released","requests":["UPGRADE /stream"]}"#),
            ],
            provides: Vec::new(),
            annotations: Vec::new(),
        }
    }
}

const SCHEMA: &str = r#"{"type":"object","required":["do"],"additionalProperties":false,
    "properties":{"do":{"type":"string"},"port":{"type":"integer"}}}"#;

impl Task for Released {
    fn run(request: Request) -> Result<Outputs, Error> {
        let does = |what: &str| request.parameters.contains(&format!("\"{what}\""));
        let (mut values, mut tree) = (Values::new(), None);
        if does("events") {
            events(&mut values);
        } else if does("content") {
            content(&mut values)?;
        } else if does("trees") {
            let input = request.inputs.first().ok_or_else(|| error("there is no input"))?;
            tree = Some(trees(&input.1, &mut values)?);
        } else if does("images") {
            images(&mut values)?;
        } else if does("sources") {
            tree = Some(sources(&mut values)?);
        } else if does("connection") {
            connection(port(&request.parameters)?, &mut values)?;
        } else if does("service") {
            service(&mut values)?;
        } else if does("secrets") {
            put(&mut values, "length", &secrets::reveal("TOKEN")?.len().to_string());
            put(&mut values, "other", &kind(secrets::reveal("OTHER")));
        } else {
            return Err(error("nothing to do"));
        }
        Ok(Outputs { values, tree })
    }
}

fn events(values: &mut Values) {
    for (level, text) in [
        (Level::Trace, "at trace"),
        (Level::Debug, "at debug"),
        (Level::Info, "at info"),
        (Level::Warn, "at warn"),
        (Level::Error, "at error"),
    ] {
        events::log(level, text);
    }
    let step = Step::new("outer");
    step.progress(1, Some(2), Unit::Items);
    let child = step.child("inner");
    child.progress(3, None, Unit::Bytes);
    child.output(b"said inside\n");
    child.cached();
    let failing = step.child("failing");
    failing.fail("why it failed");
    put(values, "cancelled", &events::cancelled().to_string());
}

fn content(values: &mut Values) -> Result<(), Error> {
    let writer = Writer::new();
    writer.write(b"stave ")?;
    writer.write(b"and hoop")?;
    put(values, "written", &writer.size().to_string());
    let blob = Writer::commit(writer, "text/plain", None)?;
    put(values, "digest", &blob.digest);
    put(values, "stat", &format!("{:?}", content::stat(&blob.digest)?));
    let reader = content::open(&blob.digest)?;
    put(values, "size", &reader.size().to_string());
    reader.seek(6)?;
    put(values, "tail", &String::from_utf8_lossy(&reader.read(100)?));
    let other = Writer::new();
    other.write(b"other")?;
    put(values, "mismatch", &kind(Writer::commit(other, "text/plain", Some(&blob.digest))));
    Ok(())
}

/// Asks everything about a tree, and gives one that is made of its archive.
fn trees(input: &Tree, values: &mut Values) -> Result<Tree, Error> {
    put(values, "digest", &input.digest()?);
    put(values, "file", &String::from_utf8_lossy(&input.read_file("/dir/file", 100)?));
    put(values, "missing", &kind(input.read_file("/not/there", 100)));
    let reader = input.open("/dir/file")?;
    reader.seek(1)?;
    put(values, "opened", &String::from_utf8_lossy(&reader.read(3)?));
    let names = input.entries("/")?.into_iter().map(|entry| entry.path).collect::<Vec<_>>();
    put(values, "entries", &names.join(" "));
    let walked = input.walk("/dir")?.into_iter();
    let walked: Vec<_> = walked.map(|(info, digest)| format!("{}:{}", info.path, digest.is_some())).collect();
    put(values, "walk", &walked.join(" "));
    let info = input.stat("/dir/file", true)?.ok_or_else(|| error("no file"))?;
    put(values, "stat", &format!("{:?} {} {:o} {}:{}", info.kind, info.size, info.mode, info.uid, info.gid));
    let writer = Writer::new();
    copy(&input.pack(&[("path".into(), "/dir".into())])?, &writer)?;
    let layer = Writer::commit(writer, "application/vnd.oci.image.layer.v1.tar", None)?;
    put(values, "odd", &kind(input.pack(&[("colour".into(), "red".into())])));
    Tree::layers(&[layer])
}

fn copy(archive: &Archive, to: &Writer) -> Result<u64, Error> {
    let mut size = 0;
    loop {
        let bytes = archive.read(1 << 16)?;
        if bytes.is_empty() {
            return Ok(size);
        }
        size += bytes.len() as u64;
        to.write(&bytes)?;
    }
}

fn images(values: &mut Values) -> Result<(), Error> {
    let name = "released.example/team/app:1";
    let pushed = registries::push(name, name, &[])?;
    put(values, "pushed", &pushed.digest);
    put(values, "resolved", &registries::resolve(name)?.digest);
    put(values, "pulled", &registries::pull(name, None, &[])?.digest);
    put(values, "elsewhere", &kind(registries::resolve("other.example/app:1")));
    let archive = registries::save(name, "oci", Some("saved:1"))?;
    let writer = Writer::new();
    put(values, "saved", &(copy(&archive, &writer)? > 1024).to_string());
    Ok(())
}

fn sources(values: &mut Values) -> Result<Tree, Error> {
    let version = sources::resolve("released://oak", "{}")?;
    put(values, "version", &format!("{} {} {:?}", version.value, version.immutable, version.annotations));
    put(values, "elsewhere", &kind(sources::resolve("https://other.example/", "{}")));
    let origin = Origin { name: "fetch".into(), created_by: "fetch".into(), location: None };
    Tree::fetch("released://oak", "{}", &origin)
}

fn connection(port: u16, values: &mut Values) -> Result<(), Error> {
    let connection = Connection::open("127.0.0.1", port, &[("idle-timeout".into(), "5000".into())])?;
    put(values, "peer", &connection.peer());
    connection.write(b"hello")?;
    connection.finish()?;
    connection.subscribe().block();
    put(values, "answer", &String::from_utf8_lossy(&connection.read(100)?));
    let plain = Connection::open("127.0.0.1", port, &[])?;
    put(values, "tls", &plain.start_tls("127.0.0.1").is_err().to_string());
    Ok(())
}

fn service(values: &mut Values) -> Result<(), Error> {
    let stream = Connection::upgrade("POST", "http://released.local/stream", "raw", &[], &[])?;
    stream.write(b"ping")?;
    put(values, "answer", &String::from_utf8_lossy(&stream.read(100)?));
    put(values, "elsewhere", &kind(Connection::upgrade("POST", "http://released.local/other", "raw", &[], &[])));
    Ok(())
}

fn port(parameters: &str) -> Result<u16, Error> {
    let digits: String = parameters.chars().filter(char::is_ascii_digit).collect();
    digits.parse().map_err(|_| error("no port"))
}

fn kind<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => "ok".into(),
        Err(error) => format!("{:?}", error.kind),
    }
}

fn put(values: &mut Values, name: &str, value: &str) {
    values.push((name.into(), format!("{value:?}")));
}

fn error(message: &str) -> Error {
    let kind = ErrorKind::InvalidInput;
    Error { kind, message: message.into(), context: Vec::new(), hint: None, location: None, retry_after: None }
}

export!(Released);
