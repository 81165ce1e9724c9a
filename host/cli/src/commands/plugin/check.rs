//! `coop plugin check`: what an author should mend before others use a plugin. Here it is compiled and run, to see that
//! the types of its functions are the contract's, and that it says of itself what is written in it.

use cooperage_engine::artifact::strip_description;
use cooperage_engine::inspect::{Finding, Severity, findings};
use cooperage_engine::{ContractVersion, LoadError, Misfit, misfits_with};
use serde_json::{Value, json};

use super::look::Seen;
use crate::app::{App, Session};
use crate::args::{Listing, OutputFormat, ProgressMode, PullMode};
use crate::error::{Exit, Failure};
use crate::output;
use crate::plugins::artifact_failure;

/// Which hosts are asked after, and what counts as a failure.
pub(super) struct Wanted<'a> {
    pub(super) hosts: &'a [String],
    pub(super) strict: bool,
}

/// Whether hosts with a version of the contract can run the plugin.
struct Host {
    version: &'static str,
    misfits: Vec<Misfit>,
}

pub(super) fn check(app: &App, reference: &str, wanted: &Wanted<'_>, listing: &Listing) -> Result<(), Failure> {
    let session = app.session(ProgressMode::Quiet, PullMode::Missing)?;
    let reference = reference_of(reference);
    let mut seen = app.block_on(Seen::fetch(app, &session, &reference))?;
    let hosts = hosts(app, &seen, wanted.hosts)?;
    let more = app.block_on(run(&session, &mut seen))?;
    let mut found = findings(&seen.inspection, seen.embedded);
    found.extend(more);
    if !wanted.hosts.is_empty() {
        found.extend(hosts.iter().flat_map(|host| &host.misfits).map(|m| Finding::error(&m.what, &m.fix)));
    }
    found.sort_by_key(|finding| finding.severity);
    found.dedup();
    if listing.output == OutputFormat::Json {
        output::json(&document(&seen, &hosts, &found))?;
    } else {
        show(&seen, &hosts, &found)?;
    }
    verdict(&reference, &found, wanted.strict)
}

/// A path may be written as such.
fn reference_of(text: &str) -> String {
    let is_path = std::path::Path::new(text).is_file() && !text.contains("://") && !text.starts_with("file:");
    if is_path { format!("file:{text}") } else { text.to_owned() }
}

/// The hosts that are asked after; by default those of every version that this one offers.
fn hosts(app: &App, seen: &Seen, wanted: &[String]) -> Result<Vec<Host>, Failure> {
    let offered = |version: &ContractVersion| version.is_released() || app.config.unreleased_contract;
    let versions = if wanted.is_empty() {
        ContractVersion::ALL.into_iter().filter(offered).collect()
    } else {
        wanted.iter().map(|number| version(number)).collect::<Result<Vec<_>, _>>()?
    };
    let misfits = |version| misfits_with(&seen.inspection.outside, version);
    Ok(versions.into_iter().map(|version| Host { version: version.number(), misfits: misfits(version) }).collect())
}

fn version(number: &str) -> Result<ContractVersion, Failure> {
    ContractVersion::parse(number).ok_or_else(|| {
        let message = format!("this coop does not know the version {number} of the contract");
        Failure::usage(message)
            .hint(format!("it knows {}", ContractVersion::ALL.map(|known| known.number()).join(", ")))
    })
}

/// Runs the plugin's description, which must be the one that is embedded.
async fn run(session: &Session, seen: &mut Seen) -> Result<Vec<Finding>, Failure> {
    if !seen.inspection.runs() {
        return Ok(Vec::new());
    }
    let bare = strip_description(&seen.component).map_err(artifact_failure)?;
    let finding = match session.plugins.try_load(&seen.reference, &bare).await? {
        Err(LoadError::Link(misfits)) => {
            seen.inspection.misfits = misfits;
            return Ok(Vec::new());
        }
        Err(error) => Finding::error(error.to_string(), "run `coop plugin build`, and look at what it says"),
        Ok(plugin) => {
            let said = plugin.description().clone();
            match &seen.inspection.description {
                Some(embedded) if *embedded == said => return Ok(Vec::new()),
                Some(_) => {
                    let what = "the embedded description is not what the plugin says of itself when it is asked";
                    Finding::error(what, "embed it again with `coop plugin build`")
                }
                None => {
                    seen.inspection = seen.inspection.clone().described(said);
                    return Ok(Vec::new());
                }
            }
        }
    };
    Ok(vec![finding])
}

fn document(seen: &Seen, hosts: &[Host], found: &[Finding]) -> Value {
    let finding = |f: &Finding| json!({ "severity": f.severity.name(), "what": f.what, "fix": f.fix });
    let host = |host: &Host| {
        let misfits: Vec<_> = host.misfits.iter().map(|m| json!({ "what": m.what, "fix": m.fix })).collect();
        json!({ "version": host.version, "runs": misfits.is_empty(), "misfits": misfits })
    };
    json!({
        "name": seen.reference,
        "digest": seen.inspection.digest,
        "hosts": hosts.iter().map(host).collect::<Vec<_>>(),
        "findings": found.iter().map(finding).collect::<Vec<_>>(),
    })
}

fn show(seen: &Seen, hosts: &[Host], found: &[Finding]) -> Result<(), Failure> {
    for finding in found {
        output::line(&format!("{}: {}\n    {}", finding.severity.name(), finding.what, finding.fix))?;
    }
    for host in hosts {
        let runs = if host.misfits.is_empty() { "runs" } else { "does not run" };
        output::line(&format!("{} {runs} on hosts with cooperage:plugin@{}", seen.reference, host.version))?;
    }
    Ok(())
}

fn verdict(reference: &str, found: &[Finding], strict: bool) -> Result<(), Failure> {
    let count = |severity| found.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if errors == 0 && (warnings == 0 || !strict) {
        return Ok(());
    }
    let plural = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let message = format!("{reference} has {} and {}", plural(errors, "error"), plural(warnings, "warning"));
    Err(Failure::new(Exit::Failed, message))
}
