//! What works in a Dockerfile and is probably not meant: the rules of BuildKit under their names, and a few of our own.
//!
//! A rule is a function from what it looks at to a message, without a memory of its own: what the text alone tells is
//! asked here once (`document`), what depends on a stage's state the planner asks while it goes through the stage.
//! So there is neither a second parse nor a second walk. Whether a finding counts is decided last, by [`Filter`].

pub mod bases;
mod casing;
mod check;
pub mod commands;
pub mod comments;
mod findings;
pub mod ignored;
mod stages;
pub mod variables;

pub use check::{Check, Filter};
pub use findings::findings;

use crate::parser::{Node, Warning};

/// What is known of a rule beside its condition.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Its name, as in `# check=skip=NAME`.
    pub name: &'static str,
    /// What to do.
    pub help: &'static str,
    /// Whether it counts only where `experimental=` names it.
    pub experimental: bool,
}

const fn rule(name: &'static str, help: &'static str) -> Rule {
    Rule { name, help, experimental: false }
}

/// All rules, those of BuildKit first.
pub const RULES: [Rule; 25] = [
    rule("StageNameCasing", "write the name in lower case"),
    rule("FromAsCasing", "write FROM and AS both in upper case or both in lower case"),
    rule("NoEmptyContinuation", "take out the empty line, or put a # on it"),
    rule("ConsistentInstructionCasing", "write all instructions in upper case or all in lower case"),
    rule("DuplicateStageName", "give each stage a name of its own; only the last of a name can be referred to"),
    rule("ReservedStageName", "choose another name: FROM scratch and named contexts have a meaning of their own"),
    rule("JSONArgsRecommended", "write the command as a JSON array, or set a SHELL if a shell is wanted"),
    rule("MaintainerDeprecated", "write LABEL org.opencontainers.image.authors=\"...\""),
    rule("UndefinedArgInFrom", "declare it with ARG before the first FROM"),
    rule("WorkdirRelativePath", "begin with an absolute WORKDIR; later ones may be relative to it"),
    rule("UndefinedVar", "declare it with ARG or ENV in this stage, before it is used"),
    rule("MultipleInstructionsDisallowed", "keep one of them"),
    rule("LegacyKeyValueFormat", "put = between name and value"),
    rule("InvalidBaseImagePlatform", "use a base that exists for the platform, or write --platform at FROM"),
    rule("RedundantTargetPlatform", "leave --platform out"),
    rule("SecretsUsedInArgOrEnv", "mount it where it is used: RUN --mount=type=secret,id=NAME"),
    rule("InvalidDefaultArgInFrom", "give the ARG a default with which FROM names an image"),
    rule(
        "FromPlatformFlagConstDisallowed",
        "use $BUILDPLATFORM or $TARGETPLATFORM, or name the stage after the platform",
    ),
    rule("CopyIgnoredFile", "take the pattern out of the ignore file, or do not copy the file"),
    rule("ExposeProtoCasing", "write the protocol in lower case"),
    rule("ExposeInvalidFormat", "write the port of the container alone; who runs the image maps it"),
    Rule {
        name: "InvalidDefinitionDescription",
        help: "begin the comment with the name it describes, or put an empty line below it",
        experimental: true,
    },
    rule("ExecFormInvalid", "use double quotes, and check that the array is closed"),
    rule("CopyDestinationNotDirectory", "put a / at the end of the destination"),
    rule("SyntaxIgnored", "take the line out if the Dockerfile needs nothing that only that frontend has"),
];

/// The rules that need nothing but the text, in the order of its lines.
pub fn document(nodes: &[Node], warnings: &mut Vec<Warning>) {
    casing::check(nodes, warnings);
    stages::check(nodes, warnings);
    for node in nodes {
        comments::description(node, warnings);
        if node.keyword.eq_ignore_ascii_case("maintainer") {
            let message = "MAINTAINER is deprecated in favour of a label".to_owned();
            warnings.push(Warning { rule: "MaintainerDeprecated", message, span: node.span });
        }
    }
}

#[cfg(test)]
mod tests;
