//! The same as an ordinary user: images without RUN need no right at all, and RUN needs user namespaces.

use std::process::Command;

use crate::support::{Machine, ROOT, have, tool};

/// A user without login and with ranges of further ids. It stays when the tests are over.
const USER: &str = "coop-e2e";

fn user() -> bool {
    let known = || Command::new("id").arg(USER).output().is_ok_and(|said| said.status.success());
    let add =
        || Command::new("useradd").args(["--user-group", "--no-create-home", "--shell", "/bin/sh", USER]).output();
    // Another test may add it at the same time.
    known() || add().is_ok_and(|said| said.status.success()) || known()
}

fn machine(needs: &[&str]) -> Option<Machine> {
    if !have(&[&[ROOT, "setpriv", "useradd"], needs].concat()) {
        return None;
    }
    assert!(user(), "{USER} cannot be added");
    Some(Machine::new().with_user(USER))
}

fn own(machine: &Machine) {
    tool("chown", ["-R", "-h", &format!("{USER}:{USER}"), &machine.text("context")]);
}

#[test]
fn an_image_of_copies_is_the_same_as_roots() {
    let Some(user) = machine(&["newuidmap"]) else { return };
    let root = Machine::new();
    let digests = [&root, &user].map(|machine| {
        machine.write("context/a/file", "a");
        std::os::unix::fs::symlink("a/file", machine.path("context/link")).unwrap();
        let text = "FROM scratch\nCOPY . /\nCOPY --chown=5:6 --chmod=640 a/file /owned\nWORKDIR /made\n";
        machine.dockerfile("context", text);
        if machine.outside("coop").exists() {
            own(machine);
        }
        machine.build("context", &["-t", "result:1"])
    });
    assert_eq!(digests[0], digests[1]);
    user.assert_store_is_clean();
}

#[test]
fn an_image_of_copies_needs_no_ranges_and_no_namespaces() {
    if !have(&[ROOT, "setpriv", "umoci"]) {
        return;
    }
    let machine = Machine::new().with_user("nobody");
    machine.write("context/file", "a");
    machine.dockerfile("context", "FROM scratch\nCOPY --chown=5:6 file /owned\n");
    let digest = machine.build("context", &["-t", "result:1"]);
    assert_eq!(machine.tree("result:1"), ["0644 5:6 /owned = a"]);
    let again = Machine::new();
    again.write("context/file", "a");
    again.dockerfile("context", "FROM scratch\nCOPY --chown=5:6 file /owned\n");
    assert_eq!(again.build("context", &[]), digest);
}

#[test]
fn a_process_runs_as_root_of_a_namespace() {
    let Some(machine) = machine(&["newuidmap", "umoci"]) else { return };
    machine.base();
    machine.dockerfile(
        "context",
        "FROM base:1\nRUN id -u > /id && mkdir -m 777 /shared && touch /other && chown 1000:7 /other\nRUN rm /etc/group\n\
         USER worker\nRUN id -u > /shared/id\n",
    );
    machine.build("context", &["-t", "result:1"]);
    let tree = machine.tree("result:1");
    for entry in [
        "0644 0:0 /id = 0\\n",
        "0644 1000:7 /other = ",
        "0644 1000:1000 /shared/id = 1000\\n",
        "0644 0:0 /etc/passwd = root:x:0:0::/:/bin/sh\\nworker:x:1000:1000::/:/bin/sh\\n",
    ] {
        assert!(tree.iter().any(|found| found == entry), "{entry:?} is not in {tree:#?}");
    }
    assert!(!tree.iter().any(|entry| entry.contains("/etc/group")), "{tree:#?}");
    machine.assert_nothing_runs();
    machine.ok(&["image", "rm", "result:1", "base:1", "--cache"]);
    machine.assert_store_is_clean();
}

#[test]
fn a_process_may_not_do_what_the_user_may_not() {
    let Some(machine) = machine(&["newuidmap"]) else { return };
    machine.base();
    machine.dockerfile(
        "context",
        "FROM base:1\nRUN kill -0 1 && test $$ -lt 20 && ! dd if=/dev/mem of=/dev/null count=1\n",
    );
    machine.ok(&["build", "context"]);
    // Files of the store belong to the user or to the user's own range, never to root.
    let found = tool("find", [&machine.store().display().to_string(), "-uid", "0"]);
    assert_eq!(found.stdout, "");
}

#[test]
fn doctor_says_what_an_ordinary_user_lacks() {
    let Some(machine) = machine(&[]) else { return };
    let report = machine.ok(&["doctor", "--output", "json"]).json();
    assert!(report.is_object() || report.is_array(), "{report}");
    let text = machine.ok(&["doctor"]).stdout;
    assert!(text.contains("namespace"), "{text}");
}
