//! The role `source`: a URL as a tree with one file. What it stands for is told by a checksum, an entity tag, or a date
//! and a length.

use cooperage_sdk::http::Headers;
use cooperage_sdk::roles::source::Version;
use cooperage_sdk::{Error, ErrorKind, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::Client;
use crate::edge::{Answer, Edge};
use crate::patience::Patience;
use crate::plan::Call;
use crate::range;
use crate::save::{Saved, Target, read_checksum, read_mode, save};
use crate::url;

/// What `ADD` of Docker gives a file that it fetched.
const MODE: u32 = 0o600;

/// What the file must be, and how it is called.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// `sha256:` and the digest that the file must have.
    pub checksum: Option<String>,
    /// The name of the file; by default the last part of the URL's path.
    pub filename: Option<String>,
    /// The permissions of the file in octal; by default "600".
    pub mode: Option<String>,
}

/// What a URL stands for. With a checksum nothing is asked.
///
/// # Errors
/// `invalid-input` for wrong parameters, `not-found` if there is nothing, and those of the network.
pub fn resolve(edge: Edge, url: &str, parameters: &Parameters) -> Result<Version> {
    let (mut call, target) = read(url, parameters)?;
    if let Some(checksum) = target.checksum {
        return Ok(Version::immutable(checksum));
    }
    let headers = head(edge, &mut call)?;
    let mut version = Version::new(range::version(&headers).unwrap_or_default());
    for (key, field) in [("etag", "etag"), ("last-modified", "last-modified"), ("size", "content-length")] {
        if let Some(value) = headers.get(field) {
            version = version.annotation(key, value);
        }
    }
    Ok(version)
}

/// Brings the file of a version.
///
/// # Errors
/// `conflict` if it is another version by now, and those of the network.
pub fn fetch(edge: Edge, url: &str, parameters: &Parameters, version: &Version) -> Result<Saved> {
    let (call, target) = read(url, parameters)?;
    let client = Client::new(edge, &call);
    let wanted = Some(&version.value).filter(|value| target.checksum.is_none() && !value.is_empty());
    save(client, &target, &|headers| match wanted {
        Some(wanted) if !range::is_version(headers, wanted) => {
            let why = "the file has changed there since it was looked up";
            let hint = "build again; if that does not help, HEAD and GET say different things there: give a `checksum`";
            Err(Error::conflict(client.what()).because(why).hint(hint))
        }
        _ => Ok(()),
    })
}

fn read(url: &str, parameters: &Parameters) -> Result<(Call, Target)> {
    let Parameters { checksum, filename, mode } = parameters;
    let call = Call::get(url::parse(url)?);
    let path = match filename {
        None => url::told_by(&call.url),
        Some(name) if url::safe(name).as_ref() == Some(name) => Some(name.clone()),
        Some(name) => return Err(Error::invalid_input(format!("{name:?} is no plain name of a file"))),
    };
    let mode = read_mode(mode.as_deref(), MODE)?;
    Ok((call, Target { path, mode, checksum: read_checksum(checksum)?, reuse: true }))
}

/// The header fields without the body. Many far sides know no HEAD, or refuse it where a GET is signed.
fn head(edge: Edge, call: &mut Call) -> Result<Headers> {
    "HEAD".clone_into(&mut call.method);
    let asked = ask(edge, call);
    match asked {
        Ok(answer) => Ok(answer.headers),
        Err(error) if refuses_head(error.kind) => {
            "GET".clone_into(&mut call.method);
            // What it has of a body is dropped, and the connection with it.
            ask(edge, call).map(|answer| answer.headers)
        }
        Err(error) => Err(error),
    }
}

fn ask(edge: Edge, call: &Call) -> Result<Answer> {
    Client::new(edge, call).send(&mut Patience::new(call.retries))
}

fn refuses_head(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unsupported | ErrorKind::InvalidInput | ErrorKind::Denied | ErrorKind::NotFound)
}
