//! What comes into an image: the file tree as umoci unpacks it, for one instruction of a Dockerfile after the other.

use std::os::unix::fs::{PermissionsExt, symlink};

use crate::support::{Machine, ROOT, have};

/// Builds a Dockerfile on `base:1` and compares what it adds, entry for entry.
#[track_caller]
fn check(machine: &Machine, dockerfile: &str, args: &[&str], expected: &[&str]) {
    machine.dockerfile("context", dockerfile);
    machine.build("context", &[&["-t", "result:1"], args].concat());
    assert_eq!(machine.tree_above_base("result:1"), expected);
}

fn machine() -> Option<Machine> {
    if !have(&[ROOT, "umoci"]) {
        return None;
    }
    let machine = Machine::new();
    machine.base();
    Some(machine)
}

#[test]
fn a_base_of_nothing_but_a_shell() {
    let Some(machine) = machine() else { return };
    let tree = machine.tree("base:1");
    let expected = [
        "0755 0:0 /bin/",
        "0755 0:0 /bin/busybox",
        "link 0:0 /bin/sh -> busybox",
        "0644 0:0 /etc/group = root:x:0:\\nworker:x:1000:\\n",
    ];
    for entry in expected {
        assert!(tree.iter().any(|found| found == entry), "{entry:?} is not in {tree:#?}");
    }
    assert_eq!(machine.configuration("base:1")["config"]["Cmd"], serde_json::json!(["/bin/sh"]));
}

#[test]
fn copy_keeps_modes_and_links_and_gives_owners() {
    let Some(machine) = machine() else { return };
    let script = machine.write("context/dir/run.sh", "#!/bin/sh\n");
    std::fs::set_permissions(script, PermissionsExt::from_mode(0o755)).unwrap();
    machine.write("context/dir/deep/file", "deep");
    symlink("run.sh", machine.path("context/dir/link")).unwrap();
    machine.write("context/one", "1");
    check(
        &machine,
        "FROM base:1\nCOPY dir /dir/\nCOPY --chown=worker:7 --chmod=600 one /owned/one\nCOPY --chown=3 one two* /flat/\n",
        &[],
        &[
            "0755 0:0 /dir/",
            "0755 0:0 /dir/deep/",
            "0644 0:0 /dir/deep/file = deep",
            "link 0:0 /dir/link -> run.sh",
            "0755 0:0 /dir/run.sh = #!/bin/sh\\n",
            "0755 3:3 /flat/",
            "0644 3:3 /flat/one = 1",
            "0600 1000:7 /owned/",
            "0600 1000:7 /owned/one = 1",
        ],
    );
}

#[test]
fn stages_give_files_to_each_other_and_unused_ones_do_not_run() {
    let Some(machine) = machine() else { return };
    machine.write("context/source", "text");
    check(
        &machine,
        "FROM base:1 AS tools\nRUN false\n\
         FROM base:1 AS compile\nWORKDIR /src\nCOPY source .\nRUN cat source source > product && chmod 711 product\n\
         FROM base:1\nCOPY --from=compile /src/product /usr/bin/\nCOPY --from=base:1 /etc/group /group\n",
        &[],
        &[
            "0644 0:0 /group = root:x:0:\\nworker:x:1000:\\n",
            "0755 0:0 /usr/",
            "0755 0:0 /usr/bin/",
            "0711 0:0 /usr/bin/product = texttext",
        ],
    );
}

#[test]
fn a_target_is_where_the_build_ends() {
    let Some(machine) = machine() else { return };
    let text = "FROM base:1 AS first\nRUN echo 1 > /first\nFROM first AS second\nRUN false\n";
    check(&machine, text, &["--target", "first"], &["0644 0:0 /first = 1\\n"]);
    machine.fails(&["build", "context"], 1).says(&["/bin/sh -c false", "exit code 1", "Dockerfile:4"]);
}

#[test]
fn arguments_and_variables_reach_instructions_and_processes() {
    let Some(machine) = machine() else { return };
    check(
        &machine,
        "ARG BASE=nothing\nFROM ${BASE}\nARG WHO=nobody\nARG UNSET\nENV GREETING=\"hello $WHO\" PLAIN='$WHO'\n\
         WORKDIR /$WHO\nRUN echo \"$GREETING/$PLAIN/${UNSET-none}\" > greeting\nCOPY <<EOF /expanded\n$WHO ${UNSET:-default}\nEOF\n",
        &["--build-arg", "BASE=base:1", "--build-arg", "WHO=world"],
        &[
            "0644 0:0 /expanded = world default\\n",
            "0755 0:0 /world/",
            "0644 0:0 /world/greeting = hello world/$WHO/none\\n",
        ],
    );
}

#[test]
fn here_documents_are_files_and_scripts() {
    let Some(machine) = machine() else { return };
    check(
        &machine,
        "FROM base:1\nCOPY <<one <<-'two' /docs/\nfirst\none\n\tsecond $KEPT\ntwo\n\
         RUN <<EOF\nfor n in 1 2; do\n  echo $n >> /count\ndone\nEOF\nRUN cat > /input <<EOF\nfrom a document\nEOF\n",
        &[],
        &[
            "0644 0:0 /count = 1\\n2\\n",
            "0755 0:0 /docs/",
            "0644 0:0 /docs/one = first\\n",
            "0644 0:0 /docs/two = second $KEPT\\n",
            "0644 0:0 /input = from a document\\n",
        ],
    );
}

#[test]
fn ignored_files_stay_outside() {
    let Some(machine) = machine() else { return };
    let files = ["keep", "drop.log", "kept.log", "deep/drop.log", "deep/keep", "node_modules/a/b", "secret"];
    for file in files {
        machine.write(&format!("context/{file}"), "x");
    }
    machine.write(
        "context/.dockerignore",
        "# comment\n**/*.log\n!kept.log\nnode_modules\n/secret\nDockerfile\n.dockerignore\n",
    );
    let expected = [
        "0755 0:0 /all/",
        "0755 0:0 /all/deep/",
        "0644 0:0 /all/deep/keep = x",
        "0644 0:0 /all/keep = x",
        "0644 0:0 /all/kept.log = x",
    ];
    check(&machine, "FROM base:1\nCOPY . /all/\n", &[], &expected);
    machine.dockerfile("context", "FROM base:1\nCOPY secret /\n");
    machine.fails(&["build", "context"], 2).says(&["secret", "Dockerfile:2"]);
}

#[test]
fn a_run_adds_changes_and_removes() {
    let Some(machine) = machine() else { return };
    machine.dockerfile(
        "context",
        "FROM base:1\nRUN rm /etc/group && echo new > /etc/passwd && mkdir -p /a/b && ln /etc/passwd /hard && ln -s b /a/c\n\
         RUN rm -rf /a && mkdir /a && touch /a/fresh && chmod 4755 /a/fresh\n",
    );
    machine.build("context", &["-t", "result:1"]);
    let expected = ["0755 0:0 /a/", "4755 0:0 /a/fresh = ", "0644 0:0 /etc/passwd = new\\n", "0644 0:0 /hard = new\\n"];
    assert_eq!(machine.tree_above_base("result:1"), expected);
    assert!(!machine.tree("result:1").iter().any(|entry| entry.contains("/etc/group")));
}

#[test]
fn processes_run_as_the_user_in_the_directory_that_was_chosen() {
    let Some(machine) = machine() else { return };
    check(
        &machine,
        "FROM base:1\nWORKDIR /srv/here\nRUN chmod 777 .\nUSER worker\nRUN id -u > id && id -g >> id && pwd > where\n\
         SHELL [\"/bin/sh\", \"-e\", \"-c\"]\nRUN echo \"$0 $HOME\" > shell\nRUN [\"touch\", \"$literal\"]\n",
        &[],
        &[
            "0755 0:0 /srv/",
            "0777 0:0 /srv/here/",
            "0644 1000:1000 /srv/here/$literal = ",
            "0644 1000:1000 /srv/here/id = 1000\\n1000\\n",
            "0644 1000:1000 /srv/here/shell = /bin/sh /\\n",
            "0644 1000:1000 /srv/here/where = /srv/here\\n",
        ],
    );
}

#[test]
fn mounts_are_seen_by_the_process_and_not_by_the_image() {
    let Some(machine) = machine() else { return };
    machine.write("context/material", "material");
    let secret = Machine::write_to(machine.outside("secret"), "hunter2-of-a-test");
    let secret = format!("id=token,src={}", secret.display());
    check(
        &machine,
        "FROM base:1\nRUN --mount=type=secret,id=token test $(wc -c < /run/secrets/token) = 17\n\
         RUN --mount=type=secret,id=token,env=TOKEN test ${#TOKEN} = 17\n\
         RUN --mount=type=bind,target=/in cat /in/material > /copied\n\
         RUN --mount=type=tmpfs,target=/scratch echo x > /scratch/x\n\
         RUN --mount=type=cache,target=/keep echo kept > /keep/file\n\
         RUN --mount=type=cache,target=/keep cat /keep/file > /seen\n",
        &["--secret", &secret],
        &["0644 0:0 /copied = material", "0644 0:0 /seen = kept\\n"],
    );
    for entry in walk(machine.store()) {
        let content = std::fs::read(&entry).unwrap_or_default();
        let found = content.windows(17).any(|window| window == b"hunter2-of-a-test");
        assert!(!found, "the secret is in {}", entry.display());
    }
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let deep = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => walk(&entry.path()),
        _ => vec![entry.path()],
    };
    entries.flat_map(deep).collect()
}

#[test]
fn archives_are_unpacked_by_add_and_not_by_copy() {
    let Some(machine) = machine() else { return };
    machine.write("files/inner/file", "unpacked");
    std::fs::create_dir_all(machine.path("context")).unwrap();
    let (archive, files) = (machine.text("context/files.tar.gz"), machine.text("files"));
    crate::support::tool("tar", ["-C", &files, "--owner=11", "--group=12", "-czf", &archive, "inner/file"]);
    machine.dockerfile("context", "FROM base:1\nADD files.tar.gz /added/\nCOPY files.tar.gz /copied/\n");
    machine.build("context", &["-t", "result:1"]);
    let tree = machine.tree_above_base("result:1");
    for entry in ["0644 11:12 /added/inner/file = unpacked", "0755 0:0 /copied/"] {
        assert!(tree.iter().any(|found| found == entry), "{entry:?} is not in {tree:#?}");
    }
    assert!(tree.iter().any(|found| found.contains("/copied/files.tar.gz")));
}

#[test]
fn several_contexts_have_names() {
    let Some(machine) = machine() else { return };
    machine.write("other/thing", "other");
    let other = format!("more={}", machine.text("other"));
    let text = "FROM base:1\nCOPY --from=more thing /\n";
    check(&machine, text, &["--build-context", &other], &["0644 0:0 /thing = other"]);
}

#[test]
fn images_take_the_place_of_bases_and_stages() {
    let Some(machine) = machine() else { return };
    machine.dockerfile("mine", "FROM base:1\nRUN echo mine > /mine\nUSER worker\nENV FROM_MINE=yes\n");
    let digest = machine.build("mine", &["-t", "mine:1", "-o", "type=oci-dir,dest=layout"]);
    let text = "FROM nowhere.invalid/os:1 AS os\nFROM os\nCOPY --from=tools /mine /copied\n";
    machine.dockerfile("context", text);
    let layout = machine.text("layout");
    for place in [
        "docker-image://mine:1".to_owned(),
        format!("oci-layout://{layout}"),
        format!("oci-layout://{layout}:1"),
        format!("oci-layout://{layout}@{digest}"),
    ] {
        let (os, tools) = (format!("os={place}"), "tools=docker-image://mine:1");
        machine.build("context", &["-t", "result:1", "--build-context", &os, "--build-context", tools]);
        let tree = machine.tree_above_base("result:1");
        for entry in ["/mine = mine\\n", "/copied = mine\\n"] {
            assert!(tree.iter().any(|found| found.ends_with(entry)), "{entry:?} is not in {tree:#?}");
        }
        let configuration = machine.configuration("result:1");
        assert_eq!(configuration["config"]["User"], "worker", "{place}");
    }
    for (place, parts) in [
        ("docker-image://UPPER".to_owned(), &["UPPER"][..]),
        ("docker-image://mine:2".to_owned(), &["mine:2"]),
        (format!("oci-layout://{layout}:7"), &["the layout", "it has no image 7, but 1"]),
        ("oci-layout://no/such".to_owned(), &["no/such is no OCI layout"]),
    ] {
        let os = format!("os={place}");
        let ran = machine.run(&["build", "context", "--pull=never", "--build-context", &os]);
        assert_eq!(ran.code, Some(2), "{place}: {}", ran.stderr);
        ran.says(parts);
    }
}
