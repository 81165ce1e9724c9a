//! Variables: the automatic ones, the global ones before the first FROM, and those of a stage.

use super::Request;
use crate::fault::{Fault, Kind, nearest};
use crate::instructions::{Command, Dockerfile};
use crate::parser::Word;
use crate::platform::Platform;
use crate::words::{Lexer, Lookup, WordError};

/// All variables of a scope together; no process can have more in its environment.
const MAX_TOTAL: usize = 1 << 20;

/// Variables in the order in which they came up.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    variables: Vec<(String, String)>,
    total: usize,
}

impl Lookup for Scope {
    fn get(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Scope {
    /// Sets a variable; one that exists keeps its place.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Fault> {
        self.total += name.len() + value.len();
        match self.variables.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => {
                self.total -= name.len() + known.len();
                *known = value.to_owned();
            }
            None => self.variables.push((name.to_owned(), value.to_owned())),
        }
        if self.total > MAX_TOTAL {
            return Err(Fault::new(Kind::Limit, format!("the variables of a stage take more than {MAX_TOTAL} bytes")));
        }
        Ok(())
    }

    /// All of them.
    pub fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// The name nearest to one that is not set, as a hint.
    pub fn nearest(&self, name: &str) -> Option<String> {
        nearest(name, self.variables.iter().map(|(known, _)| known.as_str()))
    }
}

/// A fault for a word that cannot be expanded.
pub fn wrong_word(word: &Word, error: &WordError) -> Fault {
    let kind = if *error == WordError::TooLong { Kind::Limit } else { Kind::InvalidInput };
    let shown: String = word.text.chars().take(80).collect();
    let fault = Fault::new(kind, format!("cannot expand {shown:?}: {error}")).at(word.span);
    match error {
        WordError::Unterminated(quote) => {
            fault.hint(format!("close the quote, or write \\{quote} for the character itself"))
        }
        WordError::UnsupportedModifier(_) => fault.hint("there are ${v:-x} ${v:+x} ${v:?x} ${v#p} ${v%p} ${v/p/r}"),
        _ => fault,
    }
}

const AUTOMATIC: [&str; 11] = [
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDOSVERSION",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETOSVERSION",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETSTAGE",
];

/// Whether a variable has a value without anybody giving one.
pub fn is_automatic(name: &str) -> bool {
    AUTOMATIC.contains(&name)
}

/// The variables that FROM can use: the automatic ones, then the ARGs before the first FROM.
pub fn globals(dockerfile: &Dockerfile, request: &Request, platform: &Platform) -> Result<Scope, Fault> {
    let mut scope = Scope::default();
    let last = dockerfile.stages.last().and_then(|stage| stage.name.clone());
    let stage = request.target.clone().or(last).unwrap_or_else(|| "default".into());
    let of = |platform: &Platform| {
        let variant = platform.variant.clone().unwrap_or_default();
        [platform.to_string(), platform.os.clone(), String::new(), platform.architecture.clone(), variant]
    };
    let values = of(&request.build_platform).into_iter().chain(of(platform)).chain([stage]);
    for (name, value) in AUTOMATIC.into_iter().zip(values) {
        scope.set(name, request.argument(name).unwrap_or(&value))?;
    }
    let lexer = Lexer::new(dockerfile.escape);
    for step in &dockerfile.globals {
        let Command::Arg(arguments) = &step.command else {
            continue;
        };
        for argument in arguments {
            let value = match (request.argument(&argument.name.text), &argument.default) {
                (Some(given), _) => Some(given.to_owned()),
                (None, Some(default)) => {
                    Some(lexer.word(&default.text, &scope).map_err(|error| wrong_word(default, &error))?.text)
                }
                (None, None) => None,
            };
            if let Some(value) = value {
                scope.set(&argument.name.text, &value).map_err(|fault| fault.at(argument.name.span))?;
            }
        }
    }
    Ok(scope)
}
