//! The body of an answer as a file: whole and checked, or not there at all.

use cooperage_sdk::http::Headers;
use cooperage_sdk::{Context, Error, Result};

use crate::client::Client;
use crate::download::Download;
use crate::edge::{Bytes, CHUNK, Filling, Held};
use crate::parameters::Parameters;
use crate::patience::Patience;

/// What the file is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Relative; none is a name that the URL or the answer says.
    pub path: Option<String>,
    /// Permissions.
    pub mode: u32,
    /// `sha256:` and the digest that it must have.
    pub checksum: Option<String>,
    /// Whether a file that the store has need not be asked for, because nothing else of the answer is wanted.
    pub reuse: bool,
}

/// What is known of a file that arrived.
#[derive(Debug)]
pub struct Saved {
    /// For instance 200; 304 if nothing was sent, because the store had it.
    pub status: u16,
    /// Header fields of the answer.
    pub headers: Headers,
    /// Where it is in the tree.
    pub path: String,
    /// Bytes.
    pub size: u64,
}

impl Target {
    /// What the parameters of a step say.
    ///
    /// # Errors
    /// `invalid-input` for a path, mode or checksum that is none, and for those without `save`.
    pub fn read(parameters: &Parameters) -> Result<Option<Self>> {
        let Parameters { save, mode, checksum, keep_input, .. } = parameters;
        let Some(path) = save else {
            let idle =
                [("mode", mode.is_some()), ("checksum", checksum.is_some()), ("keep_input", keep_input.is_some())];
            for (name, there) in idle {
                if there {
                    return Err(Error::invalid_input(format!("`{name}` is about a file, but there is no `save`")));
                }
            }
            return Ok(None);
        };
        Ok(Some(Self {
            path: Some(relative(path)?),
            mode: read_mode(mode.as_deref(), 0o644)?,
            checksum: read_checksum(checksum)?,
            reuse: parameters.outputs.is_empty(),
        }))
    }
}

fn relative(path: &str) -> Result<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.is_empty() || parts.contains(&"..") || path.ends_with('/') || path.contains('\0') {
        return Err(Error::invalid_input(format!("`save` is {path:?}, which is no path of a file within a tree")));
    }
    if parts.iter().any(|part| part.starts_with(".wh.")) {
        let why = format!("`save` is {path:?}, but names that begin with `.wh.` stand for removed files in layers");
        return Err(Error::invalid_input(why).hint("give the file another name"));
    }
    Ok(parts.join("/"))
}

/// Permissions as octal digits.
///
/// # Errors
/// `invalid-input` for anything else.
pub fn read_mode(text: Option<&str>, default: u32) -> Result<u32> {
    let Some(text) = text else { return Ok(default) };
    let octal = !text.is_empty() && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = if octal { u32::from_str_radix(text, 8).ok() } else { None };
    mode.filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| Error::invalid_input(format!("the mode {text:?} is no octal number such as \"755\"")))
}

/// `sha256:` and 64 hexadecimal digits, in lower case.
///
/// # Errors
/// `invalid-input` for anything else.
pub fn read_checksum(text: &Option<String>) -> Result<Option<String>> {
    let Some(text) = text else { return Ok(None) };
    let lower = text.to_ascii_lowercase();
    let hex = lower.strip_prefix("sha256:").unwrap_or_default();
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Error::invalid_input(format!("the checksum {text:?} is not `sha256:` and 64 hexadecimal digits")));
    }
    Ok(Some(lower))
}

/// Brings the file. `accept` is asked before any byte of it is read.
///
/// # Errors
/// Those of the network and of the store; `conflict` if the checksum is another one. Nothing remains then.
pub fn save(client: Client, target: &Target, accept: &dyn Fn(&Headers) -> Result<()>) -> Result<Saved> {
    if let (Some(digest), Some(path)) = (&target.checksum, &target.path)
        && target.reuse
        && client.call.method == "GET"
        && let Some(held) = client.edge.files.held(digest)?
    {
        let size = keep(client, path, target.mode, held)?;
        return Ok(Saved { status: 304, headers: Headers::default(), path: path.clone(), size });
    }
    let mut patience = Patience::new(client.call.retries);
    loop {
        match once(client, target, accept, &mut patience) {
            Ok(saved) => return Ok(saved),
            // Nothing of it remains, so it may begin anew.
            Err(error) => client.again(&mut patience, error)?,
        }
    }
}

fn once(
    client: Client,
    target: &Target,
    accept: &dyn Fn(&Headers) -> Result<()>,
    patience: &mut Patience,
) -> Result<Saved> {
    let mut download = Download::begin(client, patience)?;
    accept(download.headers())?;
    let (status, headers) = (download.status(), download.headers().clone());
    let path = target.path.clone().unwrap_or_else(|| crate::url::file_name(&client.call.url, &headers));
    let size = match (&target.checksum, download.total()) {
        (None, Some(size)) => {
            client.edge.files.keep(&path, target.mode, size, &mut Filling(&mut download))?;
            size
        }
        // An archive needs the size of a file before its bytes, and a wrong file must not become part of one.
        (checksum, _) => {
            let whole = collect(client, &mut download, checksum.as_deref())?;
            keep(client, &path, target.mode, whole)?
        }
    };
    Ok(Saved { status, headers, path, size })
}

fn collect(client: Client, download: &mut Download, checksum: Option<&str>) -> Result<Held> {
    let mut sink = client.edge.files.sink();
    loop {
        let chunk = download.chunk(CHUNK)?;
        if chunk.is_empty() {
            break;
        }
        sink.write(&chunk)?;
    }
    sink.commit(checksum).with_context(|| client.what()).hint("if the new file is right, change the checksum")
}

fn keep(client: Client, path: &str, mode: u32, mut held: Held) -> Result<u64> {
    client.edge.files.keep(path, mode, held.size, &mut Filling(&mut *held.bytes))?;
    Ok(held.size)
}
