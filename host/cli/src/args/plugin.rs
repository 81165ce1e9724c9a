//! `coop plugin`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Listing;

/// The flow file that declares plugins.
#[derive(Debug, Args)]
pub(crate) struct FlowFile {
    /// Flow file
    #[arg(short, long, value_name = "FILE", default_value = "cooperage.yaml")]
    pub(crate) file: PathBuf,
}

/// The private key that signs.
#[derive(Debug, Args)]
pub(crate) struct SigningKey {
    /// Private key as keygen or cosign makes it; its password comes from COSIGN_PASSWORD or standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Read the password of the key from standard input
    #[arg(long, requires = "key")]
    pub(crate) password_stdin: bool,
}

/// What can be typed after `coop plugin test`.
#[derive(Debug, Args)]
pub(crate) struct PluginTest {
    /// The component: a path, or a bundled name or reference
    #[arg(default_value = "plugin.wasm")]
    pub(crate) plugin: String,
    /// Folders with cases, or folders of such folders [default: tests]
    pub(crate) cases: Vec<PathBuf>,
    /// Write what happens into the cases that fail, as what is expected from now on
    #[arg(long)]
    pub(crate) accept: bool,
    /// Hold the plugin against the contract instead: cases that hold for everybody, and variations of its own cases
    #[arg(long, conflicts_with = "accept")]
    pub(crate) conformance: bool,
    /// Run the cases with the real world around them, and write what they meet there as their recording.yaml
    #[arg(long, conflicts_with = "conformance")]
    pub(crate) record: bool,
    /// Secret instead of the one that the cases make up, as id=NAME,src=FILE or id=NAME,env=VARIABLE; may be repeated
    #[arg(long, value_name = "SPEC", requires = "record")]
    pub(crate) secret: Vec<String>,
    /// Also write the result as JUnit XML
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// Print the JSON Schema of case.yaml, and run nothing
    #[arg(long)]
    pub(crate) schema: bool,
    #[command(flatten)]
    pub(crate) listing: Listing,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Plugin {
    /// Make a project for a plugin of your own
    New {
        /// Language
        #[arg(long, value_name = "LANGUAGE")]
        lang: String,
        /// What the plugin does: task, builder, source or registry
        #[arg(long)]
        role: String,
        /// Name of the plugin [default: that of the directory]
        #[arg(long)]
        name: Option<String>,
        /// Directory to make
        directory: PathBuf,
    },
    /// Build the plugin of a project, with its description in it
    Build {
        /// Directory with the script `build`
        #[arg(default_value = ".")]
        directory: PathBuf,
    },
    /// Tell what is to be mended before others use a plugin
    Check {
        /// File, bundled name or reference
        #[arg(default_value = "plugin.wasm")]
        plugin: String,
        /// Version of the contract that hosts must be able to run it with; may be repeated
        #[arg(long, value_name = "VERSION")]
        host: Vec<String>,
        /// Fail for warnings too
        #[arg(long)]
        strict: bool,
        #[command(flatten)]
        listing: Listing,
    },
    /// List the plugins that are bundled, configured, or declared in the flow file
    Ls {
        #[command(flatten)]
        file: FlowFile,
        #[command(flatten)]
        listing: Listing,
    },
    /// Show what a plugin is, asks for and takes, and whether this host can run it, without running it
    Inspect {
        /// Name in the flow file or the configuration, bundled name, file or reference
        plugin: String,
        #[command(flatten)]
        file: FlowFile,
        #[command(flatten)]
        listing: Listing,
    },
    /// Declare a plugin in the flow file, and lock it
    Add {
        /// Its name in `uses`
        name: String,
        /// Where it comes from: oci://HOST/NAME:TAG, file:PATH or layout:DIRECTORY
        from: String,
        /// Allow it what it asks for
        #[arg(long)]
        grant: bool,
        /// Allow it something, as CLASS=JSON; may be repeated
        #[arg(long, value_name = "CLASS=JSON", conflicts_with = "grant")]
        allow: Vec<String>,
        #[command(flatten)]
        file: FlowFile,
    },
    /// Look for newer plugins behind the tags of the flow file, and lock them
    Update {
        /// Which plugins [default: all that the flow file declares]
        name: Vec<String>,
        /// Also take an older version, other content under the same version, or one by another signer
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        file: FlowFile,
    },
    /// Take a plugin out of the flow file and its lock
    Rm {
        /// Its name
        name: String,
        #[command(flatten)]
        file: FlowFile,
    },
    /// Hold the plugins of the flow file against its lock and the policies, or references against the policies
    Verify {
        /// Which plugins: names of the flow file or references [default: all that the flow file declares]
        name: Vec<String>,
        /// Whether this key signed the references, whatever the policies say
        #[arg(long, value_name = "FILE", requires = "name")]
        key: Option<PathBuf>,
        #[command(flatten)]
        file: FlowFile,
    },
    /// Write the locked plugins of the flow file into an OCI layout, for machines without a network
    Save {
        /// Which plugins [default: all that come from registries]
        name: Vec<String>,
        /// Directory of the layout; what is in it stays
        #[arg(short, long, value_name = "DIR")]
        output: PathBuf,
        #[command(flatten)]
        file: FlowFile,
    },
    /// Bring the plugins of such a layout into the plugin cache
    Load {
        /// Directory of the layout
        directory: PathBuf,
    },
    /// Run the cases of a plugin, with fakes instead of the network, registries and processes
    Test(PluginTest),
    /// Send a component to a registry as a plugin artifact
    Push {
        /// The component, as a path or file:PATH
        file: PathBuf,
        /// Name at the registry, as HOST/NAME:VERSION
        reference: String,
        #[command(flatten)]
        key: SigningKey,
    },
    /// Sign a plugin that lies in a registry, as cosign does
    Sign {
        /// Reference
        reference: String,
        #[command(flatten)]
        key: SigningKey,
    },
    /// Make a pair of keys for signatures
    Keygen {
        /// The files are this with .key and .pub
        #[arg(short, long, value_name = "PREFIX", default_value = "cooperage")]
        output: PathBuf,
        /// Read the password of the private key from standard input
        #[arg(long)]
        password_stdin: bool,
    },
    /// Bring a plugin from a registry into the plugin cache
    Pull {
        /// Reference
        reference: String,
    },
}
