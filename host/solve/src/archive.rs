//! Unpacks archives that ADD was given: the entries of a tar become a selection like any other.
//!
//! An archive is taken into the store as a layer is, with the same care for hostile names; nothing is unpacked.

use cooperage_store::layer::Kind;
use cooperage_store::layer::archive::is_archive;
use cooperage_store::layers::{Layers, Source};

use crate::Error;
use crate::files::{Files, Item, StackFiles, StackLayer, display};
use crate::select::Selected;

/// How many bytes of a file tell whether it is an archive: bzip2 says nothing before its first whole block.
const HEAD: u64 = 1 << 20;

/// Parts sources that are archives from the others. Only a file that was named itself can be one.
pub(crate) fn split(selected: Vec<Selected>, files: &dyn Files) -> Result<(Vec<Selected>, Vec<Selected>), Error> {
    let (mut archives, mut plain) = (Vec::new(), Vec::new());
    for one in selected {
        let archive = match one.top().entry.kind {
            Kind::File { size, .. } if size > 0 => is_archive(&head(files, one.top())?),
            _ => false,
        };
        if archive { archives.push(one) } else { plain.push(one) }
    }
    Ok((archives, plain))
}

fn head(files: &dyn Files, item: &Item) -> Result<Vec<u8>, Error> {
    use std::io::Read;
    if let Source::File(path) = &item.source {
        let mut bytes = Vec::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut bytes));
        read.map_err(|error| Error::io(format!("reading {}", path.display()), &error))?;
        return Ok(bytes);
    }
    let mut bytes = files.read(item, u64::MAX)?;
    bytes.truncate(HEAD as usize);
    Ok(bytes)
}

/// The contents of an archive as a directory to copy.
pub(crate) fn open(archive: &Selected, files: &dyn Files, layers: &Layers) -> Result<Selected, Error> {
    let imported = match &archive.top().source {
        Source::File(path) => {
            let file = std::fs::File::open(path);
            layers.import(file.map_err(|error| Error::io(format!("reading {}", path.display()), &error))?)
        }
        _ => layers.import(&files.read(archive.top(), u64::MAX)?[..]),
    };
    let (id, toc) = imported
        .map_err(|error| Error::from(error).context(format!("unpacking {}", display(archive.given.as_bytes()))))?;
    let contents = StackFiles::new(vec![StackLayer { id, toc }], layers.clone());
    let items = contents.subtree(b"")?.into_iter().map(|item| (item.path().to_vec(), item)).collect();
    Ok(Selected { given: archive.given.clone(), name: Vec::new(), keep_name: false, parents: Vec::new(), items })
}
