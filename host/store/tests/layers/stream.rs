//! Files and trees as readers, layers of unknown diff ids, and layers that come plain and leave compressed.

use std::io::Read;

use cooperage_store::layer::{Compression, Entry, Kind};
use cooperage_store::layers::{LayerId, Seal, Source};
use cooperage_store::{Digest, Error};

use crate::common::{Tar, fixture, listing};

/// All of an archive, in pieces of an odd size.
fn drained(mut archive: cooperage_store::layers::Archive) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    loop {
        let bytes = archive.next_bytes(1000)?;
        if bytes.is_empty() {
            return Ok(all);
        }
        all.extend(bytes);
    }
}

fn file(path: &str, size: usize) -> Entry {
    Entry::new(path, Kind::File { size: size as u64, digest: None, offset: 0 }, 0o644)
}

#[test]
fn a_tree_is_packed_while_it_is_read() {
    let fixture = fixture();
    let large = vec![7u8; 3 << 20];
    let host = fixture.temp.path().join("large");
    std::fs::write(&host, &large).unwrap();
    let entries = vec![
        (file("b/large", large.len()), Source::File(host.clone())),
        (file("a", 2), Source::Bytes(b"hi".to_vec())),
        (Entry::new(b"l".to_vec(), Kind::Symlink { target: b"a".to_vec() }, 0o777), Source::None),
    ];
    let archive = drained(fixture.layers.pack(entries.clone()).unwrap()).unwrap();
    assert_eq!(fixture.listing(&archive), "/a file 2\n/b dir\n/b/large file 3145728\n/l -> a");

    // What cannot be read is told, and no thread waits for a reader that is gone.
    std::fs::write(&host, b"short").unwrap();
    let error = drained(fixture.layers.pack(entries.clone()).unwrap()).unwrap_err();
    assert!(matches!(error, Error::Changed { .. }), "{error}");
    drop(fixture.layers.pack(entries).unwrap());
}

#[test]
fn a_file_is_read_at_any_place_whatever_form_its_layer_has() {
    let fixture = fixture();
    let tar = Tar::new().file("x", "0123456789").end();
    let packed = {
        let mut out = Vec::new();
        flate2::read::GzEncoder::new(&tar[..], flate2::Compression::fast()).read_to_end(&mut out).unwrap();
        out
    };
    for blob in [&tar, &packed] {
        let again = crate::common::fixture();
        let (id, _) = again.ingest_as(&tar, blob).unwrap();
        let opened = again.layers.open_file(&Source::Layer { id, path: b"x".to_vec() }, 10).unwrap();
        let mut buffer = [0; 4];
        assert_eq!(opened.read_at(&mut buffer, 8).unwrap(), 2);
        assert_eq!(&buffer[..2], b"89");
        assert_eq!(opened.read_at(&mut buffer, 3).unwrap(), 4);
        assert_eq!(&buffer, b"3456");
        assert_eq!(opened.read_at(&mut buffer, 10).unwrap(), 0);
        assert_eq!(opened.read_at(&mut buffer, u64::MAX).unwrap(), 0);
    }
    let bytes = fixture.layers.open_file(&Source::Bytes(b"abc".to_vec()), 3).unwrap();
    let mut buffer = [0; 9];
    assert_eq!(bytes.read_at(&mut buffer, 1).unwrap(), 2);
    assert_eq!(bytes.read_at(&mut buffer, 4).unwrap(), 0);
}

#[test]
fn layers_of_unknown_diff_ids_are_known_by_their_content() {
    let fixture = fixture();
    let tar = Tar::new().file("x", "hello").end();
    let mut packed = Vec::new();
    flate2::read::GzEncoder::new(&tar[..], flate2::Compression::fast()).read_to_end(&mut packed).unwrap();
    let expected = LayerId(Digest::of(&tar));
    for blob in [&tar, &packed] {
        let digest = fixture.blobs.put(blob).unwrap();
        assert_eq!(fixture.layers.ingest_blob(&digest).unwrap(), expected);
        assert_eq!(listing(&fixture.layers.toc(&expected).unwrap()), "/x file 5");
    }
    let short = Tar::new().file("x", &"y".repeat(5000)).cut();
    let cut =
        |length: usize| Tar::new().file("a", "b").cut().into_iter().chain(short[..length].to_vec()).collect::<Vec<_>>();
    for broken in [&b"this is no archive at all"[..], &cut(512), &cut(513), &cut(4000), &cut(100)] {
        let digest = fixture.blobs.put(broken).unwrap();
        assert!(fixture.layers.ingest_blob(&digest).is_err(), "{} bytes", broken.len());
        assert!(fixture.layers.get(&LayerId(digest)).unwrap().is_none(), "nothing is left behind");
    }
    // What files hold was not looked at when the layer came; it is when somebody asks.
    let toc = fixture.layers.toc(&expected).unwrap();
    let entry = toc.get(b"x").unwrap();
    assert_eq!(fixture.layers.digest_files(&expected, &[entry]).unwrap(), [Digest::of(b"hello")]);
    assert!(matches!(fixture.layers.ingest_blob(&Digest::of(b"absent")), Err(Error::NotFound { .. })));
}

#[test]
fn a_plain_layer_keeps_its_diff_id_when_it_is_compressed() {
    let fixture = fixture();
    // Not as we would write it: two entries of one name, and padding behind the end.
    let mut tar = Tar::new().file("x", "old").file("x", "hello").end();
    tar.extend([0; 4096]);
    let digest = fixture.blobs.put(&tar).unwrap();
    let id = fixture.layers.ingest_blob(&digest).unwrap();
    let plain = fixture.layers.seal(&id, Seal { compression: Compression::None, clamp_mtime: None }).unwrap();
    assert_eq!((plain.diff_id, plain.descriptor.digest), (digest, digest));
    let sealed = fixture.layers.seal(&id, Seal::default()).unwrap();
    assert_eq!(sealed.diff_id, digest);
    assert_eq!(sealed.descriptor.media_type, "application/vnd.oci.image.layer.v1.tar+gzip");
    let blob = fixture.blobs.read(&sealed.descriptor.digest, 1 << 20).unwrap();
    let mut unpacked = Vec::new();
    flate2::read::MultiGzDecoder::new(&blob[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, tar);
    assert_eq!(fixture.layers.seal(&id, Seal::default()).unwrap(), sealed);
    assert_eq!(fixture.layers.read(&id, b"x", 10).unwrap(), b"hello");
}
