//! The role `builder`: one build in the engine for each platform, and the images that come of it, as trees of the host.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use cooperage_sdk::prelude::*;
use cooperage_sdk::warn;
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
    let engine = Engine::connect(guest::edge())?;
    let BuildRequest { parameters, arguments, labels, epoch, .. } = request;
    let work = Work::prepare(&engine, Order { parameters, arguments, labels, epoch: *epoch })?;
    request.platforms.iter().map(|platform| one(&engine, &work, request, platform)).collect()
}

fn one(engine: &Engine<'_>, work: &Work<'_>, request: &BuildRequest<Parameters>, platform: &Platform) -> Result<Image> {
    if request.parameters.keep != Some(false) {
        return handed_over(engine, &work.run(platform, &[])?, request.epoch, platform);
    }
    // An image that is not to stay is deleted by a name that only this build has given it: whoever else has named
    // the same image keeps it.
    let name = format!("cooperage-build:{:016x}", RandomState::new().build_hasher().finish());
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
    let config = fetched.portable_config(&timestamp(epoch.unwrap_or(0)))?;
    Ok(Image {
        tree: Tree::layers(&fetched.layers)?,
        platform: platform_of(&config, platform)?,
        config: config.to_string(),
        annotations: Vec::new(),
    })
}

/// Seconds since 1970 in the form of RFC 3339. The calendar is Howard Hinnant's `civil_from_days`.
fn timestamp(seconds: u64) -> String {
    // The last second of the year 9999: the form has no room for more.
    let seconds = seconds.min(253_402_300_799);
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
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
    fn times() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(timestamp(seconds), expected);
        }
    }

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
