//! The role `builder`: one build in the engine for each platform, and the images that come of it, as trees of the host.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use cooperage_sdk::prelude::*;
use cooperage_sdk::warn;
use serde_json::Value;

use crate::build;
use crate::build::bases::{self, Bases};
use crate::build::choose::{Backend, Needs, choose, needs_buildkit};
use crate::build::classic::Text;
use crate::build::parameters::{Parameters, Secret};
use crate::build::request::{self, Plan};
use crate::context::{self, Recipe};
use crate::credentials::{Credential, Credentials};
use crate::edge::Payload;
use crate::engine::{Engine, Request};
use crate::guest::{self, Screen};
use crate::image;

/// Builds for all platforms that were asked for.
///
/// # Errors
/// Those of the context, of the engine, and of the build.
pub fn build(request: &BuildRequest<Parameters>) -> Result<Vec<Image>> {
    let parameters = &request.parameters;
    request::check(parameters)?;
    let recipe = context::find(parameters)?;
    let engine = Engine::connect(guest::edge())?;
    let needs = Needs {
        secrets: !parameters.secrets.is_empty(),
        hidden: recipe.hidden(),
        syntax: needs_buildkit(&recipe.text),
    };
    let choice = choose(parameters.builder, engine.traits(), &needs)?;
    let with = match choice.backend {
        Backend::Classic => "the classic builder of ",
        Backend::BuildKit => "BuildKit of ",
        Backend::Podman => "",
    };
    info!("building with {with}{}: {}", engine.traits().name, choice.why);
    if let Some(warning) = &choice.warning {
        warn!("{warning}");
    }
    let mut credentials = Credentials::default();
    for one in &parameters.registry_auth {
        credentials.add(Credential::new(&one.host, &one.username, text_of(&one.password.secret)?));
    }
    let reveal = |(id, value): (&String, &Secret)| Ok((id.clone(), secrets::reveal(&value.secret)?));
    let secrets = parameters.secrets.iter().map(reveal).collect::<Result<Vec<_>>>()?;
    let work = Work { engine: &engine, request, recipe: &recipe, backend: choice.backend, credentials, secrets };
    request.platforms.iter().map(|platform| work.build(platform)).collect()
}

/// A secret that is text.
///
/// # Errors
/// `not-found` if the user has supplied none of that name.
pub fn text_of(name: &str) -> Result<String> {
    let text = String::from_utf8(secrets::reveal(name)?);
    let text = text.map_err(|_| Error::invalid_input(format!("secret {name} is not text")))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

struct Work<'a> {
    engine: &'a Engine<'a>,
    request: &'a BuildRequest<Parameters>,
    recipe: &'a Recipe,
    backend: Backend,
    credentials: Credentials,
    secrets: Vec<(String, Vec<u8>)>,
}

impl Work<'_> {
    fn build(&self, platform: &Platform) -> Result<Image> {
        if self.request.parameters.keep != Some(false) {
            return self.image(platform, &[]);
        }
        // An image that is not to stay is deleted by a name that only this build has given it: whoever else has named
        // the same image keeps it.
        let name = format!("cooperage-build:{:016x}", RandomState::new().build_hasher().finish());
        let built = self.image(platform, std::slice::from_ref(&name));
        let deleted = self.engine.send(Request::new("DELETE", format!("/images/{name}")));
        match deleted {
            Ok(answer) if answer.is_success() || built.is_err() => {}
            Ok(answer) => warn!("the image stays in the engine as {name}: it answers {}", answer.status),
            Err(error) => warn!("the image stays in the engine as {name}: {}", error.message),
        }
        built
    }

    fn image(&self, platform: &Platform, tags: &[String]) -> Result<Image> {
        let id = self.run(platform, tags)?;
        let fetched = image::fetch(self.engine, &image::inspect(self.engine, &id)?)?;
        let config = fetched.portable_config(&timestamp(self.request.epoch.unwrap_or(0)))?;
        Ok(Image {
            tree: Tree::layers(&fetched.layers)?,
            platform: platform_of(&config, platform)?,
            config: config.to_string(),
            annotations: Vec::new(),
        })
    }

    /// The identity of the image that the engine built.
    fn run(&self, platform: &Platform, tags: &[String]) -> Result<String> {
        let refresh = self.request.parameters.pull;
        let mut begin = |pull| self.begin(platform, tags, pull);
        let mut screen = Screen::default();
        if self.backend == Backend::BuildKit {
            let bases =
                Bases { credentials: &self.credentials, platform: request::foreign(self.engine, platform), refresh };
            return bases::build(self.engine, &bases, &mut begin, &mut screen);
        }
        let (request, context) = begin(refresh)?;
        build::run(self.engine, request, context, &mut Text::default(), &mut screen)
    }

    fn begin(&self, platform: &Platform, tags: &[String], pull: bool) -> Result<(Request, Payload)> {
        let files: Vec<_> = self.secrets.iter().map(|(id, _)| (id.clone(), context::secret_file(id))).collect();
        let plan = Plan {
            parameters: &self.request.parameters,
            backend: self.backend,
            dockerfile: &self.recipe.dockerfile,
            platform,
            arguments: &self.request.arguments,
            labels: &self.request.labels,
            epoch: self.request.epoch,
            tags,
            credentials: &self.credentials,
            pull,
            secrets: &files,
        };
        Ok((request::request(self.engine, &plan)?, self.recipe.pack(self.backend, &self.secrets)?))
    }
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
