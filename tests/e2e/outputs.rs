//! Images as files and directories, read by tools that we did not write.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use crate::support::registry::Registry;
use crate::support::{Machine, have, tool};

fn machine() -> Option<Machine> {
    if !have(&["skopeo", "tar"]) {
        return None;
    }
    let machine = Machine::new();
    machine.base();
    machine.write("context/file", "content");
    machine.dockerfile("context", "FROM base:1\nCOPY file /dir/file\nCMD [\"cat\", \"/dir/file\"]\n");
    Some(machine)
}

#[test]
fn a_docker_archive_is_read_by_docker_and_oci_tools() {
    let Some(machine) = machine() else { return };
    let digest = machine.build("context", &["-t", "team/app:1", "-o", "type=docker,dest=app.tar"]);
    let archive = machine.text("app.tar");
    let docker = tool("skopeo", ["inspect", "--config", &format!("docker-archive:{archive}:team/app:1")]).json();
    assert_eq!(docker["config"]["Cmd"], serde_json::json!(["cat", "/dir/file"]));
    let oci = tool("skopeo", ["inspect", "--format", "{{.Digest}}", &format!("oci-archive:{archive}")]);
    assert_eq!(oci.out(), digest, "the same archive is an OCI layout");
    let to = format!("oci:{}:1", machine.text("from-docker"));
    tool("skopeo", ["copy", &format!("docker-archive:{archive}"), &to]);
    let manifest = tool("tar", ["-xOf", &archive, "manifest.json"]).json();
    assert_eq!(manifest[0]["RepoTags"], serde_json::json!(["team/app:1"]));
}

#[test]
fn archives_and_layouts_hold_the_same_image() {
    let Some(machine) = machine() else { return };
    let args = ["-t", "app:1", "-o", "type=oci,dest=app.tar", "-o", "type=oci-dir,dest=layout"];
    let digest = machine.build("context", &args);
    for place in [format!("oci-archive:{}", machine.text("app.tar")), format!("oci:{}:1", machine.text("layout"))] {
        assert_eq!(tool("skopeo", ["inspect", "--format", "{{.Digest}}", &place]).out(), digest, "{place}");
    }
    let layout: serde_json::Value = serde_json::from_str(&machine.read("layout/oci-layout")).unwrap();
    assert_eq!(layout["imageLayoutVersion"], "1.0.0");
    let again = machine.ok(&["image", "export", "app:1", "-o", "type=oci,dest=again.tar"]);
    assert_eq!(again.code, Some(0));
    assert_eq!(fs::read(machine.path("app.tar")).unwrap(), fs::read(machine.path("again.tar")).unwrap());
}

#[test]
fn an_archive_goes_to_standard_output_alone() {
    let Some(machine) = machine() else { return };
    machine.build("context", &["-t", "app:1"]);
    let output = machine.coop(&["image", "export", "app:1", "-o", "type=oci,dest=-"]).output().unwrap();
    assert!(output.status.success());
    machine.write("piped.tar", &output.stdout);
    let listed = tool("tar", ["-tf", &machine.text("piped.tar")]);
    assert!(listed.stdout.lines().any(|line| line == "oci-layout"), "{listed:?}");
}

#[test]
fn compressions_differ_and_content_does_not() {
    let Some(machine) = machine() else { return };
    let mut contents = Vec::new();
    for (compression, media_type) in [
        ("gzip", "application/vnd.oci.image.layer.v1.tar+gzip"),
        ("gzip:9", "application/vnd.oci.image.layer.v1.tar+gzip"),
        ("zstd", "application/vnd.oci.image.layer.v1.tar+zstd"),
        ("none", "application/vnd.oci.image.layer.v1.tar"),
    ] {
        let machine = Machine::new();
        machine.write("context/file", "content ".repeat(10_000));
        machine.dockerfile("context", "FROM scratch\nCOPY file /file\n");
        machine.build("context", &["-t", "app:1", "--compression", compression, "-o", "type=oci-dir,dest=layout"]);
        let place = format!("oci:{}:1", machine.text("layout"));
        let manifest = tool("skopeo", ["inspect", "--raw", &place]).json();
        assert_eq!(manifest["layers"][0]["mediaType"], media_type);
        contents.push(machine.configuration("app:1")["rootfs"]["diff_ids"].clone());
    }
    assert!(contents.windows(2).all(|pair| pair[0] == pair[1]), "{contents:?}");
    machine.fails(&["build", "context", "--compression", "lzma"], 2).says(&["lzma", "gzip"]);
}

#[test]
fn a_place_that_cannot_be_written_is_told() {
    let Some(machine) = machine() else { return };
    machine.build("context", &["-t", "app:1"]);
    machine.fails(&["image", "export", "app:1", "-o", "type=oci,dest=no/such/dir.tar"], 4).says(&["no/such/dir.tar"]);
    machine.fails(&["image", "export", "app:1", "-o", "type=zip,dest=x"], 2).says(&["zip", "oci-dir"]);
    machine.fails(&["image", "export", "app:1", "-o", "type=oci"], 2).says(&["dest="]);
    assert!(!machine.path("x").exists());
}

/// A build without a base image: links of both kinds, modes, a directory of its own.
fn files(machine: &Machine) {
    machine.write("context/bin/tool", "run me");
    machine.write("context/note", "read me");
    fs::hard_link(machine.path("context/bin/tool"), machine.path("context/bin/same")).unwrap();
    fs::create_dir(machine.path("context/links")).unwrap();
    symlink("../bin/tool", machine.path("context/links/link")).unwrap();
    machine.dockerfile("context", "FROM scratch\nCOPY --chmod=0751 bin /bin\nCOPY note links /\nENV A=b\n");
}

#[test]
fn files_of_an_image_go_into_a_directory() {
    if !have(&[]) {
        return;
    }
    let machine = Machine::new();
    files(&machine);
    let ran = machine.ok(&["build", "context", "-o", "out/new"]);
    assert_eq!(ran.out(), "wrote out/new", "no image is made");
    assert_eq!(machine.ok(&["image", "ls", "--output", "json"]).json(), serde_json::json!([]));
    let tool = fs::metadata(machine.path("out/new/bin/tool")).unwrap();
    assert_eq!((tool.mode() & 0o7777, tool.nlink()), (0o751, 2), "two names of one file");
    assert_eq!(fs::read_link(machine.path("out/new/link")).unwrap(), std::path::Path::new("../bin/tool"));
    assert_eq!(machine.read("out/new/note"), "read me");

    // What is there stays, what has the same name is replaced, and no link is followed.
    machine.write("full/bin/mine", "mine");
    machine.write("full/note", "old");
    machine.write("elsewhere", "untouched");
    symlink(machine.path("elsewhere"), machine.path("full/link")).unwrap();
    machine.write("full/.cooperage-1/half", "left by a process that was killed");
    machine.ok(&["build", "context", "-o", "type=local,dest=full"]);
    assert_eq!((machine.read("full/bin/mine"), machine.read("full/note")), ("mine".to_owned(), "read me".to_owned()));
    assert_eq!(fs::read_link(machine.path("full/link")).unwrap(), std::path::Path::new("../bin/tool"));
    assert_eq!(machine.read("elsewhere"), "untouched");
    let mut names: Vec<_> =
        fs::read_dir(machine.path("full")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["bin", "link", "note"]);
}

#[test]
fn a_directory_in_which_files_have_no_room_stays_as_it_was() {
    if !have(&[]) {
        return;
    }
    let machine = Machine::new();
    files(&machine);
    fs::create_dir_all(machine.path("elsewhere")).unwrap();
    for (prepare, said) in [
        ("note/kept", ["out/note", "it is a directory"]),
        ("bin", ["out/bin", "it is no directory"]),
        ("link to elsewhere", ["out/bin", "it is no directory"]),
    ] {
        let _ = fs::remove_dir_all(machine.path("out"));
        match prepare {
            "link to elsewhere" => {
                fs::create_dir(machine.path("out")).unwrap();
                symlink(machine.path("elsewhere"), machine.path("out/bin")).unwrap();
            }
            name => drop(machine.write(&format!("out/{name}"), "kept")),
        }
        let before = fs::read_dir(machine.path("out")).unwrap().count();
        machine.fails(&["build", "context", "-o", "out"], 2).says(&said);
        assert_eq!(fs::read_dir(machine.path("out")).unwrap().count(), before, "{prepare}");
    }
    assert_eq!(fs::read_dir(machine.path("elsewhere")).unwrap().count(), 0);
    machine.dockerfile("context", "FROM scratch\nCOPY note /\nCOPY missing /\n");
    let _ = fs::remove_dir_all(machine.path("out"));
    machine.fails(&["build", "context", "-o", "out"], 2).says(&["missing"]);
    assert!(!machine.path("out").exists());
}

#[test]
fn files_of_an_image_become_an_archive() {
    if !have(&["tar"]) {
        return;
    }
    let machine = Machine::new();
    files(&machine);
    let args = ["build", "context", "-t", "app:1", "-o", "type=tar,dest=files.tar", "-o", "type=oci,dest=app.tar"];
    machine.ok(&args).prints(&["built sha256:", "named app:1", "wrote files.tar", "wrote app.tar"]);
    let listed = tool("tar", ["--numeric-owner", "-tvf", &machine.text("files.tar")]).stdout;
    for line in ["drwxr-x--x 0/0", "-rwxr-x--x 0/0", "bin/tool link to bin/same", "link -> ../bin/tool"] {
        assert!(listed.contains(line), "{line} is not in:\n{listed}");
    }
    let output = machine.coop(&["build", "context", "-o", "-"]).output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout == fs::read(machine.path("files.tar")).unwrap(), "standard output has the archive alone");
    machine.fails(&["build", "context", "-o", "type=tar,dest=no/dir/x.tar"], 4).says(&["no/dir/x.tar"]);
}

#[test]
fn each_platform_has_a_directory_of_its_own() {
    if !have(&["tar"]) {
        return;
    }
    let machine = Machine::new();
    machine.dockerfile("context", "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /which\n");
    machine.write("context/amd64", "one");
    machine.write("context/arm64", "other");
    let platforms = ["build", "context", "--platform", "linux/amd64,linux/arm64"];
    machine.ok(&[&platforms[..], &["-o", "out", "-o", "type=tar,dest=out.tar"]].concat());
    assert_eq!(machine.read("out/linux_amd64/which"), "one");
    assert_eq!(machine.read("out/linux_arm64/which"), "other");
    let listed = tool("tar", ["-tf", &machine.text("out.tar")]).stdout;
    assert!(listed.lines().any(|line| line == "linux_arm64/which"), "{listed}");
}

#[test]
fn an_output_names_and_pushes() {
    if !have(&["docker-registry"]) {
        return;
    }
    let machine = Machine::new();
    let registry = Registry::start(&machine);
    files(&machine);
    let (one, two) = (registry.name("one:1"), registry.name("two:2"));
    let named = format!("type=image,\"name={one},mine:3\"");
    let pushed = format!("type=registry,name={two},compression=zstd");
    let ran = machine.ok(&["build", "context", "-t", "mine:4", "-o", &named, "-o", &pushed]);
    ran.prints(&["named mine:3", "named mine:4", &format!("pushed {two}@sha256:")]);
    assert!(!ran.stdout.contains(&format!("pushed {one}")), "{}", ran.stdout);
    assert!(registry.digest("two:2").starts_with("sha256:"));
    let (mine, two) =
        (machine.ok(&["image", "inspect", "mine:4", "--output", "json"]).json(), registry.digest("two:2"));
    assert_eq!(mine["descriptor"]["digest"], two);
    let media_type = &mine["manifest"]["layers"][0]["mediaType"];
    assert_eq!(media_type, "application/vnd.oci.image.layer.v1.tar+zstd");
    machine.fails(&["build", "context", "-o", "type=registry"], 2).says(&["needs a name"]);
    let two = ["-o", "type=image,name=a,compression=zstd", "-o", "type=oci,dest=x,compression=gzip"];
    machine.fails(&[&["build", "context"][..], &two].concat(), 2).says(&["zstd", "gzip", "build twice"]);
}

#[test]
fn a_squashed_image_has_one_layer_and_the_same_files() {
    if !have(&["skopeo", "umoci", crate::support::ROOT]) {
        return;
    }
    let machine = Machine::new();
    machine.base();
    machine.write("context/file", "content");
    let text = "FROM base:1\nCOPY --chown=7:8 --chmod=4750 file /dir/file\nRUN rm /bin/true && ln /dir/file /dir/same && \
                mkdir -m 1777 /open && ln -s file /dir/link && echo more >> /etc/group\nUSER worker\n";
    machine.dockerfile("context", text);
    machine.build("context", &["-t", "many:1"]);
    machine.build("context", &["-t", "one:1", "--squash"]);
    assert_eq!(machine.tree("one:1"), machine.tree("many:1"));
    let configuration = machine.configuration("one:1");
    assert_eq!(configuration["rootfs"]["diff_ids"].as_array().unwrap().len(), 1);
    assert_eq!(configuration["history"].as_array().unwrap().len(), 1);
    assert_eq!(configuration["config"]["User"], "worker");
    let again = machine.ok(&["build", "context", "--squash"]);
    again.says(&["CACHED squash"]);
    machine.dockerfile("context", "FROM base:1\n");
    machine.build("context", &["-t", "base:squashed", "--squash"]);
    assert_eq!(machine.tree("base:squashed"), machine.tree("base:1"));
}
