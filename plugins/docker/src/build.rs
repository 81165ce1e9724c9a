//! Building with the engine: which of its builders, what the request says, and what its progress means. Where the
//! context comes from and where steps are shown is for others to know.

pub mod bases;
pub mod buildkit;
pub mod choose;
pub mod classic;
pub mod parameters;
pub mod request;

use cooperage_sdk::{Context, Error, ErrorKind, Result};

use crate::edge::{Answer, Payload, Show};
use crate::engine::{Engine, Request};
use crate::faults;
use crate::lines::{Record, Records};
use crate::names;

/// What a builder of an engine says while it works.
pub trait Decoder {
    /// Takes one record.
    ///
    /// # Errors
    /// `internal` if it makes no sense.
    fn take(&mut self, record: &Record, show: &mut dyn Show) -> Result<()>;
    /// The image, once it was named.
    fn image(&self) -> Option<&str>;
    /// Ends the steps that are open, as failed if there is a reason.
    fn end(&mut self, failure: Option<&str>, show: &mut dyn Show);
}

/// Sends a build to the engine, shows what it says, and gives the identity of the image.
///
/// # Errors
/// Why the build failed, or why the engine did not begin it.
pub fn run(
    engine: &Engine<'_>,
    request: Request,
    context: Payload,
    decoder: &mut dyn Decoder,
    show: &mut dyn Show,
) -> Result<String> {
    shown(engine.send(request.archive(context).patient())?, decoder, show)
}

/// Shows what a builder says in its answer, and gives the identity of the image.
///
/// # Errors
/// Those of [`run`].
pub fn shown(answer: Answer, decoder: &mut dyn Decoder, show: &mut dyn Show) -> Result<String> {
    let answer = faults::expect(answer, "the engine refuses the build")?;
    let outcome = follow(&mut Records::new(answer.body), decoder, show);
    decoder.end(outcome.as_ref().err().map(|error| error.context.first().unwrap_or(&error.message).as_str()), show);
    outcome?;
    let image = decoder.image().ok_or_else(|| Error::unavailable("the engine broke the build off without a result"))?;
    let odd =
        |_| Error::new(ErrorKind::Internal, format!("the engine says that it has built {image:?}, which is no image"));
    names::check(image).map(str::to_owned).map_err(odd)
}

fn follow(records: &mut Records, decoder: &mut dyn Decoder, show: &mut dyn Show) -> Result<()> {
    while let Some(record) = records.record().context("the build was broken off")? {
        if let Some((message, code)) = record.failure() {
            return Err(faults::of_stream("the build failed", message, code));
        }
        decoder.take(&record, show)?;
    }
    Ok(())
}

/// The identity in `aux`, as both builders report it.
fn image_of(record: &Record) -> Option<String> {
    let id = record.aux.as_ref()?.get("ID")?.as_str()?;
    (!id.is_empty()).then(|| id.to_owned())
}
