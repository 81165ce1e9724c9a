//! Images as files and directories, read by tools that we did not write.

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
    assert_eq!(std::fs::read(machine.path("app.tar")).unwrap(), std::fs::read(machine.path("again.tar")).unwrap());
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
