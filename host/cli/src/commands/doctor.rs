//! `coop doctor`: what this machine allows, and what to install.

use serde_json::json;

use crate::args::{Listing, OutputFormat};
use crate::error::Failure;
use crate::output;

pub(crate) fn run(listing: &Listing) -> Result<(), Failure> {
    let report = cooperage_sandbox::probe();
    if listing.output == OutputFormat::Json {
        let items: Vec<_> = report
            .items
            .iter()
            .map(|item| json!({ "name": item.name, "ok": item.ok, "detail": item.detail, "hint": item.hint }))
            .collect();
        return output::json(&items);
    }
    for item in &report.items {
        let mark = if item.ok { "ok     " } else { "missing" };
        output::line(&format!("{mark}  {}: {}", item.name, item.detail))?;
        if !item.ok && !item.hint.is_empty() {
            output::line(&format!("         {}", item.hint))?;
        }
    }
    Ok(())
}
