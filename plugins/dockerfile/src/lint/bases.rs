//! FROM: variables in its words, its platform, and the base that it names.

use std::collections::BTreeSet;

use crate::fault::nearest;
use crate::instructions::{Argument, Command, Dockerfile, Stage};
use crate::parser::{Warning, Word};
use crate::plan::check_reference;
use crate::platform::Platform;
use crate::words::{Expanded, Lexer, Lookup};

/// What the rules of this module look at.
pub struct Bases<'a> {
    /// All stages count, needed or not.
    pub dockerfile: &'a Dockerfile,
    /// Variables that FROM can use.
    pub globals: &'a dyn Lookup,
    /// Their names.
    pub known: Vec<&'a str>,
    /// The same without build arguments; none if the defaults cannot be expanded.
    pub defaults: Option<&'a dyn Lookup>,
    /// The platform of the host.
    pub build_platform: &'a Platform,
}

impl Bases<'_> {
    /// Rules UndefinedArgInFrom, RedundantTargetPlatform, FromPlatformFlagConstDisallowed, InvalidDefaultArgInFrom.
    pub fn check(&self, warnings: &mut Vec<Warning>) {
        for stage in &self.dockerfile.stages {
            self.undefined(&stage.base, warnings);
            if let Some(word) = &stage.platform {
                self.undefined(word, warnings);
                self.platform(stage, word, warnings);
            }
            self.default(&stage.base, warnings);
        }
    }

    fn expand(&self, word: &Word, env: &dyn Lookup) -> Option<Expanded> {
        // A word that cannot be expanded is an error of the planner's.
        Lexer::new(self.dockerfile.escape).word(&word.text, env).ok()
    }

    fn undefined(&self, word: &Word, warnings: &mut Vec<Warning>) {
        let declared = self.declared();
        let Some(expanded) = self.expand(word, self.globals) else { return };
        for name in expanded.unmatched.iter().filter(|name| !declared.contains(name.as_str())) {
            let near = nearest(name, declared.iter().copied()).map(|hint| format!("; {hint}")).unwrap_or_default();
            let message = format!("FROM uses ${name}, which no ARG before the first FROM declares{near}");
            warnings.push(Warning { rule: "UndefinedArgInFrom", message, span: word.span });
        }
    }

    /// Names with a value, and those that an ARG without one declares.
    fn declared(&self) -> BTreeSet<&str> {
        let arguments = self.dockerfile.globals.iter().flat_map(|step| match &step.command {
            Command::Arg(arguments) => arguments.as_slice(),
            _ => &[],
        });
        let own = arguments.map(|argument: &Argument| argument.name.text.as_str());
        own.chain(self.known.iter().copied()).collect()
    }

    fn platform(&self, stage: &Stage, word: &Word, warnings: &mut Vec<Warning>) {
        const TARGET: &str = "TARGETPLATFORM";
        let Some(expanded) = self.expand(word, self.globals) else { return };
        let mut warn = |rule, message| warnings.push(Warning { rule, message, span: word.span });
        let only = expanded.matched.len() == 1 && expanded.unmatched.is_empty();
        if only && expanded.matched.contains(TARGET) && self.globals.get(TARGET) == Some(expanded.text.as_str()) {
            warn("RedundantTargetPlatform", format!("--platform={} is what FROM does without it", word.text));
        }
        if !expanded.matched.is_empty() || !expanded.unmatched.is_empty() {
            return;
        }
        let Some(platform) = Platform::parse(&expanded.text, self.build_platform) else { return };
        // A stage that is named after its platform is meant to have that one.
        let named = |part: &str| stage.name.as_deref().is_some_and(|name| name.contains(part));
        if !named(&platform.os) && !named(&platform.architecture) {
            let message = format!("--platform={} is the same whatever platform is built for", expanded.text);
            warn("FromPlatformFlagConstDisallowed", message);
        }
    }

    /// Only variables can make the difference: a base without any is looked at when it is used.
    fn default(&self, word: &Word, warnings: &mut Vec<Warning>) {
        let Some(expanded) = self.defaults.and_then(|defaults| self.expand(word, defaults)) else { return };
        if expanded.matched.is_empty() && expanded.unmatched.is_empty() || names_image(&expanded.text) {
            return;
        }
        let message = format!("without build arguments, {} gives {:?}, which is no image", word.text, expanded.text);
        warnings.push(Warning { rule: "InvalidDefaultArgInFrom", message, span: word.span });
    }
}

/// Rule InvalidBaseImagePlatform.
pub fn wrong_platform(reference: &str, wanted: &Platform, found: &Platform) -> Option<String> {
    let same = wanted.os == found.os && wanted.architecture == found.architecture;
    (!same).then(|| format!("the base image {reference} is for {found}, and {wanted} is built"))
}

/// Whether a text has the form of an image's name.
fn names_image(text: &str) -> bool {
    if check_reference(text).is_err() {
        return false;
    }
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    // A colon before the last slash belongs to the port of a host.
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let tagged = tag.is_none_or(|tag| {
        tag.len() <= 128 && tag.starts_with(word) && tag.chars().all(|c| word(c) || c == '.' || c == '-')
    });
    let digested = digest.is_none_or(|digest| {
        digest.split_once(':').is_some_and(|(algorithm, hex)| {
            !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    });
    let mut parts = path.split('/').rev();
    let last = parts.next().unwrap_or_default();
    let component = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| word(c) || c == '.' || c == '-')
    };
    tagged && digested && component(last) && parts.all(|part| !part.is_empty())
}
