//! What `with:` of a step takes. It knows the shape of each parameter, not which of them go together.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::value::{Text, Texts};

/// A request, what is expected of the answer, and what becomes of it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Where to, by http or https.
    pub url: String,
    /// GET, POST and so on. By default GET; POST with `json`, `form`, `multipart` or `body`; PUT with `file`, `pack` or
    /// `image`.
    pub method: Option<String>,
    /// What is added to the query of the URL; a list repeats the name.
    #[serde(default)]
    pub query: BTreeMap<String, Texts>,
    /// Header fields.
    #[serde(default)]
    pub headers: BTreeMap<String, Text>,
    /// A token for `authorization: Bearer`.
    pub bearer: Option<Text>,
    /// A user name and a password for `authorization: Basic`.
    pub basic: Option<Basic>,

    /// Body: this value as JSON, with secrets in place of `{ secret: NAME }`.
    pub json: Option<Value>,
    /// Body: fields as a web form sends them; a list repeats the name.
    pub form: Option<BTreeMap<String, Texts>>,
    /// Body: fields and files as a web form with files sends them.
    pub multipart: Option<Vec<Part>>,
    /// Body: a text.
    pub body: Option<Text>,
    /// Body: a file of the step's input.
    pub file: Option<String>,
    /// Body: a directory of the step's input as a tar archive; `/` is all of it.
    pub pack: Option<String>,
    /// Body: an image of the store as an archive.
    pub image: Option<ImageArchive>,
    /// With `pack` or `image`: whether the archive is made before it is sent, because the far side wants to know its
    /// length.
    pub known_length: Option<bool>,

    /// Statuses that are right, such as 201 or "2xx"; by default 2xx.
    pub expect: Option<Expect>,
    /// How often to try again after a fault that may pass; by default 3, and 0 for POST and PATCH.
    pub retries: Option<u32>,
    /// Whether a request may be sent again although it may have been acted upon, as with POST.
    #[serde(default)]
    pub retry_unsafe: bool,
    /// Seconds after which one try is given up, looked at whenever something comes or goes; a silence in which nothing
    /// does may last as long again. By default only silence of a minute ends a try.
    pub timeout: Option<u64>,
    /// How many redirects to follow; by default 10.
    pub redirects: Option<u32>,
    /// Ask again and again until the answer is the one waited for.
    pub until: Option<Until>,

    /// Values for later steps, by name: a JSON pointer into the answer, `header:NAME`, `status` or `body`.
    #[serde(default)]
    pub outputs: BTreeMap<String, String>,
    /// The path at which the body of the answer becomes a file, the only one of the step's tree.
    pub save: Option<String>,
    /// With `save`: whether the step's tree has the files of its input beside the new one.
    pub keep_input: Option<bool>,
    /// With `save`: the permissions of the file in octal; by default "644".
    pub mode: Option<String>,
    /// With `save`: `sha256:` and the digest that the file must have.
    pub checksum: Option<String>,
}

/// A user name and a password.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// The name.
    pub username: Text,
    /// The password.
    pub password: Text,
}

/// A part of a form with files: either a `value` or a `file`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The name of the field.
    pub name: String,
    /// Its text.
    pub value: Option<Text>,
    /// A file of the step's input.
    pub file: Option<String>,
    /// The name that the far side gets to know; by default that of the file.
    pub filename: Option<String>,
    /// The media type; by default that of any bytes for a file, none for a text.
    pub content_type: Option<String>,
}

/// An image of the store as an archive.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageArchive {
    /// A local name, or `sha256:...` of a manifest or index.
    pub image: String,
    /// What kind of archive.
    #[serde(default)]
    pub format: Format,
    /// The name that the image has in the archive; by default its own.
    pub name: Option<String>,
}

/// What kind of archive an image becomes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// An OCI image layout.
    #[default]
    Oci,
    /// For `docker load`.
    Docker,
}

/// One status or class of statuses, or several.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Expect {
    /// One.
    One(StatusClass),
    /// Several.
    Many(Vec<StatusClass>),
}

/// A status such as 204, or a class such as "2xx".
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StatusClass {
    /// One status.
    Status(u16),
    /// A class, or a status as text.
    Class(String),
}

/// What is waited for: a status, a value in the answer, or both.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Until {
    /// Wait for one of these statuses; others but 401, 403 and 407 mean "not yet".
    pub status: Option<Expect>,
    /// Wait for a value at this JSON pointer: `equals`, or anything but null and false.
    pub pointer: Option<String>,
    /// The value waited for.
    pub equals: Option<Value>,
    /// Values at `pointer` after which there is nothing to wait for.
    #[serde(default)]
    pub fails_on: Vec<Value>,
    /// Seconds between two requests; by default 5.
    pub every: Option<f64>,
    /// Seconds after which it is a failure; by default 600.
    pub at_most: Option<f64>,
}
