//! What a case says of its surroundings, read for the harness: what answers requests, grants, time, directories.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cooperage_engine::grants::Scopes;
use cooperage_engine::http::Transport;
use cooperage_engine::{Limits, Plugin};
use cooperage_solve::Context;

use crate::case::{Case, Expect, SourceFiles};
use crate::edges::context_name;
use crate::exchange::Script;
use crate::fault::Place;
use crate::read::{CaseFolder, Malformed};
use crate::recording::Recording;

/// What answers HTTP requests.
pub(crate) enum Edge {
    Script(Arc<Script>),
    Network(Arc<Recording>),
}

impl Edge {
    pub(crate) fn transport(&self) -> Arc<dyn Transport> {
        match self {
            Self::Script(script) => script.clone(),
            Self::Network(recording) => recording.http.clone(),
        }
    }

    pub(crate) fn recording(&self) -> Option<Arc<Recording>> {
        match self {
            Self::Script(_) => None,
            Self::Network(recording) => Some(recording.clone()),
        }
    }

    pub(crate) fn script(&self) -> Option<Arc<Script>> {
        match self {
            Self::Script(script) => Some(script.clone()),
            Self::Network(_) => None,
        }
    }
}

/// The files that something is expected of.
pub(crate) fn named(expect: &Expect) -> BTreeSet<String> {
    let images = expect.images.iter().flatten().filter_map(|image| image.get("files")?.as_object());
    images.chain(&expect.files).flat_map(|files| files.keys().cloned()).collect()
}

/// What is wrong if a call went on after it was cancelled and told so. Where a request stays without an answer, only the
/// engine can end it.
pub(crate) fn overstayed(since: Option<Duration>, case: &Case) -> Option<String> {
    let told = case.faults.iter().any(|fault| fault.at != Place::Http);
    let late = since.is_some_and(|since| told && since >= Limits::default().grace);
    late.then(|| "the plugin goes on after it was told that the call is cancelled, and is ended by force".to_owned())
}

/// Names of services that a plugin asks for.
pub(crate) fn services(plugin: &Plugin) -> BTreeSet<String> {
    let requests = plugin.description().capabilities.iter();
    let scopes = Scopes::requested(&requests.cloned().collect::<Vec<_>>()).unwrap_or_default();
    scopes.service.services().iter().map(|service| service.name.clone()).collect()
}

pub(crate) fn allowed(case: &Case) -> Result<Scopes, String> {
    match &case.allow {
        None => Ok(Scopes::everything()),
        Some(allow) => {
            let allow = allow.clone().into_iter().collect();
            Scopes::allow(&allow).map_err(|error| format!("what it allows cannot be read: {error}"))
        }
    }
}

pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let time: jiff::Timestamp = text.parse().map_err(|error| format!("the clock {text:?}: {error}"))?;
    u64::try_from(time.as_second()).map(Duration::from_secs).map_err(|_| format!("the clock {text:?} is before 1970"))
}

/// The directories of a case, under the names that plugins use and under those that only we use.
pub(crate) fn contexts(folder: &CaseFolder) -> Result<BTreeMap<String, Context>, Malformed> {
    let case = &folder.case;
    let named = case.contexts.iter().map(|(name, path)| (name.clone(), path));
    let named = named.chain(case.context.iter().map(|path| (String::new(), path)));
    let own = case.input.iter().chain(case.inputs.values());
    let own = own.chain(case.images.iter().filter_map(|image| image.files.as_ref()));
    let listed = |source: &&SourceFiles| folder.path.join(&source.files).is_file();
    let sources = case.sources.iter().filter(|source| !listed(source));
    let own = own.chain(sources.map(|source| &source.files)).map(|path| (context_name(path), path));
    let open = |(name, path): (String, &String)| {
        let directory = folder.path.join(path);
        let resolved = directory.canonicalize().ok().filter(|resolved| resolved.is_dir());
        let resolved = resolved.ok_or_else(|| Malformed::whole(&folder.path, format!("{path} is no directory")))?;
        Ok((name, Context::Directory(resolved)))
    };
    named.chain(own).map(open).collect()
}
