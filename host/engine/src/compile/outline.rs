//! A look at a file before it is compiled: is it a component at all, and of a kind that this host takes? Cheap, and
//! with messages that an author can act on.

use wasmparser::{Chunk, Parser, Payload};

use crate::artifact::DESCRIPTION_SECTION;
use crate::outside::{Collector, Outside};

/// Why a file is no plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutlineError {
    /// Something else altogether.
    #[error("this is not a WebAssembly component: {0}")]
    NotAComponent(#[from] NotAComponent),
    /// A binary format that came later than this host.
    #[error("this component has binary format version {version}, this host knows 13; use a newer coop")]
    Format {
        /// The version in the header.
        version: u16,
    },
    /// Larger than the host takes.
    #[error("this component has {size} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// Nested deeper or in more parts than an honest plugin.
    #[error("this component has more than {limit} {what}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Damaged.
    #[error("this component is damaged at byte {offset}: {reason}")]
    Damaged {
        /// Where.
        offset: usize,
        /// What is wrong.
        reason: String,
    },
}

/// What a file is that is no component.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAComponent {
    /// Nothing.
    #[error("it is empty")]
    Empty,
    /// Not WebAssembly.
    #[error("it begins with \"{start}\"")]
    Other {
        /// The first bytes, printable.
        start: String,
    },
    /// WebAssembly text.
    #[error("it is WebAssembly text; make a component of it first (`wasm-tools parse`)")]
    Text,
    /// A module without a component around it.
    #[error(
        "it is a core module; build with `--target wasm32-wasip2`, or wrap the module with `wasm-tools component new`"
    )]
    CoreModule,
}

/// What the outline tells.
#[derive(Debug, Default)]
pub(crate) struct Outline {
    /// What the component imports and exports.
    pub outside: Outside,
    /// The custom section with the plugin's description.
    pub description: Option<Vec<u8>>,
}

const MODULES: usize = 1_000;
const DEPTH: usize = 20;
const IMPORTS: usize = 1_000;

/// Checks a file and tells what it imports and exports.
pub(crate) fn outline(bytes: &[u8], limit: u64) -> Result<Outline, OutlineError> {
    header(bytes)?;
    if bytes.len() as u64 > limit {
        return Err(OutlineError::TooLarge { size: bytes.len() as u64, limit });
    }
    let (mut collector, mut description) = (Collector::default(), None);
    let mut parsers: Vec<Parser> = Vec::new();
    let mut parser = Parser::new(0);
    let (mut offset, mut modules) = (0, 0);
    loop {
        let chunk = parser.parse(&bytes[offset..], true).map_err(damaged)?;
        let Chunk::Parsed { consumed, payload } = chunk else {
            return Err(OutlineError::Damaged { offset, reason: "it ends too early".to_owned() });
        };
        offset += consumed;
        match payload {
            Payload::ModuleSection { parser: _, unchecked_range } => {
                modules += 1;
                // The module itself is the compiler's business.
                offset = skip(bytes, unchecked_range)?;
            }
            Payload::ComponentSection { parser: inner, .. } => {
                modules += 1;
                parsers.push(std::mem::replace(&mut parser, inner));
            }
            Payload::CustomSection(section) if parsers.is_empty() && section.name() == DESCRIPTION_SECTION => {
                description = Some(section.data().to_vec());
            }
            Payload::End(_) => match parsers.pop() {
                Some(outer) => parser = outer,
                None => return Ok(Outline { outside: collector.finish(), description }),
            },
            payload if parsers.is_empty() => collector.payload(&payload).map_err(damaged)?,
            _ => {}
        }
        bound("modules and inner components", modules, MODULES)?;
        bound("levels", parsers.len(), DEPTH)?;
        bound("imports", collector.imports(), IMPORTS)?;
    }
}

/// Checks the first bytes of a file.
fn header(bytes: &[u8]) -> Result<(), OutlineError> {
    if bytes.is_empty() {
        return Err(NotAComponent::Empty.into());
    }
    let start = &bytes[..bytes.len().min(8)];
    if !start.starts_with(b"\0asm") {
        let text = bytes.trim_ascii_start();
        if text.starts_with(b"(component") || text.starts_with(b"(module") {
            return Err(NotAComponent::Text.into());
        }
        return Err(NotAComponent::Other { start: start.escape_ascii().to_string() }.into());
    }
    match *start {
        [_, _, _, _, _, _, 0, 0] => Err(NotAComponent::CoreModule.into()),
        [_, _, _, _, 13, 0, 1, 0] => Ok(()),
        [_, _, _, _, low, high, 1, 0] => Err(OutlineError::Format { version: u16::from_le_bytes([low, high]) }),
        _ => Err(OutlineError::Damaged {
            offset: 4,
            reason: "the header is neither a module's nor a component's".to_owned(),
        }),
    }
}

fn skip(bytes: &[u8], range: std::ops::Range<usize>) -> Result<usize, OutlineError> {
    if range.end > bytes.len() {
        return Err(OutlineError::Damaged { offset: range.start, reason: "it ends too early".to_owned() });
    }
    Ok(range.end)
}

fn bound(what: &'static str, count: usize, limit: usize) -> Result<(), OutlineError> {
    if count > limit { Err(OutlineError::TooMany { what, limit }) } else { Ok(()) }
}

fn damaged(error: wasmparser::BinaryReaderError) -> OutlineError {
    OutlineError::Damaged { offset: error.offset(), reason: error.message().to_owned() }
}
