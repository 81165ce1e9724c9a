//! What goes in comes out: entries to tar to blob to entries to directory, whatever the compression and the threads.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use cooperage_store::layer::{Compression, Entry, Kind, Toc, archive};
use cooperage_store::layers::{LayerId, Seal, Source, Write};
use cooperage_store::{Digest, Error};

use crate::common::{Tar, fixture, is_root, listing, options, tree};

const ALL: [Compression; 3] = [Compression::None, Compression::GZIP, Compression::ZSTD];

fn id(name: &str) -> LayerId {
    LayerId(Digest::of(name.as_bytes()))
}

fn file(path: &str, mode: u32, content: &[u8]) -> (Entry, Source) {
    let mut entry = Entry::file(path, mode, content.len() as u64);
    entry.mtime = 1_700_000_000;
    (entry, Source::Bytes(content.to_vec()))
}

/// Bytes that do not compress to nothing.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let step = |_| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        b"abcdefgh 0123456"[(state >> 60) as usize]
    };
    (0..length).map(step).collect()
}

/// One of everything.
fn entries() -> Vec<(Entry, Source)> {
    let mut all = vec![
        file("big", 0o644, &noise(3 << 20)),
        file("usr/bin/tool", 0o755, b"#!/bin/sh\n"),
        file("empty", 0o600, b""),
        file("usr/bin/setuid", 0o6755, b"s"),
        file(&format!("{}/{}", "deep/".repeat(30).trim_end_matches('/'), "n".repeat(120)), 0o644, b"long"),
        (Entry::symlink("sh", "dash"), Source::None),
        (Entry::symlink("out", "../".repeat(60)), Source::None),
        (Entry::new("aaa-link", Kind::Hardlink { target: b"usr/bin/tool".to_vec() }, 0o755), Source::None),
        (Entry::new("zzz-link", Kind::Hardlink { target: b"usr/bin/tool".to_vec() }, 0o755), Source::None),
        (Entry::whiteout("usr/gone"), Source::None),
        (Entry::new("var", Kind::Directory { opaque: true }, 0o1777), Source::None),
        (Entry::new("pipe", Kind::Fifo, 0o622), Source::None),
        (Entry::directory("", 0o755), Source::None),
        (Entry::directory("usr", 0o755), Source::None),
        (Entry::directory("usr/bin", 0o555), Source::None),
    ];
    all[1].0.xattrs = vec![(b"user.note".to_vec(), b"two\nlines\0".to_vec())];
    all[2].0.mtime = -5;
    all[3].0.uid = 3_000_000;
    // More than eleven octal digits hold, and less than what ext4 holds.
    all[3].0.mtime = (1 << 33) + 5;
    let (entry, source) = file("bytes-\u{e9}", 0o640, b"x");
    let mut odd = entry;
    odd.path.push(0xff);
    all.push((odd, source));
    all
}

/// The entries as another reader sees them: nothing that only this store knows.
fn plain(toc: &Toc) -> Vec<Entry> {
    let strip = |entry: &Entry| {
        let mut entry = entry.clone();
        if let Kind::File { digest, offset, .. } = &mut entry.kind {
            assert!(digest.is_some(), "{:?}", String::from_utf8_lossy(&entry.path));
            *offset = 0;
        }
        if let Kind::Hardlink { .. } | Kind::Whiteout = entry.kind {
            (entry.mode, entry.mtime, entry.xattrs, entry.uid) = (0, 0, Vec::new(), 0);
        }
        entry
    };
    toc.iter().map(strip).collect()
}

#[test]
fn entries_to_blob_to_entries() {
    for compression in ALL {
        let fixture = fixture();
        let made = id("made");
        let toc = fixture.layers.write(&made, entries(), Write { unpack: None, seal: Some(compression) }).unwrap();
        let sealed = fixture.layers.seal(&made, Seal { compression, clamp_mtime: None }).unwrap();
        assert_eq!(sealed.descriptor.media_type, compression.media_type());
        let read = fixture.layers.ingest(&sealed.diff_id, &sealed.descriptor).unwrap();
        assert_eq!(plain(&toc), plain(&read));
        for entry in &*read {
            assert_eq!(
                toc.get(&entry.path).map(|made| made.kind.clone()),
                Some(entry.kind.clone()),
                "offsets and digests"
            );
        }
        assert_eq!(fixture.layers.read(&made, b"big", 4 << 20).unwrap(), noise(3 << 20));
        assert!(matches!(fixture.layers.read(&made, b"big", 100), Err(Error::TooLarge { limit: 100, .. })));
        assert_eq!(fixture.layers.read(&made, b"zzz-link", 100).unwrap(), b"#!/bin/sh\n");
    }
}

#[test]
fn blob_and_directory_are_the_same_layer() {
    let fixture = fixture();
    let (direct, unpacked) = (id("direct"), id("unpacked"));
    let first =
        fixture.layers.write(&direct, entries(), Write { unpack: None, seal: Some(Compression::GZIP) }).unwrap();
    fixture.layers.write(&unpacked, entries(), Write { unpack: Some(options()), seal: None }).unwrap();
    let seal = Seal { compression: Compression::GZIP, clamp_mtime: None };
    let one = fixture.layers.seal(&direct, seal).unwrap();
    let two = fixture.layers.seal(&unpacked, seal).unwrap();
    assert_eq!(one, two);
    assert_eq!(*first, *fixture.layers.toc(&unpacked).unwrap());
    let from_blob = fixture.layers.unpack(&direct, options()).unwrap();
    let from_entries = fixture.layers.unpack(&unpacked, options()).unwrap();
    assert_eq!(tree(&from_blob), tree(&from_entries));
    let both = id("both");
    fixture.layers.write(&both, entries(), Write { unpack: Some(options()), seal: Some(Compression::GZIP) }).unwrap();
    assert_eq!(fixture.layers.seal(&both, seal).unwrap(), one);
    // Adopting the directory finds the same entries again.
    if is_root() {
        let copy = fixture.temp.path().join("upper");
        fs::rename(&from_blob, &copy).unwrap();
        let walked = fixture.layers.adopt(&id("walked"), &copy, options().userxattr).unwrap().unwrap();
        assert_eq!(listing(&walked), listing(&first));
        let sealed = fixture.layers.seal(&id("walked"), seal).unwrap();
        assert_eq!(sealed, one, "a layer unpacked, adopted and sealed is the same blob");
    }
}

#[test]
fn the_directory_is_exact() {
    let fixture = fixture();
    let made = id("made");
    let directory = {
        fixture.layers.write(&made, entries(), Write { unpack: Some(options()), seal: None }).unwrap();
        fixture.layers.unpack(&made, options()).unwrap()
    };
    let mode = |name: &str| fs::symlink_metadata(directory.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("usr/bin/setuid"), 0o6755);
    assert_eq!(mode("usr/bin"), 0o555);
    assert_eq!(mode("var"), 0o1777);
    assert_eq!(mode("pipe"), 0o622);
    let metadata = |name: &str| fs::symlink_metadata(directory.join(name)).unwrap();
    assert_eq!(metadata("empty").mtime(), -5);
    assert_eq!(metadata("big").mtime(), 1_700_000_000);
    assert_eq!((metadata("usr").mtime(), metadata("").mtime(), metadata("sh").mtime()), (0, 0, 0));
    assert_eq!(metadata("aaa-link").ino(), metadata("usr/bin/tool").ino());
    assert_eq!(metadata("usr/gone").rdev(), 0);
    if is_root() {
        assert_eq!(metadata("usr/bin/setuid").uid(), 3_000_000);
    }
    let opaque = if options().userxattr { "user.overlay.opaque" } else { "trusted.overlay.opaque" };
    let mut value = [0; 8];
    assert_eq!(rustix::fs::getxattr(directory.join("var"), opaque, &mut value[..]).unwrap(), 1);
    let length = rustix::fs::getxattr(directory.join("aaa-link"), "user.note", &mut [0; 64][..]).unwrap();
    assert_eq!(length, b"two\nlines\0".len());
}

#[test]
fn output_does_not_depend_on_order_or_form() {
    let fixture = fixture();
    let mut backwards = entries();
    backwards.reverse();
    for compression in ALL {
        let name = format!("{compression:?}");
        let (a, b) = (id(&name), id(&format!("{name} backwards")));
        let how = Write { unpack: None, seal: Some(compression) };
        fixture.layers.write(&a, entries(), how).unwrap();
        fixture.layers.write(&b, backwards.clone(), how).unwrap();
        let seal = Seal { compression, clamp_mtime: None };
        assert_eq!(fixture.layers.seal(&a, seal).unwrap(), fixture.layers.seal(&b, seal).unwrap());
    }
}

#[test]
fn other_programs_read_it() {
    let fixture = fixture();
    let made = id("made");
    fixture.layers.write(&made, entries(), Write { unpack: None, seal: Some(Compression::GZIP) }).unwrap();
    let sealed = fixture.layers.seal(&made, Seal::default()).unwrap();
    let path = fixture.temp.path().join("layer.tar.gz");
    fs::copy(fixture.blobs.path(&sealed.descriptor.digest), &path).unwrap();
    let gzip = Command::new("gzip").arg("-t").arg(&path).output().unwrap();
    assert!(gzip.status.success(), "{}", String::from_utf8_lossy(&gzip.stderr));
    let list = Command::new("tar").args(["--quoting-style=literal", "-tzf"]).arg(&path).output().unwrap();
    assert!(list.status.success() && list.stderr.is_empty(), "{}", String::from_utf8_lossy(&list.stderr));
    let names = String::from_utf8_lossy(&list.stdout).into_owned();
    for name in ["./\n", "usr/.wh.gone\n", "var/.wh..wh..opq\n", "aaa-link\n", &"n".repeat(120)] {
        assert!(names.contains(name), "{name} in {names}");
    }
    assert!(names.find("aaa-link").unwrap() < names.find("usr/bin/tool").unwrap());
    let mut unzipped = Vec::new();
    let file = fs::File::open(&path).unwrap();
    // A decoder that stops at the first member sees everything: there is only one.
    std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(file), &mut unzipped).unwrap();
    assert_eq!(Digest::of(&unzipped), sealed.diff_id);
}

#[test]
fn times_are_clamped() {
    let fixture = fixture();
    let made = id("made");
    fixture.layers.write(&made, entries(), Write { unpack: Some(options()), seal: None }).unwrap();
    let free = fixture.layers.seal(&made, Seal::default()).unwrap();
    let clamped = fixture.layers.seal(&made, Seal { clamp_mtime: Some(1000), ..Seal::default() }).unwrap();
    assert_ne!(free.diff_id, clamped.diff_id);
    let toc = fixture.layers.ingest(&clamped.diff_id, &clamped.descriptor).unwrap();
    assert_eq!(toc.get(b"big").unwrap().mtime, 1000);
    assert_eq!(toc.get(b"empty").unwrap().mtime, -5);
    assert_eq!(toc.iter().map(|entry| entry.mtime).max(), Some(1000));
    // A limit that nothing exceeds asks for nothing new.
    let high = fixture.layers.seal(&made, Seal { clamp_mtime: Some(1 << 40), ..Seal::default() }).unwrap();
    assert_eq!(high, free);
}

#[test]
fn files_that_change_are_named() {
    let fixture = fixture();
    let path = fixture.temp.path().join("source");
    fs::write(&path, "12345").unwrap();
    let cases = [(4, None, "not 4"), (6, None, "not 6"), (5, Some(Digest::of(b"54321")), "digest")];
    for (size, digest, reason) in cases {
        for how in
            [Write { unpack: Some(options()), seal: None }, Write { unpack: None, seal: Some(Compression::GZIP) }]
        {
            let entry = Entry::new("f", Kind::File { size, digest, offset: 0 }, 0o644);
            let error = fixture.layers.write(&id("x"), vec![(entry, Source::File(path.clone()))], how).unwrap_err();
            assert!(matches!(error, Error::Changed { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains("source") && text.contains(reason), "{text}");
        }
    }
    std::os::unix::fs::symlink("source", fixture.temp.path().join("link")).unwrap();
    let link = Source::File(fixture.temp.path().join("link"));
    let error = fixture.layers.write(&id("x"), vec![(Entry::file("f", 0o644, 5), link)], Write::default()).unwrap_err();
    assert!(error.to_string().contains("link"), "{error}");
    assert!(fixture.layers.list().unwrap().is_empty());
    assert!(fixture.blobs.list().unwrap().is_empty());
}

#[test]
fn what_a_layer_cannot_hold_is_refused() {
    let fixture = fixture();
    let refuse = |entries: Vec<(Entry, Source)>, reason: &str| {
        let error = fixture.layers.write(&id("x"), entries, Write::default()).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    };
    refuse(vec![file("a/../b", 0o644, b"")], "no path inside a layer");
    refuse(vec![file("/a", 0o644, b"")], "no path inside a layer");
    refuse(vec![file("a/.wh.b", 0o644, b"")], ".wh.");
    refuse(vec![(Entry::file("a", 0o644, 5), Source::None)], "5 bytes");
    refuse(vec![(Entry::new("a", Kind::Hardlink { target: b"b".to_vec() }, 0), Source::None)], "no file of this layer");
}

#[test]
fn files_of_layers_are_copied_from_any_form() {
    for compression in ALL {
        let fixture = fixture();
        let base = id("base");
        fixture.layers.write(&base, entries(), Write { unpack: None, seal: Some(compression) }).unwrap();
        let from = |path: &str| Source::Layer { id: base, path: path.as_bytes().to_vec() };
        let copies = || {
            vec![
                (Entry::file("1/z", 0o644, 10), from("aaa-link")),
                (Entry::file("2/a", 0o644, 3 << 20), from("big")),
                (Entry::file("3/m", 0o644, 10), from("usr/bin/tool")),
                (Entry::file("4/e", 0o644, 0), from("empty")),
            ]
        };
        for how in
            [Write { unpack: Some(options()), seal: None }, Write { unpack: None, seal: Some(Compression::ZSTD) }]
        {
            let copy = id(&format!("{how:?}"));
            fixture.layers.write(&copy, copies(), how).unwrap();
            assert_eq!(fixture.layers.read(&copy, b"1/z", 99).unwrap(), b"#!/bin/sh\n");
            assert_eq!(fixture.layers.read(&copy, b"3/m", 99).unwrap(), b"#!/bin/sh\n");
            assert_eq!(fixture.layers.read(&copy, b"2/a", 4 << 20).unwrap(), noise(3 << 20));
            assert_eq!(fixture.layers.read(&copy, b"4/e", 0).unwrap(), b"");
            let toc = fixture.layers.toc(&copy).unwrap();
            let files: Vec<&Entry> = toc.iter().filter(|entry| !entry.is_directory()).collect();
            let digests = fixture.layers.digest_files(&copy, &files).unwrap();
            assert_eq!(digests[1], Digest::of(&noise(3 << 20)));
            let again = fixture.again().toc(&copy).unwrap();
            assert!(
                matches!(again.get(b"2/a").unwrap().kind, Kind::File { digest: Some(found), .. } if found == digests[1])
            );
        }
    }
}

#[test]
fn many_files_in_one_pass() {
    let fixture = fixture();
    let all: Vec<_> =
        (0..500).map(|number| file(&format!("d{}/f{number}", number % 7), 0o644, &noise(number))).collect();
    let made = id("made");
    let toc = fixture.layers.write(&made, all, Write { unpack: None, seal: Some(Compression::ZSTD) }).unwrap();
    let wanted: Vec<&Entry> = toc.iter().filter(|entry| !entry.is_directory()).rev().step_by(3).collect();
    for unpacked in [false, true] {
        if unpacked {
            fixture.layers.unpack(&made, options()).unwrap();
        }
        let mut seen = vec![false; wanted.len()];
        let each = &mut |place: usize, input: &mut dyn std::io::Read| {
            let mut bytes = Vec::new();
            input.read_to_end(&mut bytes)?;
            assert_eq!(bytes, noise(wanted[place].size() as usize));
            seen[place] = true;
            Ok(())
        };
        fixture.layers.with_files(&made, &wanted, each).unwrap();
        assert!(seen.iter().all(|&seen| seen));
    }
}

#[test]
fn archives_of_users_are_taken_in() {
    let tar = Tar::new().dir("d").file("d/.wh.name", "real").hardlink("h", "d/.wh.name").symlink("l", "d").end();
    let compressed = |program: &str| {
        let mut child = Command::new(program)
            .arg("-c")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), &tar).unwrap();
        child.wait_with_output().unwrap().stdout
    };
    let mut forms = vec![tar.clone(), zstd::encode_all(&tar[..], 3).unwrap()];
    forms.extend(["gzip", "bzip2", "xz"].map(compressed));
    let fixture = fixture();
    let mut ids = Vec::new();
    for form in forms {
        assert!(archive::is_archive(&form));
        let (id, toc) = fixture.layers.import(&form[..]).unwrap();
        assert_eq!(listing(&toc), "/d dir\n/d/.wh.name file 4\n/h == d/.wh.name\n/l -> d");
        assert_eq!(fixture.layers.read(&id, b"h", 4).unwrap(), b"real");
        ids.push(id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "the compression does not count");
    for other in [&b"text"[..], b"", &zstd::encode_all(&b"not a tar"[..], 3).unwrap(), &[0; 1024], b"PK\x03\x04"] {
        assert!(!archive::is_archive(other));
    }
}
