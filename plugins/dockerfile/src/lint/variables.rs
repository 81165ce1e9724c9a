//! ARG, ENV and the use of variables.

use std::collections::BTreeSet;

use crate::fault::is_slip;
use crate::instructions::{Command, Step};

/// Parts of a name that tell of a secret.
const SECRET: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
/// Parts that tell of something beside the secret.
const PUBLIC: [&str; 3] = ["public", "file", "version"];

/// Rule SecretsUsedInArgOrEnv. A part of a name is what stands between `_`.
pub fn secret(keyword: &str, name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    (has(&SECRET) && !has(&PUBLIC))
        .then(|| format!("{keyword} {name} looks like a secret, which would stay in the image or its history"))
}

/// Names that ARG and ENV of these instructions declare.
pub fn declared<'a>(steps: impl IntoIterator<Item = &'a Step>) -> BTreeSet<String> {
    let names = |step: &'a Step| -> Vec<&'a str> {
        match &step.command {
            Command::Arg(arguments) => arguments.iter().map(|argument| argument.name.text.as_str()).collect(),
            Command::Env(pairs) => pairs.iter().map(|pair| pair.name.text.as_str()).collect(),
            _ => Vec::new(),
        }
    };
    steps.into_iter().flat_map(names).map(str::to_owned).collect()
}

/// Rule UndefinedVar where the variables of the base are not known: what else could be meant than one of those.
pub fn is_meant_here<'a>(
    name: &str,
    declared: &BTreeSet<String>,
    set: impl IntoIterator<Item = &'a (String, String)>,
) -> bool {
    let mut known = set.into_iter().map(|(known, _)| known).chain(declared);
    declared.contains(name) || known.any(|known| is_slip(name, known))
}
