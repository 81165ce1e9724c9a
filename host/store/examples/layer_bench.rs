//! Measures what is done to layers, on a directory given as argument: `layer_bench DIRECTORY [gzip levels...]`.
//!
//! Prints MB/s of uncompressed tar for writing (entries to blob in one pass), sealing (directory to blob), ingesting
//! (blob to table of contents) and unpacking (blob to directory), and the ratio of each compression.

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use cooperage_store::layer::{Compression, Entry, Kind};
use cooperage_store::layers::{LayerId, Layers, Seal, Source, UnpackOptions, Write};
use cooperage_store::{Digest, Store};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("usage: layer_bench DIRECTORY [gzip levels...]")?;
    let levels: Vec<u32> = arguments.map(|level| level.parse()).collect::<Result<_, _>>()?;
    let work = std::path::PathBuf::from(&directory).with_extension("layer-bench");
    std::fs::create_dir_all(&work)?;
    let mut entries = Vec::new();
    collect(Path::new(&directory), b"", &mut entries)?;
    let size: u64 = entries.iter().map(|(entry, _)| entry.size().next_multiple_of(512) + 512).sum();
    println!("{} entries, {:.1} MB as tar", entries.len(), size as f64 / 1e6);
    let mut compressions = vec![Compression::None, Compression::ZSTD];
    compressions.extend(levels.into_iter().map(|level| Compression::Gzip { level }));
    // A store for each, removed only at the end: ext4 does not reuse inodes that were freed within the last minutes, and
    // passing over tens of thousands of them makes creating files ten times slower.
    for (number, compression) in compressions.into_iter().enumerate() {
        let store = Store::open(&work.join(number.to_string()))?;
        measure(store.layers(), &entries, size, compression)?;
        gets(store.layers())?;
    }
    std::fs::remove_dir_all(&work)?;
    Ok(())
}

fn measure(
    layers: &Layers,
    entries: &[(Entry, Source)],
    size: u64,
    compression: Compression,
) -> Result<(), Box<dyn Error>> {
    let id = LayerId(Digest::of(format!("{compression:?}").as_bytes()));
    let how = Write { unpack: None, seal: Some(compression) };
    timed("write to blob", size, || layers.write(&id, entries.to_vec(), how))?;
    let sealed = layers.seal(&id, Seal { compression, clamp_mtime: None })?;
    println!("{compression:?}: ratio {:.3}", sealed.descriptor.size as f64 / size as f64);
    timed("  ingest", size, || layers.ingest(&sealed.diff_id, &sealed.descriptor))?;
    let ingested = LayerId(sealed.diff_id);
    let options = UnpackOptions { userxattr: false, privileged: true };
    timed("  unpack", size, || layers.unpack(&ingested, options))?;
    let id = LayerId(Digest::of(format!("fs {compression:?}").as_bytes()));
    timed("  write to directory", size, || {
        layers.write(&id, entries.to_vec(), Write { unpack: Some(options), seal: None })
    })?;
    timed("  seal", size, || layers.seal(&id, Seal { compression, clamp_mtime: None }))?;
    Ok(())
}

fn gets(layers: &Layers) -> Result<(), Box<dyn Error>> {
    let ids = layers.list()?;
    let start = Instant::now();
    for _ in 0..1000 {
        for id in &ids {
            layers.get(id)?;
        }
    }
    println!("get: {:.1} us", start.elapsed().as_secs_f64() * 1e3 / ids.len() as f64);
    Ok(())
}

fn timed<T>(what: &str, size: u64, work: impl FnOnce() -> cooperage_store::Result<T>) -> Result<T, Box<dyn Error>> {
    let start = Instant::now();
    let done = work()?;
    let seconds = start.elapsed().as_secs_f64();
    println!("{what:24} {seconds:7.3} s {:8.1} MB/s", size as f64 / 1e6 / seconds);
    Ok(done)
}

fn collect(top: &Path, path: &[u8], into: &mut Vec<(Entry, Source)>) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let join = |path: &[u8], name: &[u8]| if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
    for item in std::fs::read_dir(top)? {
        let item = item?;
        let path = join(path, item.file_name().as_bytes());
        let metadata = item.metadata()?;
        let (kind, source) = if metadata.is_dir() {
            (Kind::Directory { opaque: false }, Source::None)
        } else if metadata.is_symlink() {
            let target = std::fs::read_link(item.path())?;
            (Kind::Symlink { target: target.as_os_str().as_bytes().to_vec() }, Source::None)
        } else if metadata.is_file() {
            (Kind::File { size: metadata.len(), digest: None, offset: 0 }, Source::File(item.path()))
        } else {
            continue;
        };
        let mut entry = Entry::new(path.clone(), kind, metadata.mode() & 0o7777);
        (entry.uid, entry.gid, entry.mtime) = (metadata.uid(), metadata.gid(), metadata.mtime());
        into.push((entry, source));
        if metadata.is_dir() {
            collect(&item.path(), &path, into)?;
        }
    }
    Ok(())
}
