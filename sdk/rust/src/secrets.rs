//! Secrets of the user, by name. What is revealed goes to the far side and nowhere else; the host blacks it out in
//! everything that it shows.

use schemars::JsonSchema;
use serde::Deserialize;

pub use crate::bindings::imports::cooperage::plugin::secrets::reveal;
use crate::{Error, Result};

/// A secret by its name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// Its name.
    pub secret: String,
}

/// The value of a granted secret as [`text`].
///
/// # Errors
/// `denied` without a grant, `not-found` if the user has supplied none, `invalid-input` if it is no text.
pub fn reveal_text(name: &str) -> Result<String> {
    text(name, reveal(name)?)
}

/// The value of the secret of this name as text, without the line ends after it: files and shells add one that is not
/// part of it.
///
/// # Errors
/// `invalid-input`, without the value, if it is no text.
pub fn text(name: &str, value: Vec<u8>) -> Result<String> {
    let mut text = String::from_utf8(value)
        .map_err(|_| Error::invalid_input(format!("the secret {name} is not text in UTF-8")))?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_end_before_the_line_does() {
        for (value, expected) in [
            (&b"a"[..], Some("a")),
            (b"a\r\n", Some("a")),
            (b" a\nb \n\n", Some(" a\nb ")),
            (b"\n", Some("")),
            (&[0xff], None),
        ] {
            assert_eq!(text("KEY", value.to_vec()).ok().as_deref(), expected, "{value:?}");
        }
    }

    #[test]
    fn a_parameter_is_a_name_and_nothing_else() {
        let read = |value| serde_json::from_value::<Secret>(value).ok().map(|secret| secret.secret);
        assert_eq!(read(json!({ "secret": "KEY" })).as_deref(), Some("KEY"));
        for wrong in [json!("KEY"), json!({}), json!({ "secret": "KEY", "prefix": "x" })] {
            assert_eq!(read(wrong), None);
        }
    }
}
