//! `coop build --check`: findings for people and for programs, and nothing else: no image, no question to a registry.

use std::net::TcpListener;

use serde_json::json;

use crate::support::{Machine, Ran};

/// Three findings, one of them in a stage that nothing needs.
const ODD: &str = "FROM scratch AS Unneeded\nENV a b\nFROM scratch\nCOPY file \\\n  $x /\n";

fn checked(text: &str, args: &[&str], code: i32) -> (Machine, Ran) {
    let machine = Machine::new();
    machine.dockerfile("context", text);
    let ran = machine.fails(&[&["build", "context", "-t", "result:1"], args].concat(), code);
    machine.fails(&["image", "inspect", "result:1"], 2);
    (machine, ran)
}

#[test]
fn findings_are_shown_with_the_lines_they_are_about() {
    let (_, ran) = checked(ODD, &["--check"], 1);
    ran.prints(&[
        "warning: the stage name Unneeded should be in lower case (StageNameCasing)",
        "--> Dockerfile:1:17",
        "warning: ENV a VALUE is the old form; write ENV a=VALUE (LegacyKeyValueFormat)",
        "2 | ENV a b",
        "help: put = between name and value",
        "warning: the variable $x is not set (UndefinedVar)",
    ]);
    ran.says(&["the check has 3 findings"]);
    let (machine, fine) = checked("FROM scratch\nCOPY file /\n", &["--check=text"], 0);
    assert_eq!(fine.stdout, "no findings\n", "the file that is copied is not looked for");
    machine.dockerfile("context", ODD);
    let args = ["build", "context", "--check", "--build-arg"];
    machine
        .fails(&[&args[..], &["BUILDKIT_DOCKERFILE_CHECK=skip=UndefinedVar,StageNameCasing"]].concat(), 1)
        .says(&["the check has 1 finding"]);
    machine.ok(&[&args[..], &["BUILDKIT_DOCKERFILE_CHECK=skip=all"]].concat());
}

#[test]
fn programs_read_findings_as_json() {
    let (_, ran) = checked(ODD, &["--check=json"], 1);
    let findings = ran.json();
    let expected = json!({
        "rule": "UndefinedVar", "severity": "warning", "message": "the variable $x is not set",
        "help": "declare it with ARG or ENV in this stage, before it is used",
        "file": "Dockerfile", "line": 4, "column": 0, "end_line": 5, "text": "COPY file \\\n  $x /",
    });
    assert_eq!(findings[2], expected);
    assert_eq!(findings.as_array().unwrap().len(), 3);
    let (_, strict) = checked(&format!("# check=error=true\n{ODD}"), &["--check=json"], 1);
    assert_eq!(strict.json()[0]["severity"], "error");
    let (_, none) = checked("FROM scratch\n", &["--check=json"], 0);
    assert_eq!(none.json(), json!([]));
}

#[test]
fn services_read_findings_as_sarif() {
    let (_, ran) = checked(ODD, &["--check=sarif"], 1);
    let log = ran.json();
    assert_eq!(log["version"], "2.1.0");
    let [run] = &log["runs"].as_array().unwrap()[..] else { panic!("{log}") };
    assert_eq!(run["tool"]["driver"]["name"], "coop");
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(["error", "warning", "note", "none"].contains(&result["level"].as_str().unwrap()), "{result}");
        assert!(result["message"]["text"].is_string(), "{result}");
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "Dockerfile");
        assert!(place["region"]["startLine"].as_u64() >= Some(1), "{result}");
        assert!(place["region"].get("startColumn").is_none_or(|column| column.as_u64() >= Some(1)), "{result}");
    }
    let (_, none) = checked("FROM scratch\n", &["--check=sarif"], 0);
    assert_eq!(none.json()["runs"][0]["results"], json!([]));
}

#[test]
fn no_registry_is_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let host = listener.local_addr().unwrap();
    let text =
        format!("FROM {host}/a:1 AS a\nRUN x\nFROM {host}/b:1\nCOPY --from=a /x /\nCOPY --from={host}/c:1 /x /\n");
    let (machine, _) = checked(&text, &["--check", "--pull"], 0);
    let asked = listener.accept().map_err(|error| error.kind());
    assert_eq!(asked.unwrap_err(), std::io::ErrorKind::WouldBlock, "nobody has connected");
    machine.dockerfile("context", "FROM scratch\nADD http://127.0.0.1:1/file /\n");
    machine.ok(&["build", "context", "--check"]);
}

#[test]
fn what_cannot_be_built_is_an_error_as_in_a_build() {
    let (machine, ran) = checked("FROM scratch\nCPOY a b\n", &["--check=sarif"], 2);
    ran.says(&["Dockerfile:2", "did you mean COPY?"]);
    assert_eq!(ran.stdout, "");
    machine.fails(&["build", "elsewhere", "--check"], 2).says(&["elsewhere"]);
    machine.dockerfile("context", "# check=skpi=all\nFROM scratch\n");
    machine.fails(&["build", "context", "--check"], 2).says(&["Dockerfile:1", "invalid check option"]);
}

#[test]
fn a_builder_without_checks_says_so() {
    let (_, ran) = checked(ODD, &["--check=json", "--builder", "docker"], 2);
    ran.says(&["the builder docker has no checks", "such as dockerfile"]);
    assert_eq!(ran.stdout, "");
}

#[test]
fn terminals_obey_nothing_of_what_a_dockerfile_says() {
    let text = "FROM scratch\nENV a\u{1b}[2J \u{9b}b\u{202e}c\n";
    for format in ["--check=text", "--check=json", "--check=sarif"] {
        let (_, ran) = checked(text, &[format], 1);
        let obeyed = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!ran.stdout.contains(obeyed) && !ran.stderr.contains(obeyed), "{format}: {ran:?}");
    }
}

#[test]
fn a_build_warns_by_the_same_rules() {
    let machine = Machine::new();
    machine.dockerfile("context", "FROM scratch\nENV a b\n");
    let warning = "Dockerfile:2: ENV a VALUE is the old form; write ENV a=VALUE (LegacyKeyValueFormat)";
    machine.ok(&["build", "context", "--progress", "plain"]).says(&[warning]);
    machine.dockerfile("context", "# check=error=true\nFROM scratch\nENV a b\n");
    machine.fails(&["build", "context"], 2).says(&["LegacyKeyValueFormat", "error=true"]);
    let off = ["--build-arg", "BUILDKIT_DOCKERFILE_CHECK=skip=LegacyKeyValueFormat;error=true"];
    machine.ok(&[&["build", "context"][..], &off].concat()).does_not_say(&["LegacyKeyValueFormat"]);
    let single = "# check=error=true\nFROM scratch\n# check=skip=LegacyKeyValueFormat\nENV a b\n";
    machine.dockerfile("context", single);
    machine.build("context", &[]);
}
