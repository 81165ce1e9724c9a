//! Pushes an image of the host's store to a registry, as a step of a flow. Routing, credentials and transfer are the host's.

use cooperage_sdk::prelude::*;

/// An image, and the names it gets.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// The image: a local name, or `sha256:...` of a manifest or index.
    image: String,
    /// The reference to push to; the image's own name if it is left out.
    to: Option<String>,
    /// Further tags for the same repository.
    #[serde(default)]
    tags: Vec<String>,
}

struct Push;

impl Plugin for Push {
    fn describe() -> Description {
        Description::new("push", env!("CARGO_PKG_VERSION"), "Pushes an image to a registry")
            .annotation("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE"))
            .asks(Capability::registries(["push"], "to push the image that the flow names"))
    }
}

impl Task for Push {
    type Parameters = Parameters;

    fn run(request: TaskRequest<Parameters>) -> Result<Outputs> {
        let Parameters { image, to, tags } = request.parameters;
        let first = to.unwrap_or_else(|| image.clone());
        let repository = repository(&first)?.to_owned();
        let pushed = registries::push(&image, &first, &[])?;
        for tag in tags {
            registries::push(&image, &format!("{repository}:{tag}"), &[])?;
        }
        let reference = format!("{repository}@{}", pushed.digest);
        info!("{first} is {}", pushed.digest);
        Ok(Outputs::new().value("reference", reference).value("digest", pushed.digest))
    }
}

/// A reference without its tag or digest.
fn repository(reference: &str) -> Result<&str> {
    let name = reference.split('@').next().unwrap_or_default();
    // A colon before the last slash belongs to a port, and a bare digest names no repository.
    let name = match name.rfind(':') {
        Some(colon) if !name[colon..].contains('/') => &name[..colon],
        _ => name,
    };
    if name.is_empty() || (name == "sha256" && !reference.contains('@')) {
        return Err(Error::invalid_input(format!("{reference} says what to push, but not where"))
            .hint("add `to: REGISTRY/NAME:TAG`"));
    }
    Ok(name)
}

cooperage_sdk::plugin!(Push: task);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories() {
        for (reference, expected) in [
            ("app", Some("app")),
            ("team/app:1", Some("team/app")),
            ("localhost:5000/app", Some("localhost:5000/app")),
            ("localhost:5000/app:1@sha256:00", Some("localhost:5000/app")),
            ("sha256:00", None),
            ("", None),
        ] {
            assert_eq!(repository(reference).ok(), expected, "{reference}");
        }
    }
}
