//! What `case.yaml` can say. Paths in it are relative to the folder of the case.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::exchange::Exchange;
use crate::fault::Fault;
use crate::tcp::Conversation;

/// One case: what the plugin is asked, what it finds around it, and what is to come of it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Case {
    /// What the case shows, in a sentence.
    pub about: Option<String>,
    /// Which role is called; may be left out if the plugin has only one.
    pub role: Option<Role>,
    /// Parameters, as `with:` of a step has them.
    pub with: Map<String, Value>,
    /// What the plugin is allowed, as in a flow file; by default what it asks for.
    pub allow: Option<Map<String, Value>>,
    /// Secrets by name. They are made up for the case: never write a real one here.
    pub secrets: BTreeMap<String, String>,
    /// Task: the directory that is the step's `in`.
    #[serde(rename = "in")]
    pub input: Option<String>,
    /// Task: directories of further inputs by name.
    pub inputs: BTreeMap<String, String>,
    /// The directory that is the build context.
    pub context: Option<String>,
    /// Directories of further build contexts by name.
    pub contexts: BTreeMap<String, String>,
    /// Builder: what else a build is asked for.
    pub build: BuildCase,
    /// Source: the URL that is fetched.
    pub url: Option<String>,
    /// Registry: what is asked of which repository.
    pub registry: Option<RegistryCase>,
    /// Images that can be built on, pulled and resolved.
    pub images: Vec<BaseImage>,
    /// What lies behind URLs that the plugin lets the host fetch.
    pub sources: Vec<SourceFiles>,
    /// What the registries answer when the plugin has images moved; without it they have the images of the case.
    pub registries: Vec<RegistryAnswer>,
    /// The HTTP exchanges that take place. Each is used once, by the first request that fits it.
    pub http: Vec<Exchange>,
    /// The TCP connections that the plugin opens with `connections`, each used once; those to one place in their order.
    pub tcp: Vec<Conversation>,
    /// What commands do instead of being run, or `real` to run them in the sandbox.
    pub run: Runs,
    /// The time that the plugin sees, in RFC 3339; by default 2026-01-01T00:00:00Z.
    pub clock: Option<String>,
    /// What random bytes follow from.
    pub random: u64,
    /// What the plugin has kept from earlier calls.
    pub state: BTreeMap<String, String>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// What is to come of it; without it the call has to succeed.
    pub expect: Expect,
}

/// What a plugin can be asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A step of a flow.
    Task,
    /// Builds images.
    Builder,
    /// Brings files from a URL.
    Source,
    /// Keeps images.
    Registry,
}

/// What a build is asked for beside its parameters.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct BuildCase {
    /// Platforms such as `linux/amd64`; by default this machine's.
    pub platforms: Vec<String>,
    /// Build arguments.
    pub arguments: BTreeMap<String, String>,
    /// Labels to add.
    pub labels: BTreeMap<String, String>,
    /// SOURCE_DATE_EPOCH in seconds.
    pub epoch: Option<u64>,
    /// Whether the plugin is only asked how well it fits the context.
    pub detect: bool,
}

/// One call of a registry plugin.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RegistryCase {
    /// Which function of the role.
    pub call: RegistryCall,
    /// `host` or `host:port`.
    pub host: String,
    /// The repository below the host.
    pub name: String,
    /// Whether there is no TLS.
    #[serde(default)]
    pub plain_http: bool,
    /// Login as USER:PASSWORD, made up for the case.
    pub login: Option<String>,
    /// The user's settings of this registry.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Tag or digest, for `resolve`, `get-manifest`, `delete`, `has-blob` and `referrers`; the tag for `put-manifest`.
    #[serde(default)]
    pub reference: String,
    /// The blob or manifest of `get-blob`, `put-blob` and `put-manifest`.
    pub blob: Option<BlobCase>,
    /// Repositories of the same host that may have the blob.
    #[serde(default)]
    pub mount_from: Vec<String>,
}

/// A function of the role `registry`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RegistryCall {
    /// What a tag or digest stands for.
    #[default]
    Resolve,
    /// Brings a manifest into the store.
    GetManifest,
    /// Sends a manifest.
    PutManifest,
    /// Whether a blob is there.
    HasBlob,
    /// Brings a blob into the store.
    GetBlob,
    /// Sends a blob.
    PutBlob,
    /// Lists tags.
    Tags,
    /// What refers to a manifest.
    Referrers,
    /// Deletes a tag or manifest.
    Delete,
    /// Proves the login.
    Login,
}

/// Content that is in the store, or is to be got.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BlobCase {
    /// The bytes. For `get-blob` they are what has to arrive, and are not in the store.
    pub content: crate::exchange::Body,
    /// Media type; by default that of any bytes.
    pub media_type: Option<String>,
    /// Instead of the digest of the content, to ask for what the far side does not have.
    pub digest: Option<String>,
}

/// An image that is there.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BaseImage {
    /// The name under which it is asked for.
    pub reference: String,
    /// Directory with its files; none is an empty image.
    pub files: Option<String>,
    /// Its configuration as in OCI, without `rootfs`; of a recorded image with it.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// The only platform for which it is there; by default it is there for every one.
    pub platform: Option<String>,
    /// What a registry has of it, instead of `files`.
    pub recorded: Option<RecordedImage>,
}

/// An image as a registry had it when the run was recorded.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RecordedImage {
    /// The whole name with its digest.
    pub name: String,
    /// The descriptor of its manifest, as in OCI.
    pub manifest: Map<String, Value>,
    /// Its layers, the lowest first.
    pub layers: Vec<RecordedLayer>,
}

/// A layer of such an image.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RecordedLayer {
    /// Its descriptor, as in OCI.
    pub descriptor: Map<String, Value>,
    /// A listing of its files, with the contents that were used; none if nobody looked at it.
    pub files: Option<String>,
}

/// What a registry answers.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RegistryAnswer {
    /// What is asked for.
    pub call: MoveCall,
    /// The name that is pushed to, pulled or resolved.
    pub reference: String,
    /// The descriptor that it answers, as in OCI.
    pub answer: Map<String, Value>,
}

/// What a plugin can have done with images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MoveCall {
    /// An image of the store goes to a registry.
    Push,
    /// An image comes into the store.
    Pull,
    /// What a name stands for.
    Resolve,
}

/// Files behind a URL.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SourceFiles {
    /// The URL as the plugin writes it.
    pub url: String,
    /// What the source says it stands for; empty if nobody can tell.
    #[serde(default)]
    pub version: String,
    /// Directory with the files, or a listing of them.
    pub files: String,
    /// The parameters that are asked with; without them any.
    pub parameters: Option<Map<String, Value>>,
    /// Whether the URL names this version and no other.
    #[serde(default)]
    pub immutable: bool,
    /// What else is known of the version.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// What becomes of processes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Runs {
    /// `real`: they are run.
    Word(RunWord),
    /// What each does.
    List(Vec<RunCase>),
}

impl Default for Runs {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

/// The only word for [`Runs`].
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RunWord {
    /// In the sandbox of this machine.
    Real,
}

/// What a command does instead of being run.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RunCase {
    /// The program and its arguments.
    pub args: Option<Vec<String>>,
    /// The line that a shell gets, as in `RUN line`; instead of `args`.
    pub shell: Option<String>,
    /// The directory that it is run in; without it any.
    pub directory: Option<String>,
    /// Directory whose files the command writes, seen from the root of the image, or a listing of them.
    pub writes: Option<String>,
    /// The exit code.
    pub status: i32,
    /// What it prints.
    pub output: String,
}

/// What is to come of a case. What is not mentioned is not compared; within what is mentioned, maps need only have the
/// keys that are written, lists must be equal, and `null` means that there is nothing.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Expect {
    /// Task: values by name.
    pub outputs: Option<Map<String, Value>>,
    /// Task and source: the files of the tree by path: the text of a file, or `{ kind, content, mode, owner, target }`.
    pub files: Option<Map<String, Value>>,
    /// Builder: a map per image, with `platform`, `config`, `annotations`, `layers` and `files`.
    pub images: Option<Vec<Map<String, Value>>>,
    /// Builder: the operations that the images need, by the names that `coop explain` shows, in any order.
    pub operations: Option<Vec<String>>,
    /// Builder: how well it fits. Source: the version. Registry: what the function answers.
    pub answer: Option<Value>,
    /// The call fails so.
    pub error: Option<ExpectError>,
    /// Lines that are somewhere in the log or in the output of a step.
    pub log_contains: Vec<String>,
    /// The requests in their order, each a map with `method`, `url`, `headers` and `body`.
    pub http: Option<Vec<Map<String, Value>>>,
    /// The commands in their order, each a map with `args`, `user`, `directory` and `env`.
    pub runs: Option<Vec<Map<String, Value>>>,
    /// The images that were pushed, each a map with `image` and `reference`.
    pub pushed: Option<Vec<Map<String, Value>>>,
    /// What the plugin has kept, by key.
    pub state: Option<Map<String, Value>>,
}

/// How a call fails.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ExpectError {
    /// The kind of the contract's error, or `crashed` or `stopped`.
    pub kind: Option<String>,
    /// The whole message.
    pub message: Option<String>,
    /// A part of the message, its causes or its hint.
    pub message_contains: Option<String>,
}
