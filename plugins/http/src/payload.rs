//! What a request carries: from the parameters to materials and their media type.

use std::collections::BTreeMap;
use std::rc::Rc;

use cooperage_sdk::random;
use cooperage_sdk::{Error, Result};
use form_urlencoded::Serializer;

use crate::edge::{Edge, Material};
use crate::parameters::{Format, ImageArchive, Parameters, Part};
use crate::value::{Text, Texts, reveal_in};

const ANY_BYTES: &str = "application/octet-stream";
const ARCHIVE: &str = "application/x-tar";

/// What is sent.
#[derive(Default)]
pub struct Payload {
    /// One after the other.
    pub materials: Vec<Rc<dyn Material>>,
    /// The media type, if there is a body.
    pub media_type: Option<String>,
    /// Whether the headers must not name another media type.
    pub media_type_is_fixed: bool,
    /// Whether some of it is secret.
    pub is_secret: bool,
    /// Whether it is sent with PUT unless a method is named.
    pub is_upload: bool,
}

/// The names of the parameters that say what the body is.
fn named(parameters: &Parameters) -> Vec<&'static str> {
    let Parameters { json, form, multipart, body, file, pack, image, .. } = parameters;
    let all = [
        ("json", json.is_some()),
        ("form", form.is_some()),
        ("multipart", multipart.is_some()),
        ("body", body.is_some()),
        ("file", file.is_some()),
        ("pack", pack.is_some()),
        ("image", image.is_some()),
    ];
    all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

/// Checks that there is at most one body.
///
/// # Errors
/// `invalid-input`.
pub fn check(parameters: &Parameters) -> Result<()> {
    if let [first, second, ..] = named(parameters)[..] {
        return Err(Error::invalid_input(format!(
            "there are both `{first}` and `{second}`, but a request has one body"
        )));
    }
    if parameters.known_length.is_some() && parameters.pack.is_none() && parameters.image.is_none() {
        return Err(Error::invalid_input("`known_length` is about an archive, but there is no `pack` and no `image`"));
    }
    for part in parameters.multipart.iter().flatten() {
        let name = &part.name;
        match (&part.value, &part.file) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid_input(format!("part {name:?} has both `value` and `file`")));
            }
            (None, None) => return Err(Error::invalid_input(format!("part {name:?} has neither `value` nor `file`"))),
            _ => {}
        }
        if part.content_type.as_ref().is_some_and(|kind| kind.chars().any(char::is_control)) {
            return Err(Error::invalid_input(format!("the `content_type` of part {name:?} is no media type")));
        }
    }
    Ok(())
}

/// Makes the body that the parameters ask for.
///
/// # Errors
/// Those of files, images and secrets.
pub fn of(parameters: &Parameters, edge: &Edge) -> Result<Payload> {
    let Parameters { json, form, multipart, body, file, pack, image, known_length, .. } = parameters;
    if let Some(value) = json {
        let mut value = value.clone();
        let is_secret = reveal_in(&mut value, edge.vault)?;
        return Ok(bytes(value.to_string().into_bytes(), "application/json", is_secret));
    }
    if let Some(fields) = form {
        let is_secret = fields.values().flat_map(Texts::all).any(Text::is_secret);
        return Ok(bytes(encoded(fields, edge)?.into_bytes(), "application/x-www-form-urlencoded", is_secret));
    }
    if let Some(text) = body {
        return Ok(bytes(text.reveal(edge.vault)?.into_bytes(), "text/plain; charset=utf-8", text.is_secret()));
    }
    if let Some(parts) = multipart {
        return of_parts(parts, edge, &boundary());
    }
    let (material, media_type) = if let Some(path) = file {
        (edge.files.input(path)?, ANY_BYTES)
    } else if let Some(path) = pack {
        (edge.files.pack(path)?, ARCHIVE)
    } else if let Some(ImageArchive { image, format, name }) = image {
        let format = match format {
            Format::Oci => "oci",
            Format::Docker => "docker",
        };
        (edge.files.image(image, format, name.as_deref())?, ARCHIVE)
    } else {
        return Ok(Payload::default());
    };
    let material = if *known_length == Some(true) { edge.files.measured(&*material)? } else { material };
    let media_type = Some(media_type.to_owned());
    Ok(Payload { materials: vec![material], media_type, is_upload: true, ..Payload::default() })
}

fn bytes(bytes: Vec<u8>, media_type: &str, is_secret: bool) -> Payload {
    Payload {
        materials: vec![Rc::new(bytes)],
        media_type: Some(media_type.to_owned()),
        is_secret,
        ..Payload::default()
    }
}

/// Names and values as `application/x-www-form-urlencoded` has them.
///
/// # Errors
/// Those of secrets.
pub fn encoded(fields: &BTreeMap<String, Texts>, edge: &Edge) -> Result<String> {
    let mut output = Serializer::new(String::new());
    for (name, texts) in fields {
        for text in texts.all() {
            output.append_pair(name, &text.reveal(edge.vault)?);
        }
    }
    Ok(output.finish())
}

/// A form as RFC 7578 has it, with names escaped as browsers do.
fn of_parts(parts: &[Part], edge: &Edge, boundary: &str) -> Result<Payload> {
    let mut payload = Payload {
        media_type: Some(format!("multipart/form-data; boundary={boundary}")),
        media_type_is_fixed: true,
        ..Payload::default()
    };
    let mut text = Vec::new();
    for part in parts {
        text.extend(
            format!("--{boundary}\r\ncontent-disposition: form-data; name=\"{}\"", escaped(&part.name)).bytes(),
        );
        let of_file = part.file.as_deref();
        let filename = part.filename.as_deref().or_else(|| of_file.and_then(|path| path.rsplit('/').next()));
        if let Some(filename) = filename {
            text.extend(format!("; filename=\"{}\"", escaped(filename)).bytes());
        }
        if let Some(kind) = part.content_type.as_deref().or(of_file.map(|_| ANY_BYTES)) {
            text.extend(format!("\r\ncontent-type: {kind}").bytes());
        }
        text.extend(b"\r\n\r\n");
        if let Some(value) = &part.value {
            payload.is_secret |= value.is_secret();
            text.extend(value.reveal(edge.vault)?.bytes());
        }
        if let Some(path) = of_file {
            payload.materials.push(Rc::new(std::mem::take(&mut text)));
            payload.materials.push(edge.files.input(path)?);
        }
        text.extend(b"\r\n");
    }
    text.extend(format!("--{boundary}--\r\n").bytes());
    payload.materials.push(Rc::new(text));
    Ok(payload)
}

/// So long that no file has it by accident.
fn boundary() -> String {
    format!("cooperage-{:016x}{:016x}", random(), random())
}

fn escaped(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}
