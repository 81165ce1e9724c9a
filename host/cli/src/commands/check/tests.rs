use std::collections::BTreeMap;

use cooperage_solve::Tree;
use cooperage_store::Platform;
use serde_json::json;

use super::*;

fn answered(findings: Option<&str>) -> Vec<BuiltImage> {
    let annotations = findings.map(|text| (ANNOTATION.to_owned(), text.to_owned()));
    vec![BuiltImage {
        tree: Tree::scratch(),
        platform: Platform::host(),
        config: json!({}),
        annotations: annotations.into_iter().collect::<BTreeMap<_, _>>(),
        existing: None,
    }]
}

fn finding() -> serde_json::Value {
    json!({
        "rule": "Odd", "severity": "warning", "message": "it is hunter22", "file": "a b/:x", "line": 2, "column": 3,
        "end_line": 4, "text": "RUN x",
    })
}

#[test]
fn findings_are_read_without_secrets() {
    let secrets = Secrets::new(BTreeMap::from([("password".to_owned(), b"hunter22".to_vec())]));
    let read = read("b", &answered(Some(&json!([finding()]).to_string())), &secrets).unwrap();
    assert!(read[0].message.starts_with("it is ") && !read[0].message.contains("hunter22"), "{read:?}");
    let unknown = json!([{ "rule": "x", "severity": "bad" }]).to_string();
    for (answer, expected) in [
        (None, "the builder b has no checks"),
        (Some("{}"), "the findings of the builder b cannot be read"),
        (Some(unknown.as_str()), "the findings of the builder b cannot be read"),
    ] {
        let failure = super::read("b", &answered(answer), &secrets).unwrap_err();
        assert!(format!("{failure:?}").contains(expected), "{failure:?}");
    }
}

#[test]
fn sarif_has_what_it_demands() {
    let whole: Finding = serde_json::from_value(finding()).unwrap();
    let line = Finding { column: 0, end_line: 0, help: Some("mend it".into()), rule: "Even".into(), ..whole.clone() };
    let nowhere = Finding { line: 0, severity: Severity::Error, ..whole.clone() };
    let log = sarif::log(&[whole, line, nowhere]);
    let run = &log["runs"][0];
    assert_eq!((log["version"].as_str(), run["tool"]["driver"]["name"].as_str()), (Some("2.1.0"), Some("coop")));
    assert_eq!(
        run["tool"]["driver"]["rules"],
        json!([{ "id": "Even", "help": { "text": "mend it" } }, { "id": "Odd" }])
    );
    let result = |at: usize| &run["results"][at];
    let place = |at: usize| &result(at)["locations"][0]["physicalLocation"];
    assert_eq!((&result(0)["ruleIndex"], &result(1)["ruleIndex"]), (&json!(1), &json!(0)));
    assert_eq!((&result(0)["level"], &result(2)["level"]), (&json!("warning"), &json!("error")));
    assert_eq!(place(0)["artifactLocation"]["uri"], "a%20b/%3Ax");
    let snippet = json!({ "text": "RUN x" });
    assert_eq!(place(0)["region"], json!({ "startLine": 2, "startColumn": 3, "endLine": 4, "snippet": snippet }));
    assert_eq!(place(1)["region"], json!({ "startLine": 2, "endLine": 2, "snippet": snippet }));
    assert_eq!(place(2).get("region"), None);
}
