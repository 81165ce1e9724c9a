//! Serves URLs of tar archives as the files that the archives have: `my-plugin+https://host.example/all.tar.gz#pages`
//! is the directory `pages` of that archive. Which plugin brings the archive itself is the host's matter.

use cooperage_sdk::prelude::*;
use cooperage_sdk::sources;
use cooperage_sdk::trees::{CopyOptions, Origin};

/// The schemes that this plugin serves; what follows is the scheme of the archive.
const SCHEMES: [&str; 2] = ["my-plugin+http", "my-plugin+https"];

/// What a user can set beside the URL. The JSON Schema comes from here, comments included, and the host checks it before
/// the plugin runs.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// The digest that the archive must have: `sha256:...`.
    checksum: Option<String>,
}

struct Archives;

impl Plugin for Archives {
    fn describe() -> Description {
        let description = Description::new("my-plugin", env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_DESCRIPTION"))
            .annotation("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE"))
            // Any URL that the user allows; fewer here would leave the user nothing to choose.
            .asks(Capability::sources(["**"], "to fetch the archives that the URLs name"));
        SCHEMES.into_iter().fold(description, Description::provides)
    }
}

impl Source for Archives {
    type Parameters = Parameters;

    /// The files follow from the archive, so they change when it does.
    fn resolve(request: &SourceRequest<Parameters>) -> Result<Version> {
        let archive = Archive::read(request)?;
        sources::resolve(archive.url, &archive.parameters)
    }

    fn fetch(request: &SourceRequest<Parameters>, _version: &Version) -> Result<Tree> {
        let Archive { url, parameters, directory } = Archive::read(request)?;
        let fetched = Tree::fetch(url, &parameters, &Origin::new(format!("fetch {url}")))?;
        let options = CopyOptions { unpack: true, ..CopyOptions::default() };
        let origin = Origin::new(format!("unpack {url}"));
        let unpacked = Tree::scratch().copy(&fetched, &["/*".to_owned()], "/", &options, &origin);
        let Some(directory) = directory else { return Ok(unpacked) };
        // Only described so far: this is where the archive is fetched, and where faults of that show.
        if unpacked.stat(directory, true)?.is_none() {
            let error = Error::not_found(format!("the archive {url} has no {directory}"));
            return Err(error.hint("what follows `#` is a directory of the archive"));
        }
        let origin = Origin::new(format!("take {directory}"));
        Ok(Tree::scratch().copy(&unpacked, &[directory.to_owned()], "/", &CopyOptions::default(), &origin))
    }
}

/// What a URL asks for.
struct Archive<'a> {
    url: &'a str,
    /// For whichever plugin brings the archive.
    parameters: String,
    directory: Option<&'a str>,
}

impl<'a> Archive<'a> {
    fn read(request: &'a SourceRequest<Parameters>) -> Result<Self> {
        let (url, directory) = match request.url.split_once('#') {
            Some((url, directory)) => (url, Some(directory)),
            None => (request.url.as_str(), None),
        };
        let url = url.strip_prefix("my-plugin+").ok_or_else(|| {
            Error::invalid_input(format!("{url} is no URL of this plugin"))
                .hint(format!("begin it with one of {}", SCHEMES.join(", ")))
        })?;
        let parameters = request.parameters.checksum.as_ref().map_or(json!({}), |sum| json!({ "checksum": sum }));
        Ok(Self { url, parameters: parameters.to_string(), directory })
    }
}

cooperage_sdk::plugin!(Archives: source);
