//! What a step may ask for: one action on one server. It checks what the schema cannot say, and does nothing.

use cooperage_sdk::secrets::Secret;
use cooperage_sdk::{Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::client::session::Mode;
use crate::paths;
use crate::server::{Access, Tls};

/// A server, and exactly one of the actions `upload`, `download`, `list`, `delete`, `mirror`, `rename`,
/// `make_directory`. Paths on the server are relative to the directory of the URL.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Server and directory: `ftp://host/directory`, `ftpes://` for explicit and `ftps://` for implicit TLS.
    pub url: String,
    /// User name; that of the URL, or `anonymous`, by default.
    pub username: Option<String>,
    /// The password, as the name of a secret.
    pub password: Option<Secret>,
    /// How the connection is protected; by default what the scheme says, and for `ftp` not at all.
    pub tls: Option<Tls>,
    /// Sends files of the input.
    pub upload: Option<Upload>,
    /// Brings a file or a directory; it becomes the tree of the step.
    pub download: Option<Download>,
    /// Lists a directory; the empty path is that of the URL.
    pub list: Option<String>,
    /// Removes a file or a directory.
    pub delete: Option<Delete>,
    /// Makes a directory the same as the input.
    pub mirror: Option<Mirror>,
    /// Gives a file or directory another path, replacing a file that has it.
    pub rename: Option<Rename>,
    /// Makes a directory and those that it lies in; one that is there stays as it is.
    pub make_directory: Option<String>,
    /// `binary`, or `ascii` to have line ends converted.
    #[serde(default)]
    pub mode: Mode,
    /// Continue what an earlier run left of the same files; not with `ascii`, nor with `atomic: false`.
    #[serde(default)]
    pub resume: bool,
    /// Send files under a temporary name first, so that nobody sees half of one.
    #[serde(default = "yes")]
    pub atomic: bool,
    /// Octal permissions for what is sent, set with `SITE CHMOD`.
    pub permissions: Option<String>,
    /// Seconds without a byte after which a read or a write has failed; 60 by default.
    pub timeout: Option<u32>,
    /// How often to try again what broke; 3 by default. Deleting and renaming are never tried again.
    pub retries: Option<u32>,
}

fn yes() -> bool {
    true
}

/// Sends files.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    /// A file or directory of the input; all of it by default.
    #[serde(default = "root")]
    pub from: String,
    /// Where it goes. For a file, a path that ends in a slash is the directory that gets it; for a directory it is
    /// the directory that gets its contents.
    #[serde(default)]
    pub to: String,
}

fn root() -> String {
    "/".to_owned()
}

/// Brings files.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// A file, or a directory with all that it has.
    #[serde(default)]
    pub from: String,
    /// Its path in the tree; by default a file keeps its name, and the contents of a directory lie at the root.
    pub to: Option<String>,
}

/// Removes something.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// What.
    pub path: String,
    /// A directory with all that it has; otherwise only an empty one is removed.
    #[serde(default)]
    pub recursive: bool,
}

/// Makes a directory the same as the input.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// A directory of the input; all of it by default.
    #[serde(default = "root")]
    pub from: String,
    /// The directory on the server.
    #[serde(default)]
    pub to: String,
    /// Also remove what the input does not have.
    #[serde(default)]
    pub delete: bool,
}

/// Gives another path.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// From this one.
    pub from: String,
    /// To this one.
    pub to: String,
}

/// The one thing to do.
#[derive(Debug, Clone, Copy)]
pub enum Action<'p> {
    /// Sends files.
    Upload(&'p Upload),
    /// Brings files.
    Download(&'p Download),
    /// Lists a directory.
    List(&'p str),
    /// Removes something.
    Delete(&'p Delete),
    /// Makes a directory the same as the input.
    Mirror(&'p Mirror),
    /// Gives another path.
    Rename(&'p Rename),
    /// Makes a directory.
    MakeDirectory(&'p str),
}

impl Parameters {
    /// How to reach the server.
    #[must_use]
    pub fn access(&self) -> Access<'_> {
        Access {
            username: self.username.as_deref(),
            password: self.password.as_ref(),
            tls: self.tls,
            timeout: self.timeout,
            retries: self.retries,
        }
    }

    /// The action, with its paths checked.
    ///
    /// # Errors
    /// `invalid-input` unless there is exactly one, and for paths that lead elsewhere.
    pub fn action(&self) -> Result<Action<'_>> {
        let wanted: Vec<Action> = [
            self.upload.as_ref().map(Action::Upload),
            self.download.as_ref().map(Action::Download),
            self.list.as_deref().map(Action::List),
            self.delete.as_ref().map(Action::Delete),
            self.mirror.as_ref().map(Action::Mirror),
            self.rename.as_ref().map(Action::Rename),
            self.make_directory.as_deref().map(Action::MakeDirectory),
        ]
        .into_iter()
        .flatten()
        .collect();
        let [action] = wanted[..] else {
            let many = if wanted.is_empty() { "no action" } else { "more than one action" };
            return Err(Error::invalid_input(format!("the step has {many}"))
                .hint("give one of `upload`, `download`, `list`, `delete`, `mirror`, `rename` and `make_directory`"));
        };
        self.check(action)?;
        Ok(action)
    }

    fn check(&self, action: Action) -> Result<()> {
        for path in action.paths() {
            paths::check_parameter(path)?;
        }
        let named = |path: &str| !path.split('/').all(|part| matches!(part, "" | "."));
        let needed = match action {
            Action::Delete(delete) => vec![&delete.path],
            Action::Rename(rename) => vec![&rename.from, &rename.to],
            _ => Vec::new(),
        };
        if needed.into_iter().any(|path| !named(path)) {
            return Err(Error::invalid_input("the path of what to delete or rename is empty"));
        }
        if let Some(octal) = &self.permissions
            && !(3..=4).contains(&octal.len()) | octal.bytes().any(|byte| !(b'0'..=b'7').contains(&byte))
        {
            return Err(Error::invalid_input(format!(
                "`permissions` is {octal:?}, and not an octal number as \"0644\""
            )));
        }
        if self.resume && self.mode == Mode::Ascii {
            return Err(Error::invalid_input(
                "`resume` needs `mode: binary`: text has no place that both sides count alike",
            ));
        }
        if self.resume && !self.atomic {
            return Err(Error::invalid_input(
                "`resume` needs `atomic: true`: what has the file's own name may be part of another file",
            ));
        }
        Ok(())
    }
}

impl Action<'_> {
    /// Its paths on the server.
    fn paths(&self) -> Vec<&str> {
        match self {
            Self::Upload(upload) => vec![&upload.to],
            Self::Download(download) => vec![&download.from],
            Self::List(path) | Self::MakeDirectory(path) => vec![path],
            Self::Delete(delete) => vec![&delete.path],
            Self::Mirror(mirror) => vec![&mirror.to],
            Self::Rename(rename) => vec![&rename.from, &rename.to],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: Result<(), &str>) {
        let parameters: Parameters = serde_json::from_str(json).unwrap();
        match (parameters.action(), expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.message.contains(part), "{json}: {}", error.message),
            (found, _) => panic!("{json}: {found:?}"),
        }
    }

    #[test]
    fn one_action_with_sound_paths() {
        check(r#"{"url":"ftp://a","list":""}"#, Ok(()));
        check(r#"{"url":"ftp://a","upload":{}}"#, Ok(()));
        check(r#"{"url":"ftp://a"}"#, Err("no action"));
        check(r#"{"url":"ftp://a","list":"","mirror":{}}"#, Err("more than one"));
        check(r#"{"url":"ftp://a","list":"../x"}"#, Err("`..`"));
        check(r#"{"url":"ftp://a","list":"/etc"}"#, Err("absolute"));
        check(r#"{"url":"ftp://a","delete":{"path":"x\r\nDELE y"}}"#, Err("contains"));
        check(r#"{"url":"ftp://a","delete":{"path":"./"}}"#, Err("empty"));
        check(r#"{"url":"ftp://a","rename":{"from":"a","to":""}}"#, Err("empty"));
        check(r#"{"url":"ftp://a","upload":{},"permissions":"0644"}"#, Ok(()));
        check(r#"{"url":"ftp://a","upload":{},"permissions":"0644 /etc/x\r\n"}"#, Err("octal"));
        check(r#"{"url":"ftp://a","upload":{},"permissions":"rw"}"#, Err("octal"));
        check(r#"{"url":"ftp://a","upload":{},"mode":"ascii","resume":true}"#, Err("resume"));
        check(r#"{"url":"ftp://a","upload":{},"atomic":false,"resume":true}"#, Err("resume"));
        check(r#"{"url":"ftp://a","upload":{},"atomic":false}"#, Ok(()));
    }

    #[test]
    fn passwords_are_named_only() {
        assert!(serde_json::from_str::<Parameters>(r#"{"url":"ftp://a","list":"","password":"p"}"#).is_err());
    }
}
