//! RUN: its command, its heredocs and its mounts.

use super::graph::{Planned, Root};
use super::stage::{Builder, State};
use crate::backend::{Backend, MountOperation, Operation, Origin, RunOperation};
use crate::fault::{Fault, Span};
use crate::instructions::{Mount, MountKind, Run, Sharing, mount};
use crate::parser::{Word, chomp, heredoc_word};
use crate::paths;
use crate::words::{Lexer, Lookup};

/// Where a heredoc that begins with `#!` is seen by its own RUN.
const SCRIPTS: &str = "/dev/pipes";

impl<B: Backend> Builder<'_, '_, B> {
    /// Runs a process in the tree.
    pub fn run(&mut self, state: &mut State<B::Tree>, planned: &Planned, run: &Run) -> Result<(), Fault> {
        let script = script(run, &state.platform.os)?;
        let (mut args, mut suffix, mut file) = (run.line.words.clone(), String::new(), None);
        if let Some(script) = script {
            suffix = script.summary.map(|summary| format!(" ({summary})")).unwrap_or_default();
            args = script.args;
            file = script.file;
        }
        if run.line.shell {
            let mut line = state.config.shell_or_default(state.platform.os == "windows");
            line.push(args.join(" "));
            args = line;
        }
        if args.is_empty() {
            return Err(Fault::invalid("RUN needs a command"));
        }
        let created_by = format!("RUN {}", history(state, &args));
        let shown = Lexer { raw_quotes: true, keep_unset: true, ..self.lexer };
        let origin = self.origin(state, planned, shown, &suffix, created_by);
        let mut mounts = Vec::with_capacity(run.mounts.len());
        if let Some((name, body)) = file {
            mounts.push(self.script_mount(&name, body, &origin)?);
        }
        for (word, root) in run.mounts.iter().zip(&planned.references) {
            mounts
                .push(self.mount(state, planned.step.span, word, root.as_ref()).map_err(|fault| fault.at(word.span))?);
        }
        let cwd = match state.config.working_dir.as_str() {
            "" => "/".to_owned(),
            directory => directory.to_owned(),
        };
        let operation = RunOperation {
            args,
            env: state.scope.variables().to_vec(),
            cwd,
            user: state.config.user.clone(),
            network: run.network,
            mounts,
        };
        self.apply(state, Operation::Run(operation), &origin);
        Ok(())
    }

    fn script_mount(&mut self, name: &str, body: String, origin: &Origin) -> Result<MountOperation<B::Tree>, Fault> {
        let scratch = self.outside.scratch()?;
        let write = Operation::WriteFile { path: paths::join("/", name), bytes: body.into_bytes(), mode: 0o755 };
        Ok(MountOperation {
            kind: "bind",
            target: SCRIPTS.into(),
            source: Some(self.outside.backend.apply(&scratch, write, origin)),
            path: String::new(),
            identity: String::new(),
            read_only: true,
            options: Vec::new(),
        })
    }

    fn mount(
        &mut self,
        state: &State<B::Tree>,
        span: Span,
        word: &Word,
        root: Option<&Root>,
    ) -> Result<MountOperation<B::Tree>, Fault> {
        let lexer = self.lexer;
        let mut expand = |text: &str| {
            let word = Word { text: text.to_owned(), span };
            let expanded = lexer.word(text, &state.scope).map_err(|error| super::scope::wrong_word(&word, &error))?;
            Ok(expanded.text)
        };
        let mount = mount(&word.text, &mut expand)?;
        let source = match (mount.kind, root) {
            (MountKind::Bind | MountKind::Cache, Some(root)) => Some(self.tree(root)?),
            (MountKind::Bind, None) => Some(self.outside.main_context()?),
            _ => None,
        };
        let target = match (mount.kind, mount.target.is_empty()) {
            (MountKind::Secret, true) => secret_target(&mount),
            _ => paths::join(&state.config.working_dir, &mount.target),
        };
        if target == "/" {
            return Err(Fault::invalid("the target of a mount cannot be /"));
        }
        let (path, identity) = match mount.kind {
            MountKind::Secret => (secret_name(&mount), String::new()),
            MountKind::Cache if mount.id.is_empty() => (within(&mount.source), paths::clean(&mount.target)),
            MountKind::Cache => (within(&mount.source), mount.id.clone()),
            MountKind::Bind => (within(&mount.source), String::new()),
            MountKind::Tmpfs => (String::new(), String::new()),
        };
        Ok(MountOperation {
            kind: kind(mount.kind),
            target,
            source,
            path,
            identity,
            read_only: mount.read_only,
            options: options(&mount),
        })
    }
}

fn kind(kind: MountKind) -> &'static str {
    match kind {
        MountKind::Bind => "bind",
        MountKind::Cache => "cache",
        MountKind::Tmpfs => "tmpfs",
        MountKind::Secret => "secret",
    }
}

/// The path of a source within its tree; empty for the root.
fn within(source: &str) -> String {
    match paths::join("/", source) {
        root if root == "/" => String::new(),
        path => path,
    }
}

fn secret_name(mount: &Mount) -> String {
    match (mount.source.as_str(), mount.id.as_str()) {
        ("", "") => paths::base(&mount.target).to_owned(),
        ("", id) => id.to_owned(),
        (source, _) => source.to_owned(),
    }
}

/// A secret is a file unless it only goes into the environment.
fn secret_target(mount: &Mount) -> String {
    match mount.env {
        Some(_) => String::new(),
        None => format!("/run/secrets/{}", paths::base(&secret_name(mount))),
    }
}

fn options(mount: &Mount) -> Vec<(&'static str, String)> {
    let sharing = mount.sharing.map(|sharing| match sharing {
        Sharing::Shared => "shared",
        Sharing::Private => "private",
        Sharing::Locked => "locked",
    });
    let all = [
        ("mode", mount.mode.map(|mode| format!("{mode:o}"))),
        ("uid", mount.uid.map(|id| id.to_string())),
        ("gid", mount.gid.map(|id| id.to_string())),
        ("size", mount.size.map(|size| size.to_string())),
        ("sharing", sharing.map(str::to_owned)),
        ("required", mount.required.then(|| "true".to_owned())),
        ("env", mount.env.clone()),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// What a RUN with heredocs runs.
struct Script {
    args: Vec<String>,
    file: Option<(String, String)>,
    summary: Option<String>,
}

/// `RUN <<EOF` alone runs the text, by the shell or, with `#!`, as a program. Anything else is for the
/// shell to read, which gets the texts back as it would in a script.
fn script(run: &Run, os: &str) -> Result<Option<Script>, Fault> {
    let Some(first) = run.heredocs.first() else {
        return Ok(None);
    };
    let [line] = &run.line.words[..] else {
        return Err(Fault::invalid("RUN with a heredoc cannot be a JSON array"));
    };
    if heredoc_word(line)?.is_none() {
        let mut text = line.clone();
        for heredoc in &run.heredocs {
            text += &format!("\n{}{}", heredoc.content, heredoc.name);
        }
        return Ok(Some(Script { args: vec![text], file: None, summary: None }));
    }
    let body = if first.chomp { chomp(&first.content) } else { first.content.clone() };
    let trimmed = first.content.trim();
    let summary = match trimmed.split_once('\n') {
        Some((line, _)) => format!("{}...", line.trim_end_matches('\r')),
        None => trimmed.to_owned(),
    };
    let script = match os != "windows" && body.starts_with("#!") {
        false => Script { args: vec![body], file: None, summary: Some(summary) },
        true => {
            let path = paths::join(SCRIPTS, &first.name);
            Script { args: vec![path], file: Some((first.name.clone(), body)), summary: Some(summary) }
        }
    };
    Ok(Some(script))
}

/// The arguments as `docker history` shows them: after `|n` and the n build arguments, if any.
fn history<T>(state: &State<T>, args: &[String]) -> String {
    let mut parts = Vec::with_capacity(args.len() + state.declared.len() + 1);
    if !state.declared.is_empty() {
        parts.push(format!("|{}", state.declared.len()));
        parts.extend(state.declared.iter().map(|name| format!("{name}={}", state.scope.get(name).unwrap_or_default())));
    }
    parts.extend(args.iter().cloned());
    parts.join(" ")
}
