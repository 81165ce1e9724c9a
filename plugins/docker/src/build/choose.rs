//! Which builder does the work, and why: that is said in the log. Knows what engines can do, not how they are asked.

use cooperage_sdk::{Error, Result};

use super::parameters::Wanted;
use crate::engine::{Traits, Version};

/// The first version whose engine always has BuildKit (Docker 18.09).
const WITH_BUILDKIT: Version = Version { major: 1, minor: 39 };
/// Older ones would leave the secrets of a build in its context.
const PODMAN_WITH_SECRETS: u32 = 4;

/// A builder of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Docker's first one.
    Classic,
    /// Docker's second one. It asks for the context over a session, or else gets it as an archive.
    BuildKit {
        /// Whether there is one.
        session: bool,
    },
    /// Podman has one only, and it is not Docker's.
    Podman,
}

/// What a build asks for that not every builder can do.
#[derive(Debug, Clone, Default)]
pub struct Needs {
    /// Secrets for RUN.
    pub secrets: bool,
    /// Why the Dockerfile is not to be seen in the context, if it is not.
    pub hidden: Option<&'static str>,
    /// Something in the Dockerfile that only BuildKit knows.
    pub syntax: Option<String>,
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Who builds.
    pub backend: Backend,
    /// Why, for the log.
    pub why: String,
    /// What the user should know.
    pub warning: Option<String>,
}

/// Whether a session with the engine would be of use.
#[must_use]
pub fn wants_session(wanted: Wanted, engine: &Traits) -> bool {
    wanted != Wanted::Classic && engine.podman.is_none() && lacks_buildkit(engine).is_none()
}

fn lacks_buildkit(engine: &Traits) -> Option<String> {
    if engine.api < WITH_BUILDKIT {
        Some(format!("the engine speaks version {} of the API, and BuildKit begins with {WITH_BUILDKIT}", engine.api))
    } else if engine.os != "linux" {
        Some(format!("BuildKit is not there for {}", engine.os))
    } else {
        None
    }
}

/// Decides. `no_session` says why there is no session, if there is none.
///
/// # Errors
/// `unsupported` if no builder of this engine can do it.
pub fn choose(wanted: Wanted, engine: &Traits, needs: &Needs, no_session: Option<&str>) -> Result<Choice> {
    if let Some(major) = engine.podman {
        return podman(wanted, major, needs);
    }
    if wants_session(wanted, engine) && no_session.is_none() {
        let why = "it is there, and asks for what it needs over a session".to_owned();
        return Ok(Choice { backend: Backend::BuildKit { session: true }, why, warning: None });
    }
    if needs.secrets {
        let why = no_session.map_or("only BuildKit has sessions", |reason| reason);
        return Err(Error::unsupported("Docker engines take the secrets of a build only over a session")
            .because(why)
            .hint("leave `builder` out, or build with `uses: dockerfile`"));
    }
    match (wanted, lacks_buildkit(engine)) {
        (Wanted::Classic, _) => Ok(plain(Backend::Classic, "it was asked for")),
        (Wanted::Buildkit, Some(reason)) => Err(Error::unsupported("BuildKit cannot be used")
            .because(reason)
            .hint("leave `builder` out, or say `classic`")),
        (Wanted::Buildkit, None) => Ok(buildkit("it was asked for", needs)),
        (Wanted::Auto, Some(reason)) => {
            let warning = needs.syntax.as_ref().map(|syntax| format!("the classic builder does not know {syntax}"));
            Ok(Choice { backend: Backend::Classic, why: reason, warning })
        }
        (Wanted::Auto, None) => Ok(match (needs.hidden, &needs.syntax) {
            (Some(hidden), None) => plain(
                Backend::Classic,
                &format!("{hidden}, and only the classic builder hides it from COPY without a session"),
            ),
            (_, Some(syntax)) => buildkit(&format!("the Dockerfile uses {syntax}"), needs),
            (None, None) => buildkit("it is there, and everything asked for goes over plain requests", needs),
        }),
    }
}

fn podman(wanted: Wanted, major: u32, needs: &Needs) -> Result<Choice> {
    if wanted == Wanted::Buildkit {
        return Err(Error::unsupported("Podman has no BuildKit").hint("leave `builder` out"));
    }
    if needs.secrets && major < PODMAN_WITH_SECRETS {
        return Err(Error::unsupported(format!("Podman {major} takes no secrets of a build over its socket"))
            .hint("Podman 4 does"));
    }
    Ok(plain(Backend::Podman, "it is what the engine has"))
}

fn plain(backend: Backend, why: &str) -> Choice {
    Choice { backend, why: why.to_owned(), warning: None }
}

fn buildkit(why: &str, needs: &Needs) -> Choice {
    let warning = needs.hidden.map(|hidden| {
        format!("{hidden}, but without a session BuildKit sees it in the context all the same: `COPY .` copies it")
    });
    Choice { backend: Backend::BuildKit { session: false }, why: why.to_owned(), warning }
}

/// Something in a Dockerfile that the classic builder does not know.
#[must_use]
pub fn needs_buildkit(dockerfile: &str) -> Option<String> {
    let mut escape = '\\';
    let mut lines = dockerfile.lines().peekable();
    while let Some(line) = lines.next_if(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        let directive = line.trim().trim_start_matches('#').to_ascii_lowercase();
        match directive.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
            Some(("syntax", _)) => return Some("`# syntax=`".to_owned()),
            Some(("escape", "`")) => escape = '`',
            _ => {}
        }
    }
    let mut instruction = String::new();
    // Neither an empty line nor a comment ends an instruction that goes on.
    for line in lines.filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
        let begin = line.trim_end().strip_suffix(escape).filter(|begin| !begin.ends_with(escape));
        instruction.push_str(begin.unwrap_or(line));
        if begin.is_none() {
            if let Some(found) = newer(&instruction) {
                return Some(found);
            }
            instruction.clear();
        }
    }
    newer(&instruction)
}

/// What the classic builder does not know of one instruction.
fn newer(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let instruction = words.next()?.to_ascii_uppercase();
    if !matches!(instruction.as_str(), "RUN" | "COPY" | "ADD") {
        return None;
    }
    let mut flags = words.clone().take_while(|word| word.starts_with("--"));
    let new = |flag: &&str| {
        let name = flag.split('=').next().unwrap_or_default();
        !matches!(name, "--from" | "--chown")
    };
    if let Some(flag) = flags.find(new) {
        return Some(format!("`{instruction} {}`", flag.split('=').next().unwrap_or_default()));
    }
    let here = |word: &str| {
        let rest = word
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .strip_prefix("<<")
            .map(|rest| rest.trim_start_matches('-'));
        rest.is_some_and(|rest| {
            rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '"' || c == '\'')
        })
    };
    // In a RUN a here-document of the shell's own looks the same, but needs lines that the classic builder refuses.
    words.any(here).then(|| format!("a here-document of {instruction}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traits(minor: u32, podman: Option<u32>) -> Traits {
        let (os, architecture) = ("linux".to_owned(), "amd64".to_owned());
        Traits { name: "x".into(), api: Version { major: 1, minor }, podman, os, architecture }
    }

    #[test]
    fn choices() {
        use Wanted::*;
        let plain = Needs::default;
        let secrets = || Needs { secrets: true, ..plain() };
        let hidden = || Needs { hidden: Some("hidden"), ..plain() };
        let both = || Needs { syntax: Some("x".into()), ..hidden() };
        let session = |needs, expected| (needs, None, expected);
        let none = |needs, expected| (needs, Some("it is not allowed"), expected);
        for (wanted, minor, podman, (needs, no_session, expected)) in [
            (Auto, 41, None, session(plain(), "session")),
            (Buildkit, 41, None, session(secrets(), "session")),
            (Auto, 41, None, session(both(), "session")),
            (Classic, 41, None, session(plain(), "Classic")),
            (Classic, 41, None, session(secrets(), "only over a session")),
            (Auto, 38, None, session(plain(), "Classic")),
            (Auto, 38, None, session(secrets(), "only over a session")),
            (Auto, 38, None, session(both(), "Classic!")),
            (Buildkit, 38, None, session(plain(), "BuildKit cannot be used")),
            (Auto, 41, None, none(plain(), "archive")),
            (Auto, 41, None, none(secrets(), "only over a session")),
            (Auto, 41, None, none(hidden(), "Classic")),
            (Auto, 41, None, none(both(), "archive!")),
            (Buildkit, 41, None, none(hidden(), "archive!")),
            (Auto, 41, Some(4), session(secrets(), "Podman")),
            (Classic, 41, Some(4), session(hidden(), "Podman")),
            (Auto, 41, Some(3), session(secrets(), "takes no secrets")),
            (Buildkit, 41, Some(4), session(plain(), "no BuildKit")),
        ] {
            let chosen = match choose(wanted, &traits(minor, podman), &needs, no_session) {
                Ok(Choice { backend, warning, .. }) => {
                    let backend = match backend {
                        Backend::BuildKit { session: true } => "session",
                        Backend::BuildKit { session: false } => "archive",
                        Backend::Classic => "Classic",
                        Backend::Podman => "Podman",
                    };
                    format!("{backend}{}", if warning.is_some() { "!" } else { "" })
                }
                Err(error) => error.message,
            };
            assert!(
                chosen == expected || (expected.contains(' ') && chosen.contains(expected)),
                "{wanted:?} {minor} {podman:?} {needs:?} {no_session:?}: {chosen}"
            );
        }
    }

    #[test]
    fn what_only_buildkit_knows() {
        for (text, expected) in [
            ("FROM a\nRUN make\nCOPY --from=b --chown=1 x y", None),
            ("# syntax=docker/dockerfile:1\nFROM a", Some("`# syntax=`")),
            ("# escape=`\n#Syntax = x\nFROM a", Some("`# syntax=`")),
            ("FROM a\n# syntax=x", None),
            ("FROM a\nrun --mount=type=cache,target=/x make", Some("`RUN --mount`")),
            ("FROM a\nCOPY --from=b --chmod=755 x y", Some("`COPY --chmod`")),
            ("FROM a\nADD --checksum=x y z", Some("`ADD --checksum`")),
            ("FROM a\nRUN <<EOF\nmake\nEOF", Some("a here-document of RUN")),
            ("FROM a\nCOPY <<-'EOF' /x\ny\nEOF", Some("a here-document of COPY")),
            ("FROM a\nRUN echo $((1 << 2)) <<< x", None),
            ("FROM a\nCMD x --mount=y", None),
            ("FROM a\nRUN \\\n  --mount=type=cache,target=/x \\\n  make", Some("`RUN --mount`")),
            ("FROM a\nCOPY --from=b \\ \n# a comment\n\n --chmod=755 x y", Some("`COPY --chmod`")),
            ("FROM a\nRUN x \\\n <<EOF", Some("a here-document of RUN")),
            ("# escape=`\nFROM a\nRUN `\n  --mount=type=cache x", Some("`RUN --mount`")),
            ("# escape=`\nFROM a\nRUN dir c:\\\nRUN --mount=x y", Some("`RUN --mount`")),
            ("FROM a\nRUN echo \\\nCOPY --chmod=1 x", None),
            ("FROM a\nRUN echo \\\\\nCOPY --chmod=1 x y", Some("`COPY --chmod`")),
            ("FROM a\nRUN --mount=x \\", Some("`RUN --mount`")),
            ("", None),
        ] {
            assert_eq!(needs_buildkit(text).as_deref(), expected, "{text}");
        }
    }
}
