//! The role `builder`: one build in the engine for each platform, and the images that come of it, as trees of the host.

use cooperage_sdk::prelude::*;
use cooperage_sdk::time::rfc3339;
use cooperage_sdk::{random, warn};
use serde_json::Value;

use crate::build::parameters::Parameters;
use crate::engine::{Engine, Request};
use crate::work::{Order, Work};
use crate::{guest, image};

/// Builds for all platforms that were asked for.
///
/// # Errors
/// Those of the context, of the engine, and of the build.
pub fn build(request: &BuildRequest<Parameters>) -> Result<Vec<Image>> {
    if request.wants_check() {
        // The engine's build is all that there is here, and that one has effects.
        return Ok(Vec::new());
    }
    let engine = Engine::connect(guest::edge())?;
    let BuildRequest { parameters, arguments, labels, epoch, .. } = request;
    let no_cache = parameters.no_cache || request.no_cache();
    let work = Work::prepare(&engine, Order { parameters, arguments, labels, epoch: *epoch, no_cache })?;
    request.platforms.iter().map(|platform| one(&engine, &work, request, platform)).collect()
}

fn one(engine: &Engine<'_>, work: &Work<'_>, request: &BuildRequest<Parameters>, platform: &Platform) -> Result<Image> {
    if request.parameters.keep != Some(false) {
        return handed_over(engine, &work.run(platform, &[])?, request.epoch, platform);
    }
    // An image that is not to stay is deleted by a name that only this build has given it: whoever else has named
    // the same image keeps it.
    let name = format!("cooperage-build:{:016x}", random());
    let built = work
        .run(platform, std::slice::from_ref(&name))
        .and_then(|id| handed_over(engine, &id, request.epoch, platform));
    let deleted = engine.send(Request::new("DELETE", format!("/images/{name}")));
    match deleted {
        Ok(answer) if answer.is_success() || built.is_err() => {}
        Ok(answer) => warn!("the image stays in the engine as {name}: it answers {}", answer.status),
        Err(error) => warn!("the image stays in the engine as {name}: {}", error.message),
    }
    built
}

/// An image of the engine as one of the host.
fn handed_over(engine: &Engine<'_>, id: &str, epoch: Option<u64>, platform: &Platform) -> Result<Image> {
    let fetched = image::fetch(engine, &image::inspect(engine, id)?)?;
    let config = fetched.portable_config(&rfc3339(epoch.unwrap_or(0)))?;
    Ok(Image {
        tree: Tree::layers(&fetched.layers)?,
        platform: platform_of(&config, platform)?,
        config: config.to_string(),
        annotations: Vec::new(),
    })
}

/// The platform that the image says it is for, which must be the one that was asked for.
fn platform_of(config: &Value, wanted: &Platform) -> Result<Platform> {
    let text = |key: &str| config[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let (os, architecture) = (text("os"), text("architecture"));
    let os = os.unwrap_or_else(|| wanted.os.clone());
    let architecture = architecture.unwrap_or_else(|| wanted.architecture.clone());
    if os != wanted.os || architecture != wanted.architecture {
        let wanted = format!("{}/{}", wanted.os, wanted.architecture);
        return Err(Error::conflict(format!(
            "the engine has built an image for {os}/{architecture} instead of {wanted}"
        ))
        .hint("use a base image that is there for the platform, and BuildKit"));
    }
    let variant = text("variant").or_else(|| wanted.variant.clone());
    Ok(Platform { os, architecture, variant })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms() {
        let wanted = Platform { os: "linux".into(), architecture: "arm64".into(), variant: None };
        let of = |config: Value| {
            platform_of(&config, &wanted).map(|platform| (platform.architecture, platform.variant)).ok()
        };
        assert_eq!(
            of(json!({ "os": "linux", "architecture": "arm64", "variant": "v8" })),
            Some(("arm64".into(), Some("v8".into())))
        );
        assert_eq!(of(json!({})), Some(("arm64".into(), None)));
        assert_eq!(of(json!({ "os": "linux", "architecture": "amd64" })), None);
    }
}
