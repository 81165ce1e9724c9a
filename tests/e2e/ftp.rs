//! The plugin `ftp` as a step of flows, as a source and as a registry, against vsftpd and pyftpdlib.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::ftp::{Ftp, PYFTPDLIB, Protection, VSFTPD};
use crate::support::processes::{Running, eventually};
use crate::support::registry::PASSWORD;
use crate::support::{Machine, Ran, have, noise, tool};

fn vsftpd(protection: Protection) -> Option<(Machine, Ftp)> {
    if !have(&VSFTPD) {
        return None;
    }
    let machine = Machine::new();
    let ftp = Ftp::vsftpd(&machine, protection);
    Some((machine, ftp))
}

fn pyftpdlib(limit: u64) -> Option<(Machine, Ftp)> {
    if !have(&PYFTPDLIB) {
        return None;
    }
    let machine = Machine::new();
    let ftp = Ftp::pyftpdlib(&machine, limit);
    Some((machine, ftp))
}

/// Writes a flow with these steps, where `HOST` stands for the server.
fn write(machine: &Machine, ftp: &Ftp, steps: &str) {
    let steps: String = steps.lines().map(|line| format!("          {}\n", line.trim())).collect();
    let steps = steps.replace("HOST", &ftp.host);
    machine.write(
        "cooperage.yaml",
        format!("version: 1\nimages:\n  app:\n    tags:\n      latest:\n        flow:\n{steps}"),
    );
}

fn run(machine: &Machine, ftp: &Ftp, steps: &str, args: &[&str]) -> Ran {
    write(machine, ftp, steps);
    machine.run(&[&["run", "--output", "json"], args].concat())
}

/// Must succeed; the values of a step.
#[track_caller]
fn values(ran: &Ran, step: &str) -> Value {
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let result = ran.json();
    let steps = result["steps"].as_array().unwrap();
    steps.iter().find(|found| found["id"] == format!("app:latest/{step}")).unwrap()["values"].clone()
}

/// Up, down, listed, renamed and removed, with `SCHEME` for the way in.
fn there_and_back(machine: &Machine, ftp: &Ftp, scheme: &str, args: &[&str]) {
    let content = noise(5_000_000, 1);
    machine.write("dist/deep/file.bin", &content);
    machine.write("dist/.hidden", "h");
    machine.write("dist/empty", "");
    let steps = "up:    { uses: ftp, with: { url: 'SCHEME://HOST/pub', upload: { from: dist, to: a/b } } }
         list:  { uses: ftp, needs: [up], with: { url: 'SCHEME://HOST/pub', list: a/b } }
         down:  { uses: ftp, needs: [up], with: { url: 'SCHEME://HOST/pub/a', download: { from: b/ } } }
         again: { uses: ftp, in: down, with: { url: 'SCHEME://HOST/pub', upload: { from: deep/file.bin, to: c/ } } }
         name:  { uses: ftp, needs: [again], with: { url: 'SCHEME://HOST/pub', rename: { from: c/file.bin, to: c/f } } }
         gone:  { uses: ftp, needs: [list, down], with: { url: 'SCHEME://HOST/pub', delete: { path: a, recursive: true } } }";
    let ran = run(machine, ftp, &steps.replace("SCHEME", scheme), args);
    let up = values(&ran, "up");
    assert_eq!((&up["files"], &up["bytes"]), (&json!(3), &json!(5_000_001)));
    let entries = values(&ran, "list")["entries"].clone();
    let names: Vec<_> = entries.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    assert_eq!(names, [".hidden", "deep", "empty"]);
    assert_eq!(values(&ran, "down")["bytes"], 5_000_001);
    assert_eq!(values(&ran, "gone")["removed"], 6);
    assert_eq!((ftp.names(""), ftp.names("c")), (vec!["c".to_owned()], vec!["f".to_owned()]));
    assert!(ftp.file("c/f") == content);
}

#[test]
fn files_go_there_and_back() {
    let Some((machine, ftp)) = vsftpd(Protection::None) else { return };
    there_and_back(&machine, &ftp, "ftp", &[]);
}

#[test]
fn files_go_there_and_back_under_tls() {
    for (protection, scheme) in [(Protection::Explicit, "ftpes"), (Protection::Implicit, "ftps")] {
        let Some((machine, ftp)) = vsftpd(protection) else { return };
        // An authority for the port of the URL counts for data connections too, and so does one for the whole host.
        let place = if protection == Protection::Explicit { ftp.host.as_str() } else { "localhost" };
        let authority = format!("{place}={}", ftp.authority.display());
        there_and_back(&machine, &ftp, scheme, &["--registry-ca", &authority]);
    }
}

#[test]
fn certificates_and_clear_connections_are_not_taken_as_they_come() {
    let Some((machine, ftp)) = vsftpd(Protection::Explicit) else { return };
    machine.write("pw", "hunter2-hunter2");
    let step = |rest: &str| {
        format!("get: {{ uses: ftp, with: {{ list: '', username: alice, password: {{ secret: PW }}, {rest} }} }}")
    };
    let secret = ["--secret", "id=PW,src=pw"];
    let ran = run(&machine, &ftp, &step("url: 'ftpes://HOST/'"), &secret);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    ran.says(&["cannot begin TLS with localhost", "authority that is not known", "--registry-ca"]);
    let ran = run(&machine, &ftp, &step("url: 'ftp://HOST/'"), &secret);
    ran.says(&["cannot log in", "530"]).does_not_say(&["hunter2"]);
    let Some((machine, ftp)) = vsftpd(Protection::None) else { return };
    machine.write("pw", "hunter2-hunter2");
    let ran = run(&machine, &ftp, &step("url: 'ftpes://HOST/'"), &secret);
    ran.says(&["does not begin TLS"]).does_not_say(&["hunter2"]);
}

#[test]
fn credentials_are_used_and_not_shown() {
    let Some((machine, ftp)) = pyftpdlib(0) else { return };
    ftp.serve("f", "text");
    machine.write("right", format!("{PASSWORD}\n"));
    machine.write("wrong", "hunter2-hunter2");
    let step =
        "get: { uses: ftp, with: { url: 'ftp://alice@HOST/', password: { secret: PW }, download: { from: f } } }";
    let ran = run(&machine, &ftp, step, &["--secret", "id=PW,src=right"]);
    assert_eq!(values(&ran, "get")["bytes"], 4);
    let ran = run(&machine, &ftp, step, &["--secret", "id=PW,src=wrong"]);
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    ran.says(&["cannot log in to localhost", "530", "check the user name and the password"]).does_not_say(&["hunter2"]);
    let log = std::fs::read_to_string(ftp.files.with_file_name("log")).unwrap();
    assert_eq!(log.matches("failed login").count(), 1, "a wrong password is not tried again: {log}");
    let ran = run(&machine, &ftp, "get: { uses: ftp, with: { url: 'ftp://alice:hunter2@HOST/', list: '' } }", &[]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    ran.says(&["contains a password", "secret"]).does_not_say(&["hunter2"]);
}

#[test]
fn mirrors_send_what_differs() {
    let Some((machine, ftp)) = vsftpd(Protection::None) else { return };
    machine.write("site/index.html", "one");
    machine.write("site/a/b", "two");
    let step = "site: { uses: ftp, with: { url: 'ftp://HOST/pub', mirror: { from: site, to: www, delete: true } } }";
    let counted = |ran: &Ran| {
        let values = values(ran, "site");
        ["files", "unchanged", "removed"].map(|name| values[name].as_u64().unwrap())
    };
    assert_eq!(counted(&run(&machine, &ftp, step, &[])), [2, 0, 0]);
    assert_eq!(counted(&run(&machine, &ftp, step, &[])), [0, 2, 0]);
    machine.write("site/index.html", "six");
    std::fs::remove_dir_all(machine.path("site/a")).unwrap();
    assert_eq!(counted(&run(&machine, &ftp, step, &[])), [1, 0, 2]);
    assert_eq!(ftp.names("www"), [".coop-mirror.json", "index.html"]);
    assert_eq!(ftp.file("www/index.html"), b"six");
}

#[test]
fn what_goes_wrong_is_said() {
    let Some((machine, ftp)) = vsftpd(Protection::None) else { return };
    machine.write("f", "x");
    for (step, code, says) in [
        ("{ url: 'ftp://HOST/pub', download: { from: none } }", 2, &["/pub/none", "550"][..]),
        ("{ url: 'ftp://HOST/none', list: '' }", 2, &["cannot list /none", "550"]),
        ("{ url: 'ftp://HOST/', upload: { from: f, to: x } }", 3, &["ftp://localhost", "/x", "553"]),
        ("{ url: 'ftp://HOST/pub', list: '', upload: {} }", 2, &["more than one action"]),
        ("{ url: 'ftp://HOST/pub' }", 2, &["no action", "`mirror`"]),
        ("{ url: 'ftp://HOST/pub', list: '../..' }", 2, &["`..`"]),
        ("{ url: 'ftp://HOST/%0d%0aDELE%20x', list: '' }", 2, &["contains"]),
        ("{ url: 'ftp://HOST/pub', upload: { from: none } }", 2, &["the input has no none"]),
        ("{ url: 'ftp://localhost:1/', list: '', retries: 1 }", 4, &["localhost:1", "refused"]),
        ("{ url: 'http://HOST/', list: '' }", 2, &["none of ftp, ftps and ftpes"]),
    ] {
        let ran = run(&machine, &ftp, &format!("go: {{ uses: ftp, with: {step} }}"), &[]);
        assert_eq!(ran.code, Some(code), "{step}: {}", ran.stderr);
        ran.says(says);
    }
    assert_eq!(ftp.names(""), [""; 0]);
}

#[test]
fn a_server_that_dies_leaves_nothing_under_a_final_name() {
    let Some((machine, mut ftp)) = pyftpdlib(4_000_000) else { return };
    machine.write("large", noise(60_000_000, 2));
    machine.write("pw", PASSWORD);
    write(
        &machine,
        &ftp,
        "up: { uses: ftp, with: { url: 'ftp://alice@HOST/', password: { secret: PW }, upload: { from: large }, retries: 1 } }",
    );
    let mut command = machine.coop(&["run", "--secret", "id=PW,src=pw"]);
    let child = command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while ftp.names("").is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing arrives");
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_secs(1));
    ftp.kill();
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    ran.says(&["cannot send ftp://localhost", "/large"]);
    let names = ftp.names("");
    assert!(names.iter().all(|name| name.starts_with(".large.") && name.ends_with(".coop-part")), "{names:?}");
}

#[test]
fn an_upload_that_is_cancelled_leaves_nothing_there() {
    let Some((machine, ftp)) = pyftpdlib(4_000_000) else { return };
    machine.write("large", noise(60_000_000, 2));
    machine.write("pw", PASSWORD);
    write(
        &machine,
        &ftp,
        "up: { uses: ftp, with: { url: 'ftp://alice@HOST/', password: { secret: PW }, upload: { from: large } } }",
    );
    let mut running = Running::start(machine.coop(&["run", "--secret", "id=PW,src=pw"]), &machine.path("log"));
    let arriving = || std::fs::read_dir(&ftp.files).unwrap().flatten().any(|entry| entry.metadata().unwrap().len() > 0);
    eventually("a part has arrived", arriving);
    running.signal(Signal::INT);
    assert_eq!(running.wait(), Some(130), "{}", machine.read("log"));
    assert_eq!(ftp.names(""), [""; 0], "{}", machine.read("log"));
}

#[test]
fn builds_take_files_from_urls() {
    let Some((machine, ftp)) = vsftpd(Protection::None) else { return };
    ftp.serve("context/Dockerfile", "FROM scratch\nCOPY file /\n");
    ftp.serve("context/file", "one");
    ftp.hand_over();
    let url = format!("ftp://{}/pub/context/", ftp.host);
    let build = || machine.ok(&["build", &url, "--quiet"]).out().to_owned();
    let first = build();
    assert_eq!(build(), first);
    ftp.serve("context/file", "three");
    ftp.hand_over();
    assert_ne!(build(), first);
    machine.dockerfile("add", &format!("FROM scratch\nADD ftp://{}/pub/context/file /\n", ftp.host));
    machine.build("add", &["-t", "added:1"]);
    let none = format!("FROM scratch\nADD ftp://{}/pub/context/none /\n", ftp.host);
    machine.dockerfile("add", &none);
    machine.fails(&["build", "add"], 2).says(&["550"]);
}

#[test]
fn images_are_kept_on_a_server() {
    let Some((machine, ftp)) = vsftpd(Protection::None) else { return };
    machine.configure(&format!(
        "registries: {{ '{}': {{ plugin: ftp, options: {{ root: pub/images, tls: none }} }} }}\n",
        ftp.host
    ));
    machine.write("app/file", noise(300_000, 3));
    machine.dockerfile("app", "FROM scratch\nCOPY file /\n");
    let name = format!("{}/team/app:1", ftp.host);
    let digest = machine.build("app", &["-t", &name, "--push"]);
    assert_eq!(ftp.names("images/team/app"), ["blobs", "index.json", "oci-layout"]);
    machine.ok(&["image", "rm", &name]);
    let pulled = machine.ok(&["image", "pull", &name]);
    assert!(pulled.stdout.contains(&digest), "{pulled:?}");
    machine.dockerfile("next", &format!("FROM {name}\nLABEL a=b\n"));
    machine.build("next", &["-t", &format!("{}/team/app:2", ftp.host), "--push"]);
    assert_eq!(ftp.names("images/team/app/blobs/sha256").len(), 5, "the layer is there once");
    if have(&["skopeo"]) {
        let layout = format!("oci:{}:1", ftp.files.join("images/team/app").display());
        assert_eq!(tool("skopeo", ["inspect", "--format", "{{.Digest}}", &layout]).out(), digest);
    }
    // What was changed there is not taken for what it was.
    let blobs = ftp.files.join("images/team/app/blobs/sha256");
    for entry in std::fs::read_dir(&blobs).unwrap() {
        let path = entry.unwrap().path();
        let length = std::fs::metadata(&path).unwrap().len();
        if length > 100_000 {
            std::fs::write(&path, noise(usize::try_from(length).unwrap(), 4)).unwrap();
        }
    }
    let other = machine.outside("other");
    let ran = machine.coop(&["image", "pull", &name]).env("COOP_ROOT", &other).output().unwrap();
    let ran = Ran::from(ran);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    let none = format!("{}/team/none:1", ftp.host);
    machine.fails(&["image", "pull", &none], 2).says(&["no such image"]);
}

#[test]
fn images_pushed_at_once_are_all_there() {
    let Some((machine, ftp)) = vsftpd(Protection::None) else { return };
    machine.configure(&format!(
        "registries: {{ '{}': {{ plugin: ftp, options: {{ root: pub, tls: none }} }} }}\n",
        ftp.host
    ));
    machine.dockerfile("app", "FROM scratch\nCOPY Dockerfile /\n");
    let names: Vec<_> = (0..4).map(|number| format!("{}/app:{number}", ftp.host)).collect();
    names.iter().for_each(|name| drop(machine.build("app", &["-t", name])));
    std::thread::scope(|scope| {
        let push = |name| machine.ok(&["image", "push", name]);
        names.iter().for_each(|name| drop(scope.spawn(move || push(name))));
    });
    let index: Value = serde_json::from_slice(&ftp.file("app/index.json")).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 4);
    assert!(!ftp.names("app").contains(&".coop-lock".to_owned()));
}
