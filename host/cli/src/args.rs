//! What can be typed. Raw values only: nothing here opens a file or asks a registry.

mod plugin;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use plugin::{FlowFile, Plugin, PluginTest, SigningKey};
pub(crate) use run::Run;

/// Builds container images with sandboxed WebAssembly plugins.
#[derive(Debug, Parser)]
#[command(name = "coop", version, max_term_width = 110, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done, 1 the build or a step failed, 2 wrong usage or file, or \
    a name of what does not exist, 3 refused (grant, signature, policy, lock, wrong digest), 4 environment (registry, \
    disk, engine).")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Where images, layers and caches are kept [default: /var/lib/cooperage as root, else
    /// ~/.local/share/cooperage]
    #[arg(long, global = true, env = "COOP_ROOT", value_name = "DIR", help_heading = "Global options")]
    pub(crate) root: Option<PathBuf>,
    /// Configuration file [default: ~/.config/cooperage/config.yaml]
    #[arg(long, global = true, env = "COOP_CONFIG", value_name = "FILE", help_heading = "Global options")]
    pub(crate) config: Option<PathBuf>,
    /// Registry to reach by plain HTTP; may be repeated
    #[arg(long, global = true, value_name = "HOST", help_heading = "Global options")]
    pub(crate) insecure_registry: Vec<String>,
    /// Certificate authority of a registry, as HOST=FILE; may be repeated
    #[arg(long, global = true, value_name = "HOST=FILE", help_heading = "Global options")]
    pub(crate) registry_ca: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image
    Build(Box<Build>),
    /// Run the steps of a flow file
    Run(Run),
    /// Look at and move images of the local store
    #[command(subcommand)]
    Image(Image),
    /// Look at and move plugins
    #[command(subcommand)]
    Plugin(Plugin),
    /// Log in to registries and out
    #[command(subcommand)]
    Registry(Registry),
    /// Tell why each step of a build was cached or not
    Explain(Explain),
    /// Read and change the user's configuration
    #[command(subcommand)]
    Config(Config),
    /// Tell what this machine allows and what to install
    Doctor(Listing),
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    #[command(hide = true)]
    Man,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// A live view on a terminal, else plain lines
    #[default]
    Auto,
    /// One line per event
    Plain,
    /// A live view
    Tty,
    /// One JSON object per event
    Json,
    /// Nothing but errors
    Quiet,
}

/// How a listing is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// How findings are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckFormat {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
    /// For services that show code: SARIF 2.1.0
    Sarif,
}

/// Network of processes that ask for none in particular.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkMode {
    /// Only their own loopback
    None,
    /// What this machine reaches
    #[default]
    Host,
}

/// How processes are kept apart from this machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum IsolationMode {
    /// The best that this machine allows
    #[default]
    Auto,
    /// An OCI runtime: runc, crun or youki
    Oci,
    /// Our own namespaces
    Native,
}

/// When a registry is asked for an image that is in the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullMode {
    /// Never, if the store has the image
    #[default]
    Missing,
    /// Always
    Always,
    /// Never, even if the store does not have it
    Never,
}

/// Options that every command which evaluates trees has.
#[derive(Debug, Clone, Args)]
pub(crate) struct Evaluation {
    /// How progress is shown
    #[arg(long, value_enum, default_value_t, env = "COOP_PROGRESS")]
    pub(crate) progress: ProgressMode,
    /// Do everything anew, and remember the results
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// When to ask a registry for base images
    #[arg(long, value_enum, default_value_t, num_args = 0..=1, default_missing_value = "always", require_equals = true)]
    pub(crate) pull: PullMode,
    /// Secret for the build, as id=NAME,src=FILE or id=NAME,env=VARIABLE; may be repeated
    #[arg(long, value_name = "SPEC")]
    pub(crate) secret: Vec<String>,
    /// Network of RUN and of scripts
    #[arg(long, value_enum, default_value_t)]
    pub(crate) network: NetworkMode,
    /// How processes are isolated
    #[arg(long, value_enum, default_value_t, env = "COOP_ISOLATION")]
    pub(crate) isolation: IsolationMode,
    /// Memory limit of each process, such as 512m or 2g
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory: Option<String>,
    /// Processors that each process may use, such as 1.5
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cpus: Option<f64>,
    /// Processes and threads that each process may start
    #[arg(long, value_name = "NUMBER")]
    pub(crate) pids: Option<u64>,
    /// Time limit of each process, such as 90s or 10m
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<String>,
    /// Compression of new layers: gzip, zstd or none, with a level as in gzip:6
    #[arg(long, value_name = "KIND", default_value = "gzip")]
    pub(crate) compression: String,
}

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// Directory with the files of the build, or a URL such as https://host.example/project.git#branch:directory
    #[arg(default_value = ".")]
    pub(crate) context: String,
    /// Name of the image, as NAME[:TAG]; may be repeated
    #[arg(short, long, value_name = "NAME")]
    pub(crate) tag: Vec<String>,
    /// What to build from, such as a Dockerfile; `-` reads it from standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Builder plugin: bundled name, file or reference [default: `builder` of the configuration, else dockerfile]
    #[arg(long, value_name = "PLUGIN")]
    pub(crate) builder: Option<String>,
    /// Parameter of the builder, as NAME=JSON or NAME=TEXT; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) set: Vec<String>,
    /// Stage to stop at
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Platform to build for, such as linux/arm64; may be repeated
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',')]
    pub(crate) platform: Vec<String>,
    /// Build argument, as NAME=VALUE, or NAME for the value in the environment; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) build_arg: Vec<String>,
    /// Another build context, as NAME=DIRECTORY, NAME=URL, NAME=docker-image://REFERENCE or
    /// NAME=oci-layout://DIRECTORY[:TAG]; may be repeated
    #[arg(long, value_name = "NAME=PLACE")]
    pub(crate) build_context: Vec<String>,
    /// Label of the image, as NAME=VALUE; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
    /// Result, as type=image|registry|oci|oci-dir|docker|tar|local,dest=PLACE; a plain DIR gets the files; may be repeated
    #[arg(short, long, value_name = "SPEC")]
    pub(crate) output: Vec<String>,
    /// Make one layer of all, those of the base image included
    #[arg(long)]
    pub(crate) squash: bool,
    /// Push the image under its names
    #[arg(long)]
    pub(crate) push: bool,
    /// Write digests and names of the result to a file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Write the digest of the image's configuration (or of the index) to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Build nothing, and tell what is odd about the Dockerfile; the exit code is 1 if anything is
    #[arg(long, value_enum, value_name = "FORMAT", num_args = 0..=1, default_missing_value = "text", require_equals = true)]
    pub(crate) check: Option<CheckFormat>,
    /// Print nothing but the digest of the image
    #[arg(short, long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) evaluation: Evaluation,
}

/// Options of a listing.
#[derive(Debug, Clone, Args)]
pub(crate) struct Listing {
    /// How the listing is printed
    #[arg(long, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// List images
    Ls(Listing),
    /// Show manifest and configuration of an image
    Inspect {
        /// Name or digest
        image: String,
        #[command(flatten)]
        listing: Listing,
    },
    /// Write an image to a file or directory
    Export {
        /// Name or digest
        image: String,
        /// Where to, as type=docker|oci,dest=FILE or type=oci-dir,dest=DIR; a plain FILE is a docker archive
        #[arg(short, long, value_name = "SPEC")]
        output: String,
    },
    /// Give an image another name
    Tag {
        /// Name or digest
        image: String,
        /// The new name
        name: String,
    },
    /// Send an image to a registry
    Push {
        /// Name in the store
        image: String,
        /// Name at the registry, if it is another one
        destination: Option<String>,
        /// How progress is shown
        #[arg(long, value_enum, default_value_t)]
        progress: ProgressMode,
    },
    /// Bring an image into the store
    Pull {
        /// Name at the registry
        image: String,
        /// Platform, such as linux/arm64
        #[arg(long, value_name = "PLATFORM")]
        platform: Option<String>,
        /// How progress is shown
        #[arg(long, value_enum, default_value_t)]
        progress: ProgressMode,
    },
    /// Remove names, and what only they needed
    Rm {
        /// Names
        #[arg(required = true)]
        image: Vec<String>,
        /// Remove the caches of builds too
        #[arg(long)]
        cache: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Show a setting, or all of them
    Get {
        /// Name of the setting, such as builder
        name: Option<String>,
    },
    /// Change a setting
    Set {
        /// Name of the setting: builder
        name: String,
        /// The new value
        value: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Registry {
    /// Prove and keep a user name and password
    Login {
        /// Host of the registry
        #[arg(default_value = "docker.io")]
        host: String,
        /// User name
        #[arg(short, long)]
        username: String,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Forget the password
    Logout {
        /// Host of the registry
        #[arg(default_value = "docker.io")]
        host: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Image name, or the number of a build [default: the last build]
    pub(crate) target: Option<String>,
    #[command(flatten)]
    pub(crate) listing: Listing,
}

/// Reads the command line. On a mistake clap has printed it; the code is 2, for help 0.
pub(crate) fn parse() -> Result<Arguments, ExitCode> {
    Arguments::try_parse().map_err(|error| {
        // Nothing can be done about a closed terminal.
        let _ = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })
}

/// Prints completions for a shell.
pub(crate) fn completions(shell: clap_complete::Shell) -> Result<(), crate::error::Failure> {
    use clap::CommandFactory;
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "coop", &mut text);
    crate::output::line(String::from_utf8_lossy(&text).trim_end())
}

/// Prints the manual page.
pub(crate) fn manual() -> Result<(), crate::error::Failure> {
    use clap::CommandFactory;
    let mut text = Vec::new();
    clap_mangen::Man::new(Arguments::command())
        .render(&mut text)
        .map_err(|error| crate::error::Failure::usage(format!("the manual page: {error}")))?;
    crate::output::line(String::from_utf8_lossy(&text).trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
