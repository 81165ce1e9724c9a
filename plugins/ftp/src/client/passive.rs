//! Where the server waits for a data connection: replies to EPSV (RFC 2428) and PASV (RFC 959). Only the port counts.
//! An address that a server names is never connected to: it could be anybody's.

use std::net::Ipv4Addr;

/// The port in `229 Entering Extended Passive Mode (|||6446|)`.
pub fn extended(text: &str) -> Option<u16> {
    let inner = text.rsplit_once('(')?.1.split(')').next()?;
    let delimiter = inner.chars().next().filter(|c| ('!'..='~').contains(c) && !c.is_ascii_digit())?;
    let mut parts = inner.split(delimiter);
    let (before, _protocol, _address, port, after) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let sound = before.is_empty() && after.is_empty() && parts.next().is_none();
    number(port).filter(|port| sound && *port != 0)
}

/// Address and port in `227 Entering Passive Mode (127,0,0,1,25,46)`; some servers leave the parentheses out.
pub fn classic(text: &str) -> Option<(Ipv4Addr, u16)> {
    let start = match text.find('(') {
        Some(open) => open + 1,
        None => text.find(|c: char| c.is_ascii_digit())?,
    };
    let end = text[start..].find(|c: char| !c.is_ascii_digit() && c != ',').map_or(text.len(), |end| start + end);
    let bytes: Vec<u8> = text[start..end].split(',').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [a, b, c, d, high, low] = bytes.try_into().ok()?;
    let port = u16::from_be_bytes([high, low]);
    (port != 0).then_some((Ipv4Addr::new(a, b, c, d), port))
}

/// `parse` alone would take a sign.
fn number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_replies() {
        for (text, expected) in [
            ("Entering Extended Passive Mode (|||6446|)", Some(6446)),
            ("Entering Extended Passive Mode (!!!21!).", Some(21)),
            ("(a) (|||1|)", Some(1)),
            ("(|1|10.0.0.1|6446|)", Some(6446)),
            ("(|||0|)", None),
            ("(|||65536|)", None),
            ("(|||+80|)", None),
            ("(|||80)", None),
            ("(||80|)", None),
            ("(|||80||)", None),
            ("|||80|", None),
            ("()", None),
            ("", None),
            ("(1111111)", None),
        ] {
            assert_eq!(extended(text), expected, "{text:?}");
        }
    }

    #[test]
    fn classic_replies() {
        let at = |port| Some((Ipv4Addr::LOCALHOST, port));
        for (text, expected) in [
            ("Entering Passive Mode (127,0,0,1,25,46)", at(6446)),
            ("Entering Passive Mode (127,0,0,1,25,46).", at(6446)),
            ("Entering Passive Mode 127,0,0,1,25,46", at(6446)),
            ("(127,0,0,1,0,0)", None),
            ("(127,0,0,1,25)", None),
            ("(127,0,0,1,25,46,7)", None),
            ("(127,0,0,1,25,256)", None),
            ("(127,0,0,1,-1,4)", None),
            ("passive", None),
            ("", None),
        ] {
            assert_eq!(classic(text), expected, "{text:?}");
        }
    }
}
