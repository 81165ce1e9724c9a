//! Reads one instruction: which flags and how many arguments it has, and what they mean.

use super::flags::{Flags, Takes};
use super::health::health;
use super::mount::mount_from;
use super::{Argument, Command, CommandLine, Copy, Inline, Network, Pair, Run, Stage};
use crate::fault::{Fault, nearest};
use crate::parser::{Node, Warning, Word, chomp, heredoc_word};

const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Reads a FROM.
pub fn from(node: &Node) -> Result<Stage, Fault> {
    let flags = Flags::read(node, &[("platform", Takes::Value)])?;
    let name = match &node.args[..] {
        [_] => None,
        [_, keyword, name] if keyword.text.eq_ignore_ascii_case("as") => Some(stage_name(name)?),
        [] => {
            return Err(Fault::invalid("FROM requires the name of an image").hint("FROM scratch starts from nothing"));
        }
        [_, extra, ..] => {
            return Err(Fault::invalid("FROM requires either one or three arguments")
                .hint("write FROM IMAGE or FROM IMAGE AS NAME")
                .at(extra.span));
        }
    };
    Ok(Stage {
        name,
        base: node.args[0].clone(),
        platform: flags.value("platform"),
        steps: Vec::new(),
        span: node.span,
    })
}

fn stage_name(word: &Word) -> Result<String, Fault> {
    let name = word.text.to_ascii_lowercase();
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase());
    if starts && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c)) {
        return Ok(name);
    }
    Err(Fault::invalid(format!("invalid name {:?} of a stage", word.text))
        .hint("it begins with a letter and has letters, digits, -, _ and . only")
        .at(word.span))
}

/// Reads any other instruction.
pub fn command(node: &Node, warnings: &mut Vec<Warning>) -> Result<Command, Fault> {
    let keyword = node.keyword.to_ascii_uppercase();
    let mut warn = |rule, message: String| warnings.push(Warning { rule, message, span: node.span });
    if node.broken_json {
        warn(
            "ExecFormInvalid",
            format!("{keyword} looks like a JSON array and is none, so the shell gets it as it is; use double quotes"),
        );
    }
    let no_flags = || Flags::read(node, &[]).map(drop);
    match keyword.as_str() {
        "COPY" | "ADD" => Ok(Command::Copy(Box::new(copy(node, keyword == "ADD")?))),
        "RUN" => Ok(Command::Run(Box::new(run(node)?))),
        "HEALTHCHECK" => Ok(Command::Healthcheck(health(node)?)),
        "ENV" => {
            no_flags()?;
            Ok(Command::Env(pairs(node)?))
        }
        "LABEL" => {
            no_flags()?;
            Ok(Command::Label(pairs(node)?))
        }
        "ARG" => {
            no_flags()?;
            Ok(Command::Arg(arguments(node)?))
        }
        "MAINTAINER" => {
            no_flags()?;
            Ok(Command::Maintainer(only(node)?.text))
        }
        "CMD" => no_flags().map(|()| Command::Cmd(line(node))),
        "ENTRYPOINT" => no_flags().map(|()| Command::Entrypoint(line(node))),
        "USER" => no_flags().and_then(|()| Ok(Command::User(only(node)?))),
        "WORKDIR" => no_flags().and_then(|()| Ok(Command::Workdir(only(node)?))),
        "STOPSIGNAL" => no_flags().and_then(|()| Ok(Command::StopSignal(only(node)?))),
        "EXPOSE" => no_flags().and_then(|()| Ok(Command::Expose(some(node)?.to_vec()))),
        "VOLUME" => no_flags().and_then(|()| Ok(Command::Volume(volumes(node)?))),
        "SHELL" => no_flags().and_then(|()| shell(node)),
        "ONBUILD" => no_flags().and_then(|()| onbuild(node)),
        _ => {
            let hint = nearest(&keyword, KEYWORDS).unwrap_or_else(|| match node.original.contains("<<") {
                true => "a heredoc ends where its name stands alone on a line".into(),
                false => "a line that goes on needs a \\ at the end of the line before".into(),
            });
            let mut span = node.span;
            (span.column, span.end_line) = (1, span.line);
            Err(Fault::invalid(format!("unknown instruction {:?}", node.keyword)).hint(hint).at(span))
        }
    }
}

fn some(node: &Node) -> Result<&[Word], Fault> {
    match node.args.is_empty() {
        false => Ok(&node.args),
        true => Err(Fault::invalid(format!("{} requires at least one argument", node.keyword.to_ascii_uppercase()))),
    }
}

fn only(node: &Node) -> Result<Word, Fault> {
    match &node.args[..] {
        [word] => Ok(word.clone()),
        _ => Err(Fault::invalid(format!("{} requires exactly one argument", node.keyword.to_ascii_uppercase()))),
    }
}

fn line(node: &Node) -> CommandLine {
    let words: Vec<String> = node.args.iter().map(|word| word.text.clone()).collect();
    CommandLine { words, shell: !node.json }
}

fn pairs(node: &Node) -> Result<Vec<Pair>, Fault> {
    let keyword = node.keyword.to_ascii_uppercase();
    let mut pairs = Vec::new();
    for triple in some(node)?.chunks_exact(3) {
        if triple[0].text.is_empty() {
            return Err(Fault::invalid(format!("{keyword} names cannot be empty")).at(triple[0].span));
        }
        let legacy = triple[2].text.is_empty();
        pairs.push(Pair { name: triple[0].clone(), value: triple[1].clone(), legacy });
    }
    Ok(pairs)
}

fn arguments(node: &Node) -> Result<Vec<Argument>, Fault> {
    let read = |word: &Word| {
        let at = |text: &str| Word { text: text.to_owned(), span: word.span };
        let (name, default) = match word.text.split_once('=') {
            Some((name, default)) => (at(name), Some(at(default))),
            None => (word.clone(), None),
        };
        match name.text.is_empty() {
            true => Err(Fault::invalid("ARG names cannot be empty").at(word.span)),
            false => Ok(Argument { name, default }),
        }
    };
    some(node)?.iter().map(read).collect()
}

fn volumes(node: &Node) -> Result<Vec<Word>, Fault> {
    let trim = |word: &Word| match word.text.trim() {
        "" => Err(Fault::invalid("a path of VOLUME cannot be empty").at(word.span)),
        text => Ok(Word { text: text.to_owned(), span: word.span }),
    };
    some(node)?.iter().map(trim).collect()
}

fn shell(node: &Node) -> Result<Command, Fault> {
    if !node.json && !node.args.is_empty() {
        return Err(
            Fault::invalid("SHELL requires its arguments as a JSON array").hint("write SHELL [\"/bin/bash\", \"-c\"]")
        );
    }
    Ok(Command::Shell(some(node)?.iter().map(|word| word.text.clone()).collect()))
}

fn onbuild(node: &Node) -> Result<Command, Fault> {
    let Some(inner) = &node.inner else {
        return Err(Fault::invalid("ONBUILD requires an instruction"));
    };
    match inner.keyword.to_ascii_uppercase().as_str() {
        "ONBUILD" => return Err(Fault::invalid("ONBUILD of an ONBUILD is not allowed")),
        keyword @ ("FROM" | "MAINTAINER") => {
            return Err(Fault::invalid(format!("{keyword} is not allowed as an ONBUILD trigger")));
        }
        _ => {}
    }
    let mut text = node.original.trim()[node.keyword.len()..].trim_start().to_owned();
    for heredoc in &node.heredocs {
        text += &format!("\n{}{}", heredoc.content, heredoc.name);
    }
    Ok(Command::Onbuild(text))
}

fn copy(node: &Node, add: bool) -> Result<Copy, Fault> {
    let keyword = if add { "ADD" } else { "COPY" };
    let common =
        [("chown", Takes::Value), ("chmod", Takes::Value), ("link", Takes::Switch), ("exclude", Takes::Values)];
    let own: &[_] = match add {
        true => &[("checksum", Takes::Value), ("keep-git-dir", Takes::Switch), ("unpack", Takes::Switch)],
        false => &[("from", Takes::Value), ("parents", Takes::Switch)],
    };
    let known: Vec<_> = common.iter().chain(own).copied().collect();
    let flags = Flags::read(node, &known)?;
    let [sources @ .., destination] = &node.args[..] else {
        return Err(Fault::invalid(format!("{keyword} requires at least two arguments")));
    };
    if sources.is_empty() {
        return Err(Fault::invalid(format!("{keyword} requires at least two arguments, and only one is there"))
            .hint(format!("write {keyword} {} DESTINATION", destination.text)));
    }
    let inline = |word: &Word| {
        if node.json { Ok(None) } else { heredoc_word(&word.text).map_err(|fault| fault.at(word.span)) }
    };
    if inline(destination)?.is_some() {
        return Err(Fault::invalid(format!("{keyword} cannot have a heredoc as its destination")).at(destination.span));
    }
    let mut copy = Copy {
        add,
        sources: Vec::new(),
        inline: Vec::new(),
        destination: destination.clone(),
        from: flags.value("from"),
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        link: flags.switch("link").unwrap_or(false),
        parents: flags.switch("parents").unwrap_or(false),
        exclude: flags.values("exclude").into_iter().map(|word| word.text).collect(),
        checksum: flags.value("checksum"),
        keep_git_dir: flags.switch("keep-git-dir").unwrap_or(false),
        unpack: flags.switch("unpack"),
    };
    for source in sources {
        let Some(found) = inline(source)? else {
            copy.sources.push(source.clone());
            continue;
        };
        // A name that is used twice has the last body, as in BuildKit.
        let body = node.heredocs.iter().rev().find(|body| body.name == found.name);
        let content = body.map(|body| if found.chomp { chomp(&body.content) } else { body.content.clone() });
        copy.inline.push(Inline { name: found.name, content: content.unwrap_or_default(), expand: found.expand });
    }
    Ok(copy)
}

fn run(node: &Node) -> Result<Run, Fault> {
    let known =
        [("mount", Takes::Values), ("network", Takes::Value), ("security", Takes::Value), ("device", Takes::Values)];
    let flags = Flags::read(node, &known)?;
    let network = match flags.value("network") {
        None => Network::Default,
        Some(word) => match word.text.as_str() {
            "default" => Network::Default,
            "none" => Network::None,
            "host" => Network::Host,
            other => {
                return Err(Fault::invalid(format!("invalid network {other:?}"))
                    .hint("it is default, none or host")
                    .at(word.span));
            }
        },
    };
    if let Some(word) = flags.value("security") {
        match word.text.as_str() {
            "sandbox" => {}
            "insecure" => {
                return Err(Fault::unsupported("RUN --security=insecure is not supported")
                    .hint("every RUN is as isolated as the build; `coop doctor` shows how")
                    .at(word.span));
            }
            other => {
                return Err(Fault::invalid(format!("invalid security {other:?}")).hint("it is sandbox").at(word.span));
            }
        }
    }
    if let Some(word) = flags.values("device").first() {
        return Err(Fault::unsupported("RUN --device is not supported").at(word.span));
    }
    let mounts = flags.values("mount");
    for mount in &mounts {
        mount_from(&mount.text).map_err(|fault| fault.at(mount.span))?;
    }
    Ok(Run { line: line(node), heredocs: node.heredocs.clone(), mounts, network })
}
