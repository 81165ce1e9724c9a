//! Which statuses are right.

use cooperage_sdk::{Error, Result};

use crate::parameters::{Expect, StatusClass};

/// A set of statuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statuses(Vec<(u16, u16)>);

impl Statuses {
    /// 2xx.
    #[must_use]
    pub fn success() -> Self {
        Self(vec![(200, 299)])
    }

    /// What a parameter says.
    ///
    /// # Errors
    /// `invalid-input` for what is no status.
    pub fn read(expect: &Expect) -> Result<Self> {
        let items = match expect {
            Expect::One(item) => std::slice::from_ref(item),
            Expect::Many(items) => items,
        };
        if items.is_empty() {
            return Err(Error::invalid_input("the list of expected statuses is empty, so nothing would ever be right"));
        }
        items.iter().map(range).collect::<Result<_>>().map(Self)
    }

    /// Whether a status is one of them.
    #[must_use]
    pub fn has(&self, status: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

fn range(item: &StatusClass) -> Result<(u16, u16)> {
    let found = match item {
        StatusClass::Status(status) => Some((*status, *status)),
        StatusClass::Class(text) => match text.as_bytes() {
            [digit @ b'1'..=b'5', b'x' | b'X', b'x' | b'X'] => {
                let first = u16::from(digit - b'0') * 100;
                Some((first, first + 99))
            }
            bytes if bytes.iter().all(u8::is_ascii_digit) => text.parse().ok().map(|status| (status, status)),
            _ => None,
        },
    };
    found.filter(|(first, _)| (100..600).contains(first)).ok_or_else(|| {
        let shown = match item {
            StatusClass::Status(status) => status.to_string(),
            StatusClass::Class(text) => format!("{text:?}"),
        };
        Error::invalid_input(format!("{shown} is no status"))
            .hint("write a number such as 201, or a class such as \"2xx\"")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn statuses_and_classes() {
        for (written, right, wrong) in [
            (json!("2xx"), &[200, 204, 299][..], &[199, 300][..]),
            (json!(404), &[404], &[200, 403, 405]),
            (json!([200, "3XX", "418"]), &[200, 302, 399, 418], &[201, 400]),
        ] {
            let statuses = Statuses::read(&serde_json::from_value(written.clone()).unwrap()).unwrap();
            assert!(right.iter().all(|status| statuses.has(*status)), "{written}");
            assert!(!wrong.iter().any(|status| statuses.has(*status)), "{written}");
        }
        for wrong in [json!([]), json!(42), json!(600), json!("6xx"), json!("ok"), json!(""), json!("20x")] {
            let expect = serde_json::from_value(wrong.clone()).unwrap();
            assert!(Statuses::read(&expect).is_err(), "{wrong}");
        }
    }
}
