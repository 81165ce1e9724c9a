//! Instructions with a meaning: what each one says, before any variable is expanded. Knows the rules of
//! single instructions and that stages begin with FROM, not how stages hang together.

mod flags;
mod health;
mod mount;
mod read;

pub use mount::{Mount, MountKind, Sharing, mount, mount_from};

use crate::fault::{Fault, Span};
use crate::lint::{self, Check};
use crate::parser::{self, Heredoc, Node, Warning, Word};

/// A whole Dockerfile.
#[derive(Debug, Clone)]
pub struct Dockerfile {
    /// The escape character: `\` or a backtick.
    pub escape: char,
    /// `ARG`s before the first FROM.
    pub globals: Vec<Step>,
    /// The stages in order; at least one.
    pub stages: Vec<Stage>,
    /// What is odd so far.
    pub warnings: Vec<Warning>,
    /// The value of `# check=`: what to do about warnings.
    pub check: Option<Word>,
    /// The same for single instructions, from comments above them.
    pub checks: Vec<(Span, Check)>,
}

/// What begins with one FROM.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The name after AS, in lower case.
    pub name: Option<String>,
    /// The image or stage it starts from, unexpanded.
    pub base: Word,
    /// `--platform`, unexpanded.
    pub platform: Option<Word>,
    /// Its instructions.
    pub steps: Vec<Step>,
    /// Where the FROM is.
    pub span: Span,
}

/// One instruction of a stage.
#[derive(Debug, Clone)]
pub struct Step {
    /// What it says.
    pub command: Command,
    /// Its line, continuations joined.
    pub code: String,
    /// Where it is.
    pub span: Span,
}

/// What an instruction says.
#[derive(Debug, Clone)]
pub enum Command {
    /// `ARG name[=default]...`
    Arg(Vec<Argument>),
    /// `ENV name=value...`
    Env(Vec<Pair>),
    /// `LABEL name=value...`
    Label(Vec<Pair>),
    /// `MAINTAINER name`
    Maintainer(String),
    /// `COPY` and `ADD`
    Copy(Box<Copy>),
    /// `RUN`
    Run(Box<Run>),
    /// `CMD`
    Cmd(CommandLine),
    /// `ENTRYPOINT`
    Entrypoint(CommandLine),
    /// `HEALTHCHECK`
    Healthcheck(Health),
    /// `EXPOSE port...`
    Expose(Vec<Word>),
    /// `VOLUME path...`
    Volume(Vec<Word>),
    /// `USER name`
    User(Word),
    /// `WORKDIR path`
    Workdir(Word),
    /// `STOPSIGNAL signal`
    StopSignal(Word),
    /// `SHELL [...]`
    Shell(Vec<String>),
    /// `ONBUILD instruction`, as text with its heredocs
    Onbuild(String),
}

/// One name of an `ARG`.
#[derive(Debug, Clone)]
pub struct Argument {
    /// Its name.
    pub name: Word,
    /// Its default, unexpanded.
    pub default: Option<Word>,
}

/// One pair of `ENV` or `LABEL`, unexpanded.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Its name.
    pub name: Word,
    /// Its value.
    pub value: Word,
    /// Whether a blank stands between them.
    pub legacy: bool,
}

/// A command with or without a shell around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The words of the JSON array, or the line as the only word.
    pub words: Vec<String>,
    /// Whether the shell runs it.
    pub shell: bool,
}

/// `COPY` and `ADD`.
#[derive(Debug, Clone)]
pub struct Copy {
    /// Whether it is ADD.
    pub add: bool,
    /// Paths, wildcards or URLs.
    pub sources: Vec<Word>,
    /// Files written into the Dockerfile itself.
    pub inline: Vec<Inline>,
    /// Where to.
    pub destination: Word,
    /// `--from`
    pub from: Option<Word>,
    /// `--chown`
    pub chown: Option<Word>,
    /// `--chmod`
    pub chmod: Option<Word>,
    /// `--link`
    pub link: bool,
    /// `--parents`
    pub parents: bool,
    /// `--exclude`
    pub exclude: Vec<String>,
    /// `--checksum`
    pub checksum: Option<Word>,
    /// `--keep-git-dir`
    pub keep_git_dir: bool,
    /// `--unpack`
    pub unpack: Option<bool>,
}

/// A file of a `COPY <<NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inline {
    /// Its name.
    pub name: String,
    /// Its text.
    pub content: String,
    /// Whether variables in it are expanded.
    pub expand: bool,
}

/// `RUN`.
#[derive(Debug, Clone)]
pub struct Run {
    /// The command.
    pub line: CommandLine,
    /// Texts that follow it.
    pub heredocs: Vec<Heredoc>,
    /// Values of `--mount`, unexpanded.
    pub mounts: Vec<Word>,
    /// `--network`
    pub network: Network,
}

/// What a process may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// What the user chose for the build.
    #[default]
    Default,
    /// Nothing.
    None,
    /// What the host reaches.
    Host,
}

/// `HEALTHCHECK`; durations in nanoseconds, 0 is the default of the runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// `NONE`, or `CMD` or `CMD-SHELL` and the command.
    pub test: Vec<String>,
    /// `--interval`
    pub interval: i64,
    /// `--timeout`
    pub timeout: i64,
    /// `--start-period`
    pub start_period: i64,
    /// `--start-interval`
    pub start_interval: i64,
    /// `--retries`
    pub retries: i64,
}

/// Reads a whole Dockerfile.
pub fn read(text: &str) -> Result<Dockerfile, Fault> {
    let document = parser::parse(text)?;
    let mut dockerfile = Dockerfile {
        escape: document.escape,
        globals: Vec::new(),
        stages: Vec::new(),
        warnings: document.warnings,
        check: document.check,
        checks: lint::comments::checks(&document.nodes),
    };
    if let Some(syntax) = document.syntax.filter(|syntax| !is_ours(&syntax.text)) {
        let message = format!("the syntax {:?} is not used: this builder reads Dockerfiles itself", syntax.text);
        dockerfile.warnings.push(Warning { rule: "SyntaxIgnored", message, span: syntax.span });
    }
    lint::document(&document.nodes, &mut dockerfile.warnings);
    for node in &document.nodes {
        let keyword = node.keyword.to_ascii_uppercase();
        if keyword == "FROM" {
            let stage = read::from(node).map_err(|fault| fault.at(node.span))?;
            dockerfile.stages.push(stage);
            continue;
        }
        let command = read::command(node, &mut dockerfile.warnings).map_err(|fault| fault.at(node.span))?;
        let step = step(node, command);
        match dockerfile.stages.last_mut() {
            Some(stage) => stage.steps.push(step),
            None if matches!(step.command, Command::Arg(_)) => dockerfile.globals.push(step),
            None => {
                return Err(Fault::invalid(format!("{keyword} stands before the first FROM"))
                    .hint("only ARG may stand there; FROM names the image to start from, FROM scratch starts from nothing")
                    .at(node.span));
            }
        }
    }
    if dockerfile.stages.is_empty() {
        let fault = Fault::invalid("the Dockerfile has no FROM")
            .hint("FROM names the image to start from, FROM scratch starts from nothing");
        return Err(match document.nodes.last() {
            Some(node) => fault.at(node.span),
            None => fault,
        });
    }
    Ok(dockerfile)
}

/// Whether a frontend image reads the language that this builder reads.
fn is_ours(syntax: &str) -> bool {
    let name = syntax.split(' ').next().unwrap_or_default();
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let repository = name.split([':', '@']).next().unwrap_or_default();
    matches!(repository, "docker/dockerfile" | "docker/dockerfile-upstream")
}

/// Reads the text of an ONBUILD, which stands where `span` says for the user.
pub fn read_trigger(text: &str, span: Span) -> Result<Step, Fault> {
    let fail = |fault: Fault| Fault { span: Some(span), ..fault.hint(format!("it comes from ONBUILD {text}")) };
    let document = parser::parse(text).map_err(fail)?;
    let [node] = &document.nodes[..] else {
        return Err(fail(Fault::invalid("an ONBUILD trigger is more than one instruction")));
    };
    let keyword = node.keyword.to_ascii_uppercase();
    if matches!(keyword.as_str(), "FROM" | "ONBUILD" | "MAINTAINER") {
        return Err(fail(Fault::invalid(format!("{keyword} is not allowed as an ONBUILD trigger"))));
    }
    let command = read::command(node, &mut Vec::new()).map_err(fail)?;
    Ok(Step { span, ..step(node, command) })
}

fn step(node: &Node, command: Command) -> Step {
    Step { command, code: node.original.trim().to_owned(), span: node.span }
}

#[cfg(test)]
mod tests;
