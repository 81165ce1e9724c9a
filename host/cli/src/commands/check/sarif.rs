//! Findings as SARIF 2.1.0, which services that show code take.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Finding, Severity};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// One run with all findings. Columns count characters, as those of findings do.
pub(super) fn log(findings: &[Finding]) -> Value {
    // The help of a rule is the same for all of its findings.
    let rules: BTreeMap<&str, Option<&str>> =
        findings.iter().map(|finding| (finding.rule.as_str(), finding.help.as_deref())).collect();
    let rule = |(id, help): (&&str, &Option<&str>)| match help {
        Some(help) => json!({ "id": id, "help": { "text": help } }),
        None => json!({ "id": id }),
    };
    let index = |finding: &Finding| rules.keys().position(|id| *id == finding.rule);
    let results: Vec<Value> = findings.iter().map(|finding| result(finding, index(finding))).collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "coop",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.iter().map(rule).collect::<Vec<_>>(),
            } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn result(finding: &Finding, index: Option<usize>) -> Value {
    let level = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    json!({
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": level,
        "message": { "text": finding.message },
        "locations": [{ "physicalLocation": physical(finding) }],
    })
}

fn physical(finding: &Finding) -> Value {
    let mut place = json!({ "artifactLocation": { "uri": uri(&finding.file) } });
    // Lines and columns count from 1 there; nothing stands for the whole.
    if finding.line > 0 {
        let mut region = json!({
            "startLine": finding.line,
            "endLine": finding.end_line.max(finding.line),
            "snippet": { "text": finding.text },
        });
        if finding.column > 0 {
            region["startColumn"] = json!(finding.column);
        }
        place["region"] = region;
    }
    place
}

/// A path as a relative reference (RFC 3986); a colon in its first part would make a scheme of it.
fn uri(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let encode = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    path.trim_start_matches("./").bytes().map(encode).collect()
}
