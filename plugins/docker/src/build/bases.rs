//! Base images for BuildKit. Without a session BuildKit can answer no registry that wants a login, and most want one even
//! of those who may read everything. So, when a build fails for that, the engine pulls the images by itself, which plain
//! requests can ask of it, and the build begins again: BuildKit takes an image that the engine has.

use std::collections::BTreeSet;

use cooperage_sdk::events::Step;
use cooperage_sdk::{Error, ErrorKind, Result, info};

use super::buildkit::Trace;
use super::run;
use crate::credentials::Credentials;
use crate::edge::{Payload, Show};
use crate::engine::{Engine, Request};
use crate::lines::{Records, Transfers};
use crate::{faults, image, names};

/// How base images are pulled.
pub struct Bases<'a> {
    /// For whom.
    pub credentials: &'a Credentials,
    /// For which platform, unless it is the engine's own.
    pub platform: Option<String>,
    /// Whether to look for newer ones.
    pub refresh: bool,
}

/// Builds with BuildKit. `begin` makes the request and the context; it is told whether BuildKit is to look for newer
/// base images.
///
/// # Errors
/// Why the build failed, or why a base image cannot be pulled.
pub fn build(
    engine: &Engine<'_>,
    bases: &Bases<'_>,
    begin: &mut dyn FnMut(bool) -> Result<(Request, Payload)>,
    show: &mut dyn Show,
) -> Result<String> {
    let mut tried = BTreeSet::new();
    loop {
        let (request, context) = begin(bases.refresh && tried.is_empty())?;
        let mut trace = Trace::default();
        let error = match run(engine, request, context, &mut trace, show) {
            Err(error) if lacks_session(&error) => error,
            other => return other,
        };
        let mut new = Vec::new();
        for name in trace.sources().filter(|name| tried.insert((*name).to_owned())) {
            // The engine may have the name for its own platform: only pulling shows what it has for another one.
            if bases.refresh || bases.platform.is_some() || is_missing(engine, name)? {
                new.push(name);
            }
        }
        if new.is_empty() {
            return Err(error.hint(
                "BuildKit wants a session for this, which plain requests cannot give; `builder: classic` does without",
            ));
        }
        info!(
            "BuildKit cannot log in to registries without a session: the engine pulls the base images, and the build begins again"
        );
        for name in new {
            pull(engine, name, bases)?;
        }
    }
}

fn lacks_session(error: &Error) -> bool {
    error.context.iter().any(|cause| cause.contains("no active session"))
}

fn is_missing(engine: &Engine<'_>, name: &str) -> Result<bool> {
    match image::inspect(engine, name) {
        Ok(_) => Ok(false),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Lets the engine pull an image.
///
/// # Errors
/// Those of the registry, as far as the engine passes them on.
pub fn pull(engine: &Engine<'_>, name: &str, bases: &Bases<'_>) -> Result<()> {
    let what = format!("the engine cannot pull {name}");
    let (repository, tag) = match name.split_once('@') {
        // A name may have both; the digest is what counts.
        Some((tagged, digest)) => (names::split(tagged)?.0, digest),
        None => names::split(name)?,
    };
    let request = Request::post("/images/create")
        .with("fromImage", repository)
        .with("tag", tag)
        .with_all(bases.platform.clone().map(|platform| ("platform", platform)))
        .hidden("x-registry-auth", &bases.credentials.of_image(repository))
        .patient();
    let mut records = Records::new(faults::expect(engine.send(request)?, &what)?.body);
    Step::new(format!("pull {name}")).run(|step| {
        let mut transfers = Transfers::default();
        records.follow(&what, |record| {
            if record.status.as_deref() == Some("Downloading") {
                transfers.show(record, step);
            }
            Ok(())
        })
    })
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use prost::Message;

    use super::*;
    use crate::build::buildkit::{StatusResponse, Timestamp, Vertex};
    use crate::credentials::Credential;
    use crate::testing::{Script, digest};

    fn metadata(name: &str) -> String {
        let vertexes = vec![Vertex {
            digest: name.into(),
            name: format!("[internal] load metadata for {name}"),
            started: Some(Timestamp { seconds: 1 }),
            ..Vertex::default()
        }];
        let status = StatusResponse { vertexes, ..StatusResponse::default() };
        format!("{{\"id\":\"moby.buildkit.trace\",\"aux\":\"{}\"}}\n", STANDARD.encode(status.encode_to_vec()))
    }

    fn built(script: &Script, refresh: bool) -> Result<String> {
        built_for(None, script, refresh)
    }

    fn built_for(platform: Option<&str>, script: &Script, refresh: bool) -> Result<String> {
        let engine = Engine::connect(script.edge())?;
        let mut credentials = Credentials::default();
        credentials.add(Credential::new("r.example", "alice", "pw".to_owned()));
        let bases = Bases { credentials: &credentials, platform: platform.map(str::to_owned), refresh };
        let mut count = 0;
        let mut begin = |pull: bool| {
            count += 1;
            Ok((Request::post("/build").with("n", count.to_string()).with("pull", pull.to_string()), Payload::Empty))
        };
        build(&engine, &bases, &mut begin, &mut Vec::new())
    }

    #[test]
    fn what_needs_a_login_is_pulled_by_the_engine() {
        let names = [
            metadata("r.example/a:1"),
            metadata("docker.io/library/b:2@sha256:00"),
            metadata("docker.io/library/here:1"),
        ]
        .concat();
        let failed = format!("{names}{{\"error\":\"failed to solve: no active sessions\"}}");
        let here = format!("{{\"Id\":\"{}\"}}", digest(b"here"));
        let script = |refresh: &str| {
            Script::engine()
                .answers(&format!("POST /v1.41/build?n=1&pull={refresh}"), 200, &[], &failed)
                .answers(
                    "POST /v1.41/build?n=2&pull=false",
                    200,
                    &[],
                    r#"{"id":"moby.image.id","aux":{"ID":"sha256:00"}}"#,
                )
                .answers("GET /v1.41/images/r.example/a:1/json", 404, &[], "")
                .answers("GET /v1.41/images/docker.io/library/b:2@sha256:00/json", 404, &[], "")
                .answers("GET /v1.41/images/docker.io/library/here:1/json", 200, &[], &here)
                .answers(
                    "POST /v1.41/images/create?fromImage=r.example%2Fa&tag=1",
                    200,
                    &[],
                    r#"{"status":"Downloading","id":"x","progressDetail":{"current":1,"total":2}}"#,
                )
                .answers("POST /v1.41/images/create?fromImage=docker.io%2Flibrary%2Fb&tag=sha256%3A00", 200, &[], "")
                .answers("POST /v1.41/images/create?fromImage=docker.io%2Flibrary%2Fhere&tag=1", 200, &[], "")
        };
        let pulls = |script: &Script| script.requests().iter().filter(|request| request.contains("create")).count();
        let lazy = script("false");
        assert_eq!(built(&lazy, false).unwrap(), "sha256:00");
        assert_eq!(pulls(&lazy), 2);
        let eager = script("true");
        assert_eq!(built(&eager, true).unwrap(), "sha256:00");
        assert_eq!(pulls(&eager), 3);
    }

    #[test]
    fn what_the_engine_has_for_itself_is_pulled_for_another_platform() {
        let failed = format!("{}{{\"error\":\"no active sessions\"}}", metadata("docker.io/library/here:1"));
        let here = format!("{{\"Id\":\"{}\"}}", digest(b"here"));
        let pull = "POST /v1.41/images/create?fromImage=docker.io%2Flibrary%2Fhere&tag=1&platform=linux%2Farm64";
        let script = Script::engine()
            .answers("POST /v1.41/build?n=1&pull=false", 200, &[], &failed)
            .answers("GET /v1.41/images/docker.io/library/here:1/json", 200, &[], &here)
            .answers(pull, 200, &[], "")
            .answers(
                "POST /v1.41/build?n=2&pull=false",
                200,
                &[],
                r#"{"id":"moby.image.id","aux":{"ID":"sha256:00"}}"#,
            );
        assert_eq!(built_for(Some("linux/arm64"), &script, false).unwrap(), "sha256:00");
        assert!(script.requests().iter().any(|request| request == pull));
        // For its own platform it has all that pulling could bring, so building again would change nothing.
        let error = built(&script, false).unwrap_err();
        assert!(error.hint.unwrap().contains("session"));
        assert_eq!(script.requests().iter().filter(|request| request.contains("n=2")).count(), 1);
    }

    #[test]
    fn it_ends_when_nothing_is_left_to_pull() {
        let failed = r#"{"error":"secrets: no active sessions"}"#;
        let script = Script::engine().answers("POST /v1.41/build?n=1&pull=false", 200, &[], failed);
        let error = built(&script, false).unwrap_err();
        assert!(error.hint.unwrap().contains("session"));
        let failed = format!("{}{{\"error\":\"no active sessions\"}}", metadata("r.example/a:1"));
        let script = Script::engine()
            .answers("POST /v1.41/build?n=1&pull=false", 200, &[], failed)
            .answers("GET /v1.41/images/r.example/a:1/json", 404, &[], "")
            .answers(
                "POST /v1.41/images/create?fromImage=r.example%2Fa&tag=1",
                200,
                &[],
                r#"{"error":"unauthorized: no"}"#,
            );
        let error = built(&script, false).unwrap_err();
        assert_eq!(
            (error.kind, error.message.as_str()),
            (ErrorKind::Unauthenticated, "the engine cannot pull r.example/a:1")
        );
    }
}
