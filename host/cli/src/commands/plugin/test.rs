//! `coop plugin test`: runs the cases of a plugin and says what is not as expected.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cooperage_solve::{Location, Reporter};
use cooperage_store::Store;
use cooperage_testing::{CaseFolder, Harness, HarnessError, Malformed, Outside, Report, Settings};
use serde_json::json;

use crate::app::{App, own_path};
use crate::args::{IsolationMode, OutputFormat, PluginTest, ProgressMode, PullMode};
use crate::commands::run::junit;
use crate::error::{Exit, Failure};
use crate::output;
use crate::progress::harmless;

/// Where the cases of a plugin are, if nothing else is said.
const USUAL: &str = "tests";

pub(super) fn run(app: &App, test: &PluginTest) -> Result<(), Failure> {
    if test.schema {
        return output::json(&cooperage_testing::schema());
    }
    let cases = match test.conformance && test.cases.is_empty() && !Path::new(USUAL).is_dir() {
        true => Vec::new(),
        false => cases(&test.cases)?,
    };
    let (name, component) = component(app, &test.plugin)?;
    let settings = Settings {
        cache: Some(app.environment.cache_directory().join("compiled")),
        helper: Some(own_path()?),
        processes: crate::evaluation::sandbox(app, IsolationMode::Auto),
        userxattr: app.privileges.userxattr,
        privileged: app.privileges.owners,
        unreleased_contract: app.config.unreleased_contract,
        secrets: secrets(app, &test.secret)?,
    };
    let harness = Harness::new(&name, component.into(), settings).map_err(failure)?;
    let text = test.listing.output != OutputFormat::Json;
    let reports = app.block_on(async {
        let mut reports = Vec::new();
        if test.conformance {
            reports = harness.conform(&cases).await.map_err(failure)?;
            if text {
                reports.iter().try_for_each(|report| print(report, false))?;
            }
            return Ok::<_, Failure>(reports);
        }
        for case in &cases {
            let report = match test.record {
                true => record(app, &harness, case).await?,
                false => harness.run(case).await.map_err(failure)?,
            };
            if test.accept && !report.passed() {
                accept(case, &report)?;
            }
            if text {
                print(&report, test.accept)?;
            }
            reports.push(report);
        }
        Ok(reports)
    })?;
    if !text {
        let all: Vec<_> = reports.iter().map(as_json).collect();
        output::json(&all)?;
    }
    if let Some(file) = &test.junit {
        output::whole(file, junit_report(&name, &reports).as_bytes()).map_err(|error| {
            Failure::new(Exit::Environment, format!("{} cannot be written: {error}", file.display()))
        })?;
    }
    let failed = reports.iter().filter(|report| !report.passed()).count();
    if failed > 0 && !test.accept {
        let message = format!("{failed} of {} cases of the plugin {name} failed", reports.len());
        return Err(Failure::new(Exit::Failed, message)
            .hint("where what happened is right, `--accept` writes it into the case"));
    }
    if text { output::line(&format!("{} cases passed", reports.len() - failed)) } else { Ok(()) }
}

/// Runs a case with what a build would have around it, in a store of its own: what the user's has would not be asked for.
async fn record(app: &App, harness: &Harness, case: &CaseFolder) -> Result<Report, Failure> {
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Environment, format!("there is no place to record in: {error}"))
    };
    let directory = tempfile::tempdir().map_err(|error| wrong(&error))?;
    let store = Store::open(directory.path()).map_err(|error| wrong(&error))?;
    let session = app.session_in(store.clone(), Reporter::silent(), PullMode::Missing, Default::default())?;
    let outside = Outside {
        client: app.client()?,
        store,
        images: Arc::new(session.registries.clone()),
        sources: session.plugins.clone(),
        registries: Arc::new(session.registries.clone()),
    };
    harness.record(case, outside).await.map_err(failure)
}

/// All cases are read before the first one runs.
fn cases(named: &[PathBuf]) -> Result<Vec<CaseFolder>, Failure> {
    let usual = [PathBuf::from(USUAL)];
    let mut cases = Vec::new();
    for path in if named.is_empty() { &usual[..] } else { named } {
        let found = cooperage_testing::find(path).map_err(|error| {
            Failure::usage(format!("no cases in {}: {error}", path.display()))
                .hint("a case is a folder with a case.yaml; name folders behind the plugin")
        })?;
        for folder in found {
            cases.push(CaseFolder::read(&folder).map_err(malformed)?);
        }
    }
    Ok(cases)
}

/// Secrets as texts, as requests have them.
fn secrets(app: &App, specs: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let secrets = crate::evaluation::secrets(app, specs)?;
    let text = |name: &str| {
        let value = String::from_utf8(secrets.get(name).unwrap_or_default().to_vec());
        value
            .map(|value| (name.to_owned(), value))
            .map_err(|_| Failure::usage(format!("the secret {name:?} is no text")))
    };
    secrets.names().map(text).collect()
}

/// A component by its path, or by a name or reference as elsewhere.
fn component(app: &App, plugin: &str) -> Result<(String, Vec<u8>), Failure> {
    let path = super::plain_path(Path::new(plugin));
    if path.extension().is_some_and(|ending| ending == "wasm") || path.is_file() {
        let bytes = std::fs::read(path)
            .map_err(|error| Failure::usage(format!("the component {} cannot be read: {error}", path.display())))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        return Ok((name, bytes));
    }
    let session = app.session(ProgressMode::Quiet, PullMode::Missing)?;
    let component = app.block_on(async {
        let artifact = session.plugins.obtain(plugin, false).await?.artifact;
        session.plugins.component(&artifact).await
    })?;
    Ok((plugin.to_owned(), component.to_vec()))
}

fn accept(case: &CaseFolder, report: &Report) -> Result<(), Failure> {
    cooperage_testing::accept(&case.path, report).map_err(|error| {
        Failure::new(Exit::Environment, format!("{} cannot be written: {error}", case.path.join("case.yaml").display()))
    })
}

fn print(report: &Report, accepted: bool) -> Result<(), Failure> {
    let word = match (report.passed(), accepted) {
        (true, _) => "ok      ",
        (false, true) => "accepted",
        (false, false) => "FAILED  ",
    };
    output::line(&format!("{word} {}", report.name))?;
    if accepted {
        return Ok(());
    }
    for line in report.failures.iter().flat_map(|failure| failure.lines()) {
        output::line(&format!("         {}", harmless(line)))?;
    }
    if !report.passed() {
        for line in report.log.lines() {
            output::line(&format!("         | {}", harmless(line)))?;
        }
    }
    Ok(())
}

fn as_json(report: &Report) -> serde_json::Value {
    json!({
        "name": report.name,
        "passed": report.passed(),
        "failures": report.failures,
        "log": report.log,
        "seconds": report.duration.as_secs_f64(),
    })
}

/// A suite with a case each, as [`junit`] has it for flows.
fn junit_report(plugin: &str, reports: &[Report]) -> String {
    let failed = reports.iter().filter(|report| !report.passed()).count();
    let time = |duration: Duration| format!("{:.3}", duration.as_secs_f64());
    let (name, tests, all) = (junit::quoted(plugin), reports.len(), reports.iter().map(|report| report.duration).sum());
    let counts = format!(
        "name={name} tests=\"{tests}\" failures=\"{failed}\" errors=\"0\" skipped=\"0\" time=\"{}\"",
        time(all)
    );
    let mut xml =
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n  <testsuite {counts}>\n");
    for report in reports {
        let case = format!("    <testcase name={} classname={name}", junit::quoted(&report.name));
        xml.push_str(&format!("{case} time=\"{}\">\n", time(report.duration)));
        if let Some(first) = report.failures.first() {
            let message = junit::quoted(first.lines().next().unwrap_or_default());
            let details = junit::text(&report.failures.join("\n"));
            xml.push_str(&format!("      <failure type=\"failed\" message={message}>{details}</failure>\n"));
        }
        if !report.log.is_empty() {
            xml.push_str(&format!("      <system-out>{}</system-out>\n", junit::text(&report.log)));
        }
        xml.push_str("    </testcase>\n");
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

fn failure(error: HarnessError) -> Failure {
    match error {
        HarnessError::Malformed(error) => malformed(error),
        HarnessError::Load(error) => Failure::usage(format!("the plugin cannot be loaded: {error}")),
        other => Failure::new(Exit::Environment, other.to_string()),
    }
}

/// Shown with its place in the file.
fn malformed(error: Malformed) -> Failure {
    let Malformed { file, line, column, message } = error;
    let mut shown = cooperage_solve::Error::invalid(format!("the case {} is malformed: {message}", file.display()));
    let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let quoted = usize::try_from(line).ok().and_then(|line| text.lines().nth(line.checked_sub(1)?));
    shown.location = quoted.map(|quoted| Location {
        file: file.display().to_string(),
        line: number(line),
        column: number(column),
        end_line: number(line),
        text: quoted.to_owned(),
    });
    Failure::from(shown)
        .hint("sdk/testing/README.md tells what a case can say; `coop plugin test --schema` prints its JSON Schema")
}
