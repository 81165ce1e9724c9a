//! Images leave a store and come into another: our own layouts and archives, Docker's, damaged ones, and skopeo's view.

use std::fs::{self, File};
use std::io::{Cursor, Write};
use std::path::Path;
use std::process::Command;

use cooperage_store::{
    Descriptor, Digest, Error, ImageConfig, Imported, Index, Manifest, Platform, Reference, Store, media_types,
};
use serde_json::json;

struct Fixture {
    directory: tempfile::TempDir,
    store: Store,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    Fixture { directory, store }
}

fn layer_tar(content: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    append(&mut builder, "etc/file", content.as_bytes());
    builder.into_inner().unwrap()
}

fn append(builder: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, path, bytes).unwrap();
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn config_of(diff_ids: &[Digest], platform: &Platform) -> ImageConfig {
    ImageConfig::new(json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "config": { "Cmd": ["/bin/sh"], "Healthcheck": { "Test": ["NONE"] } },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": diff_ids.iter().map(|_| json!({ "created_by": "test" })).collect::<Vec<_>>(),
    }))
}

/// An image of two layers, one of them compressed.
fn image(store: &Store, platform: &str) -> Descriptor {
    let platform: Platform = platform.parse().unwrap();
    let (lower, upper) = (layer_tar("lower"), layer_tar(&format!("upper for {platform}")));
    let compressed = gzip(&upper);
    let layer = |media_type: &str, bytes: &[u8]| {
        Descriptor::new(media_type, store.blobs().put(bytes).unwrap(), bytes.len() as u64)
    };
    let layers = vec![layer(media_types::LAYER, &lower), layer(media_types::LAYER_GZIP, &compressed)];
    let config = config_of(&[Digest::of(&lower), Digest::of(&upper)], &platform);
    let config = store.images().put_config(&config).unwrap();
    let manifest = Manifest { config, layers, ..Manifest::default() };
    Descriptor { platform: Some(platform), ..store.images().put_manifest(&manifest).unwrap() }
}

fn index(store: &Store) -> Descriptor {
    let manifests = vec![image(store, "linux/amd64"), image(store, "linux/arm64")];
    store.images().put_index(&Index { manifests, ..Index::default() }).unwrap()
}

fn names(texts: &[&str]) -> Vec<Reference> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn archive(store: &Store, image: &Descriptor, names: &[Reference], docker: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.export_archive(image, names, docker, &mut bytes).unwrap();
    bytes
}

/// Every blob of a store, for comparison.
fn blobs(store: &Store) -> Vec<(Digest, u64)> {
    let mut all = store.blobs().list().unwrap();
    all.sort();
    all
}

fn check_imported(from: &Store, image: &Descriptor, wanted: &[&str], imported: &[Imported], into: &Store) {
    assert_eq!(imported.len(), 1);
    assert_eq!(imported[0].image, *image);
    assert_eq!(imported[0].names, names(wanted));
    assert_eq!(blobs(from), blobs(into));
    for (digest, size) in blobs(into) {
        into.blobs().read(&digest, size).unwrap();
    }
}

#[test]
fn a_layout_comes_back_whole() {
    let (from, into) = (fixture(), fixture());
    let image = index(&from.store);
    let layout = from.directory.path().join("out/layout");
    fs::create_dir(from.directory.path().join("out")).unwrap();
    from.store.export_layout(&image, &names(&["app:1", "host.example/app"]), &layout).unwrap();
    let imported = into.store.import_layout(&layout).unwrap();
    check_imported(&from.store, &image, &["app:1", "host.example/app"], &imported, &into.store);
    let left: Vec<_> = fs::read_dir(from.directory.path().join("out")).unwrap().collect();
    assert_eq!(left.len(), 1, "no temporary directory stays");
}

#[test]
fn archives_come_back_whole_compressed_or_not() {
    let from = fixture();
    let image = image(&from.store, "linux/amd64");
    for docker in [false, true] {
        let bytes = archive(&from.store, &image, &names(&["team/app:1"]), docker);
        let zstd = zstd::encode_all(&bytes[..], 1).unwrap();
        for bytes in [gzip(&bytes), zstd, bytes] {
            let into = fixture();
            let imported = into.store.import_archive(Cursor::new(bytes)).unwrap();
            check_imported(&from.store, &image, &["team/app:1"], &imported, &into.store);
        }
    }
}

#[test]
fn the_same_image_gives_the_same_bytes() {
    let (one, two) = (fixture(), fixture());
    // Other content before it, so that nothing depends on the order of a directory.
    two.store.blobs().put(b"something else").unwrap();
    let bytes =
        [&one.store, &two.store].map(|store| archive(store, &image(store, "linux/amd64"), &names(&["a"]), true));
    assert_eq!(Digest::of(&bytes[0]), Digest::of(&bytes[1]));
    let mut paths = Vec::new();
    for entry in tar::Archive::new(&bytes[0][..]).entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
        paths.push(entry.path().unwrap().to_string_lossy().into_owned());
    }
    assert!(paths.is_sorted(), "{paths:?}");
    assert_eq!(paths[paths.len() - 3..], ["index.json", "manifest.json", "oci-layout"]);
}

#[test]
fn several_platforms_cannot_be_for_docker() {
    let from = fixture();
    let image = index(&from.store);
    let refused = from.store.export_archive(&image, &[], true, &mut Vec::new()).unwrap_err().to_string();
    assert!(refused.contains("several platforms"), "{refused}");
    let into = fixture();
    into.store.import_archive(Cursor::new(archive(&from.store, &image, &[], false))).unwrap();
    assert_eq!(blobs(&from.store), blobs(&into.store));
}

#[test]
fn an_export_with_a_part_missing_leaves_nothing() {
    let from = fixture();
    let image = image(&from.store, "linux/amd64");
    let manifest = from.store.images().manifest(&image.digest).unwrap();
    from.store.blobs().remove(&manifest.layers[1].digest).unwrap();
    let layout = from.directory.path().join("layout");
    assert!(matches!(from.store.export_layout(&image, &[], &layout), Err(Error::NotFound { .. })));
    assert!(!layout.exists());
}

#[test]
fn an_export_does_not_replace_what_somebody_has() {
    let from = fixture();
    let image = image(&from.store, "linux/amd64");
    let layout = from.directory.path().join("layout");
    fs::create_dir(&layout).unwrap();
    fs::write(layout.join("precious"), "").unwrap();
    assert!(matches!(from.store.export_layout(&image, &[], &layout), Err(Error::Invalid { .. })));
    assert!(layout.join("precious").exists());
    fs::remove_file(layout.join("precious")).unwrap();
    from.store.export_layout(&image, &[], &layout).unwrap();
    assert!(layout.join("oci-layout").exists());
}

#[test]
fn what_docker_saved_before_it_knew_layouts_is_read() {
    let (one, two) = (layer_tar("one"), layer_tar("two"));
    let diff_ids = [Digest::of(&one), Digest::of(&two), Digest::of(&one)];
    let config = serde_json::to_vec(config_of(&diff_ids, &"linux/amd64".parse().unwrap()).value()).unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    append(&mut builder, "aa/VERSION", b"1.0");
    append(&mut builder, "aa/layer.tar", &one);
    append(&mut builder, "bb/layer.tar", &gzip(&two));
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    builder.append_link(&mut link, "cc/layer.tar", "../aa/layer.tar").unwrap();
    append(&mut builder, "config.json", &config);
    let list = json!([{ "Config": "config.json", "RepoTags": ["app:1", "q.example/app:2"],
                        "Layers": ["aa/layer.tar", "bb/layer.tar", "cc/layer.tar"] }]);
    append(&mut builder, "manifest.json", &serde_json::to_vec(&list).unwrap());
    append(&mut builder, "repositories", b"{}");
    let into = fixture();
    let imported = into.store.import_archive(Cursor::new(builder.into_inner().unwrap())).unwrap();
    assert_eq!(imported.len(), 1);
    assert_eq!(imported[0].names, names(&["app:1", "q.example/app:2"]));
    let manifest = into.store.images().manifest(&imported[0].image.digest).unwrap();
    assert_eq!(manifest.config.digest, Digest::of(&config));
    let layers: Vec<_> = manifest.layers.iter().map(|layer| (&*layer.media_type, layer.digest)).collect();
    let gzipped = Digest::of(&gzip(&two));
    let expected =
        [(media_types::LAYER, diff_ids[0]), (media_types::LAYER_GZIP, gzipped), (media_types::LAYER, diff_ids[0])];
    assert_eq!(layers, expected);
    for (layer, diff_id) in manifest.layers.iter().zip(&diff_ids) {
        into.store.layers().ingest(diff_id, layer).unwrap();
    }
}

/// Rewrites the entries of an archive.
fn rewrite(archive: &[u8], change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mut bytes = Vec::new();
        std::io::copy(&mut entry, &mut bytes).unwrap();
        if !path.ends_with('/')
            && let Some(bytes) = change(&path, bytes)
        {
            append(&mut builder, &path, &bytes);
        }
    }
    builder.into_inner().unwrap()
}

#[test]
fn damaged_archives_are_refused() {
    let from = fixture();
    let image = image(&from.store, "linux/amd64");
    let good = archive(&from.store, &image, &names(&["app"]), false);
    let layer = from.store.images().manifest(&image.digest).unwrap().layers[0].digest.hex();
    let refused = |bytes: &[u8]| {
        let into = fixture();
        (into.store.import_archive(Cursor::new(bytes.to_vec())).unwrap_err(), into)
    };

    let flipped = rewrite(&good, |path, mut bytes| {
        if path.ends_with(&layer) {
            bytes[0] ^= 1;
        }
        Some(bytes)
    });
    let (error, into) = refused(&flipped);
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
    assert_eq!(into.store.blobs().size(&Digest::from_hex(&layer).unwrap()).unwrap(), None);

    let (error, _) = refused(&rewrite(&good, |path, bytes| (!path.ends_with(&layer)).then_some(bytes)));
    assert!(matches!(error, Error::NotFound { .. }), "{error}");

    let resized = rewrite(&good, |path, bytes| match path {
        "index.json" => {
            let mut index: Index = serde_json::from_slice(&bytes).unwrap();
            index.manifests[0].size += 1;
            Some(serde_json::to_vec(&index).unwrap())
        }
        _ => Some(bytes),
    });
    let (error, _) = refused(&resized);
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");

    let huge = rewrite(&good, |path, bytes| Some(if path == "index.json" { vec![b' '; 5 << 20] } else { bytes }));
    let (error, _) = refused(&huge);
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");

    let (error, _) = refused(&rewrite(&good, |path, bytes| (path != "index.json").then_some(bytes)));
    assert!(error.to_string().contains("neither"), "{error}");

    let version = rewrite(&good, |path, bytes| {
        Some(if path == "oci-layout" { br#"{"imageLayoutVersion":"2.0.0"}"#.to_vec() } else { bytes })
    });
    let (error, _) = refused(&version);
    assert!(error.to_string().contains("its version"), "{error}");

    for cut in [100, 700, good.len() / 2, good.len() - 2000] {
        let (error, _) = refused(&good[..cut]);
        assert!(matches!(error, Error::Corrupt { .. }), "{cut}: {error}");
    }
    let (error, _) = refused(&gzip(&good)[..300]);
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

#[test]
fn a_docker_archive_cannot_name_files_outside_or_lie_about_layers() {
    let config = serde_json::to_vec(config_of(&[Digest::of(b"x")], &"linux/amd64".parse().unwrap()).value()).unwrap();
    let with = |layer: &str, more: &[(&str, &[u8])]| {
        let mut builder = tar::Builder::new(Vec::new());
        append(&mut builder, "config.json", &config);
        for (path, bytes) in more {
            append(&mut builder, path, bytes);
        }
        let list = json!([{ "Config": "config.json", "RepoTags": null, "Layers": [layer] }]);
        append(&mut builder, "manifest.json", &serde_json::to_vec(&list).unwrap());
        fixture().store.import_archive(Cursor::new(builder.into_inner().unwrap())).unwrap_err()
    };
    for layer in ["/etc/passwd", "../../etc/passwd", "", "."] {
        assert!(matches!(with(layer, &[]), Error::NotFound { .. }), "{layer}");
    }
    assert!(matches!(with("layer.tar", &[("layer.tar", b"y")]), Error::DigestMismatch { .. }));
    assert!(matches!(with("layer.tar", &[("layer.tar", b"BZh91AY")]), Error::Unsupported { .. }));
}

/// The digest of a compressed layer is nowhere in such an archive, so only its size tells.
#[test]
fn a_docker_archive_that_ends_within_its_last_layer_is_refused() {
    let tar = layer_tar(&"long ".repeat(2000));
    let layer = zstd::encode_all(&tar[..], 1).unwrap();
    let config = config_of(&[Digest::of(&tar)], &"linux/amd64".parse().unwrap());
    let mut builder = tar::Builder::new(Vec::new());
    let list = json!([{ "Config": "config.json", "RepoTags": ["app:1"], "Layers": ["layer.tar"] }]);
    append(&mut builder, "manifest.json", &serde_json::to_vec(&list).unwrap());
    append(&mut builder, "config.json", &serde_json::to_vec(config.value()).unwrap());
    let before = builder.get_ref().len() + 512;
    append(&mut builder, "layer.tar", &layer);
    let whole = builder.into_inner().unwrap();
    fixture().store.import_archive(Cursor::new(whole.clone())).unwrap();
    for cut in [before, before + 1, before + layer.len() - 1] {
        let into = fixture();
        let error = into.store.import_archive(Cursor::new(whole[..cut].to_vec())).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{cut}: {error}");
        assert_eq!(into.store.blobs().list().unwrap().len(), 1, "only the configuration is whole");
    }
}

#[test]
fn a_layout_may_lack_platforms_but_not_all_nor_parts_of_one() {
    let from = fixture();
    let top = index(&from.store);
    let layout = from.directory.path().join("layout");
    from.store.export_layout(&top, &[], &layout).unwrap();
    let blob = |digest: &Digest| layout.join("blobs/sha256").join(digest.hex());
    let children = from.store.images().index(&top.digest).unwrap().manifests;
    fs::remove_file(blob(&children[1].digest)).unwrap();
    let into = fixture();
    assert_eq!(into.store.import_layout(&layout).unwrap()[0].image, top);
    assert_eq!(into.store.blobs().size(&children[1].digest).unwrap(), None);
    let config = from.store.images().manifest(&children[0].digest).unwrap().config.digest;
    fs::remove_file(blob(&config)).unwrap();
    assert!(matches!(fixture().store.import_layout(&layout), Err(Error::NotFound { .. })));
    fs::remove_file(blob(&children[0].digest)).unwrap();
    let error = fixture().store.import_layout(&layout).unwrap_err().to_string();
    assert!(error.contains("every manifest"), "{error}");
}

#[test]
fn a_fifo_in_a_layout_is_refused_without_waiting_for_a_writer() {
    let from = fixture();
    let image = image(&from.store, "linux/amd64");
    let layout = from.directory.path().join("layout");
    from.store.export_layout(&image, &[], &layout).unwrap();
    let path = layout.join("blobs/sha256").join(image.digest.hex());
    fs::remove_file(&path).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o644)).unwrap();
    let error = fixture().store.import_layout(&layout).unwrap_err().to_string();
    assert!(error.contains("no regular file"), "{error}");
}

/// Runs skopeo; none where it is not installed.
fn skopeo(arguments: &[&str]) -> Option<String> {
    let output = match Command::new("skopeo").args(arguments).output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        output => output.unwrap(),
    };
    assert!(output.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

fn write(path: &Path, bytes: &[u8]) -> String {
    File::create(path).unwrap().write_all(bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Without skopeo there is nothing to compare with, and the rest of this file stands alone.
#[test]
fn skopeo_reads_what_we_export_and_we_read_what_it_copies() {
    let from = fixture();
    let image = image(&from.store, "linux/amd64");
    let path = |name: &str| from.directory.path().join(name);
    let both = write(&path("both.tar"), &archive(&from.store, &image, &names(&["app:1"]), true));
    let oci = write(&path("oci.tar"), &archive(&from.store, &image, &names(&["app:1"]), false));
    let layout = path("layout");
    from.store.export_layout(&image, &names(&["app:1"]), &layout).unwrap();
    let config = from.store.images().manifest(&image.digest).unwrap().config.digest;
    let layout = layout.to_str().unwrap();
    for source in [format!("oci-archive:{oci}"), format!("oci-archive:{both}"), format!("oci:{layout}")] {
        let Some(seen) = skopeo(&["inspect", &source]) else { return };
        let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
        assert_eq!(seen["Digest"], image.digest.to_string(), "{source}");
        assert_eq!(seen["Layers"].as_array().unwrap().len(), 2);
    }
    let docker = format!("docker-archive:{both}");
    let seen = skopeo(&["inspect", "--config", "--raw", &docker]).unwrap();
    assert_eq!(Digest::of(seen.as_bytes()), config, "Docker gets the configuration unchanged");
    let seen: serde_json::Value = serde_json::from_str(&skopeo(&["inspect", &docker]).unwrap()).unwrap();
    assert_eq!(seen["Layers"].as_array().unwrap().len(), 2);

    let copied = path("copied.tar").to_str().unwrap().to_owned();
    skopeo(&["copy", "-q", &docker, &format!("docker-archive:{copied}:team/app:2")]);
    let into = fixture();
    let imported = into.store.import_archive(File::open(&copied).unwrap()).unwrap();
    assert_eq!(imported[0].names, names(&["team/app:2"]));
    let manifest = into.store.images().manifest(&imported[0].image.digest).unwrap();
    let diff_ids = into.store.images().config(&manifest).unwrap().diff_ids().unwrap();
    for (layer, diff_id) in manifest.layers.iter().zip(&diff_ids) {
        into.store.layers().ingest(diff_id, layer).unwrap();
    }
    let copied = path("copied-oci.tar").to_str().unwrap().to_owned();
    skopeo(&["copy", "-q", &format!("oci-archive:{oci}"), &format!("oci-archive:{copied}:team/app:3")]);
    let imported = fixture().store.import_archive(File::open(&copied).unwrap()).unwrap();
    assert_eq!(imported[0].names, names(&["team/app:3"]));
}
