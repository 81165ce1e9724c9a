//! Mistakes and broken surroundings: the exit code, where it is, and what to do about it.

use std::path::{Path, PathBuf};

use crate::support::registry::Registry;
use crate::support::{Machine, ROOT, have, noise, tool};

fn machine() -> Option<Machine> {
    have(&[]).then(Machine::new)
}

/// Builds a Dockerfile that is wrong, next to the files `readme.txt` and `main.rs`.
#[track_caller]
fn check(dockerfile: &str, args: &[&str], code: i32, says: &[&str]) {
    let Some(machine) = machine() else { return };
    machine.write("context/readme.txt", "x");
    machine.write("context/main.rs", "x");
    machine.dockerfile("context", dockerfile);
    let ran = machine.fails(&[&["build", "context"], args].concat(), code);
    ran.says(says).does_not_say(&["panicked", "RUST_BACKTRACE", "wasm trap"]);
    assert_eq!(ran.stdout, "", "nothing was made");
}

#[test]
fn a_wrong_dockerfile_is_shown_with_its_line_and_a_hint() {
    check("FROM scratch\n\nCOPPY a /a\n", &[], 2, &["Dockerfile:3:1", "COPPY", "did you mean COPY?"]);
    check("FROM scratch\nCOPY a\n", &[], 2, &["Dockerfile:2", "COPY"]);
    check("FROM scratch\nCOPY --chwon=1 a /a\n", &[], 2, &["Dockerfile:2", "--chwon", "--chown"]);
    check("COPY a /a\n", &[], 2, &["Dockerfile:1", "FROM"]);
    check("FROM scratch\nENV A=\"b\nCOPY a /a\n", &[], 2, &["Dockerfile:2"]);
    check("FROM scratch\nCOPY <<EOF /a\nnever ends\n", &[], 2, &["Dockerfile:2", "EOF"]);
    check("", &[], 2, &["Dockerfile"]);
    check("FROM scratch\nCOPY ${X:?must be set} /a\n", &[], 2, &["Dockerfile:2", "must be set"]);
}

#[test]
fn a_missing_file_is_shown_with_the_nearest_name() {
    check("FROM scratch\nCOPY redme.txt /a\n", &[], 2, &["Dockerfile:2", "redme.txt", "did you mean /readme.txt?"]);
    check("FROM scratch\nCOPY nothing-like-it /a\n", &[], 2, &["Dockerfile:2", "nothing-like-it"]);
    check("FROM scratch\nCOPY ../outside /a\n", &[], 2, &["Dockerfile:2", "outside"]);
    let text = "FROM scratch AS one\nCOPY main.rs /main.rs\nFROM scratch\nCOPY --from=one /mian.rs /\n";
    check(text, &[], 2, &["Dockerfile:4", "mian.rs", "did you mean /main.rs?"]);
}

#[test]
fn an_unknown_stage_is_shown_with_the_nearest_name() {
    check(
        "FROM scratch AS release\nCOPY main.rs /\n",
        &["--target", "relaese"],
        2,
        &["relaese", "did you mean release?"],
    );
    // Names of stages and of images look the same, and this one may be an image.
    let text = "FROM scratch AS release\nCOPY main.rs /\nFROM scratch\nCOPY --from=relaese main.rs /\n";
    check(text, &["--pull=never"], 2, &["Dockerfile:4", "relaese", "did you mean release?", "coop image pull"]);
    check("FROM scratch AS release\nFROM relaese\n", &["--pull=never"], 2, &["Dockerfile:2", "did you mean release?"]);
    check("FROM scratch\nCOPY --from=7 a /\n", &[], 2, &["Dockerfile:2", "7"]);
}

#[test]
fn a_store_within_the_build_context_is_told_unless_it_is_ignored() {
    let Some(machine) = machine() else { return };
    let store = machine.path("context/deep/store");
    let machine = machine.with_store(&store);
    machine.write("context/deep/file", "x");
    for source in [".", "deep", "d*"] {
        machine.dockerfile("context", &format!("FROM scratch\nCOPY {source} /all/\n"));
        let refused = machine.fails(&["build", "context"], 2);
        refused.says(&["Dockerfile:2", "/deep/store", "as /deep/store", ".dockerignore", "COOP_ROOT"]);
    }
    machine.dockerfile("context", "FROM scratch\nCOPY deep/file /\n");
    machine.build("context", &[]);
    machine.dockerfile("context", "FROM scratch\nCOPY . /all/\n");
    machine.write("context/.dockerignore", "/deep/store\n");
    let first = machine.build("context", &["-t", "first:1"]);
    assert_eq!(machine.build("context", &["--no-cache"]), first, "nothing of the store is in it");
}

#[test]
fn a_bad_name_is_refused() {
    check("FROM Upper/Case:1\n", &[], 2, &["Dockerfile:1", "lower case"]);
    check("FROM scratch\nCOPY main.rs /\n", &["-t", "Bad Name"], 2, &["Bad Name", "lower case"]);
    check("FROM scratch\nCOPY main.rs /\n", &["-t", "name:"], 2, &["name:"]);
    check("FROM scratch\nCOPY main.rs /\n", &["--platform", "linux/amd64/v1/x"], 2, &["linux/amd64/v1/x"]);
    check("FROM name@sha256:abc\n", &[], 2, &["Dockerfile:1", "sha256"]);
}

#[test]
fn wrong_usage_is_told_from_a_failed_build() {
    let Some(machine) = machine() else { return };
    machine.fails(&["biuld"], 2).says(&["biuld", "build"]);
    machine.fails(&["build", "nowhere"], 2).says(&["nowhere"]);
    machine.fails(&["build", "--memory", "much", "."], 2).says(&["much"]);
    machine.fails(&["build", "--secret", "nonsense", "."], 2).says(&["nonsense"]);
    machine.fails(&["build", "--build-context", "nonsense", "."], 2).says(&["nonsense"]);
    std::fs::create_dir(machine.path("empty")).unwrap();
    machine.fails(&["build", "empty"], 2).says(&["no Dockerfile", "-f"]);
    machine.fails(&["build", "empty", "-f", "empty/Other"], 2).says(&["empty/Other"]);
    machine.fails(&["image", "inspect", "none:1"], 2).says(&["none:1", "coop image ls"]);
    machine.fails(&["image", "rm", "none:1"], 2).says(&["none:1"]);
    machine.fails(&["image", "push", "none:1", "localhost:1/none:1"], 2).says(&["none:1"]);
    machine.write("config.yaml", "regstries: {}\n");
    machine.fails(&["image", "ls", "--config", "config.yaml"], 2).says(&["config.yaml", "regstries"]);
    machine.fails(&["image", "ls", "--config", "absent.yaml"], 2).says(&["absent.yaml"]);
    machine.ok(&["image", "ls"]);
}

#[test]
fn what_is_no_plugin_is_refused() {
    let Some(machine) = machine() else { return };
    machine.write("text.wasm", "this is text");
    machine.write("core.wasm", b"\0asm\x01\0\0\0");
    machine.write("empty.wasm", "");
    machine.write("program.wasm", b"\x7fELF\x02\x01\x01\0\xff\xfe");
    machine.write("component.wasm", b"\0asm\x0d\0\x01\0");
    machine.dockerfile("context", "FROM scratch\n");
    for (file, says) in [
        ("text.wasm", "not a WebAssembly component: it begins with \"this is \""),
        ("program.wasm", r#"not a WebAssembly component: it begins with "\x7fELF\x02\x01\x01\x00""#),
        ("empty.wasm", "not a WebAssembly component: it is empty"),
        ("core.wasm", "not a WebAssembly component: it is a core module; build with `--target wasm32-wasip2`"),
        ("component.wasm", "cooperage:plugin"),
    ] {
        let plugin = format!("file:{file}");
        for args in [
            ["build", "context", "--builder", &plugin],
            ["plugin", "inspect", &plugin, "--output=text"],
            ["plugin", "push", file, "localhost:1/plugin:1"],
        ] {
            machine.fails(&args, 2).says(&[file, says]).does_not_say(&["magic", "\u{fffd}"]);
        }
    }
    machine.fails(&["plugin", "inspect", "file:absent.wasm"], 2).says(&["absent.wasm"]);
    machine.fails(&["plugin", "inspect", "dokcerfile"], 2).says(&["dokcerfile", "dockerfile"]);
    machine.fails(&["build", "context", "--builder", "push"], 2).says(&["push", "builder"]);
    machine.fails(&["build", "context", "--set", "no_such=1"], 2).says(&["no_such"]);
}

#[test]
fn a_registry_that_does_not_answer_is_the_environment() {
    // Port 1 of the loopback is closed everywhere.
    check("FROM localhost:1/name:1\n", &[], 4, &["Dockerfile:1", "localhost:1", "refuses"]);
    let Some(machine) = machine() else { return };
    machine.base();
    machine.fails(&["image", "push", "base:1", "localhost:1/base:1"], 4).says(&["localhost:1", "refuses"]);
    machine.fails(&["image", "pull", "registry.invalid/base:1"], 4).says(&["registry.invalid"]);
    machine.fails(&["plugin", "pull", "oci://localhost:1/plugin:1"], 4).says(&["localhost:1"]);
}

#[test]
fn an_unknown_field_of_a_flow_is_shown_with_its_place() {
    let Some(machine) = machine() else { return };
    let check = |text: &str, says: &[&str]| {
        machine.write("cooperage.yaml", text);
        machine.fails(&["run"], 2).says(says);
    };
    check(
        "version: 1\nflow:\n  a: { uses: script, wih: { image: x } }\n",
        &["cooperage.yaml:3:22", "wih", "did you mean `with`?"],
    );
    check("version: 1\nflow:\n  a: { uses: script, needs: [b] }\n", &["cooperage.yaml:3", "b"]);
    check("version: 7\nflow: {}\n", &["cooperage.yaml:1", "7"]);
    check("version: 1\nflow: [\n", &["cooperage.yaml"]);
    let text = "version: 1\nflow:\n  a:\n    uses: script\n    with: { image: x, rnu: 'true' }\n";
    check(text, &["cooperage.yaml:5", "rnu"]);
    machine.fails(&["run", "-f", "absent.yaml"], 2).says(&["absent.yaml"]);
}

#[test]
fn content_that_is_not_what_was_promised_is_refused() {
    if !have(&["docker-registry"]) {
        return;
    }
    let Some(machine) = machine() else { return };
    let registry = Registry::start(&machine);
    machine.write("context/file", noise(5000, 1));
    machine.dockerfile("context", "FROM scratch\nCOPY file /\n");
    machine.build("context", &["-t", &registry.name("app:1"), "--push"]);
    let mut blobs: Vec<_> = blobs_of(&registry.data);
    blobs.sort_by_key(|path| std::fs::metadata(path).unwrap().len());
    let layer = blobs.last().unwrap();
    let mut content = std::fs::read(layer).unwrap();
    content[2500] ^= 1;
    std::fs::write(layer, content).unwrap();
    let other = Machine::new();
    other.dockerfile(
        "context",
        &format!("FROM {} AS app\nFROM scratch\nCOPY --from=app /file /\n", registry.name("app:1")),
    );
    other.fails(&["build", "context"], 3).says(&["Dockerfile:", "sha256:"]);
    other.ok(&["image", "ls"]);
    other.assert_store_is_clean();
}

fn blobs_of(directory: &Path) -> Vec<PathBuf> {
    let list = tool("find", [&directory.display().to_string(), "-path", "*/blobs/sha256/*", "-name", "data"]);
    list.stdout.lines().map(PathBuf::from).collect()
}

/// A small file system; dropped, it is gone.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: &Path, size: &str) -> Self {
        std::fs::create_dir_all(path).unwrap();
        let option = format!("size={size}");
        tool("mount", ["-t", "tmpfs", "-o", &option, "tmpfs", &path.display().to_string()]);
        Self(path.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, for a test that failed may have files open.
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_no_half_of_anything() {
    if !have(&[ROOT, "mount"]) {
        return;
    }
    let machine = Machine::new();
    let disk = machine.outside("disk");
    let machine = machine.with_store(&disk.join("store"));
    // After the machine, so that it is gone before the machine's directory is removed.
    let _disk = SmallDisk::mount(&disk, "12m");
    machine.write("context/small", "small");
    machine.write("context/big", noise(20 << 20, 2));
    machine.dockerfile("context", "FROM scratch\nCOPY big /\n");
    machine.fails(&["build", "context", "-t", "big:1"], 4).says(&["o space"]);
    machine.fails(&["image", "inspect", "big:1"], 2);
    machine.dockerfile("context", "FROM scratch\nCOPY small /\n");
    machine.build("context", &["-t", "small:1"]);
    machine.assert_store_is_clean();
    // The same when only the result does not fit.
    machine.write("context/half", noise(7 << 20, 3));
    machine.dockerfile("context", "FROM scratch\nCOPY half /\n");
    machine.build("context", &["-t", "half:1"]);
    let output = disk.join("half.tar").display().to_string();
    machine.fails(&["image", "export", "half:1", "-o", &output], 4).says(&["half.tar", "o space"]);
    let left: Vec<_> = std::fs::read_dir(&disk).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["store"]);
}

#[test]
fn a_parameter_that_a_plugin_does_not_know_is_marked_with_the_nearest_name() {
    let Some(machine) = machine() else { return };
    machine.write("Dockerfile", "FROM scratch\n");
    let check = |step: &str, says: &[&str]| {
        machine.write("cooperage.yaml", format!("version: 1\nflow:\n  a: {step}\n"));
        machine.fails(&["run"], 2).says(says);
    };
    check(
        "{ uses: dockerfile, with: { tagret: x } }",
        &["cooperage.yaml:3:34", "^^^^^^\n", "no parameter `tagret`", "did you mean `target`?"],
    );
    check("{ uses: dockerfile, with: { contxt: x } }", &["cooperage.yaml:3:34", "did you mean `context`?"]);
    check(
        "{ uses: script, with: { image: x, workdri: y } }",
        &["cooperage.yaml:3:40", "^^^^^^^\n", "did you mean `workdir`?"],
    );
    check("{ uses: script, with: { image: x, run: 5 } }", &["cooperage.yaml:3:45", "5 is not of types"]);
}
