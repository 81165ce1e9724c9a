//! The command line of Cooperage: arguments in, one library call, output and an exit code out.

use std::process::ExitCode;

mod app;
mod args;
mod bundle;
mod commands;
mod config;
mod environment;
mod error;
mod evaluation;
mod exports;
mod flow_steps;
mod lock;
mod named_images;
mod output;
mod plugins;
mod policy;
mod progress;
mod sources;
mod templates;

fn main() -> ExitCode {
    // Hidden entries come first, while this process has one thread and has done nothing.
    if let Some(code) = app::helper_entry() {
        return ExitCode::from(code);
    }
    let arguments = match args::parse() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    match app::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.print();
            error.exit_code()
        }
    }
}
