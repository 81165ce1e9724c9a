//! What comes into the configuration of an image, and how `coop build` is told what to build.

use std::io::Write;
use std::process::Stdio;

use serde_json::json;

use crate::support::{Machine, Ran, have, tool};

fn machine() -> Option<Machine> {
    if !have(&["skopeo"]) {
        return None;
    }
    let machine = Machine::new();
    machine.base();
    Some(machine)
}

#[test]
fn every_instruction_has_its_place_in_the_configuration() {
    let Some(machine) = machine() else { return };
    machine.dockerfile(
        "context",
        "FROM base:1\nLABEL one=1 \"two words\"=\"2 3\"\nEXPOSE 80 53/udp 90-91\nVOLUME /data [\"/x\"]\nVOLUME [\"/json\"]\n\
         USER worker:5\nWORKDIR /srv\nWORKDIR sub\nSTOPSIGNAL SIGINT\nENV A=1 B=\"$A two\"\n\
         HEALTHCHECK --interval=5s --retries=3 CMD test -e /srv\nSHELL [\"/bin/sh\", \"-x\", \"-c\"]\n\
         ENTRYPOINT [\"/bin/echo\", \"hi\"]\nCMD arg $A\n",
    );
    machine.build("context", &["-t", "result:1", "--label", "three=3"]);
    let configuration = machine.configuration("result:1");
    let config = &configuration["config"];
    let expected = json!({
        "Labels": { "one": "1", "two words": "2 3", "three": "3" },
        "ExposedPorts": { "80/tcp": {}, "53/udp": {}, "90/tcp": {}, "91/tcp": {} },
        "User": "worker:5",
        "WorkingDir": "/srv/sub",
        "StopSignal": "SIGINT",
        "Healthcheck": { "Test": ["CMD-SHELL", "test -e /srv"], "Interval": 5_000_000_000_u64, "Retries": 3 },
        "Shell": ["/bin/sh", "-x", "-c"],
        "Entrypoint": ["/bin/echo", "hi"],
        "Cmd": ["/bin/sh", "-x", "-c", "arg $A"],
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&config[name], value, "{name}");
    }
    let env: Vec<_> = config["Env"].as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect();
    assert!(env.contains(&"A=1") && env.contains(&"B= two"), "{env:?}");
    assert!(config["Volumes"].get("/json").is_some() && config["Volumes"].get("/data").is_some());
    assert_eq!(configuration["os"], "linux");
    let layers = configuration["rootfs"]["diff_ids"].as_array().unwrap().len();
    let history = configuration["history"].as_array().unwrap();
    assert_eq!(history.iter().filter(|entry| entry["empty_layer"] != true).count(), layers);
}

#[test]
fn triggers_wait_for_the_image_that_builds_on_them() {
    let Some(machine) = machine() else { return };
    machine.dockerfile("parent", "FROM base:1\nONBUILD COPY child /child\nONBUILD ENV TRIGGERED=yes\n");
    machine.build("parent", &["-t", "parent:1"]);
    let parent = machine.configuration("parent:1");
    assert_eq!(parent["config"]["OnBuild"], json!(["COPY child /child", "ENV TRIGGERED=yes"]));
    machine.dockerfile("context", "FROM parent:1\nENV OWN=1\n");
    machine.fails(&["build", "context"], 2).says(&["child"]);
    machine.write("context/child", "child");
    machine.build("context", &["-t", "result:1"]);
    let config = machine.configuration("result:1");
    let env = config["config"]["Env"].to_string();
    assert!(env.contains("TRIGGERED=yes") && env.contains("OWN=1"), "{env}");
    assert_eq!(config["config"].get("OnBuild"), None, "a trigger fires once");
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
}

#[test]
fn an_image_for_another_platform_says_so() {
    let Some(machine) = machine() else { return };
    machine.write("context/file", "x");
    machine.dockerfile(
        "context",
        "FROM scratch\nARG TARGETARCH\nARG TARGETPLATFORM\nENV ARCH=$TARGETARCH P=$TARGETPLATFORM\nCOPY file /\n",
    );
    machine.build("context", &["-t", "arm:1", "--platform", "linux/arm64"]);
    let config = machine.configuration("arm:1");
    assert_eq!(config["architecture"], "arm64");
    assert!(config["config"]["Env"].to_string().contains("ARCH=arm64"), "{config}");
}

#[test]
fn a_process_for_another_processor_is_refused_before_anything_is_done() {
    let Some(machine) = machine() else { return };
    let (own, other) = match std::env::consts::ARCH {
        "aarch64" => ("linux/arm64", "linux/amd64"),
        _ => ("linux/amd64", "linux/arm64"),
    };
    machine.write("context/file", "x");
    let build = ["build", "context", "-t", "foreign:1", "--platform", other, "--progress", "plain"];
    machine.dockerfile("context", "FROM scratch\nCOPY file /\nRUN [\"/file\"]\nENV A=1\n");
    let refused = machine.fails(&build, 1);
    refused.says(&[
        "Dockerfile:3",
        &format!("a process for {other} cannot run on {own} yet"),
        "run it in a stage for this machine and copy the result",
    ]);
    assert_eq!(refused.steps(), (vec![], vec![]), "{}", refused.stderr);
    machine.fails(&["image", "inspect", "foreign:1"], 2);
    machine.dockerfile("context", "FROM scratch\nCOPY file /\nENV A=1\n");
    machine.ok(&build);
    assert_eq!(format!("linux/{}", machine.configuration("foreign:1")["architecture"].as_str().unwrap()), other);
    // What the hint advises: the process runs here, and its result is copied.
    machine.dockerfile(
        "context",
        "FROM --platform=$BUILDPLATFORM base:1 AS here\nCOPY file /\nFROM scratch\nCOPY --from=here /file /\n",
    );
    machine.ok(&build);
}

#[test]
fn a_dockerfile_comes_from_a_file_or_from_standard_input() {
    let Some(machine) = machine() else { return };
    machine.write("context/file", "x");
    machine.write("elsewhere/Other", "FROM base:1\nENV FROM=other\nCOPY file /\n");
    machine.build("context", &["-t", "other:1", "-f", "elsewhere/Other"]);
    assert!(machine.configuration("other:1")["config"]["Env"].to_string().contains("FROM=other"));

    let mut command = machine.coop(&["build", "context", "-t", "stdin:1", "-f", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"FROM base:1\nENV FROM=stdin\nCOPY file /\n").unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(machine.configuration("stdin:1")["config"]["Env"].to_string().contains("FROM=stdin"));
}

#[test]
fn results_are_written_down_for_programs() {
    let Some(machine) = machine() else { return };
    machine.dockerfile("context", "FROM base:1\nENV A=1\n");
    let args = ["-t", "one:1", "-t", "two:2", "--metadata-file", "meta.json", "--iidfile", "iid"];
    let digest = machine.build("context", &args);
    let meta: serde_json::Value = serde_json::from_str(&machine.read("meta.json")).unwrap();
    assert_eq!(meta["containerimage.digest"], digest.as_str());
    assert_eq!(meta["containerimage.config.digest"], machine.read("iid").trim());
    assert_eq!(meta["image.name"], "docker.io/library/one:1,docker.io/library/two:2");
    machine.ok(&["image", "export", "two:2", "-o", "type=oci,dest=two.tar"]);
    let archive = format!("oci-archive:{}", machine.text("two.tar"));
    assert_eq!(tool("skopeo", ["inspect", "--format", "{{.Digest}}", &archive]).out(), digest);
    let listed = machine.ok(&["image", "ls", "--output", "json"]).json();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap()).collect();
    for name in ["base:1", "one:1", "two:2"] {
        assert!(names.iter().any(|found| found.ends_with(name)), "{name} is not in {names:?}");
    }
}

#[test]
fn the_same_files_give_the_same_digest_on_every_machine() {
    let Some(first) = machine() else { return };
    let second = Machine::new().with_own_cache();
    second.base();
    let digests = [&first, &second].map(|machine| {
        machine.write("context/b", "b");
        machine.write("context/a/file", "a");
        machine.dockerfile("context", "FROM base:1\nCOPY . /\nWORKDIR /new/dir\nLABEL x=y\n");
        machine.build("context", &["-t", "result:1"])
    });
    assert_eq!(digests[0], digests[1]);
}
