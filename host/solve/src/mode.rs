//! Permission bits as `chmod` reads them: octal, or symbolic clauses such as `u=rwX,go-w`.

use crate::Error;

/// A change of permission bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ModeChange {
    Octal(u32),
    Symbolic(Vec<Clause>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Clause {
    /// Bits of the classes meant: 0o4700, 0o2070, 0o0007 combined.
    who: u32,
    actions: Vec<(char, Permissions)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Permissions {
    bits: u32,
    /// `X`: execute only for directories and files that somebody may execute.
    execute_if: bool,
    /// `u`, `g` or `o`: copy the permissions of that class.
    copy: Option<char>,
}

impl ModeChange {
    /// Reads a mode.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let bad = || {
            Error::invalid(format!("bad permission bits {text:?}"))
                .hint("write them in octal, such as 0755, or as chmod reads them, such as u=rwX,go=rX")
        };
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let bits = u32::from_str_radix(text, 8).map_err(|_| bad())?;
            return if bits <= 0o7777 { Ok(Self::Octal(bits)) } else { Err(bad()) };
        }
        text.split(',').map(|clause| parse_clause(clause).ok_or_else(bad)).collect::<Result<_, _>>().map(Self::Symbolic)
    }

    /// The bits that `mode` becomes.
    pub(crate) fn apply(&self, mode: u32, directory: bool) -> u32 {
        match self {
            Self::Octal(bits) => *bits,
            Self::Symbolic(clauses) => clauses.iter().fold(mode, |mode, clause| clause.apply(mode, directory)),
        }
    }
}

impl Clause {
    fn apply(&self, mut mode: u32, directory: bool) -> u32 {
        for (operator, permissions) in &self.actions {
            let mut bits = permissions.bits;
            if permissions.execute_if && (directory || mode & 0o111 != 0) {
                bits |= 0o111;
            }
            if let Some(class) = permissions.copy {
                let shift = match class {
                    'u' => 6,
                    'g' => 3,
                    _ => 0,
                };
                bits |= ((mode >> shift) & 7) * 0o111;
            }
            let bits = bits & self.who;
            mode = match operator {
                '+' => mode | bits,
                '-' => mode & !bits,
                // A directory keeps set-user-id and set-group-id unless they are named, as GNU chmod has it.
                _ => (mode & !(self.who & if directory { 0o1777 } else { 0o7777 })) | bits,
            };
        }
        mode
    }
}

fn parse_clause(text: &str) -> Option<Clause> {
    let mut chars = text.chars().peekable();
    let mut who = 0;
    while let Some(class) = chars.peek() {
        who |= match class {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o0007,
            'a' => 0o6777,
            _ => break,
        };
        chars.next();
    }
    if who == 0 {
        who = 0o6777;
    }
    let mut actions = Vec::new();
    while let Some(operator) = chars.next() {
        if !matches!(operator, '+' | '-' | '=') {
            return None;
        }
        let mut permissions = Permissions { bits: 0, execute_if: false, copy: None };
        while let Some(permission) = chars.peek() {
            match permission {
                'r' => permissions.bits |= 0o444,
                'w' => permissions.bits |= 0o222,
                'x' => permissions.bits |= 0o111,
                's' => permissions.bits |= 0o6000,
                't' => {
                    permissions.bits |= 0o1000;
                    who |= 0o1000;
                }
                'X' => permissions.execute_if = true,
                'u' | 'g' | 'o' => permissions.copy = Some(*permission),
                _ => break,
            }
            chars.next();
        }
        actions.push((operator, permissions));
    }
    (!actions.is_empty()).then_some(Clause { who, actions })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_chmod_changes_them() {
        for (text, before, directory, after) in [
            ("0755", 0o644, false, 0o755),
            ("4755", 0o644, false, 0o4755),
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("go-w", 0o666, false, 0o644),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("g=u", 0o640, false, 0o660),
            ("+t", 0o755, true, 0o1755),
            ("u+s", 0o755, false, 0o4755),
            ("a-x", 0o755, false, 0o644),
            ("o=", 0o757, false, 0o750),
        ] {
            assert_eq!(ModeChange::parse(text).unwrap().apply(before, directory), after, "{text} {before:o}");
        }
        for bad in ["", "8", "0999", "77777", "u", "u+q", "x+u", "u+x,"] {
            assert!(ModeChange::parse(bad).is_err(), "{bad}");
        }
    }
}
