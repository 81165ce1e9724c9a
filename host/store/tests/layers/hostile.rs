//! Archives that lie, and honest ones that look as if they did.

use std::fs;

use cooperage_store::layer::{Kind, Limits};
use cooperage_store::layers::Layers;
use cooperage_store::{Descriptor, Digest, Error};

use crate::common::{Tar, fixture, is_root, listing, tree};

/// Reads the archive and compares what it makes.
#[track_caller]
fn check(tar: Tar, expected: &str) {
    let fixture = fixture();
    assert_eq!(fixture.listing(&tar.end()), expected);
}

/// Reads the archive, which must be refused for a reason that holds `reason`, and leave nothing behind.
#[track_caller]
fn refuse(tar: Vec<u8>, reason: &str) {
    let fixture = fixture();
    let error = fixture.ingest(&tar).map(|(_, toc)| listing(&toc)).unwrap_err();
    assert!(error.to_string().contains(reason), "{error}");
    assert!(fixture.layers.list().unwrap().is_empty());
}

#[test]
fn names_that_lead_out() {
    refuse(Tar::new().file("../evil", "x").end(), "leads out");
    refuse(Tar::new().file("a/../../evil", "x").end(), "leads out");
    refuse(Tar::new().dir("..").end(), "leads out");
    refuse(Tar::new().hardlink("a", "../../etc/passwd").end(), "out of the layer");
    check(Tar::new().file("/etc/passwd", "x"), "/etc dir\n/etc/passwd file 1");
    check(Tar::new().file("./a//b/../c", "x"), "/a dir\n/a/c file 1");
    check(Tar::new().dir("a///").dir("./"), "/ dir\n/a dir");
}

#[test]
fn links_are_followed_inside_the_layer_only() {
    check(Tar::new().symlink("l", "/etc").file("l/passwd", "x"), "/etc dir\n/etc/passwd file 1\n/l -> /etc");
    check(Tar::new().symlink("l", "../../..").file("l/f", "x"), "/f file 1\n/l -> ../../..");
    check(Tar::new().symlink("a/l", "../b").file("a/l/f", "x"), "/a dir\n/a/l -> ../b\n/b dir\n/b/f file 1");
    check(
        Tar::new().dir("usr/bin").symlink("bin", "usr/bin").symlink("bin/sh", "dash").file("bin/dash", "x"),
        "/bin -> usr/bin\n/usr dir\n/usr/bin dir\n/usr/bin/dash file 1\n/usr/bin/sh -> dash",
    );
    refuse(Tar::new().symlink("a", "b").symlink("b", "a").file("a/f", "x").end(), "too many symbolic links");
    refuse(Tar::new().symlink("a", "a/x").file("a/f", "x").end(), "too many symbolic links");
    refuse(Tar::new().file("a", "x").file("a/f", "x").end(), "not a directory");
    // A link itself may point wherever it likes.
    check(Tar::new().symlink("d/l", "../../../../x"), "/d dir\n/d/l -> ../../../../x");
}

#[test]
fn directories_and_links_replace_each_other() {
    check(
        Tar::new().dir("d").file("d/f", "x").symlink("d", "/etc").file("d/g", "x"),
        "/d -> /etc\n/etc dir\n/etc/g file 1",
    );
    check(Tar::new().symlink("d", "/etc").dir("d").file("d/f", "x"), "/d dir\n/d/f file 1");
    check(Tar::new().file("d/e/f", "x").file("d", "y"), "/d file 1");
    check(Tar::new().file("d", "y").dir("d/").file("d/f", "xx"), "/d dir\n/d/f file 2");
}

#[test]
fn the_last_of_equals_counts() {
    let fixture = fixture();
    let tar = Tar::new().file("f", "first").dir("d").file("d/x", "1").file("./f", "second!").dir("d").end();
    let (id, toc) = fixture.ingest(&tar).unwrap();
    assert_eq!(listing(&toc), "/d dir\n/d/x file 1\n/f file 7");
    assert_eq!(fixture.layers.read(&id, b"f", 100).unwrap(), b"second!");
    let directory = fixture.unpack(&id).unwrap();
    assert_eq!(fs::read(directory.join("f")).unwrap(), b"second!");
}

#[test]
fn whiteouts_speak_of_lower_layers() {
    check(Tar::new().file("a/.wh.f", ""), "/a dir\n/a/f gone");
    check(Tar::new().file("a/.wh.f", "").file("a/f", "new"), "/a dir\n/a/f file 3");
    check(Tar::new().file("a/f", "new").file("a/.wh.f", ""), "/a dir\n/a/f file 3");
    check(Tar::new().file("d/x", "1").file(".wh.d", ""), "/d opaque\n/d/x file 1");
    check(Tar::new().file(".wh.d", "").dir("d").file("d/x", "1"), "/d opaque\n/d/x file 1");
    check(
        Tar::new().file("d/before", "1").file("d/.wh..wh..opq", "").file("d/after", "1"),
        "/d opaque\n/d/after file 1\n/d/before file 1",
    );
    check(Tar::new().dir("d").file("d/.wh..wh..opq", "").file("d/.wh.x", ""), "/d opaque\n/d/x gone");
    check(Tar::new().file(".wh..wh..opq", ""), "/ opaque");
    check(Tar::new().file(".wh..wh.plnk", "").file("f", "1"), "/f file 1");
    refuse(Tar::new().file("a/.wh...", "").end(), "whiteout of nothing");
    refuse(Tar::new().file("a/.wh.", "").end(), "whiteout of nothing");
    refuse(Tar::new().file(".wh.d/f", "1").end(), "below a whiteout");
}

#[test]
fn orders_to_overlayfs_do_not_pass() {
    let device = Tar::new().raw(b"d/x", b'3', b"", b"00000000000\0", b"", |block| {
        block[329..337].copy_from_slice(b"0000000\0");
        block[337..345].copy_from_slice(b"0000000\0");
    });
    check(device, "/d dir\n/d/x gone");
    let fixture = fixture();
    let records: [(&str, &[u8]); 4] = [
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.b", b"2\n\0"),
        ("SCHILY.xattr.user.a", b""),
    ];
    let (id, toc) = fixture.ingest(&Tar::new().pax(&records).dir("d").end()).unwrap();
    let kept = [(b"user.a".to_vec(), vec![]), (b"user.b".to_vec(), b"2\n\0".to_vec())];
    assert_eq!(toc.get(b"d").unwrap().xattrs, kept);
    assert_eq!(toc.get(b"d").unwrap().kind, Kind::Directory { opaque: false });
    fixture.unpack(&id).unwrap();
}

#[test]
fn hard_links_stay_hard_links() {
    use std::os::unix::fs::MetadataExt;
    let fixture = fixture();
    let tar = Tar::new().file("z", "data").hardlink("b/l", "/z").hardlink("c", "b/l").end();
    let (id, toc) = fixture.ingest(&tar).unwrap();
    assert_eq!(listing(&toc), "/b dir\n/b/l file 4\n/c == b/l\n/z == b/l");
    let directory = fixture.unpack(&id).unwrap();
    let inode = |name: &str| fs::metadata(directory.join(name)).unwrap().ino();
    assert_eq!(inode("z"), inode("b/l"));
    assert_eq!(inode("z"), inode("c"));
    assert_eq!(fixture.layers.read(&id, b"c", 4).unwrap(), b"data");
    // The data outlives the name that had it.
    check(Tar::new().file("a", "data").hardlink("b", "a").symlink("a", "x"), "/a -> x\n/b file 4");
    check(Tar::new().file("d/a", "data").hardlink("b", "d/a").file("d", "y"), "/b file 4\n/d file 1");
    check(Tar::new().symlink("s", "/etc/shadow").hardlink("h", "s"), "/h -> /etc/shadow\n/s -> /etc/shadow");
    check(Tar::new().file("a", "1").hardlink("a", "a"), "/a file 1");
    refuse(Tar::new().dir("d").hardlink("h", "d").end(), "hard link to the directory");
}

#[test]
fn a_hard_link_into_a_lower_layer_is_told_when_needed() {
    let fixture = fixture();
    let (id, toc) = fixture.ingest(&Tar::new().hardlink("a", "usr/lib/x").file("f", "1").end()).unwrap();
    assert_eq!(listing(&toc), "/a == usr/lib/x\n/f file 1");
    let error = fixture.unpack(&id).unwrap_err().to_string();
    assert!(error.contains("usr/lib/x") && error.contains("lower layers"), "{error}");
    assert_eq!(fixture.layers.read(&id, b"f", 1).unwrap(), b"1");
    assert!(matches!(fixture.layers.read(&id, b"a", 1), Err(Error::NotFound { .. })));
}

#[test]
fn nothing_is_written_outside_whatever_the_archive() {
    let evil: Vec<Tar> = vec![
        Tar::new().symlink("l", "../../../out").file("l", "x"),
        Tar::new().symlink("l", "../../../out").file("l/f", "x"),
        Tar::new().symlink("l", "/").symlink("l/m", "..").file("l/m/out/f", "x"),
        Tar::new().dir("d").symlink("d", "../../../out").dir("d").file("d/f", "x"),
        Tar::new().symlink("out", "../../../out").hardlink("h", "out").file("h", "x"),
        Tar::new().symlink("a/b", "../../../../out").entry("a/b/", b'5', "", b"").file("a/b/f", "x"),
        Tar::new().symlink("x/", "../../../out").file("x/f", "x"),
    ];
    for (number, tar) in evil.into_iter().enumerate() {
        let fixture = fixture();
        let out = fixture.temp.path().join("out");
        fs::create_dir(&out).unwrap();
        fs::write(out.join("keep"), "kept").unwrap();
        let (id, _) = fixture.ingest(&tar.end()).unwrap();
        fixture.unpack(&id).unwrap();
        assert_eq!(tree(&out), ["/keep 644 file kept"], "archive {number}");
    }
}

#[test]
fn odd_names_come_through() {
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(250));
    let fixture = fixture();
    let tar = Tar::new()
        .pax(&[("path", long.as_bytes())])
        .file("short", "pax")
        .entry("././@LongLink", b'L', "", format!("{long}2\0").as_bytes())
        .file("short", "gnu!")
        .raw(b"\xff\xfe name", b'0', b"", b"00000000000\0", b"", |_| {})
        .raw(b"file", b'0', b"", b"00000000000\0", b"", |block| block[345..348].copy_from_slice(b"pre"))
        .raw(b"old/", 0, b"", b"00000000000\0", b"", |block| block[257..265].fill(0))
        .end();
    let (id, toc) = fixture.ingest(&tar).unwrap();
    assert_eq!(toc.get(long.as_bytes()).unwrap().size(), 3);
    assert_eq!(fixture.layers.read(&id, format!("{long}2").as_bytes(), 9).unwrap(), b"gnu!");
    assert!(toc.get(b"\xff\xfe name").is_some());
    assert!(toc.get(b"pre/file").is_some());
    assert!(toc.get(b"old").unwrap().is_directory());
    fixture.unpack(&id).unwrap();
}

#[test]
fn the_size_of_the_extension_counts() {
    // RUSTSEC-2026-0068: a reader that takes the header's size would see the inner header as an entry.
    let inner = Tar::new().file("smuggled", "x").cut();
    let size = inner.len().to_string();
    let tar = Tar::new().pax(&[("size", size.as_bytes())]).raw(b"f", b'0', b"", b"00000000000\0", &inner, |_| {});
    check(tar, &format!("/f file {size}"));
    // And links have no data whatever they say.
    check(
        Tar::new().file("a", "1").raw(b"l", b'1', b"a", b"00000000777\0", b"", |_| {}).file("b", "1"),
        "/a file 1\n/b file 1\n/l == a",
    );
}

#[test]
fn odd_times_and_modes() {
    let fixture = fixture();
    let tar = Tar::new()
        .raw(b"negative", b'0', b"", b"00000000000\0", b"", |block| block[136..148].copy_from_slice(&[0xff; 12]))
        .raw(b"far", b'0', b"", b"00000000000\0", b"", |block| {
            block[136..148].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0]);
        })
        .pax(&[("mtime", b"-1.25"), ("uid", b"4000000000")])
        .raw(b"pax", b'0', b"", b"00000000000\0", b"", |block| block[100..108].copy_from_slice(b"0106755\0"))
        .end();
    let (_, toc) = fixture.ingest(&tar).unwrap();
    assert_eq!(toc.get(b"negative").unwrap().mtime, -1);
    assert_eq!(toc.get(b"far").unwrap().mtime, 0x40_0000_0000);
    let pax = toc.get(b"pax").unwrap();
    assert_eq!((pax.mtime, pax.mtime_nanos, pax.uid, pax.mode), (-2, 750_000_000, 4_000_000_000, 0o6755));
}

#[test]
fn special_files() {
    let device = |tar: Tar, name: &str, flag| {
        tar.raw(name.as_bytes(), flag, b"", b"00000000000\0", b"", |block| {
            block[329..337].copy_from_slice(b"0000001\0");
            block[337..345].copy_from_slice(b"0000003\0");
        })
    };
    let tar = device(device(Tar::new(), "null", b'3'), "disk", b'4').entry("pipe", b'6', "", b"");
    let fixture = fixture();
    let (id, toc) = fixture.ingest(&tar.end()).unwrap();
    assert_eq!(listing(&toc), "/disk block 1:3\n/null char 1:3\n/pipe fifo");
    let unprivileged = cooperage_store::layers::UnpackOptions { userxattr: true, privileged: false };
    assert_eq!(tree(&fixture.layers.unpack(&id, unprivileged).unwrap()), ["/pipe 644 fifo"]);
    if is_root() {
        let made = tree(&fixture.unpack(&id).unwrap());
        assert_eq!(made.len(), 3, "{made:?}");
        assert!(made[1].starts_with("/null 644 char 259"), "{made:?}");
    }
}

#[test]
fn malformed_archives_are_refused() {
    let good = Tar::new().file("f", "content").end();
    let mut sum = good.clone();
    sum[0] ^= 1;
    refuse(sum, "checksum");
    refuse(good[..300].to_vec(), "within a header");
    refuse(good[..515].to_vec(), "within a file");
    refuse(Tar::new().entry("s", b'S', "", b"").end(), "sparse");
    refuse(Tar::new().pax(&[("GNU.sparse.major", b"1")]).file("f", "").end(), "sparse");
    refuse(Tar::new().entry("?", b'Q', "", b"").end(), "unknown type");
    refuse(Tar::new().pax(&[("path", b"a\0b")]).file("f", "").end(), "zero byte");
    refuse(Tar::new().pax(&[("path", b"f")]).end(), "after an extension");
    refuse(Tar::new().entry("x", b'x', "", b"99 path=f\n").file("f", "").end(), "PAX header");
    refuse(Tar::new().entry("x", b'x', "", b"nonsense").file("f", "").end(), "PAX header");
    refuse(Tar::new().raw(b"f", b'0', b"", b"0000000000z\0", b"", |_| {}).end(), "not a number");
    refuse(Tar::new().raw(b"f", b'0', b"", &[0xff; 12], b"", |_| {}).end(), "negative");
    refuse(Tar::new().file("", "x").end(), "root of the layer");
    refuse(b"no archive, but a text that is longer than a header".repeat(20), "checksum");
    // Two zero blocks may be missing, and so may the last padding.
    let fixture = fixture();
    assert_eq!(fixture.listing(&Tar::new().file("f", "content").cut()), "/f file 7");
    assert_eq!(fixture.listing(&good[..519]), "/f file 7");
    assert_eq!(fixture.listing(b""), "");
}

#[test]
fn limits_hold() {
    let limits = Limits { entries: 10, path: 50, extension: 1024, table: 4000, unpacked: 20_000, ratio: 100 };
    let fixture = fixture();
    let layers = Layers::open_with(&fixture.temp.path().join("small"), fixture.blobs.clone(), limits).unwrap();
    let refuse = |tar: Vec<u8>, reason: &str| {
        let digest = fixture.blobs.put(&tar).unwrap();
        let error = layers.ingest(&digest, &Descriptor::new("x", digest, tar.len() as u64)).unwrap_err();
        assert!(matches!(error, Error::Exceeds { .. }) && error.to_string().contains(reason), "{error}");
    };
    let many = (0..11).fold(Tar::new(), |tar, number| tar.file(&format!("f{number}"), ""));
    refuse(many.end(), "more than 10 entries");
    refuse(Tar::new().file(&"n".repeat(60), "").end(), "name has more than 50");
    refuse(Tar::new().pax(&[("path", "n".repeat(60).as_bytes())]).file("f", "").end(), "name has more than 50");
    refuse(Tar::new().pax(&[("comment", "n".repeat(2000).as_bytes())]).file("f", "").end(), "extension header");
    let heavy = (0..5).fold(Tar::new(), |tar, number| {
        tar.pax(&[("SCHILY.xattr.user.x", "v".repeat(900).as_bytes())]).file(&format!("f{number}"), "")
    });
    refuse(heavy.end(), "names and attributes");
    refuse(Tar::new().raw(b"f", b'0', b"", b"77777777777\0", b"", |_| {}).end(), "more than 20000");
    refuse(Tar::new().file("f", &"x".repeat(30_000)).end(), "more than 20000");
    assert!(layers.list().unwrap().is_empty());
}

#[test]
fn bombs_and_damage_in_compressed_blobs() {
    use std::io::Write;
    let limits = Limits { unpacked: 8 << 20, ..Limits::default() };
    let fixture = fixture();
    let layers = Layers::open_with(&fixture.temp.path().join("small"), fixture.blobs.clone(), limits).unwrap();
    let zeros = vec![0u8; 64 << 20];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&zeros).unwrap();
    let bomb = gzip.finish().unwrap();
    for blob in [bomb, zstd::encode_all(&zeros[..], 1).unwrap()] {
        let digest = fixture.blobs.put(&blob).unwrap();
        let error = layers.ingest(&Digest::of(&zeros), &Descriptor::new("x", digest, blob.len() as u64)).unwrap_err();
        assert!(matches!(error, Error::Exceeds { .. }), "{error}");
    }
    let tar = Tar::new().file("f", &"text ".repeat(1000)).end();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let whole = gzip.finish().unwrap();
    assert!(fixture.ingest_as(&tar, &whole).is_ok());
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    for bad in [whole[..whole.len() - 9].to_vec(), flipped] {
        let digest = fixture.blobs.put(&bad).unwrap();
        let diff_id = Digest::of(b"other");
        let error = layers.ingest(&diff_id, &Descriptor::new("x", digest, bad.len() as u64)).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    }
    assert!(layers.list().unwrap().is_empty());
}

#[test]
fn a_wrong_diff_id_leaves_nothing() {
    let fixture = fixture();
    let tar = Tar::new().file("f", "x").end();
    let digest = fixture.blobs.put(&tar).unwrap();
    let wrong = Digest::of(b"something else");
    let error = fixture.layers.ingest(&wrong, &Descriptor::new("x", digest, tar.len() as u64)).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { expected, .. } if expected == wrong), "{error}");
    assert!(fixture.layers.list().unwrap().is_empty());
    assert!(!fixture.layers.path(&cooperage_store::layers::LayerId(wrong)).exists());
}
