//! Flags of one instruction against the flags it knows.

use crate::fault::{Fault, nearest};
use crate::parser::{Node, Word};

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// A value, once.
    Value,
    /// A value, any number of times.
    Values,
    /// `true`, `false` or nothing.
    Switch,
}

/// The flags of one instruction, checked.
pub struct Flags(Vec<(&'static str, Word)>);

impl Flags {
    /// Checks the flags of an instruction against those it knows.
    pub fn read(node: &Node, known: &[(&'static str, Takes)]) -> Result<Self, Fault> {
        let mut flags: Vec<(&'static str, Word)> = Vec::new();
        for word in &node.flags {
            let fail = |fault: Fault| Err(fault.at(word.span));
            let body = word.text.strip_prefix("--").unwrap_or(&word.text);
            let (name, value) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (body, None),
            };
            let Some(&(name, takes)) = known.iter().find(|(known, _)| *known == name) else {
                let keyword = node.keyword.to_ascii_uppercase();
                let names: Vec<String> = known.iter().map(|(name, _)| format!("--{name}")).collect();
                let written = format!("--{name}");
                let hint =
                    nearest(&written, names.iter().map(String::as_str)).unwrap_or_else(|| match names.is_empty() {
                        true => format!("{keyword} has no flags"),
                        false => format!("{keyword} knows {}", names.join(", ")),
                    });
                return fail(Fault::invalid(format!("unknown flag {written} of {keyword}")).hint(hint));
            };
            if takes != Takes::Values && flags.iter().any(|(seen, _)| *seen == name) {
                return fail(Fault::invalid(format!("the flag --{name} is given twice")));
            }
            let value = match (takes, value) {
                (Takes::Switch, None) => "true".to_owned(),
                (Takes::Switch, Some(value)) => match value.to_ascii_lowercase().as_str() {
                    value @ ("true" | "false") => value.to_owned(),
                    _ => {
                        return fail(Fault::invalid(format!("--{name} is either true or false, not {value:?}")));
                    }
                },
                (_, Some(value)) => value.to_owned(),
                (_, None) => {
                    return fail(
                        Fault::invalid(format!("the flag --{name} needs a value"))
                            .hint(format!("write --{name}=VALUE")),
                    );
                }
            };
            flags.push((name, Word { text: value, span: word.span }));
        }
        Ok(Self(flags))
    }

    /// The value of a flag, with the place of the flag.
    pub fn value(&self, name: &str) -> Option<Word> {
        self.values(name).into_iter().next().filter(|word| !word.text.is_empty())
    }

    /// All values of a flag.
    pub fn values(&self, name: &str) -> Vec<Word> {
        self.0.iter().filter(|(known, _)| *known == name).map(|(_, word)| word.clone()).collect()
    }

    /// Whether a switch is on; none if it is not given.
    pub fn switch(&self, name: &str) -> Option<bool> {
        self.value(name).map(|word| word.text == "true")
    }
}
