//! Builds an image of a directory of web pages, with a list of them.

use cooperage_sdk::prelude::*;
use cooperage_sdk::trees::{CopyOptions, Origin, Selection};

/// What the user sets.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// Directory of the context with the pages.
    #[serde(default = "pages")]
    pages: String,
}

fn pages() -> String {
    "pages".to_owned()
}

struct Site;

impl Plugin for Site {
    fn describe() -> Description {
        Description::new("site", env!("CARGO_PKG_VERSION"), "Builds images of web pages")
    }
}

impl Builder for Site {
    type Parameters = Parameters;

    fn build(request: BuildRequest<Parameters>) -> Result<Vec<Image>> {
        let pages = format!("/{}", request.parameters.pages);
        let context = Tree::context("", &Selection { include: Vec::new(), exclude: Vec::new() })?;
        let names: Vec<String> = context.entries(&pages)?.into_iter().map(|page| page.path).collect();
        let platform = request.platforms.into_iter().next().ok_or_else(|| Error::invalid_input("no platform"))?;
        let tree = Tree::scratch()
            .copy(&context, &[pages], "/www/", &CopyOptions::default(), &Origin::new("copy the pages"))
            .write_file("/www/list.txt", (names.join("\n") + "\n").as_bytes(), 0o644, None, &Origin::new("list them"));
        let config = json!({ "config": { "WorkingDir": "/www", "Labels": { "pages": names.len().to_string() } } });
        Ok(vec![Image { tree, platform, config: config.to_string(), annotations: Vec::new() }])
    }
}

cooperage_sdk::plugin!(Site: builder);
