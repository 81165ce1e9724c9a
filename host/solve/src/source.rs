//! Sources: trees whose files are behind a URL. Asks for the version first, which is all that a cached build needs, and
//! fetches only on a miss. Who serves a URL, the port knows.

use crate::build::{Build, lock};
use crate::evaluate::{Doing, Done, Evaluated};
use crate::key::KeyBuilder;
use crate::ports::{SourceRequest, SourceVersion};
use crate::record::CacheResult;
use crate::{Error, ErrorKind, Outcome, Tree};

impl Build {
    /// What a URL stands for; asked once per build.
    pub async fn resolve_source(&self, request: &SourceRequest) -> Result<SourceVersion, Error> {
        let cell = lock(&self.0.versions).entry(request.clone()).or_default().clone();
        let result = cell.get_or_init(|| async { self.options().sources.resolve(self, request).await }).await;
        result.clone()
    }

    /// The parts of the key of a source. Where the far side cannot tell versions apart, the files themselves are one.
    pub(crate) async fn source_parts(
        &self,
        key: KeyBuilder,
        tree: &Tree,
        request: &SourceRequest,
    ) -> Result<KeyBuilder, Error> {
        let version = self.resolve_source(request).await?;
        // Keys are kept in readable form.
        let key = key.part("url", request.shown()).part("parameters", &request.parameters);
        if !version.value.is_empty() {
            return Ok(key.part("version", version.value));
        }
        let step = self.options().reporter.step(None, crate::evaluate::step_name(tree));
        let fetched = self.fetched(request, &version, &step).await;
        step.finish(match &fetched {
            Ok(_) => Outcome::Done,
            Err(error) if error.kind == ErrorKind::Cancelled => Outcome::Cancelled,
            Err(error) => Outcome::Failed(error.to_string()),
        });
        let layers: Vec<String> = fetched?.layers.iter().map(|id| id.0.to_string()).collect();
        Ok(key.list("layers", &layers))
    }

    /// Brings the files.
    pub(crate) async fn source(&self, doing: &Doing<'_>, request: &SourceRequest) -> Result<Done, Error> {
        let version = self.resolve_source(request).await?;
        let evaluated = self.fetched(request, &version, doing.step).await?;
        Ok(Done { evaluated, result: CacheResult::Miss })
    }

    /// Fetches once per build.
    async fn fetched(
        &self,
        request: &SourceRequest,
        version: &SourceVersion,
        step: &crate::Step,
    ) -> Result<Evaluated, Error> {
        let cell = lock(&self.0.fetched).entry(request.clone()).or_default().clone();
        let fetch = async || {
            let tree = self.options().sources.fetch(self, request, version, step).await?;
            let mut evaluated = self.evaluate(&tree, false).await?;
            if evaluated.base.is_some() {
                // The layers of an image need not be here; those of a source must be.
                evaluated = self.evaluate(&tree.whole(), false).await?;
            }
            Ok(Evaluated { operations: Default::default(), ..evaluated })
        };
        let result = cell.get_or_init(fetch).await;
        result.clone()
    }
}
