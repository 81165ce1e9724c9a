//! The role `task`: one call, and what becomes of its answer.

use cooperage_sdk::Result;
use serde_json::Value;

use crate::client::Client;
use crate::edge::Edge;
use crate::outputs;
use crate::parameters::Parameters;
use crate::plan::Plan;
use crate::poll;
use crate::save;

/// What a step leaves behind.
#[derive(Debug)]
pub struct Done {
    /// Values for later steps.
    pub values: Vec<(String, Value)>,
    /// Where the file is that was made, if one was.
    pub path: Option<String>,
}

/// Does what a step says.
///
/// # Errors
/// Whatever goes wrong, for the user to read.
pub fn perform(edge: Edge, parameters: &Parameters) -> Result<Done> {
    let Plan { call, wanted, target, waiting } = Plan::new(parameters, &edge)?;
    let client = Client::new(edge, &call);
    if let Some(target) = target {
        let saved = save::save(client, &target, &|_| Ok(()))?;
        return Ok(Done { values: outputs::of_file(client, &saved, &wanted)?, path: Some(saved.path) });
    }
    let received = match &waiting {
        Some(waiting) => poll::poll(client, waiting)?,
        None => outputs::receive(client)?,
    };
    Ok(Done { values: outputs::values(client, &received, &wanted)?, path: None })
}
