//! Runs the pages for authors of plugins: every command of a page, one after the other in one shell, the files that it
//! shows, and what it says is printed.
//!
//! In a page, a block in `sh` is run and must succeed; a block with `file=PATH` behind its language becomes that file; a
//! block in `text` has lines that the commands before it must have printed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::registry::Registry;
use crate::support::{COOP, Machine, have};

const SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../sdk");

struct Block<'a> {
    info: &'a str,
    text: String,
}

/// The fenced blocks of a page.
fn blocks(page: &str) -> Vec<Block<'_>> {
    let (mut blocks, mut open) = (Vec::new(), None::<Block>);
    for line in page.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => open = Some(Block { info, text: String::new() }),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => writeln!(block.text, "{line}").unwrap(),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "the last block has no end");
    blocks
}

/// A script that does what the blocks of a page say. What block number N prints goes to `printed.N`.
fn script(blocks: &[Block<'_>], outputs: &Path) -> String {
    let mut script = "set -eu\n".to_owned();
    for (number, block) in blocks.iter().enumerate() {
        if let Some((_, file)) = block.info.split_once(" file=") {
            let file = file.replacen("~/", "\"$HOME\"/", 1);
            let text = &block.text;
            writeln!(script, "mkdir -p \"$(dirname {file})\"\ncat > {file} <<'END OF FILE'\n{text}END OF FILE")
                .unwrap();
        } else if block.info == "sh" {
            let commands = block.text.lines().map(|line| match line.strip_prefix("! ") {
                // Of itself the shell goes on after a command with `!`, however that ends.
                Some(command) => format!("if {command}; then echo 'this succeeds: {command}'; exit 1; fi\n"),
                None => format!("{line}\n"),
            });
            let commands: String = commands.collect();
            writeln!(script, "{{\n{commands}}} > {} 2>&1", printed(outputs, number)).unwrap();
        }
    }
    script
}

fn printed(outputs: &Path, number: usize) -> String {
    outputs.join(format!("printed.{number}")).display().to_string()
}

/// A shell with `coop` in its path, and what an author has that a machine of the tests has not: a toolchain.
fn shell(machine: &Machine) -> Command {
    let mut shell = Command::new("sh");
    shell.current_dir(machine.path("")).env_clear();
    shell.envs(machine.coop(&[]).get_envs().filter_map(|(name, value)| Some((name, value?))));
    let home = variable("HOME").unwrap_or_default();
    for (name, default) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        let value = variable(name).map_or_else(|| Path::new(&home).join(default), PathBuf::from);
        shell.env(name, value);
    }
    let directory = |program: &str| Path::new(program).parent().unwrap().display().to_string();
    let path = [directory(COOP), directory(env!("CARGO")), variable("PATH").unwrap_or_default()].join(":");
    shell.env("PATH", path).env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests"));
    shell
}

#[allow(clippy::disallowed_methods, reason = "an author's toolchain is found by the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Runs a page in a machine; what stands for names in the page comes in pairs.
fn follow(machine: &Machine, page: &str, names: &[(&str, &str)]) {
    let mut text = std::fs::read_to_string(Path::new(SDK).join(page)).unwrap();
    for (from, to) in names {
        text = text.replace(from, to);
    }
    let (blocks, outputs) = (blocks(&text), machine.outside(page));
    std::fs::create_dir_all(&outputs).unwrap();
    let commands = outputs.join("commands");
    std::fs::write(&commands, script(&blocks, &outputs)).unwrap();
    let ran = shell(machine).arg(&commands).output().unwrap();
    let said = |number| std::fs::read_to_string(printed(&outputs, number)).unwrap_or_default();
    let all = || (0..blocks.len()).map(said).collect::<String>();
    assert!(ran.status.success(), "{page}: {ran:?}\n{}", all());

    let (mut last, mut compared) = (String::new(), 0);
    for (number, block) in blocks.iter().enumerate() {
        match block.info {
            "sh" => last = said(number),
            "text" => {
                for line in block.text.lines() {
                    assert!(last.contains(line), "{page} says that this is printed: {line}\nand this is: {last}");
                    compared += 1;
                }
            }
            _ => {}
        }
    }
    assert!(compared > 0, "{page} says nothing of what is printed");
}

#[test]
fn the_pages_for_authors_are_true() {
    if !have(&["docker-registry", "componentize-py"]) {
        return;
    }
    let machine = Machine::new().with_own_cache();
    let registry = Registry::start(&machine);
    follow(&machine, "GUIDE.md", &[]);
    follow(&machine, "PUBLISHING.md", &[("registry.example", &registry.host)]);
}
