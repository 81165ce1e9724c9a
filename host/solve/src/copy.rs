//! The operations that place files: copy, make-directory, write-file, remove. They never unpack what they copy from.

use std::sync::Arc;

use cooperage_store::layer::Entry;
use cooperage_store::layers::{LayerId, Source, UnpackOptions, Write};

use crate::archive;
use crate::build::{Build, blocking, lock};
use crate::evaluate::{Doing, Done, Evaluated};
use crate::files::{Files, StackFiles};
use crate::mode::ModeChange;
use crate::place::{Attributes, Placement, identity};
use crate::record::CacheResult;
use crate::select::Selected;
use crate::tree::{CopyOptions, Op};
use crate::{Error, Tree, users};

impl Build {
    /// Copies from another tree or a context.
    pub(crate) async fn copy(
        &self,
        doing: &Doing<'_>,
        base: &Tree,
        source: &Tree,
        paths: &[String],
        destination: &str,
        options: &CopyOptions,
    ) -> Result<Done, Error> {
        let (base, selected) =
            futures::try_join!(self.evaluate(base, doing.unpack), self.selected(doing.tree, source, paths, options))?;
        let source_files = self.files(source).await?;
        let target = if options.link { self.nothing() } else { self.stack_files(&base).await? };
        let local = matches!(source.0.op, Op::Context { .. });
        let time = self.time();
        let (options, destination) = (options.clone(), destination.to_owned());
        let epoch = self.options().epoch;
        let layers = self.options().store.layers().clone();
        let entries = blocking(move || {
            let owner = options.owner.as_deref().map(|text| users::owner(target.as_ref(), text)).transpose()?;
            let mode = options.mode.as_deref().map(ModeChange::parse).transpose()?;
            let selected = with_times(&selected, local.then_some(time));
            let (archives, plain) = match options.unpack {
                true => archive::split(selected, source_files.as_ref())?,
                false => (Vec::new(), selected),
            };
            let mut placement = Placement::new(target.as_ref(), Attributes { owner, mode, time, latest: epoch });
            for archive in &archives {
                let unpacked = archive::open(archive, source_files.as_ref(), &layers)?;
                placement.unpack(unpacked, &destination)?;
            }
            if !plain.is_empty() {
                placement.copy(plain, &destination)?;
            }
            Ok(placement.finish())
        })
        .await?;
        self.keep(doing, &base, entries).await
    }

    /// Places something that needs no source.
    pub(crate) async fn place(
        &self,
        doing: &Doing<'_>,
        base: &Tree,
        owner: Option<&str>,
        work: impl FnOnce(&mut Placement<'_>) -> Result<(), Error> + Send + 'static,
    ) -> Result<Done, Error> {
        let base = self.evaluate(base, doing.unpack).await?;
        let target = self.stack_files(&base).await?;
        let owner = owner.map(str::to_owned);
        let (time, latest) = (self.time(), self.options().epoch);
        let entries = blocking(move || {
            let owner = owner.as_deref().map(|text| users::owner(target.as_ref(), text)).transpose()?;
            let mut placement = Placement::new(target.as_ref(), Attributes { owner, mode: None, time, latest });
            work(&mut placement)?;
            Ok(placement.finish())
        })
        .await?;
        self.keep(doing, &base, entries).await
    }

    /// Makes the layer, unless the same one is there.
    async fn keep(&self, doing: &Doing<'_>, base: &Evaluated, entries: Vec<(Entry, Source)>) -> Result<Done, Error> {
        if entries.is_empty() {
            return Ok(Done { evaluated: base.with(None), result: CacheResult::ContentHit });
        }
        let id = identity(&entries);
        let layers = self.options().store.layers().clone();
        let exported = self.is_exported(doing.key);
        if layers.get(&id)?.is_some() {
            return Ok(Done { evaluated: base.with(Some(id)), result: CacheResult::ContentHit });
        }
        let unpack = (doing.unpack || !exported).then(|| self.unpack_options());
        let seal = (exported && unpack.is_none()).then_some(self.options().compression);
        let permit = self.permit().await?;
        blocking(move || Ok(layers.write(&id, entries, Write { unpack, seal }).map(drop)?)).await?;
        drop(permit);
        if exported {
            self.seal_in_background(id);
        }
        Ok(Done { evaluated: base.with(Some(id)), result: CacheResult::Miss })
    }

    fn nothing(&self) -> Arc<dyn Files> {
        Arc::new(StackFiles::new(Vec::new(), self.options().store.layers().clone()))
    }

    /// The time of files that have none of their own.
    pub(crate) fn time(&self) -> i64 {
        self.options().epoch.unwrap_or(0)
    }

    pub(crate) fn unpack_options(&self) -> UnpackOptions {
        UnpackOptions { userxattr: self.options().userxattr, privileged: self.options().privileged }
    }

    pub(crate) async fn permit(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Error> {
        self.0.permits.acquire().await.map_err(|_| Error::cancelled())
    }

    pub(crate) fn is_exported(&self, key: &crate::key::Key) -> bool {
        lock(&self.0.exported).contains(&key.digest)
    }

    /// Starts to make the blob of a layer; `image` waits for it.
    pub(crate) fn seal_in_background(&self, id: LayerId) {
        let build = self.clone();
        // Whoever assembles the image asks for the same seal and gets its fault.
        tokio::spawn(async move { drop(build.sealed(id).await) });
    }
}

/// What was selected, with the time that files of a context get.
fn with_times(selected: &[Selected], time: Option<i64>) -> Vec<Selected> {
    let mut copy = selected.to_vec();
    if let Some(time) = time {
        for (_, item) in copy.iter_mut().flat_map(|selected| selected.items.iter_mut()) {
            (item.entry.mtime, item.entry.mtime_nanos) = (time, 0);
        }
    }
    copy
}
