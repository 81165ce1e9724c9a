//! A backend for looking at a Dockerfile alone: no image is resolved, no tree is made. Contexts are still asked for by
//! name, because one may take the place of a stage or an image.

use serde_json::Value;

use crate::backend::{Backend, Operation, Origin, Source, Wanted};
use crate::fault::{Fault, Kind};

/// What stands behind it is asked for names of contexts, and told what is odd.
pub struct Blind<'a, B>(pub &'a mut B);

impl<B: Backend> Backend for Blind<'_, B> {
    type Tree = ();

    fn resolve(&mut self, wanted: &[Wanted]) -> Vec<Result<Value, Fault>> {
        wanted.iter().map(|_| Ok(Value::Null)).collect()
    }

    fn source(&mut self, source: Source<'_>) -> Result<(), Fault> {
        match source {
            Source::Context { name, .. } if !name.is_empty() => self.0.source(source).map(drop),
            _ => Ok(()),
        }
    }

    fn apply(&mut self, (): &(), _: Operation<()>, _: &Origin) {}

    fn read(&mut self, (): &(), path: &str, _: u64) -> Result<Option<Vec<u8>>, Fault> {
        Err(Fault::new(Kind::Internal, format!("{path} is not read where a Dockerfile is only looked at")))
    }

    fn warn(&mut self, message: &str) {
        self.0.warn(message);
    }
}
