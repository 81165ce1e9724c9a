//! Packs a directory of web pages into an image that has nothing else.

use std::collections::BTreeMap;
use std::slice;

use cooperage_sdk::prelude::*;
use cooperage_sdk::trees::{CopyOptions, FileKind, Origin, Selection};

const INDEX: &str = "index.html";

/// What the user can set. The JSON Schema comes from here, comments included, and the host checks it before the plugin
/// runs.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// Directory of the context with the pages.
    #[serde(default = "root")]
    pages: String,
    /// Where the image has them.
    #[serde(default = "www")]
    to: String,
}

fn root() -> String {
    "/".to_owned()
}

fn www() -> String {
    "/www".to_owned()
}

struct Pages;

impl Plugin for Pages {
    fn describe() -> Description {
        // The context and operations on trees need no permission. Whatever else does is asked for here:
        // .asks(Capability::http(["https://api.example"], "to ..."))
        Description::new("my-plugin", env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_DESCRIPTION"))
            .annotation("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE"))
    }
}

impl Builder for Pages {
    type Parameters = Parameters;

    /// How well this builder fits the context, up to 100.
    fn detect() -> Result<u8> {
        let index = context()?.stat(&format!("/{INDEX}"), true)?;
        Ok(if index.is_some() { 50 } else { 0 })
    }

    fn build(request: BuildRequest<Parameters>) -> Result<Vec<Image>> {
        let Parameters { pages, to } = &request.parameters;
        let context = context()?;
        let index = format!("{}/{INDEX}", pages.trim_end_matches('/'));
        if context.stat(&index, true)?.is_none() {
            let error = Error::not_found(format!("the context has no {index}"));
            return Err(error.hint("name the directory of the pages in `pages`"));
        }
        let number = context.walk(pages)?.iter().filter(|(file, _)| file.kind == FileKind::Regular).count();
        info!("{number} files for {to}");

        // Only described: the host copies when it makes the image, unless it has the same from before.
        let origin = Origin::new(format!("copy {number} files to {to}"));
        let labels: BTreeMap<_, _> = request.labels.into_iter().collect();
        let config = json!({ "config": { "WorkingDir": to, "Labels": labels } }).to_string();
        let image = |platform| {
            let options = CopyOptions::default();
            let tree = Tree::scratch().copy(&context, slice::from_ref(pages), &format!("{to}/"), &options, &origin);
            Image { tree, platform, config: config.clone(), annotations: Vec::new() }
        };
        Ok(request.platforms.into_iter().map(image).collect())
    }
}

/// The main context, all of it.
fn context() -> Result<Tree> {
    Tree::context("", &Selection { include: Vec::new(), exclude: Vec::new() })
}

cooperage_sdk::plugin!(Pages: builder);
