//! The role `task`: what a flow lets the engine itself do with its images: log in, build, tag, push.

use cooperage_sdk::events::Step;
use cooperage_sdk::names::is_digest;
use cooperage_sdk::secrets::Secret;
use cooperage_sdk::{Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::build;
use crate::build::parameters::Login;
use crate::credentials::Credential;
use crate::engine::{Engine, Request};
use crate::lines::{Records, Transfers};
use crate::{faults, names};

/// What the engine does, in this order.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Parameters {
    /// Credentials that the engine proves against their registries. It keeps none of them.
    pub login: Vec<Login>,
    /// Builds an image, which stays in the engine and nowhere else. `keep` has no meaning here.
    pub build: Option<build::parameters::Parameters>,
    /// Gives an image of the engine another name.
    pub tag: Option<Tag>,
    /// Lets the engine push an image to a registry.
    pub push: Option<Push>,
}

/// Gives an image of the engine another name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tag {
    /// The image, by a name or digest that the engine knows.
    pub image: String,
    /// The new name.
    pub name: String,
}

/// Lets the engine push an image to a registry.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Push {
    /// The image, by a name or digest that the engine knows.
    pub image: String,
    /// The name it gets in the engine and at the registry; its own by default.
    pub to: Option<String>,
    /// Who pushes.
    pub auth: Option<Auth>,
}

/// Who pushes.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// User name.
    pub username: String,
    /// The password or token.
    pub password: Secret,
}

/// What a push came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The name with its tag.
    pub name: String,
    /// The digest of the manifest, if the engine says it.
    pub digest: Option<String>,
}

impl Parameters {
    /// # Errors
    /// `invalid-input` if there is nothing to do.
    pub fn check(&self) -> Result<()> {
        if self.login.is_empty() && self.build.is_none() && self.tag.is_none() && self.push.is_none() {
            return Err(Error::invalid_input("there is nothing to do").hint("say `login`, `build`, `tag` or `push`"));
        }
        Ok(())
    }
}

/// Lets the engine prove a credential.
///
/// # Errors
/// `unauthenticated` if the registry refuses it.
pub fn login(engine: &Engine<'_>, host: &str, auth: &Credential) -> Result<()> {
    let answer = engine.send(Request::post("/auth").json(auth))?;
    match faults::expect(answer, &format!("cannot log in to {host}")) {
        Err(error) if error.kind == cooperage_sdk::ErrorKind::Unauthenticated => {
            Err(error.hint("see that user name and password are right"))
        }
        other => other.map(drop),
    }
}

/// Gives an image another name.
///
/// # Errors
/// `not-found` if the engine has no such image.
pub fn tag(engine: &Engine<'_>, image: &str, name: &str) -> Result<()> {
    let (repository, tag) = names::split(name)?;
    let path = format!("/images/{}/tag", names::check(image)?);
    let answer = engine.send(Request::post(path).with("repo", repository).with("tag", tag))?;
    faults::expect(answer, &format!("cannot name {image} {name}")).map(drop)
}

/// Pushes an image under a name that the engine has.
///
/// # Errors
/// Those of the registry, as far as the engine passes them on.
pub fn push(engine: &Engine<'_>, name: &str, auth: &Credential) -> Result<Pushed> {
    let (repository, tag) = names::split(name)?;
    let what = format!("cannot push {name}");
    let path = format!("/images/{repository}/push");
    let request = Request::post(path).with("tag", tag).hidden("x-registry-auth", auth).patient();
    let mut records = Records::new(faults::expect(engine.send(request)?, &what)?.body);
    Step::new(format!("push {name}")).run(|step| {
        let (mut transfers, mut digest) = (Transfers::default(), None);
        records.follow(&what, |record| {
            transfers.show(record, step);
            let said = record.status.as_deref().filter(|_| record.id.is_none());
            let found = || record.aux.as_ref().and_then(from_aux).or_else(|| said.and_then(from_words));
            digest = digest.take().or_else(found);
            Ok(())
        })?;
        Ok(Pushed { name: format!("{repository}:{tag}"), digest })
    })
}

fn from_aux(aux: &Value) -> Option<String> {
    aux.get("Digest")?.as_str().filter(|digest| is_digest(digest)).map(str::to_owned)
}

/// `1: digest: sha256:... size: 1234`, which is all that some versions of Podman say.
fn from_words(status: &str) -> Option<String> {
    let (_, rest) = status.split_once("digest: ")?;
    rest.split_whitespace().next().filter(|digest| is_digest(digest)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE;
    use cooperage_sdk::ErrorKind;

    use super::*;
    use crate::testing::{Script, digest};

    #[test]
    fn pushes_give_the_digest() {
        let some = digest(b"x");
        for (said, expected) in [
            (
                format!(
                    r#"{{"status":"Pushing","id":"a","progressDetail":{{"current":1,"total":2}}}}{}{{"progressDetail":{{}},"aux":{{"Tag":"1","Digest":"{some}","Size":5}}}}"#,
                    '\n'
                ),
                Some(&some),
            ),
            (format!(r#"{{"status":"1: digest: {some} size: 524"}}"#), Some(&some)),
            (r#"{"status":"1: digest: sha256:short size: 5"}"#.to_owned(), None),
            (String::new(), None),
        ] {
            let script = Script::engine().answers("POST /v1.41/images/localhost:5000/a/push?tag=1", 200, &[], &said);
            let engine = Engine::connect(script.edge()).unwrap();
            let pushed = push(&engine, "localhost:5000/a:1", &Credential::default()).unwrap();
            assert_eq!(pushed.digest.as_ref(), expected, "{said}");
        }
        let said = r#"{"errorDetail":{"message":"unauthorized: authentication required"},"error":"unauthorized: authentication required"}"#;
        let script = Script::engine().answers("POST /v1.41/images/a/push?tag=latest", 200, &[], said);
        let error = push(&Engine::connect(script.edge()).unwrap(), "a", &Credential::default()).unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Unauthenticated, "cannot push a"));
    }

    #[test]
    fn names_and_logins() {
        let script = Script::engine()
            .answers("POST /v1.41/images/sha256:00/tag?repo=r.example%2Fb&tag=2", 201, &[], "")
            .answers(
                "POST /v1.41/auth",
                500,
                &[],
                r#"{"message":"Get x: unauthorized: incorrect username or password"}"#,
            );
        let engine = Engine::connect(script.edge()).unwrap();
        tag(&engine, "sha256:00", "r.example/b:2").unwrap();
        assert!(tag(&engine, "a?b", "c").is_err() && tag(&engine, "a", "c@sha256:00").is_err());
        let credential = Credential::new("docker.io", "alice", "pw".to_owned());
        let error = login(&engine, "docker.io", &credential).unwrap_err();
        assert_eq!(
            (error.kind, error.hint.as_deref()),
            (ErrorKind::Unauthenticated, Some("see that user name and password are right"))
        );
        let seen = script.seen.borrow();
        let sent = String::from_utf8_lossy(&seen.last().unwrap().1).into_owned();
        assert_eq!(sent, r#"{"username":"alice","password":"pw","serveraddress":"https://index.docker.io/v1/"}"#);
        // Engines decode the header with the alphabet for URLs, and with padding.
        assert_eq!(URL_SAFE.encode(serde_json::to_vec(&Credential::default()).unwrap()), "e30=");
    }

    #[test]
    fn nothing_to_do_is_a_mistake() {
        assert!(Parameters::default().check().is_err());
        let parameters = |json: &str| serde_json::from_str::<Parameters>(json);
        assert!(parameters(r#"{"push":{"image":"a"}}"#).unwrap().check().is_ok());
        assert!(parameters(r#"{"login":[{"host":"h","username":"u","password":"plain"}]}"#).is_err());
    }
}
