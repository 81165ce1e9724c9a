//! What can be typed after `coop run`.

use std::path::PathBuf;

use clap::Args;

use super::{Evaluation, OutputFormat};

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// What to run: IMAGE, IMAGE:TAG, STEP or IMAGE:TAG/STEP [default: everything]
    pub(crate) target: Vec<String>,
    /// Flow file
    #[arg(short, long, value_name = "FILE", default_value = "cooperage.yaml")]
    pub(crate) file: PathBuf,
    /// Show the plan, with what is cached and what would run, and run nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Go on after a run of the same file and targets that failed or was stopped: steps that succeeded, and whose
    /// parameters, files and predecessors are the same, are not run again
    #[arg(long, visible_alias = "from-last")]
    pub(crate) resume: bool,
    /// Refuse to run if cooperage.lock lacks a plugin or would change
    #[arg(long)]
    pub(crate) locked: bool,
    /// Report to write, as junit=FILE or json=FILE; may be repeated
    #[arg(long, value_name = "KIND=FILE")]
    pub(crate) report: Vec<String>,
    /// Variable for ${NAME} in the file, as NAME=VALUE; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) var: Vec<String>,
    /// How many steps run at a time
    #[arg(long, value_name = "NUMBER")]
    pub(crate) jobs: Option<usize>,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
    #[command(flatten)]
    pub(crate) evaluation: Evaluation,
}
