//! The build context as the engine gets it: which files of it, in which archive, and what is added in front. Reads the
//! context through the contract; what the ignore file means is the host's to say.

use cooperage_sdk::events::Step;
use cooperage_sdk::layer::LayerWriter;
use cooperage_sdk::prelude::*;
use cooperage_sdk::trees::Selection;

use crate::build::choose::Backend;
use crate::build::parameters::Parameters;
use crate::edge::{Next, Payload};

/// Larger than any Dockerfile that is one.
const LARGEST: u64 = 8 << 20;
const IGNORE: &str = ".dockerignore";
const DEFAULT_NAMES: [&str; 3] = ["Dockerfile", "dockerfile", "Containerfile"];
/// What an inline Dockerfile is called on its way.
const INLINE: &str = ".cooperage.dockerfile";
/// What the files with secrets are called on their way, before the id.
const SECRET: &str = ".cooperage.secret.";

/// A Dockerfile that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Its path in what is sent.
    pub dockerfile: String,
    /// Its text.
    pub text: String,
    /// Whether it is no file of the main context.
    pub inline: bool,
    /// Lines of the ignore file.
    pub ignore: Vec<String>,
    /// Whether that is the ignore file of the Dockerfile, and not of the context.
    pub own_ignore: bool,
    /// Whether the ignore file leaves the Dockerfile out.
    pub ignored: bool,
}

/// Finds the Dockerfile and its ignore file.
///
/// # Errors
/// `not-found` if there is none, and those of the context.
pub fn find(parameters: &Parameters) -> Result<Recipe> {
    if let Some(text) = &parameters.dockerfile_inline {
        return Ok(inline(text.clone(), main_ignore()?));
    }
    let wanted = match &parameters.dockerfile {
        Some(path) => vec![cleaned(path)?],
        None => DEFAULT_NAMES.map(str::to_owned).to_vec(),
    };
    let name = parameters.dockerfile_context.as_deref().unwrap_or_default();
    let mut files: Vec<String> = wanted.iter().flat_map(|name| [name.clone(), format!("{name}{IGNORE}")]).collect();
    files.push(IGNORE.to_owned());
    let tree = Tree::context(name, &selection(files, Vec::new()))?;
    for path in &wanted {
        let Some(text) = read(&tree, path)? else { continue };
        let own = read(&tree, &format!("{path}{IGNORE}"))?;
        if !name.is_empty() {
            let ignore = own.map_or_else(main_ignore, |own| Ok(lines(&own)))?;
            return Ok(inline(text, ignore));
        }
        let own_ignore = own.is_some();
        let ignore = match own {
            Some(own) => lines(&own),
            None => read(&tree, IGNORE)?.as_deref().map(lines).unwrap_or_default(),
        };
        let ignored = !ignore.is_empty() && {
            let left = Tree::context("", &selection(vec![path.clone()], ignore.clone()))?;
            left.stat(&format!("/{path}"), true)?.is_none()
        };
        return Ok(Recipe { dockerfile: path.clone(), text, inline: false, ignore, own_ignore, ignored });
    }
    let place = if name.is_empty() { "the build context".to_owned() } else { format!("the context {name}") };
    Err(Error::not_found(format!("{place} has no {}", wanted[0])).hint(match parameters.dockerfile {
        Some(_) => "the path is relative to the context",
        None => "name the file with `dockerfile`, or the right context",
    }))
}

/// A Dockerfile that is no file of the main context.
fn inline(text: String, ignore: Vec<String>) -> Recipe {
    Recipe { dockerfile: INLINE.to_owned(), text, inline: true, ignore, own_ignore: false, ignored: false }
}

fn main_ignore() -> Result<Vec<String>> {
    let tree = Tree::context("", &selection(vec![IGNORE.to_owned()], Vec::new()))?;
    Ok(read(&tree, IGNORE)?.as_deref().map(lines).unwrap_or_default())
}

impl Recipe {
    /// Why nothing that COPY does may see the Dockerfile, if it is so.
    #[must_use]
    pub fn hidden(&self) -> Option<&'static str> {
        match self {
            Self { inline: true, .. } => Some("the Dockerfile is no file of the context"),
            Self { ignored: true, .. } => Some("the ignore file leaves the Dockerfile out"),
            _ => None,
        }
    }

    /// What is left out of the context, and the ignore file that is sent in place of its own.
    fn exclusions(&self, backend: Backend) -> (Vec<String>, Option<String>) {
        let mut exclude = self.ignore.clone();
        if self.ignored {
            exclude.push(format!("!{}", self.dockerfile));
        }
        // BuildKit looks at no ignore file in an archive.
        let generated = match backend {
            Backend::BuildKit { .. } => None,
            _ if self.inline || self.own_ignore => {
                exclude.push(IGNORE.to_owned());
                let inline = self.inline.then_some(INLINE);
                let all = self.ignore.iter().map(String::as_str).chain(inline).chain([IGNORE]);
                Some(all.flat_map(|line| [line, "\n"]).collect())
            }
            _ => {
                if !exclude.is_empty() {
                    exclude.push(format!("!{IGNORE}"));
                }
                None
            }
        };
        (exclude, generated)
    }

    /// The context as BuildKit may ask for it: without what the ignore file leaves out.
    ///
    /// # Errors
    /// Those of the context.
    pub fn tree(&self) -> Result<Tree> {
        Tree::context("", &selection(Vec::new(), self.ignore.clone()))
    }

    /// The context as the body of a request.
    ///
    /// # Errors
    /// Those of the context.
    pub fn pack(&self, backend: Backend, secrets: &[(String, Vec<u8>)]) -> Result<Payload> {
        let (exclude, generated) = self.exclusions(backend);
        let mut front = LayerWriter::to(Vec::new());
        if self.inline {
            front.file(INLINE, 0o644, self.text.as_bytes())?;
        }
        if let Some(text) = generated {
            front.file(IGNORE, 0o644, text.as_bytes())?;
        }
        for (id, value) in secrets {
            front.file(secret_file(id), 0o600, value)?;
        }
        let archive = Tree::context("", &selection(Vec::new(), exclude))?.pack(&[])?;
        let next = after(unended(front.end()?), Box::new(move |max| archive.read(max)));
        let (step, mut done) = (Step::new("send the build context to the engine"), 0);
        let mut next = next;
        let counted = move |max| {
            let bytes = next(max)?;
            done += bytes.len() as u64;
            step.bytes(done, None);
            Ok(bytes)
        };
        Ok(Payload::Stream { next: Box::new(counted), length: None })
    }
}

/// The file in the context that holds a secret. Podman takes it out again before it builds.
#[must_use]
pub fn secret_file(id: &str) -> String {
    format!("{SECRET}{id}")
}

fn selection(include: Vec<String>, exclude: Vec<String>) -> Selection {
    // What is to be kept is given as patterns: a name that looks like one is looked for in the whole context.
    let plain = include.iter().all(|name| !name.contains(['*', '?', '[', '\\', '!']));
    Selection { include: if plain { include } else { Vec::new() }, exclude }
}

fn read(tree: &Tree, name: &str) -> Result<Option<String>> {
    let path = format!("/{name}");
    // Where the context comes from may be what is not found; that is another thing than a file that it lacks.
    if tree.stat(&path, true)?.is_none() {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&tree.read_file(&path, LARGEST)?).into_owned()))
}

/// Lines that say something: a comment has its `#` at the very beginning.
fn lines(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::trim);
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// A path as it is within the context.
fn cleaned(path: &str) -> Result<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return Err(Error::invalid_input(format!("dockerfile {path:?} is outside of the build context"))
                        .hint("the path is relative to the context; `dockerfile_inline` takes a text"));
                }
            }
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err(Error::invalid_input(format!("dockerfile {path:?} is no path of a file")));
    }
    Ok(parts.join("/"))
}

/// An archive without its end, so that another can follow.
fn unended(mut archive: Vec<u8>) -> Vec<u8> {
    archive.truncate(archive.len().saturating_sub(1024));
    archive
}

/// First these bytes, then those.
fn after(front: Vec<u8>, mut rest: Next) -> Next {
    let mut at = 0;
    Box::new(move |max| {
        if at == front.len() {
            return rest(max);
        }
        let end = (at + max as usize).min(front.len());
        let bytes = front[at..end].to_vec();
        at = end;
        Ok(bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> Recipe {
        let (dockerfile, text) = ("Dockerfile".to_owned(), String::new());
        Recipe { dockerfile, text, inline: false, ignore: vec!["a".into()], own_ignore: false, ignored: false }
    }

    #[test]
    fn what_is_left_out() {
        let inline = || Recipe { inline: true, ..recipe() };
        let ignored = || Recipe { ignored: true, ..recipe() };
        let own = || Recipe { own_ignore: true, ..ignored() };
        for (recipe, backend, exclude, generated) in [
            (recipe(), Backend::BuildKit { session: false }, "a", None),
            (recipe(), Backend::Classic, "a !.dockerignore", None),
            (ignored(), Backend::BuildKit { session: false }, "a !Dockerfile", None),
            (ignored(), Backend::Podman, "a !Dockerfile !.dockerignore", None),
            (own(), Backend::Classic, "a !Dockerfile .dockerignore", Some("a\n.dockerignore\n")),
            (inline(), Backend::Classic, "a .dockerignore", Some("a\n.cooperage.dockerfile\n.dockerignore\n")),
            (inline(), Backend::BuildKit { session: false }, "a", None),
            (Recipe { ignore: Vec::new(), ..recipe() }, Backend::Classic, "", None),
        ] {
            let found = recipe.exclusions(backend);
            assert_eq!(
                (found.0.join(" ").as_str(), found.1.as_deref()),
                (exclude, generated),
                "{recipe:?} {backend:?}"
            );
        }
    }

    #[test]
    fn ignore_files_and_paths() {
        assert_eq!(lines("\u{feff}x\r\n# note\n\n !y \n #z\n"), ["x", "!y", "#z"]);
        for (path, expected) in
            [("./a//b", Some("a/b")), ("a/../D", Some("D")), ("../D", None), ("/D", Some("D")), (".", None)]
        {
            assert_eq!(cleaned(path).ok().as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn files_in_front_and_the_context_are_one_archive() {
        let tar = |name: &str| {
            let mut writer = LayerWriter::to(Vec::new());
            writer.file(name, 0o644, b"x").unwrap();
            writer.end().unwrap()
        };
        let (front, mut rest) = (unended(tar("a")), vec![tar("b")]);
        let mut next = after(front, Box::new(move |_| Ok(rest.pop().unwrap_or_default())));
        let mut all = Vec::new();
        loop {
            let bytes = next(700).unwrap();
            if bytes.is_empty() {
                break;
            }
            all.extend(bytes);
        }
        let mut archive = tar::Archive::new(all.as_slice());
        let names: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(unended(LayerWriter::to(Vec::new()).end().unwrap()).is_empty());
    }
}
