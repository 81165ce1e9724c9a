//! Texts of parameters that may be secrets. What is revealed here goes into requests and nowhere else: no message of
//! this crate shows it.

use cooperage_sdk::secrets::Secret;
use cooperage_sdk::{Context, Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Number, Value};

use crate::edge::Vault;

/// A text, a number, a secret, or several of them put together.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Text {
    /// As it is.
    Plain(String),
    /// In decimal.
    Number(Number),
    /// `true` or `false`.
    Flag(bool),
    /// A secret.
    Secret(Secret),
    /// Several, without anything in between.
    Join(Join),
}

/// Texts put together, for instance `join: ["Token ", { secret: NAME }]`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The texts.
    pub join: Vec<Text>,
}

/// One text or a list of them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Texts {
    /// One.
    One(Text),
    /// The name occurs once for each.
    Many(Vec<Text>),
}

impl Texts {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Text] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

impl Text {
    /// Whether some of it is secret.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        match self {
            Self::Secret(_) => true,
            Self::Join(Join { join }) => join.iter().any(Self::is_secret),
            _ => false,
        }
    }

    /// The text, secrets included.
    ///
    /// # Errors
    /// Those of the vault; `invalid-input` for a secret that is no text.
    pub fn reveal(&self, vault: &dyn Vault) -> Result<String> {
        match self {
            Self::Plain(text) => Ok(text.clone()),
            Self::Number(number) => Ok(number.to_string()),
            Self::Flag(flag) => Ok(flag.to_string()),
            Self::Secret(Secret { secret }) => reveal(secret, vault),
            Self::Join(Join { join }) => join.iter().map(|text| text.reveal(vault)).collect(),
        }
    }
}

/// The value of a secret without the end of its last line, which files and shells add.
fn reveal(name: &str, vault: &dyn Vault) -> Result<String> {
    let bytes = vault.reveal(name).with_context(|| format!("cannot use the secret {name}"))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::invalid_input(format!("the secret {name} is not text in UTF-8")))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// Puts the values of secrets where a document has `{ "secret": NAME }`; says whether there was one.
///
/// # Errors
/// Those of [`Text::reveal`].
pub fn reveal_in(document: &mut Value, vault: &dyn Vault) -> Result<bool> {
    let mut found = false;
    match document {
        Value::Array(items) => {
            for item in items {
                found |= reveal_in(item, vault)?;
            }
        }
        Value::Object(map) => match map.get("secret") {
            Some(Value::String(name)) if map.len() == 1 => {
                *document = Value::String(reveal(name, vault)?);
                found = true;
            }
            _ => {
                for item in map.values_mut() {
                    found |= reveal_in(item, vault)?;
                }
            }
        },
        _ => {}
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    struct One;

    impl Vault for One {
        fn reveal(&self, name: &str) -> Result<Vec<u8>> {
            match name {
                "TOKEN" => Ok(b"s3cret\r\n".to_vec()),
                "BYTES" => Ok(vec![0xff]),
                _ => Err(Error::not_found(format!("no secret {name}"))),
            }
        }
    }

    #[test]
    fn texts() {
        for (written, expected, secret) in [
            (json!("plain"), Some("plain"), false),
            (json!(3), Some("3"), false),
            (json!(true), Some("true"), false),
            (json!({ "secret": "TOKEN" }), Some("s3cret"), true),
            (json!({ "join": ["Token ", { "secret": "TOKEN" }] }), Some("Token s3cret"), true),
            (json!({ "join": [] }), Some(""), false),
            (json!({ "secret": "BYTES" }), None, true),
            (json!({ "secret": "OTHER" }), None, true),
        ] {
            let text: Text = serde_json::from_value(written.clone()).unwrap();
            assert_eq!(text.reveal(&One).ok().as_deref(), expected, "{written}");
            assert_eq!(text.is_secret(), secret, "{written}");
        }
        for wrong in [json!(null), json!([]), json!({}), json!({ "secret": "A", "prefix": "B" })] {
            assert!(serde_json::from_value::<Text>(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn documents() {
        let mut document = json!({ "a": [1, { "secret": "TOKEN" }], "b": { "secret": "TOKEN", "c": null } });
        assert!(reveal_in(&mut document, &One).unwrap());
        assert_eq!(document, json!({ "a": [1, "s3cret"], "b": { "secret": "TOKEN", "c": null } }));
        assert!(!reveal_in(&mut json!({ "secret": 1 }), &One).unwrap());
    }
}
