use super::*;

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

/// The tables that BuildKit tests its lexer with. They are kept beside the repository, not in it.
fn table(name: &str) -> Option<String> {
    crate::testing::cases("shell").map(|folder| std::fs::read_to_string(folder.join(name)).unwrap())
}

#[test]
fn expands_the_table_of_variables() {
    let Some(table) = table("envVarTest") else {
        return;
    };
    let env = env(&[("PWD", "/home"), ("SHELL", "bash"), ("KOREAN", "한국어"), ("NULL", "")]);
    let mut rows = 0;
    for line in table.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let parts: Vec<&str> = line.split('|').map(str::trim).collect();
        let [platform, input, expected] = parts[..] else { panic!("row {line:?}") };
        if platform == "W" {
            continue;
        }
        let got = Lexer::new('\\').word(input, &env).map(|e| e.text).unwrap_or_else(|_| "error".into());
        assert_eq!(got, expected, "{input}");
        rows += 1;
    }
    assert!(rows > 150, "{rows} rows");
}

#[test]
fn splits_the_table_of_words() {
    let Some(table) = table("wordsTest") else {
        return;
    };
    let mut env = BTreeMap::new();
    let mut rows = 0;
    for line in table.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if let Some(pair) = line.strip_prefix("ENV ") {
            let (name, value) = pair.trim_start_matches(' ').split_once('=').unwrap();
            env.insert(name.to_owned(), value.to_owned());
            continue;
        }
        let (input, expected) = line.split_once('|').unwrap();
        let expected: Vec<&str> = expected.trim_start_matches(' ').split(',').collect();
        let got = Lexer::new('\\').words(input.trim(), &env).unwrap_or_else(|_| vec!["error".into()]);
        assert_eq!(got, expected, "{input}");
        rows += 1;
    }
    assert!(rows > 20, "{rows} rows");
}

#[test]
fn trims_and_replaces_by_pattern() {
    let check = |input: &str, vars: &[(&str, &str)], expected: &str| {
        let got = Lexer::new('\\').word(input, &env(vars)).map(|e| e.text).unwrap_or_else(|_| "error".into());
        assert_eq!(got, expected, "{input}");
    };
    check(r"${V#()[]{\}^$.\*\?|\\}", &[("V", r"()[]{}^$.*?|\x")], "x");
    check(r"${V%%\**}", &[("V", "xx**")], "xx");
    check("${V#*x*y}", &[("V", "xxyy")], "y");
    check("${V##*x}", &[("V", "xxyy")], "yy");
    check("${V#*}", &[("V", "xxyy")], "xxyy");
    check("${V##*}", &[("V", "xxyy")], "");
    check(r"${V#?\?}", &[("V", "???y")], "?y");
    check(r"${V%%\**\*}", &[("V", "a***yy*")], "a");
    check("${V%.*}", &[("V", "a.tar.gz")], "a.tar");
    check("${V%%.*}", &[("V", "a.tar.gz")], "a");
    check("${V#$P}", &[("V", "xxyy"), ("P", "x")], "xyy");
    check("${V:#}", &[("V", "x")], "error");
    check(r"${V#\x}", &[("V", "x")], "error");
    check("${V/$N/.} - ${V//$N/.}", &[("V", "/foo*/*/*.txt"), ("N", r"\*/")], "/foo.*/*.txt - /foo..*.txt");
    check("${V/$N/} - ${V//$N/}", &[("V", "/tmp/tmp/bar.txt"), ("N", "/tmp")], "/tmp/bar.txt - /bar.txt");
    check("${V//$N/$R}", &[("V", "/a/foo/b/c.txt"), ("N", "/?/"), ("R", "/")], "/foo/c.txt");
    check("${V/$N/$R}", &[("V", "http://a.de"), ("N", "http://"), ("R", "https://")], "https://a.de");
    check(r"${V//\//\/}", &[("V", "/tmp/foo.txt")], r"\/tmp\/foo.txt");
    check("${V/$N/ww}", &[("V", "xxyy"), ("N", "")], "wwxxyy");
    check("${V//ww}", &[("V", "xxyy")], "error");
    check("${V///}", &[("V", "xxyy")], "xxyy");
    check("${V///}", &[], "");
    check("${V//a*/b}", &[("V", "xaay")], "xb");
    check("${A-1} ${B-2} ${C-3}", &[("A", "x"), ("B", "")], "x  3");
    check("${A?no}", &[], "error");
    check("r${V:+-${V}}.tar", &[("V", "v7")], "r-v7.tar");
}

#[test]
fn reports_what_was_not_set() {
    let got = Lexer::new('\\').word("$A ${B:-x} ${C}", &env(&[("C", "c")])).unwrap();
    assert_eq!(got.text, " x c");
    assert_eq!(got.unmatched.into_iter().collect::<Vec<_>>(), ["A", "B"]);
}

#[test]
fn keeps_what_is_asked_to_be_kept() {
    let raw = Lexer { raw_quotes: true, keep_unset: true, ..Lexer::new('\\') };
    let got = raw.word(r#"echo "$A" '$A' $B ${B:-x} ${B#y} ${B/a/b}"#, &env(&[("A", "1")])).unwrap();
    assert_eq!(got.text, r#"echo "1" '$A' $B ${B:-x} ${B#y} ${B/a/b}"#);
    let body = Lexer { ignore_quotes: true, ..Lexer::new('\\') };
    let got = body.word("it's \"${A}\" \\${A}", &env(&[("A", "1")])).unwrap();
    assert_eq!(got.text, "it's \"1\" ${A}");
}

#[test]
fn a_backtick_can_be_the_escape() {
    let got = Lexer::new('`').word(r"C:\dir`$A\$A", &env(&[("A", "1")])).unwrap();
    assert_eq!(got.text, r"C:\dir$A\1");
}

#[test]
fn nesting_is_bounded() {
    let deep = "${a:-".repeat(100_000);
    assert_eq!(Lexer::new('\\').word(&deep, &Unset), Err(WordError::TooDeep));
}

#[test]
fn length_is_bounded() {
    let env = env(&[("A", &"x".repeat(1 << 19))]);
    let lexer = Lexer::new('\\');
    assert_eq!(lexer.word("$A$A$A", &env), Err(WordError::TooLong));
    assert_eq!(lexer.word("${A//x/$A}", &env), Err(WordError::TooLong));
    assert_eq!(lexer.word("$A", &env).unwrap().text.len(), 1 << 19);
}
