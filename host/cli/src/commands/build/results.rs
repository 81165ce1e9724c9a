//! What a build says at its end: files for other programs, and lines for people.

use std::path::Path;

use cooperage_store::{Descriptor, Reference, Store, media_types};
use serde_json::json;

use super::Request;
use crate::args;
use crate::error::{Exit, Failure};
use crate::exports::Output;
use crate::output;

/// The files that other programs read.
pub(super) fn write(
    store: &Store,
    arguments: &args::Build,
    request: &Request,
    image: &Descriptor,
    pushed: &[String],
) -> Result<(), Failure> {
    let write = |path: &Path, text: String| {
        std::fs::write(path, text)
            .map_err(|error| Failure::new(Exit::Environment, format!("writing {}: {error}", path.display())))
    };
    let config = match media_types::is_index(&image.media_type) {
        true => image.digest,
        false => store.images().manifest(&image.digest)?.config.digest,
    };
    if let Some(path) = &arguments.iidfile {
        write(path, config.to_string())?;
    }
    if let Some(path) = &arguments.metadata_file {
        let names: Vec<String> = request.names.iter().map(Reference::to_string).collect();
        let metadata = json!({
            "containerimage.digest": image.digest,
            "containerimage.config.digest": config,
            "containerimage.descriptor": image,
            "image.name": names.join(","),
            "cooperage.pushed": pushed,
        });
        write(path, format!("{metadata:#}\n"))?;
    }
    Ok(())
}

/// For people.
pub(super) fn tell(request: &Request, image: Option<&Descriptor>, pushed: &[String]) -> Result<(), Failure> {
    if let Some(image) = image {
        output::line(&format!("built {}", image.digest))?;
    }
    for name in &request.names {
        output::line(&format!("named {}", name.familiar()))?;
    }
    for path in request.outputs.iter().filter_map(Output::path) {
        output::line(&format!("wrote {}", path.display()))?;
    }
    for reference in pushed {
        output::line(&format!("pushed {reference}"))?;
    }
    Ok(())
}
