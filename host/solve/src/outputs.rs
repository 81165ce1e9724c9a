//! Gives the files of images to their user: as an archive, or in a directory. No image is made for that.

use std::path::PathBuf;

use cooperage_store::Platform;
use cooperage_store::layer::{Entry, Kind};
use cooperage_store::layers::{Archive, Source};

use crate::build::{Build, blocking};
use crate::files::{Files, Item, join};
use crate::image::check_processors;
use crate::select::same_files;
use crate::{Error, Image};

type Line = (Entry, Source);

impl Build {
    /// All files of an image as one tar archive; of several images, each is below a directory named for its platform, such
    /// as `linux_arm64`. No file is later than the time of [`BuildOptions::epoch`](crate::BuildOptions::epoch).
    pub async fn archive(&self, images: &[Image]) -> Result<Archive, Error> {
        let lines = self.lines(images).await?;
        let layers = self.options().store.layers().clone();
        blocking(move || Ok(layers.pack(lines)?)).await
    }

    /// The same in a directory, which is made if it is not there: what it has stays, files of the same name are replaced.
    /// All that is written belongs to whoever runs this, devices are left out. Either everything is put there or, where a
    /// directory would have to take the place of a file or the reverse, nothing.
    pub async fn put(&self, images: &[Image], directory: PathBuf) -> Result<(), Error> {
        let lines = self.lines(images).await?;
        let layers = self.options().store.layers().clone();
        blocking(move || Ok(layers.put(lines, &directory)?)).await
    }

    async fn lines(&self, images: &[Image]) -> Result<Vec<Line>, Error> {
        images.iter().try_for_each(check_processors)?;
        let files = futures::future::try_join_all(images.iter().map(|image| self.files(&image.tree))).await?;
        let several = images.len() > 1;
        let tops = images.iter().map(|image| if several { directory_name(&image.platform) } else { Vec::new() });
        let trees: Vec<_> = tops.zip(files).collect();
        let latest = self.options().epoch;
        blocking(move || {
            let mut lines = Vec::new();
            for (top, files) in &trees {
                below(files.as_ref(), top, &mut lines)?;
            }
            for (entry, _) in &mut lines {
                if latest.is_some_and(|latest| entry.mtime >= latest) {
                    (entry.mtime, entry.mtime_nanos) = (latest.unwrap_or(entry.mtime), 0);
                }
            }
            Ok(lines)
        })
        .await
    }
}

fn directory_name(platform: &Platform) -> Vec<u8> {
    platform.to_string().replace('/', "_").into_bytes()
}

/// All that a tree has, below `top`. Names of one file stay names of one file.
fn below(files: &dyn Files, top: &[u8], lines: &mut Vec<Line>) -> Result<(), Error> {
    let mut items: Vec<(Vec<u8>, Item)> = Vec::new();
    let mut todo = files.lookup(b"")?.into_iter().collect::<Vec<_>>();
    while let Some(item) = todo.pop() {
        if item.is_directory() {
            todo.extend(files.list(item.path())?);
        }
        items.push((item.path().to_vec(), item));
    }
    items.sort_by(|(one, _), (other, _)| one.cmp(other));
    let same = same_files(&items);
    let firsts: Vec<Vec<u8>> = match same.is_empty() {
        true => Vec::new(),
        false => items.iter().map(|(path, _)| join(top, path)).collect(),
    };
    for (at, (path, item)) in items.into_iter().enumerate() {
        let (mut entry, mut source) = (item.entry, item.source);
        entry.path = join(top, &path);
        if let Some(first) = same.get(&at).and_then(|first| firsts.get(*first)) {
            (entry.kind, source) = (Kind::Hardlink { target: first.clone() }, Source::None);
        }
        if !entry.path.is_empty() {
            lines.push((entry, source));
        }
    }
    Ok(())
}
