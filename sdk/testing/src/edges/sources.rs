//! Files behind URLs, from directories of the case.

use async_trait::async_trait;
use cooperage_solve::{Build, Error, Selection, SourceProvider, SourceRequest, SourceVersion, Step, Tree};

use crate::case::SourceFiles;
use crate::fault::{Faults, Place};

/// The name under which a build has a directory of the case; no plugin can name it.
pub(crate) fn context_name(directory: &str) -> String {
    format!("\0{directory}")
}

/// The sources of a case.
pub(crate) struct SourceTrees {
    pub(crate) sources: Vec<SourceFiles>,
    pub(crate) faults: Faults,
}

impl SourceTrees {
    fn find(&self, request: &SourceRequest) -> Result<&SourceFiles, Error> {
        self.faults.check(Place::Sources, "sources")?;
        self.sources.iter().find(|source| source.url == request.url).ok_or_else(|| {
            let there: Vec<&str> = self.sources.iter().map(|source| source.url.as_str()).collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            Error::not_found(format!("the case has no source {}", request.shown())).hint(format!("it has {there}"))
        })
    }
}

#[async_trait]
impl SourceProvider for SourceTrees {
    async fn resolve(&self, _: &Build, request: &SourceRequest) -> Result<SourceVersion, Error> {
        let source = self.find(request)?;
        Ok(SourceVersion { value: source.version.clone(), ..SourceVersion::default() })
    }

    async fn fetch(&self, _: &Build, request: &SourceRequest, _: &SourceVersion, _: &Step) -> Result<Tree, Error> {
        let source = self.find(request)?;
        Ok(Tree::context(context_name(&source.files), Selection::default()))
    }
}
