//! COPY and ADD.

use super::graph::Planned;
use super::remote;
use super::stage::{Builder, State};
use crate::backend::{Backend, CopyOperation, Operation, Origin, Source};
use crate::fault::Fault;
use crate::instructions::{Copy, Step};
use crate::parser::Word;
use crate::paths;
use crate::words::Lexer;

impl<B: Backend> Builder<'_, '_, B> {
    /// Copies files of a context, a stage or an image, and files written into the Dockerfile itself.
    pub fn copy(&mut self, state: &mut State<B::Tree>, planned: &Planned, copy: &Copy) -> Result<(), Fault> {
        let step = &*planned.step;
        let mut sources = Vec::with_capacity(copy.sources.len());
        let mut urls = Vec::new();
        for source in &copy.sources {
            let text = self.expand(state, step, source)?;
            if let Some(remote) = remote::read(&text).map_err(|fault| fault.at(source.span))? {
                if !copy.add {
                    let fault = Fault::invalid(format!("a source of COPY cannot be a URL: {text}"));
                    return Err(fault.hint("ADD can fetch it").at(source.span));
                }
                urls.push(remote);
            } else if copy.from.is_none() {
                self.notice_source(source.span, if copy.add { "ADD" } else { "COPY" }, &text);
            }
            sources.push(text);
        }
        let checksum = self.option(state, step, &copy.checksum)?;
        if let Some(word) = &copy.checksum
            && (urls.len() != 1 || sources.len() != 1)
        {
            return Err(Fault::invalid("--checksum needs a URL as its only source").at(word.span));
        }
        let destination = self.expand(state, step, &copy.destination)?;
        let owner = self.option(state, step, &copy.chown)?;
        let mode = self.option(state, step, &copy.chmod)?;
        if let (Some(mode), Some(word)) = (&mode, &copy.chmod) {
            check_mode(mode).map_err(|fault| fault.at(word.span))?;
        }
        let target = paths::destination(&state.config.working_dir, &destination);
        if sources.len() + copy.inline.len() > 1 && !target.ends_with('/') {
            let message = format!(
                "several sources are copied to {destination:?}, which should end in / to be a directory in any case"
            );
            self.warn("CopyDestinationNotDirectory", step, message);
        }
        let created_by = created_by(copy, &sources, &destination, owner.as_deref(), mode.as_deref());
        let origin = self.origin(state, planned, self.lexer, "", created_by);
        let template = |source, paths| CopyOperation {
            source,
            paths,
            destination: target.clone(),
            owner: owner.clone(),
            mode: mode.clone(),
            exclude: copy.exclude.clone(),
            parents: copy.parents,
            link: copy.link,
            unpack: copy.unpack.unwrap_or(copy.add),
        };
        for remote in &urls {
            let parameters = remote.parameters(checksum.as_deref(), copy.keep_git_dir);
            let fetch = Origin { name: format!("{} (fetch)", origin.name), ..origin.clone() };
            let url = Source::Url { url: &remote.url, parameters: &parameters, origin: &fetch };
            let from = self.outside.backend.source(url)?;
            let unpack = copy.unpack.unwrap_or(false) && !remote.is_git;
            let paths = vec![escape(&remote.path())];
            self.apply(
                state,
                Operation::Copy(CopyOperation { unpack, parents: false, ..template(from, paths) }),
                &origin,
            );
        }
        let sources: Vec<String> =
            sources.into_iter().filter(|source| !urls.iter().any(|remote| remote.url == *source)).collect();
        if !sources.is_empty() {
            let from = match planned.references.first() {
                Some(Some(root)) => self.tree(root)?,
                _ => self.outside.main_context()?,
            };
            let paths = sources
                .iter()
                .map(|source| if copy.parents { source.clone() } else { paths::join("/", source) })
                .collect();
            self.apply(state, Operation::Copy(template(from, paths)), &origin);
        }
        if !copy.inline.is_empty() {
            let (from, paths) = self.inline_files(state, step, copy, &origin)?;
            let plain = CopyOperation { unpack: false, parents: false, ..template(from, paths) };
            self.apply(state, Operation::Copy(plain), &origin);
        }
        Ok(())
    }

    fn option(&mut self, state: &State<B::Tree>, step: &Step, word: &Option<Word>) -> Result<Option<String>, Fault> {
        match word {
            None => Ok(None),
            Some(word) => Ok(Some(self.expand(state, step, word)?).filter(|value| !value.is_empty())),
        }
    }

    /// A tree with the files of heredocs, and their paths in it.
    fn inline_files(
        &mut self,
        state: &State<B::Tree>,
        step: &Step,
        copy: &Copy,
        origin: &Origin,
    ) -> Result<(B::Tree, Vec<String>), Fault> {
        let body = Lexer { ignore_quotes: true, ..Lexer::new('\\') };
        let mut tree = self.outside.scratch()?;
        let mut files = Vec::with_capacity(copy.inline.len());
        for inline in &copy.inline {
            let path = paths::join("/", &inline.name);
            if path == "/" {
                return Err(Fault::invalid(format!("{:?} cannot be the name of a file", inline.name)));
            }
            let mut content = inline.content.clone();
            if inline.expand {
                let expanded = body.word(&content, &state.scope);
                let expanded = expanded
                    .map_err(|error| Fault::invalid(format!("cannot expand the text of <<{}: {error}", inline.name)))?;
                self.unmatched(state, step, expanded.unmatched);
                content = expanded.text;
            }
            let write = Operation::WriteFile { path: path.clone(), bytes: content.into_bytes(), mode: 0o644 };
            tree = self.outside.backend.apply(&tree, write, origin);
            files.push(escape(&path));
        }
        Ok((tree, files))
    }
}

/// A path that stands for itself where wildcards are allowed.
fn escape(path: &str) -> String {
    path.chars().flat_map(|c| ['*', '?', '[', '\\'].contains(&c).then_some('\\').into_iter().chain([c])).collect()
}

fn created_by(copy: &Copy, sources: &[String], destination: &str, owner: Option<&str>, mode: Option<&str>) -> String {
    let mut message = String::from(if copy.add { "ADD" } else { "COPY" });
    if copy.parents {
        message += " --parents";
    }
    for (flag, value) in [("chown", owner), ("chmod", mode)] {
        if let Some(value) = value {
            message += &format!(" --{flag}={value}");
        }
    }
    for source in sources {
        message += &format!(" {source}");
    }
    for inline in &copy.inline {
        message += &format!(" <<{}", inline.name);
    }
    message + " " + destination
}

/// Octal up to 07777, or symbolic like `u=rwX,go+r-w`.
fn check_mode(mode: &str) -> Result<(), Fault> {
    let octal = u32::from_str_radix(mode, 8).is_ok_and(|mode| mode <= 0o7777) && !mode.starts_with('+');
    let clause = |clause: &str| {
        let actions = clause.trim_start_matches(['u', 'g', 'o', 'a']);
        actions.starts_with(['+', '-', '=']) && actions.chars().all(|c| "+-=rwxXstugo".contains(c))
    };
    if octal || mode.split(',').all(clause) {
        return Ok(());
    }
    Err(Fault::invalid(format!("invalid --chmod={mode}")).hint("write octal digits up to 7777, or u=rwX,go=rX"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for mode in ["755", "0644", "7777", "u=rwX,go=rX", "+x", "a+rw-x", "g=u"] {
            assert!(check_mode(mode).is_ok(), "{mode}");
        }
        for mode in ["8", "77777", "", "+7", "rwx", "u", "u=q", "755,"] {
            assert!(check_mode(mode).is_err(), "{mode}");
        }
    }

    #[test]
    fn names_are_no_wildcards() {
        assert_eq!(escape("/a*[b]?"), r"/a\*\[b]\?");
    }
}
