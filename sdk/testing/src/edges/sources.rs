//! Files behind URLs, from directories and listings of the case.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use cooperage_solve::{Build, Error, Selection, SourceProvider, SourceRequest, SourceVersion, Step, Tree};
use cooperage_store::Digest;
use cooperage_store::layers::{LayerId, Write};
use serde_json::Value;

use crate::case::SourceFiles;
use crate::fault::{Faults, Place};
use crate::listing;
use crate::reads::{Reader, Reads};
use crate::recording::Recording;

/// The name under which a build has a directory of the case; no plugin can name it.
pub(crate) fn context_name(directory: &str) -> String {
    format!("\0{directory}")
}

/// The sources of a case.
pub(crate) struct SourceTrees {
    pub(crate) sources: Vec<SourceFiles>,
    pub(crate) folder: PathBuf,
    pub(crate) faults: Faults,
    pub(crate) reads: Arc<Reads>,
    /// What the case does not have is asked of others.
    pub(crate) recording: Option<Arc<Recording>>,
}

impl SourceTrees {
    fn find(&self, request: &SourceRequest) -> Result<Option<&SourceFiles>, Error> {
        self.faults.check(Place::Sources, "sources")?;
        let asked: Value = serde_json::from_str(&request.parameters).unwrap_or_default();
        let fits = |source: &&SourceFiles| {
            let parameters = source.parameters.as_ref().is_none_or(|map| Value::Object(map.clone()) == asked);
            source.url == request.url && parameters
        };
        let found = self.sources.iter().find(fits);
        if found.is_some() || self.recording.is_some() {
            return Ok(found);
        }
        let there: Vec<&str> = self.sources.iter().map(|source| source.url.as_str()).collect();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        let message = format!("the case has no source {} with {}", request.shown(), request.parameters);
        Err(Error::not_found(message).hint(format!("it has {there}")))
    }

    /// A tree of a directory, or of the one layer that a listing makes.
    fn tree(&self, build: &Build, source: &SourceFiles) -> Result<Tree, Error> {
        if !self.folder.join(&source.files).is_file() {
            return Ok(Tree::context(context_name(&source.files), Selection::default()));
        }
        let items = listing::read(&self.folder, &source.files).map_err(Error::invalid)?;
        let id = LayerId(Digest::of(format!("source {}", source.files).as_bytes()));
        build.options().store.layers().write(&id, listing::entries(items), Write::default())?;
        build.thaw(vec![id])?.ok_or_else(|| Error::internal("a layer just written is not there"))
    }
}

#[async_trait]
impl SourceProvider for SourceTrees {
    async fn resolve(&self, build: &Build, request: &SourceRequest) -> Result<SourceVersion, Error> {
        match (self.find(request)?, &self.recording) {
            (Some(source), _) => Ok(SourceVersion {
                value: source.version.clone(),
                immutable: source.immutable,
                annotations: source.annotations.clone().into_iter().collect(),
            }),
            (None, Some(recording)) => recording.version(build, request).await,
            (None, None) => Err(Error::internal("a source is neither there nor recorded")),
        }
    }

    async fn fetch(
        &self,
        build: &Build,
        request: &SourceRequest,
        version: &SourceVersion,
        step: &Step,
    ) -> Result<Tree, Error> {
        match (self.find(request)?, &self.recording) {
            (Some(source), _) => self.tree(build, source),
            (None, Some(recording)) => {
                let tree = recording.outside.sources.fetch(build, request, version, step).await?;
                self.reads.read_for(Reader::Report);
                let kept = recording.files(build, request, &tree).await;
                self.reads.read_for(Reader::Call);
                kept.map(|()| tree)
            }
            (None, None) => Err(Error::internal("a source is neither there nor recorded")),
        }
    }
}
