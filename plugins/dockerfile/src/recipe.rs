//! The parameters of a build, and the files they name: the Dockerfile and the ignore file that goes with it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::backend::{Backend, Source as Tree};
use crate::fault::{Fault, Kind, Source};
use crate::paths;

/// Larger than any Dockerfile that is one.
const MAX_BYTES: u64 = 8 << 20;
/// The name of an ignore file, and the end of the name of one that belongs to a Dockerfile.
const IGNORE: &str = ".dockerignore";
/// Names that are tried when none is given.
const DEFAULT_NAMES: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];

/// How to build images from a Dockerfile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Parameters {
    /// Path of the Dockerfile in its context; `Dockerfile` by default.
    pub dockerfile: Option<String>,
    /// The text of a Dockerfile, instead of a file.
    pub dockerfile_inline: Option<String>,
    /// Name of the context that has the Dockerfile; the main one by default.
    pub dockerfile_context: Option<String>,
    /// Name or number of the stage to build; the last by default.
    pub target: Option<String>,
    /// Build arguments; those of the command line win.
    pub args: BTreeMap<String, String>,
    /// Labels to add to the image; those of the command line win.
    pub labels: BTreeMap<String, String>,
}

/// A Dockerfile that was found.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Its text, to quote from.
    pub source: Source,
    /// Its text.
    pub text: String,
    /// Lines of the ignore file.
    pub ignore: Vec<String>,
}

/// Finds the Dockerfile and its ignore file. What is in one context is read from one tree.
pub fn load<B: Backend>(parameters: &Parameters, backend: &mut B) -> Result<Recipe, Fault> {
    if let Some(text) = &parameters.dockerfile_inline {
        let ignore = main_ignore(backend)?;
        return Ok(Recipe { source: Source::new("inline Dockerfile", text.clone()), text: text.clone(), ignore });
    }
    let names: Vec<String> = match &parameters.dockerfile {
        Some(name) => vec![name.clone()],
        None => DEFAULT_NAMES.map(str::to_owned).to_vec(),
    };
    let context = parameters.dockerfile_context.as_deref().unwrap_or_default();
    let mut wanted: Vec<String> = names.iter().flat_map(|name| [name.clone(), format!("{name}{IGNORE}")]).collect();
    if context.is_empty() {
        wanted.push(IGNORE.to_owned());
    }
    let tree = open(backend, context, &wanted)?;
    for name in &names {
        let Some(text) = read(backend, &tree, name)? else { continue };
        // Its own ignore file takes the place of the one of the context.
        let ignore = match read(backend, &tree, &format!("{name}{IGNORE}"))? {
            Some(own) => ignore_lines(&own),
            None if context.is_empty() => ignore_lines(&read(backend, &tree, IGNORE)?.unwrap_or_default()),
            None => main_ignore(backend)?,
        };
        return Ok(Recipe { source: Source::new(name.clone(), text.clone()), text, ignore });
    }
    let place = if context.is_empty() { "the build context".to_owned() } else { format!("the context {context}") };
    Err(Fault::not_found(format!("{place} has no {}", names[0])).hint(match parameters.dockerfile {
        Some(_) => "the path is relative to the context",
        None => "name another file with -f, or the right context",
    }))
}

/// How well this builder fits the main context.
pub fn detect<B: Backend>(backend: &mut B) -> Result<u8, Fault> {
    let tree = match open(backend, "", &DEFAULT_NAMES.map(str::to_owned)) {
        Ok(tree) => tree,
        Err(fault) if fault.kind == Kind::NotFound => return Ok(0),
        Err(fault) => return Err(fault),
    };
    for name in DEFAULT_NAMES {
        if backend.read(&tree, &format!("/{name}"), MAX_BYTES)?.is_some() {
            return Ok(90);
        }
    }
    Ok(0)
}

fn open<B: Backend>(backend: &mut B, context: &str, files: &[String]) -> Result<B::Tree, Fault> {
    let cleaned: Vec<String> = files.iter().map(|file| paths::join("/", file)[1..].to_owned()).collect();
    // What is to be kept is given as patterns: a name that looks like one is looked for in the whole context.
    let plain = cleaned.iter().all(|file| !file.is_empty() && !file.contains(['*', '?', '[', '\\', '!']));
    let include = if plain { &cleaned[..] } else { &[] };
    backend.source(Tree::Context { name: context, exclude: &[], include })
}

/// The ignore file of the main context, when the Dockerfile is elsewhere.
fn main_ignore<B: Backend>(backend: &mut B) -> Result<Vec<String>, Fault> {
    match open(backend, "", &[IGNORE.to_owned()]) {
        Ok(tree) => Ok(ignore_lines(&read(backend, &tree, IGNORE)?.unwrap_or_default())),
        // A Dockerfile that copies nothing needs no context.
        Err(fault) if fault.kind == Kind::NotFound => Ok(Vec::new()),
        Err(fault) => Err(fault),
    }
}

fn read<B: Backend>(backend: &mut B, tree: &B::Tree, name: &str) -> Result<Option<String>, Fault> {
    match backend.read(tree, &paths::join("/", name), MAX_BYTES)? {
        Some(bytes) => decode(name, &bytes).map(Some),
        None => Ok(None),
    }
}

/// Lines that say something: a comment has its `#` at the very beginning.
fn ignore_lines(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::trim);
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn decode(name: &str, bytes: &[u8]) -> Result<String, Fault> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Fault::invalid(format!("{name} is UTF-16")).hint("save it as UTF-8"));
    }
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Recorder;

    fn recorder(files: &[(&str, &str)]) -> Recorder {
        let files = files.iter().map(|(name, text)| (name.to_string(), text.as_bytes().to_vec())).collect();
        Recorder { files, ..Recorder::default() }
    }

    #[test]
    fn finds_the_dockerfile_and_its_ignore_file() {
        let parameters = |json: &str| serde_json::from_str::<Parameters>(json).unwrap();
        let mut both = recorder(&[
            ("/Dockerfile", "FROM a"),
            ("/sub/D", "FROM b"),
            ("/sub/D.dockerignore", "\u{feff}x\r\n# note\n\n !y \n #z\n"),
            ("/.dockerignore", "all"),
        ]);
        let recipe = load(&parameters("{}"), &mut both).unwrap();
        assert_eq!((recipe.text.as_str(), &recipe.ignore[..]), ("FROM a", &["all".to_owned()][..]));
        let recipe = load(&parameters(r#"{"dockerfile": "./sub/D"}"#), &mut both).unwrap();
        assert_eq!((recipe.text.as_str(), recipe.ignore.join("|").as_str()), ("FROM b", "x|!y|#z"));
        let recipe = load(&parameters(r#"{"dockerfile_inline": "FROM c"}"#), &mut both).unwrap();
        assert_eq!((recipe.text.as_str(), recipe.ignore.len()), ("FROM c", 1));
        assert_eq!(
            both.log[0],
            r#"t1 = context "" only ["Dockerfile", "Dockerfile.dockerignore", "dockerfile", "dockerfile.dockerignore", "Containerfile", "Containerfile.dockerignore", ".dockerignore"]"#
        );
        let mut outside = recorder(&[("/D", "FROM d")]);
        outside.contexts = vec!["files".into()];
        let recipe = load(&parameters(r#"{"dockerfile": "D", "dockerfile_context": "files"}"#), &mut outside).unwrap();
        assert_eq!((recipe.text.as_str(), recipe.ignore.len()), ("FROM d", 0));
        let lower = load(&parameters("{}"), &mut recorder(&[("/dockerfile", "FROM e")])).unwrap();
        assert_eq!(lower.text, "FROM e");
    }

    #[test]
    fn says_what_is_missing_or_wrong() {
        let fault = load(&Parameters::default(), &mut recorder(&[])).unwrap_err();
        assert_eq!((fault.kind, fault.message.as_str()), (Kind::NotFound, "the build context has no Dockerfile"));
        let mut utf16 = Recorder::default();
        utf16.files.insert("/Dockerfile".into(), vec![0xff, 0xfe, b'F', 0]);
        assert!(load(&Parameters::default(), &mut utf16).unwrap_err().message.contains("UTF-16"));
    }

    #[test]
    fn unknown_parameters_are_refused() {
        assert!(serde_json::from_str::<Parameters>(r#"{"traget": "x"}"#).is_err());
        assert!(serde_json::from_str::<Parameters>(r#"{"args": {"a": 1}}"#).is_err());
    }

    #[test]
    fn detects() {
        assert_eq!(detect(&mut recorder(&[("/Dockerfile", "")])), Ok(90));
        assert_eq!(detect(&mut recorder(&[("/other", "")])), Ok(0));
    }
}
