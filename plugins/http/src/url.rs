//! URLs of users and of far sides: read with better words than a parser has, shown without what may be secret, and the
//! name of the file behind one.

use cooperage_sdk::http::{Headers, Url};
use cooperage_sdk::{Error, Result};
use percent_encoding::percent_decode_str;

/// What a file is called when nothing says how.
const NAMELESS: &str = "download";
const LONGEST_NAME: usize = 255;

/// Reads what the user wrote.
///
/// # Errors
/// `invalid-input`, without a password that the text may have.
pub fn parse(text: &str) -> Result<Url> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // A password with a slash in it ends the authority early, and then no port follows its colon.
    let port = if authority.ends_with(']') { None } else { authority.rsplit_once(':').map(|(_, port)| port) };
    let cut = port.is_some_and(|port| port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()));
    if authority.contains('@') || (cut && rest.contains('@')) {
        return Err(Error::invalid_input("the URL contains a user name or a password")
            .hint("give them as `basic: { username: NAME, password: { secret: NAME } }`"));
    }
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic()) {
        let hint = match percent(bad) {
            Some(code) => format!("write it as {code}"),
            None => "take it out".to_owned(),
        };
        return Err(Error::invalid_input(format!("the URL contains {bad:?}, which no URL has")).hint(hint));
    }
    // What cannot be read is not shown: a password may be anywhere in it.
    text.parse()
        .map_err(|_: Error| Error::invalid_input("the URL is no http or https URL").hint("write https://HOST/PATH"))
}

fn percent(c: char) -> Option<String> {
    if c.is_control() {
        return None;
    }
    let mut buffer = [0; 4];
    Some(c.encode_utf8(&mut buffer).bytes().map(|byte| format!("%{byte:02X}")).collect())
}

/// For people: without the query, which may hold secrets.
#[must_use]
pub fn shown(url: &Url) -> String {
    let scheme = if url.is_https() { "https" } else { "http" };
    format!("{scheme}://{}{}", url.authority(), url.path())
}

/// The name of the file behind a URL: what the URL says, else what the answer says, else `download`.
#[must_use]
pub fn file_name(url: &Url, answer: &Headers) -> String {
    let told = || answer.get("content-disposition").and_then(disposition);
    told_by(url).or_else(|| told().and_then(|name| safe(&name))).unwrap_or_else(|| NAMELESS.to_owned())
}

/// The last part of a URL's path, if that can be a name.
#[must_use]
pub fn told_by(url: &Url) -> Option<String> {
    let last = url.path().rsplit('/').next().unwrap_or_default();
    safe(&percent_decode_str(last).decode_utf8_lossy())
}

/// A name that can only mean a file in the directory where it is put; none if nothing of it is left.
#[must_use]
pub fn safe(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut kept: String = last.chars().filter(|c| !c.is_control()).collect();
    while kept.len() > LONGEST_NAME {
        kept.pop();
    }
    // A name of whiteouts would take away what is below it.
    let plain = !matches!(kept.as_str(), "" | "." | "..") && !kept.starts_with(".wh.");
    plain.then_some(kept)
}

/// The file name of a `Content-Disposition` (RFC 6266): `filename*` before `filename`.
fn disposition(field: &str) -> Option<String> {
    let mut name = None;
    for parameter in parameters(field) {
        let Some((key, value)) = parameter.split_once('=') else { continue };
        let value = value.trim();
        match key.trim().to_ascii_lowercase().as_str() {
            "filename*" => {
                // charset'language'text
                let mut pieces = value.splitn(3, '\'');
                let (charset, text) = (pieces.next()?, pieces.nth(1));
                if let (true, Some(text)) = (charset.eq_ignore_ascii_case("utf-8"), text) {
                    return percent_decode_str(text).decode_utf8().ok().map(Into::into);
                }
            }
            "filename" => {
                let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
                name = Some(quoted.map_or_else(|| value.to_owned(), |quoted| quoted.replace("\\\"", "\"")));
            }
            _ => {}
        }
    }
    name
}

/// What stands between semicolons outside of quotes.
fn parameters(field: &str) -> Vec<&str> {
    let (mut all, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in field.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b';' if !quoted => {
                all.push(&field[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    all.push(&field[start..]);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files() {
        for (url, field, expected) in [
            ("https://h/a/b.tar.gz?x=1#y", "", "b.tar.gz"),
            ("https://h/a/b%20c", "attachment; filename=other", "b c"),
            ("https://h/", "attachment; filename=\"a;b \\\"c\\\".txt\"", "a;b \"c\".txt"),
            ("https://h/", "attachment; filename=plain.txt; size=3", "plain.txt"),
            ("https://h/", "attachment; filename=x; filename*=UTF-8''%e2%82%ac.txt", "€.txt"),
            ("https://h/", "attachment; filename*=latin1''%e2; filename=x", "x"),
            ("https://h/", "attachment; filename=\"../../etc/passwd\"", "passwd"),
            ("https://h/", "attachment; filename=\"C:\\\\a\\\\b.exe\"", "b.exe"),
            ("https://h/", "attachment; filename=\"..\"", "download"),
            ("https://h/", "attachment; filename=", "download"),
            ("https://h/", "inline", "download"),
            ("https://h/a/", "", "download"),
            ("https://h/a/..%2f..%2fetc%2fpasswd", "", "passwd"),
            ("https://h/%2e%2e", "", "download"),
            ("https://h/.wh..wh..opq", "", "download"),
            ("https://h/a%00%0ab", "", "ab"),
        ] {
            let mut headers = Headers::default();
            headers.append("content-disposition", field);
            assert_eq!(file_name(&url.parse().unwrap(), &headers), expected, "{url} {field}");
        }
        assert_eq!(safe(&"é".repeat(300)).unwrap().len(), 254);
    }

    #[test]
    fn what_users_write() {
        for (text, says) in [
            ("https://user:hunter2@h/", "user name or a password"),
            ("https://user:hunter2/x@h/", "user name or a password"),
            ("https://user:hunter2?x@h/", "user name or a password"),
            ("https://user:/hunter2@h/", "user name or a password"),
            ("user:hunter2@h/", "user name or a password"),
            ("https://user:hunter2/", "is no http or https URL"),
            ("https://h/a b", "contains ' '"),
            ("https://h/é", "contains 'é'"),
            ("ftp://h/?hunter2", "is no http or https URL"),
            ("h/?hunter2", "is no http or https URL"),
            ("", "is no http or https URL"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.message.contains(says), "{text}: {}", error.message);
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        assert_eq!(parse("https://h/é").unwrap_err().hint.as_deref(), Some("write it as %C3%A9"));
        for text in ["https://h/@scope/x", "https://h:8443/@scope/x", "https://[::1]/@scope/x", "https://[::1]:1/a:b@c"]
        {
            assert_eq!(shown(&parse(text).unwrap()), text, "an @ may be in a path");
        }
        assert_eq!(shown(&parse("https://h:8443/a?token=x").unwrap()), "https://h:8443/a");
    }
}
