//! What users can set, and what it means for the core. It reveals no secret itself.

use cooperage_sdk::secrets::Secret;
use cooperage_sdk::{Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::clone::Wanted;
use crate::id::Id;
use crate::login;
use crate::place;
use crate::refs::Reference;

/// Files of a commit.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskParameters {
    /// The repository: an `http` or `https` URL.
    pub url: String,
    /// A branch, a tag, a full name such as `refs/pull/1/head`, or a commit id of 40 digits. Without it the commit of
    /// `commit`, or the repository's main branch.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// The full id of the commit that `ref` must stand for; the step fails if it is another one.
    pub commit: Option<String>,
    /// The directory of the repository that becomes the root of the tree.
    pub subdirectory: Option<String>,
    /// Whether the files of submodules are fetched, too.
    #[serde(default = "yes")]
    pub submodules: bool,
    /// Further places that submodules come from, as URLs such as `https://git.example`. Naming them here allows the
    /// step to reach them; credentials do not go there.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The name that goes with `password` or `token`.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// An access token; as name goes `username`, or `x-access-token`.
    pub token: Option<Secret>,
}

/// How a URL is fetched.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceParameters {
    /// The id of the commit that the URL must stand for, or how it begins.
    pub checksum: Option<String>,
    /// Whether the files of submodules are fetched, too.
    #[serde(default = "yes")]
    pub submodules: bool,
    /// Whether the directory `.git` is kept; only false can be had.
    #[serde(default)]
    pub keep_git_dir: bool,
}

fn yes() -> bool {
    true
}

impl TaskParameters {
    /// What is wanted.
    ///
    /// # Errors
    /// `invalid-input`, `unsupported` for another transport than HTTP.
    pub fn wanted(&self) -> Result<Wanted> {
        // That they stand among the parameters is what they are for; here it is only seen to that they are URLs.
        self.hosts.iter().try_for_each(|host| place::repository(host).map(drop))?;
        let commit: Option<Id> = self.commit.as_deref().map(str::parse).transpose()?;
        let reference = match (&self.reference, commit) {
            (None, Some(commit)) => Reference::Commit(commit),
            (reference, _) => Reference::parse(reference.as_deref().unwrap_or_default())?,
        };
        Ok(Wanted {
            url: place::repository(&self.url)?,
            reference,
            expected: commit.map(|commit| commit.to_string()),
            subdirectory: place::subdirectory(self.subdirectory.as_deref().unwrap_or_default())?,
            submodules: self.submodules,
        })
    }

    /// The header that proves who asks, if there are credentials.
    ///
    /// # Errors
    /// `invalid-input` for credentials that make no sense together, and those of `reveal`.
    pub fn header(&self, reveal: impl Fn(&str) -> Result<String>) -> Result<Option<String>> {
        let wrong = |why: &str| Err(Error::invalid_input(why));
        match (&self.username, &self.password, &self.token) {
            (None, None, None) => Ok(None),
            (_, Some(_), Some(_)) => wrong("there are both `password` and `token`"),
            (Some(user), _, _) if user.contains(':') => wrong("a `username` has no colon"),
            (Some(user), Some(secret), None) | (Some(user), None, Some(secret)) => {
                Ok(Some(login::basic(user, &reveal(&secret.secret)?)))
            }
            (None, None, Some(secret)) => Ok(Some(login::token(&reveal(&secret.secret)?))),
            (None, Some(_), None) => wrong("there is a `password` without `username`"),
            (Some(_), None, None) => wrong("there is a `username` without `password` or `token`"),
        }
    }
}

impl SourceParameters {
    /// What is wanted of the repository behind a URL.
    ///
    /// # Errors
    /// As for [`TaskParameters::wanted`].
    pub fn wanted(&self, url: &str) -> Result<Wanted> {
        if self.keep_git_dir {
            return Err(Error::unsupported("the directory .git cannot be kept")
                .because("the files of one commit are fetched, and no repository")
                .hint("leave `keep_git_dir` out, or clone with git itself in a RUN"));
        }
        let place = place::source(url)?;
        Ok(Wanted {
            url: place.url,
            reference: Reference::parse(&place.reference)?,
            expected: self.checksum()?,
            subdirectory: place.subdirectory,
            submodules: self.submodules,
        })
    }

    /// How the commit id must begin, in lower case.
    ///
    /// # Errors
    /// `invalid-input` for what is no beginning of an id.
    fn checksum(&self) -> Result<Option<String>> {
        let Some(text) = &self.checksum else { return Ok(None) };
        if !(7..=40).contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::invalid_input(format!("the checksum {text:?} is no commit id"))
                .hint("write the id of the commit, all 40 hexadecimal digits of it or at least the first seven"));
        }
        Ok(Some(text.to_ascii_lowercase()))
    }
}

/// What is asked for when a server wants to know who fetches a URL, by two of the names that BuildKit has for it. Its
/// names with a host at their end are not there: a plugin is granted secrets by names that it can say beforehand.
pub const SECRETS_OF_A_BUILD: [&str; 2] = [HEADER, TOKEN];
const HEADER: &str = "GIT_AUTH_HEADER";
const TOKEN: &str = "GIT_AUTH_TOKEN";

/// The header of a build, from the first of [`SECRETS_OF_A_BUILD`] that is there.
///
/// # Errors
/// Those of `reveal`.
pub fn header_of_a_build(reveal: impl Fn(&str) -> Result<Option<String>>) -> Result<Option<String>> {
    match reveal(HEADER)? {
        Some(header) => Ok(Some(header)),
        None => Ok(reveal(TOKEN)?.map(|token| login::token(&token))),
    }
}

#[cfg(test)]
mod tests {
    use cooperage_sdk::ErrorKind;
    use serde_json::{Value, json};

    use super::*;

    const ID: &str = "ce013625030ba8dba906f756967f9e9ca394464a";

    fn task(value: Value) -> TaskParameters {
        let mut all = json!({ "url": "https://git.example/a.git" });
        all.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn a_commit_alone_is_fetched_by_its_id() {
        let wanted = task(json!({})).wanted().unwrap();
        assert_eq!((wanted.reference, wanted.expected, wanted.submodules), (Reference::Head, None, true));
        let wanted = task(json!({ "commit": ID })).wanted().unwrap();
        assert_eq!(wanted.reference, Reference::Commit(ID.parse().unwrap()));
        let wanted = task(json!({ "commit": ID, "ref": "main", "subdirectory": "/a/b/" })).wanted().unwrap();
        assert_eq!(wanted.reference, Reference::Named("main".to_owned()));
        assert_eq!(wanted.expected.as_deref(), Some(ID));
        assert_eq!(wanted.subdirectory, ["a", "b"]);
        for wrong in [json!({ "commit": "ce01362" }), json!({ "ref": "a b" }), json!({ "subdirectory": "a/../.." })] {
            assert_eq!(task(wrong).wanted().unwrap_err().kind, ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn credentials() {
        let reveal = |name: &str| Ok(format!("the {name}"));
        let check = |value: Value| task(value).header(reveal);
        assert_eq!(check(json!({})).unwrap(), None);
        let given = check(json!({ "username": "alice", "password": { "secret": "PW" } })).unwrap();
        assert_eq!(given.unwrap(), login::basic("alice", "the PW"));
        assert_eq!(check(json!({ "token": { "secret": "T" } })).unwrap().unwrap(), login::token("the T"));
        let given = check(json!({ "username": "oauth2", "token": { "secret": "T" } })).unwrap();
        assert_eq!(given.unwrap(), login::basic("oauth2", "the T"));
        for wrong in [
            json!({ "username": "a" }),
            json!({ "password": { "secret": "P" } }),
            json!({ "username": "a:b", "password": { "secret": "P" } }),
            json!({ "username": "a", "password": { "secret": "P" }, "token": { "secret": "T" } }),
        ] {
            assert_eq!(check(wrong).unwrap_err().kind, ErrorKind::InvalidInput);
        }
        assert!(serde_json::from_value::<TaskParameters>(json!({ "url": "x", "token": "plain" })).is_err());
    }

    #[test]
    fn secrets_of_a_build() {
        let there = |present: &[&str]| {
            header_of_a_build(|name| {
                assert!(SECRETS_OF_A_BUILD.contains(&name), "{name} is not asked for, so it is never granted");
                Ok(present.contains(&name).then(|| format!("v {name}")))
            })
            .unwrap()
        };
        assert_eq!(there(&[]), None);
        assert_eq!(there(&["GIT_AUTH_TOKEN"]).unwrap(), login::token("v GIT_AUTH_TOKEN"));
        assert_eq!(there(&["GIT_AUTH_TOKEN", "GIT_AUTH_HEADER"]).unwrap(), "v GIT_AUTH_HEADER");
    }

    #[test]
    fn checksums() {
        let check = |text: &str| SourceParameters { checksum: Some(text.to_owned()), ..Default::default() }.checksum();
        assert_eq!(check("CE01362").unwrap().unwrap(), "ce01362");
        assert!(check(ID).is_ok());
        for wrong in ["", "ce0136", "sha256:aaaaaaaa", &format!("{ID}0")] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
        let kept = SourceParameters { keep_git_dir: true, ..Default::default() };
        assert_eq!(kept.wanted("https://git.example/a.git").unwrap_err().kind, ErrorKind::Unsupported);
    }
}
