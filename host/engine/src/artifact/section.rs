//! The custom section of a component that holds the plugin's description, so that digest and signature cover it and
//! nobody has to run a plugin to learn what it asks for. Knows the framing of wasm binaries, not the description.

use super::Error;
use crate::compile::outline::{OutlineError, outline};

/// Name of the section; its data is JSON in UTF-8.
pub const DESCRIPTION_SECTION: &str = "cooperage:description";

/// A description is small; what is larger is not read.
const LARGEST: usize = 1 << 20;

/// What a component offers and wants at its outside, as `describe` cannot lie about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surface {
    /// Names of its imports, sorted.
    pub imports: Vec<String>,
    /// Names of its exports, sorted.
    pub exports: Vec<String>,
}

/// The component with `json` as its description; one that was there is replaced. The result depends on nothing else.
pub fn embed_description(component: &[u8], json: &str) -> Result<Vec<u8>, Error> {
    serde_json::from_str::<serde_json::Value>(json).map_err(|e| Error::invalid("description", e))?;
    let mut out = strip_description(component)?;
    let mut body = Vec::new();
    write_leb(&mut body, DESCRIPTION_SECTION.len());
    body.extend_from_slice(DESCRIPTION_SECTION.as_bytes());
    body.extend_from_slice(json.as_bytes());
    out.push(0);
    write_leb(&mut out, body.len());
    out.extend_from_slice(&body);
    Ok(out)
}

/// The component without its description.
pub fn strip_description(component: &[u8]) -> Result<Vec<u8>, Error> {
    surface(component)?;
    let mut out = component[..8].to_vec();
    for section in sections(component)? {
        if !section.is_description() {
            out.extend_from_slice(section.whole);
        }
    }
    Ok(out)
}

/// The description of a component, or none if it has no such section. Sections of nested components do not count.
pub fn read_description(component: &[u8]) -> Result<Option<String>, Error> {
    let mut found = None;
    for section in sections(component)? {
        if section.is_description() {
            if found.is_some() {
                return Err(Error::invalid("component", "it has two descriptions"));
            }
            found = Some(section.custom_data().unwrap_or_default());
        }
    }
    let Some(data) = found else { return Ok(None) };
    if data.len() > LARGEST {
        return Err(Error::TooLarge { what: "the description".into(), size: data.len() as u64, limit: LARGEST as u64 });
    }
    String::from_utf8(data.to_vec()).map(Some).map_err(|_| Error::invalid("description", "it is not UTF-8"))
}

/// Names of imports and exports. Fails on what is no component; says what to do with a core module.
pub fn surface(component: &[u8]) -> Result<Surface, Error> {
    let wrong = |reason: &dyn std::fmt::Display| Error::invalid("component", reason);
    let outline = outline(component, u64::MAX).map_err(|error| match error {
        OutlineError::NotAComponent(is) => Error::NotAComponent { what: "this".to_owned(), is },
        OutlineError::Damaged { reason, .. } => wrong(&reason),
        other => wrong(&other),
    })?;
    let imports = outline.outside.imports.into_iter().map(|import| import.name);
    let mut surface = Surface { imports: imports.collect(), exports: outline.outside.exports };
    surface.imports.sort();
    surface.exports.sort();
    Ok(surface)
}

struct Section<'a> {
    id: u8,
    body: &'a [u8],
    whole: &'a [u8],
}

impl<'a> Section<'a> {
    fn is_description(&self) -> bool {
        self.custom_data().is_some()
    }

    fn custom_data(&self) -> Option<&'a [u8]> {
        let (length, at) = (self.id == 0).then(|| read_leb(self.body)).flatten()?;
        let name = self.body.get(at..at.checked_add(length)?)?;
        (name == DESCRIPTION_SECTION.as_bytes()).then(|| &self.body[at + length..])
    }
}

/// The top level of the binary: after eight bytes of preamble, each section is an id, a length in LEB128 and a body.
fn sections(binary: &[u8]) -> Result<Vec<Section<'_>>, Error> {
    let wrong = || Error::invalid("component", "it is cut off or no wasm binary");
    if !binary.starts_with(b"\0asm") || binary.len() < 8 {
        return Err(wrong());
    }
    let (mut found, mut rest) = (Vec::new(), &binary[8..]);
    while let Some((&id, tail)) = rest.split_first() {
        let (length, at) = read_leb(tail).ok_or_else(wrong)?;
        let end = at.checked_add(length).ok_or_else(wrong)?;
        let body = tail.get(at..end).ok_or_else(wrong)?;
        found.push(Section { id, body, whole: &rest[..=end] });
        rest = &tail[end..];
    }
    Ok(found)
}

fn read_leb(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, i + 1));
        }
    }
    None
}

fn write_leb(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

/// The smallest component there is, for tests.
#[cfg(test)]
pub(crate) const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_kept_and_replaced() {
        let once = embed_description(EMPTY_COMPONENT, r#"{"name":"a"}"#).unwrap();
        assert_eq!(read_description(&once).unwrap().as_deref(), Some(r#"{"name":"a"}"#));
        let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(300));
        let twice = embed_description(&once, &long).unwrap();
        assert_eq!(read_description(&twice).unwrap(), Some(long));
        assert_eq!(embed_description(&twice, r#"{"name":"a"}"#).unwrap(), once, "nothing else changes");
        assert_eq!(strip_description(&twice).unwrap(), EMPTY_COMPONENT);
        assert_eq!(read_description(EMPTY_COMPONENT).unwrap(), None);
        assert_eq!(surface(&twice).unwrap(), Surface::default());
    }

    #[test]
    fn what_is_no_component_is_refused() {
        let module = b"\0asm\x01\0\0\0";
        assert!(embed_description(module, "{}").unwrap_err().to_string().contains("wasm32-wasip2"));
        assert!(embed_description(EMPTY_COMPONENT, "{").is_err());
        assert!(read_description(b"MZ").is_err());
        let described = embed_description(EMPTY_COMPONENT, r#"{"name":"a"}"#).unwrap();
        for end in 9..described.len() {
            assert!(read_description(&described[..end]).is_err(), "cut at {end}");
        }
        let mut two = described.clone();
        two.extend_from_slice(&described[8..]);
        assert!(read_description(&two).is_err());
    }

    #[test]
    fn a_nested_description_does_not_count() {
        let inner = embed_description(EMPTY_COMPONENT, r#"{"name":"inner"}"#).unwrap();
        let mut outer = EMPTY_COMPONENT.to_vec();
        outer.push(4);
        write_leb(&mut outer, inner.len());
        outer.extend_from_slice(&inner);
        assert_eq!(read_description(&outer).unwrap(), None);
        assert_eq!(surface(&outer).unwrap(), Surface::default());
    }
}
