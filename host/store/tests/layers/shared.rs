//! Several threads and several views of one store at once, and what is left after a failure.

use std::fs;
use std::thread;

use cooperage_store::layer::{Compression, Entry};
use cooperage_store::layers::{LayerId, Seal, Source, Write};
use cooperage_store::{Digest, Error};

use crate::common::{Tar, fixture, options, tree};

fn entries() -> Vec<(Entry, Source)> {
    let content = |number: usize| format!("content {number} ").repeat(number).into_bytes();
    let entry = |number| {
        let bytes = content(number);
        (Entry::file(format!("d/f{number}"), 0o644, bytes.len() as u64), Source::Bytes(bytes))
    };
    (0..200).map(entry).collect()
}

#[test]
fn the_same_work_at_once_is_done_once() {
    let fixture = fixture();
    let id = LayerId(Digest::of(b"layer"));
    let views: Vec<_> = (0..6).map(|_| fixture.again()).collect();
    let how = Write { unpack: Some(options()), seal: None };
    let results: Vec<_> = thread::scope(|scope| {
        let run = |layers: &cooperage_store::layers::Layers| {
            layers.write(&id, entries(), how).unwrap();
            let path = layers.unpack(&id, options()).unwrap();
            (path, layers.seal(&id, Seal::default()).unwrap())
        };
        let running: Vec<_> = views.iter().map(|layers| scope.spawn(move || run(layers))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for result in &results {
        assert_eq!(*result, results[0]);
    }
    assert_eq!(tree(&results[0].0).len(), 201);
    assert_eq!(fixture.blobs.list().unwrap().len(), 1);
    let info = fixture.layers.get(&id).unwrap().unwrap();
    assert!(info.unpacked && info.blob.is_some());
    // Every view knows the digests that sealing found.
    for layers in &views {
        assert!(layers.get(&id).unwrap().is_some());
    }
}

#[test]
fn unpacking_at_once_and_after_a_crash() {
    let fixture = fixture();
    let (id, _) = fixture.ingest(&Tar::new().file("a/b", "x").symlink("l", "a").end()).unwrap();
    // What a process that was killed while unpacking leaves.
    let half = fixture.layers.path(&id).join("unpacking");
    fs::create_dir_all(half.join("locked")).unwrap();
    fs::write(half.join("locked/rest"), "").unwrap();
    let views: Vec<_> = (0..4).map(|_| fixture.again()).collect();
    let paths: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> =
            views.iter().map(|layers| scope.spawn(|| layers.unpack(&id, options()).unwrap())).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(paths.iter().all(|path| *path == paths[0]));
    assert_eq!(tree(&paths[0]), ["/a 755 dir", "/a/b 644 file x", "/l 777 -> a"]);
    assert!(!half.exists());
}

#[test]
fn removal_is_complete_and_repeatable() {
    let fixture = fixture();
    let id = LayerId(Digest::of(b"layer"));
    fixture.layers.write(&id, entries(), Write { unpack: Some(options()), seal: None }).unwrap();
    assert_eq!(fixture.layers.list().unwrap(), [id]);
    fixture.layers.remove(&id).unwrap();
    fixture.layers.remove(&id).unwrap();
    assert!(fixture.layers.list().unwrap().is_empty());
    assert_eq!(fixture.layers.get(&id).unwrap(), None);
    assert!(matches!(fixture.layers.toc(&id), Err(Error::NotFound { .. })));
    assert!(matches!(fixture.layers.unpack(&id, options()), Err(Error::NotFound { .. })));
    let locks = fs::read_dir(fixture.temp.path().join("layers/.locks")).unwrap().count();
    assert_eq!(locks, 0);
}

#[test]
fn a_lost_blob_is_made_again() {
    let fixture = fixture();
    let id = LayerId(Digest::of(b"layer"));
    fixture.layers.write(&id, entries(), Write { unpack: Some(options()), seal: Some(Compression::GZIP) }).unwrap();
    let first = fixture.layers.seal(&id, Seal::default()).unwrap();
    fixture.blobs.remove(&first.descriptor.digest).unwrap();
    assert_eq!(fixture.layers.seal(&id, Seal::default()).unwrap(), first);
    assert!(fixture.blobs.size(&first.descriptor.digest).unwrap().is_some());
}

#[test]
fn damaged_state_counts_as_absent() {
    let fixture = fixture();
    let (id, _) = fixture.ingest(&Tar::new().file("f", "x").end()).unwrap();
    fs::write(fixture.layers.path(&id).join("meta.json"), "").unwrap();
    assert_eq!(fixture.again().get(&id).unwrap(), None);
    fixture.ingest(&Tar::new().file("f", "x").end()).unwrap();
    assert!(fixture.layers.get(&id).unwrap().is_some());
}
