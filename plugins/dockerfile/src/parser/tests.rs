use super::*;
use crate::gotext::{quote, quote_list};

/// The form in which BuildKit's own test data has its expectations.
fn dump(node: &Node) -> String {
    let mut out = node.keyword.to_lowercase();
    if !node.flags.is_empty() {
        let flags: Vec<String> = node.flags.iter().map(|flag| flag.text.clone()).collect();
        out += &format!(" {}", quote_list(&flags));
    }
    if let Some(inner) = &node.inner {
        out += &format!(" ({})", dump(inner));
    }
    for word in &node.args {
        out += &format!(" {}", quote(&word.text));
    }
    out
}

#[test]
fn parses_the_files_of_buildkit() {
    let Some(folder) = crate::testing::cases("parser") else {
        return;
    };
    let mut count = 0;
    for case in std::fs::read_dir(folder).unwrap() {
        let case = case.unwrap().path();
        let text = std::fs::read_to_string(case.join("Dockerfile")).unwrap();
        let expected = std::fs::read_to_string(case.join("result")).unwrap();
        let document = parse(&text).unwrap_or_else(|fault| panic!("{}: {fault}", case.display()));
        let got: Vec<String> = document.nodes.iter().map(|node| format!("({})", dump(node))).collect();
        assert_eq!(got.join("\n"), expected.trim(), "{}", case.display());
        count += 1;
    }
    assert!(count > 25, "{count} cases");
}

fn heredocs(text: &str) -> Vec<(String, String, bool, bool)> {
    let document = parse(&format!("FROM a\n{text}\n")).unwrap_or_else(|fault| panic!("{text}: {fault}"));
    assert_eq!(document.nodes.len(), 2, "{text}");
    let bodies = document.nodes[1].heredocs.iter();
    bodies.map(|h| (h.name.clone(), h.content.clone(), h.expand, h.chomp)).collect()
}

#[test]
fn recognises_heredocs() {
    let one = |name: &str, content: &str, expand, chomp| vec![(name.to_string(), content.to_string(), expand, chomp)];
    assert_eq!(heredocs("RUN <<E\nE"), one("E", "", true, false));
    assert_eq!(heredocs("RUN 3<<E\nE"), one("E", "", true, false));
    assert_eq!(heredocs("RUN \"<<E\""), vec![]);
    assert_eq!(heredocs("RUN <<-E\n\tx\n\tE"), one("E", "\tx\n", true, true));
    assert_eq!(heredocs("RUN <<-'E'\n\t$x\nE"), one("E", "\t$x\n", false, true));
    assert_eq!(heredocs("RUN <<E python3\n# no comment\nprint()\nE"), one("E", "# no comment\nprint()\n", true, false));
    assert_eq!(heredocs("RUN <<eo'f'\nx\neof"), one("eof", "x\n", false, false));
    assert_eq!(heredocs("RUN <<eo\\'f\nx\neo'f"), one("eo'f", "x\n", true, false));
    assert_eq!(heredocs("RUN <<'e'o\\'f\nx\neo'f"), one("eo'f", "x\n", false, false));
    assert_eq!(heredocs("RUN <<'one two'\nx\none two"), one("one two", "x\n", false, false));
    assert_eq!(heredocs("RUN <<$E\n$E"), one("$E", "", true, false));
    assert_eq!(heredocs("RUN <<  E  > foo\nE"), one("E", "", true, false));
    assert_eq!(heredocs("ONBUILD COPY <<E /x\nbody\nE"), one("E", "body\n", true, false));
    assert_eq!(heredocs("RUN <<E\r\nx\r\nE\r"), one("E", "x\r\n", true, false));
    let two = heredocs("COPY <<X <<Y /dest\nY\nX\nX\nY");
    assert_eq!(two.iter().map(|(n, c, ..)| (n.as_str(), c.as_str())).collect::<Vec<_>>(), [("X", "Y\n"), ("Y", "X\n")]);
    assert_eq!(heredocs("COPY [\"<<E\", \"/x\"]"), vec![]);
    assert_eq!(heredocs("RUN echo $((1<<2))"), vec![]);
}

#[test]
fn an_unterminated_heredoc_says_how_to_end_it() {
    let fault = parse("FROM a\nRUN <<EOF\necho\n").unwrap_err();
    assert!(fault.message.contains("unterminated heredoc"), "{fault}");
    assert_eq!(fault.span.unwrap().line, 2);
    assert!(fault.hint.unwrap().contains("EOF"));
}

#[test]
fn knows_lines_and_columns() {
    let document =
        parse("\u{feff}# escape=`\r\n\r\nFROM a\r\n  COPY --from=é `\r\n  # note\r\n  --chmod=1 x /y\r\n").unwrap();
    assert_eq!(document.escape, '`');
    let copy = &document.nodes[1];
    assert_eq!(copy.span, Span { line: 4, column: 0, end_line: 6 });
    assert_eq!(copy.flags[0].span, Span { line: 4, column: 8, end_line: 4 });
    assert_eq!(copy.flags[1].span, Span { line: 6, column: 3, end_line: 6 });
    assert_eq!(copy.args[1].span, Span { line: 6, column: 15, end_line: 6 });
    assert_eq!(copy.args[1].text, "/y");
}

#[test]
fn directives_come_first_and_once() {
    let document = parse("# syntax=docker/dockerfile:1\n# check=skip=all\n# Escape = `\nFROM a\n").unwrap();
    assert_eq!(document.syntax.map(|word| word.text).as_deref(), Some("docker/dockerfile:1"));
    assert_eq!(document.check.map(|word| word.text).as_deref(), Some("skip=all"));
    assert_eq!(document.escape, '`');
    assert_eq!(parse("# note\n# escape=`\nFROM a\n").unwrap().escape, '\\');
    assert!(parse("# escape=`\n# escape=`\nFROM a\n").is_err());
    assert!(parse("# escape=x\nFROM a\n").is_err());
}

#[test]
fn empty_files_and_bad_pairs_are_faults() {
    for (text, part) in [
        ("", "no instructions"),
        ("# only\n\n", "no instructions"),
        ("FROM a\nENV x", "two arguments"),
        ("FROM a\nENV a=b c", "can't find ="),
        ("FROM a\nCMD [1]", "only strings"),
    ] {
        let fault = parse(text).unwrap_err();
        assert!(fault.message.contains(part), "{text:?}: {fault}");
    }
}

#[test]
fn an_array_that_is_none_is_noticed() {
    for (line, broken) in [
        ("CMD ['a']", true),
        ("CMD [\"a\"", true),
        ("RUN [ -f x ]", false),
        ("RUN [ \"$x\" = y ]", true),
        ("CMD [\"a\"]", false),
    ] {
        assert_eq!(parse(line).unwrap().nodes[0].broken_json, broken, "{line}");
    }
}
