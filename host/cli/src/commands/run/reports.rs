//! Reports of a run as files for other programs. Written whole or not at all, also when the flow failed.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cooperage_flow::FlowResult;
use serde_json::{Value, json};

use super::junit;
use crate::error::{Exit, Failure};
use crate::output;

/// How a report looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Junit,
    Json,
}

/// The reports that the user wants.
#[derive(Debug)]
pub(crate) struct Reports(Vec<(Kind, PathBuf)>);

/// What a report says about the run as a whole.
pub(crate) struct Run<'a> {
    /// The flow file, as the user named it.
    pub(crate) flow: &'a str,
    pub(crate) started: SystemTime,
    /// Without secrets.
    pub(crate) result: &'a FlowResult,
}

impl Reports {
    /// Reads `junit=FILE` and `json=FILE`. What cannot be written later is told before anything runs.
    pub(crate) fn read(specs: &[String]) -> Result<Self, Failure> {
        let read = |spec: &String| {
            let wrong = |what: String| {
                Err(Failure::usage(format!("the report {spec:?}: {what}"))
                    .hint("write --report junit=FILE or --report json=FILE"))
            };
            let Some((kind, path)) = spec.split_once('=').filter(|(_, path)| !path.is_empty()) else {
                return wrong("it names no file".to_owned());
            };
            let kind = match kind {
                "junit" => Kind::Junit,
                "json" => Kind::Json,
                other => return wrong(format!("there is no kind {other:?}")),
            };
            let path = PathBuf::from(path);
            if path.is_dir() || !output::directory_of(&path).is_dir() {
                return wrong(format!("{} is not a file in a directory that is there", path.display()));
            }
            Ok((kind, path))
        };
        Ok(Self(specs.iter().map(read).collect::<Result<_, _>>()?))
    }

    /// The files that will be written.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|(_, path)| path.as_path())
    }

    /// Writes all of them, and tells of the first that could not be written.
    pub(crate) fn write(&self, run: &Run<'_>) -> Result<(), Failure> {
        let mut first = Ok(());
        for (kind, path) in &self.0 {
            let text = match kind {
                Kind::Junit => junit::render(run),
                Kind::Json => json_report(run),
            };
            let written = output::whole(path, text.as_bytes()).map_err(|error| {
                Failure::new(Exit::Environment, format!("the report {} cannot be written: {error}", path.display()))
            });
            first = first.and(written);
        }
        first
    }
}

/// What `--output json` prints, with the file, the time, and what the steps said.
fn json_report(run: &Run<'_>) -> String {
    let mut report = json!({ "version": 1, "flow": run.flow, "started": rfc3339(run.started) });
    let result = serde_json::to_value(run.result).unwrap_or_default();
    let fields = result.as_object().cloned().unwrap_or_default();
    fields.into_iter().for_each(|(name, value)| report[name.as_str()] = value);
    for (step, own) in report["steps"].as_array_mut().into_iter().flatten().zip(&run.result.steps) {
        step["key"] = json!(own.id.key());
        step["log"] = Value::String(own.log.clone());
    }
    format!("{report:#}\n")
}

/// A time in UTC, in seconds.
pub(super) fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_report_is_told_at_once() {
        let read = |spec: &str| Reports::read(&[spec.to_owned()]).map(|reports| reports.0);
        assert_eq!(read("junit=a.xml").unwrap(), [(Kind::Junit, PathBuf::from("a.xml"))]);
        assert_eq!(read("json=/dev/null").unwrap(), [(Kind::Json, PathBuf::from("/dev/null"))]);
        for wrong in ["junit", "junit=", "html=a", "json=/no/such/directory/a", "json=/tmp"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_report_replaces_a_file_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report");
        std::fs::write(&path, "a much longer text than the new one").unwrap();
        output::whole(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        output::whole(Path::new("/dev/null"), b"new").unwrap();
    }
}
