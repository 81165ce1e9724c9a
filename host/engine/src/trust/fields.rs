//! Values in the JSON form of protocol buffers: bytes in base64, 64-bit numbers as strings, times in RFC 3339.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer};

/// Bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Bytes(pub Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(&text).map(Self).map_err(|_| D::Error::custom("some bytes are not base64"))
    }
}

/// A number that is never negative.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Number(pub u64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(i64),
            Text(String),
        }
        let number = match Form::deserialize(deserializer)? {
            Form::Number(number) => number,
            Form::Text(text) => text.parse().map_err(|_| D::Error::custom("a number is none"))?,
        };
        u64::try_from(number)
            .map(Self)
            .map_err(|_| D::Error::invalid_value(Unexpected::Signed(number), &"no less than 0"))
    }
}

/// A stretch of time in seconds since 1970, both ends included, as sigstore's clients read it.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct Validity {
    #[serde(default, deserialize_with = "seconds")]
    start: Option<i64>,
    #[serde(default, deserialize_with = "seconds")]
    end: Option<i64>,
}

impl Validity {
    /// Whether a time lies in it. What does not say when it begins was never valid.
    pub fn includes(&self, time: i64) -> bool {
        self.start.is_some_and(|start| start <= time) && self.end.is_none_or(|end| time <= end)
    }
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let time: jiff::Timestamp = text.parse().map_err(D::Error::custom)?;
    Ok(Some(time.as_second()))
}

/// A time for a message.
pub(super) fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| format!("{seconds} s"), |time| time.to_string())
}

/// Hexadecimal digits for a message or a signed document.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A text from a stranger, fit to be shown.
pub(super) fn printable(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { '?' } else { c }).collect()
}
