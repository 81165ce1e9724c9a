//! The same as an ordinary user: in a user namespace with the ranges of /etc/subuid, and with one id only.

mod support;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use cooperage_sandbox::{Limits, Mount, Network, Spec};
use support::{HELPER, World};

/// Only one test at a time edits users.
static USERS: Mutex<()> = Mutex::new(());

/// Makes a user without login, with or without ranges of further ids, and returns its id.
fn user(name: &str, ranges: bool) -> Option<u32> {
    let _guard = USERS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let id = || {
        let said = Command::new("id").args(["-u", name]).output().ok()?;
        String::from_utf8_lossy(&said.stdout).trim().parse().ok()
    };
    if id().is_none() {
        let mut add = Command::new("useradd");
        add.args(["--system", "--no-create-home", "--user-group", "--shell", "/bin/sh", name]);
        if !add.status().is_ok_and(|status| status.success()) {
            support::skip("useradd does not work");
            return None;
        }
    }
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if ranges && !text.lines().any(|line| line.starts_with(&format!("{name}:"))) {
            std::fs::write(file, format!("{text}{name}:2000000:65536\n")).unwrap();
        }
    }
    id()
}

struct Rootless {
    world: World,
    name: &'static str,
    uid: u32,
}

impl Rootless {
    fn new(name: &'static str, ranges: bool) -> Option<Self> {
        let world = World::new()?;
        if ranges && !std::path::Path::new("/usr/bin/newuidmap").exists() {
            support::skip("no newuidmap (apt-get install uidmap)");
            return None;
        }
        let uid = user(name, ranges)?;
        let rootless = Self { world, name, uid };
        rootless.own();
        Some(rootless)
    }

    fn own(&self) {
        let owner = format!("{0}:{0}", self.name);
        let done = Command::new("chown").args(["-R", "-h", &owner]).arg(self.world.dir.path()).status();
        assert!(done.unwrap().success());
    }

    /// Standard output and the lines of standard error of a host run by that user.
    fn run(&self, isolation: &str, spec: &Spec) -> (String, String) {
        let file = self.world.dir.path().join("spec.json");
        std::fs::write(&file, serde_json::to_vec(spec).unwrap()).unwrap();
        // Copied to where that user may execute it.
        let helper: PathBuf = self.world.dir.path().join("helper");
        if !helper.exists() {
            // By another process: a child forked meanwhile by another test would keep the copy open for writing,
            // and it could not be executed.
            assert!(Command::new("cp").arg(HELPER).arg(&helper).status().unwrap().success());
            std::fs::set_permissions(&helper, PermissionsExt::from_mode(0o755)).unwrap();
        }
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={}", self.name), &format!("--regid={}", self.name), "--init-groups"]);
        let said = command.arg(&helper).args(["host", isolation]).arg(&file).current_dir("/").output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (text(said.stdout), text(said.stderr))
    }
}

#[test]
fn with_ranges_other_users_exist() {
    for isolation in ["native", "oci"] {
        let Some(rootless) = Rootless::new("builder", true) else { return };
        let world = &rootless.world;
        world.write("old", "old");
        world.write("again/file", "hidden");
        rootless.own();
        let mut spec = world.sh(
            "set -e; id -u; id -G; touch /file; chown 5:6 /file; stat -c '%u:%g' /file; rm /old; mkdir /d; rm -r /again; mkdir /again
             su -s /bin/sh -c 'id -u' other; echo x > /dev/null; head -c 2 /dev/zero | wc -c; ls /proc | grep -c '^[0-9]'
             cat /mnt/same; ip -o addr show lo | grep -c 127; grep Seccomp: /proc/self/status | tr -d '\\t'",
        );
        world.write("etc/passwd", "root:x:0:0::/:/bin/sh\nother:x:77:77::/:/bin/sh\n");
        world.write("d2/same", "bound");
        rootless.own();
        spec.process.groups = vec![0, 9];
        spec.mounts = vec![
            Mount::Bind { source: world.base("d2"), target: "/mnt".to_owned(), read_only: true },
            Mount::Tmpfs { target: "/t".to_owned(), size: None, mode: 0o1777 },
        ];
        let (output, said) = rootless.run(isolation, &spec);
        let lines: Vec<&str> = output.lines().collect();
        assert!(said.contains("Code(0)"), "{isolation}: {output}{said}");
        assert!(said.contains("Ranges { uids: 65537, gids: 65537 }"), "{said}");
        assert_eq!(lines[..5], ["0", "0 9", "5:6", "77", "2"], "{output}");
        assert!(output.ends_with("bound1\nSeccomp:2\n"), "{output}");
        assert_eq!(world.changes(), ["-old", "again/", "d/", "file"]);
        let mut opaque = [0; 8];
        let length = rustix::fs::getxattr(world.upper().join("again"), "user.overlay.opaque", &mut opaque);
        assert_eq!(&opaque[..length.unwrap()], b"y");
        let owner = std::fs::metadata(world.upper().join("file")).unwrap();
        // Id 5 inside is the fifth of the range, since 0 is the user itself.
        assert_eq!((owner.uid(), owner.gid()), (2_000_004, 2_000_005));
        world.reset();
    }
}

#[test]
fn another_user_in_the_namespace() {
    let Some(rootless) = Rootless::new("builder", true) else { return };
    let mut spec = rootless.world.sh("id -u; echo hi > /dev/stderr; grep CapEff /proc/self/status | tr -d '\\t'");
    spec.process.uid = 1000;
    spec.process.gid = 1000;
    spec.network = Network::Host;
    let (output, said) = rootless.run("native", &spec);
    assert_eq!(output, "1000\nhi\nCapEff:0000000000000000\n", "{said}");
}

#[test]
fn with_one_id_only_the_rest_is_the_same() {
    for isolation in ["native", "oci"] {
        let Some(rootless) = Rootless::new("builder-single", false) else { return };
        let world = &rootless.world;
        let spec = world.sh("id -u; touch /file; mkdir /dir; chown 5:6 /file 2>/dev/null || echo refused");
        let (output, said) = rootless.run(isolation, &spec);
        assert_eq!(output, "0\nrefused\n", "{said}");
        assert!(said.contains("SingleId") && said.contains("usermod"), "{said}");
        assert_eq!(world.changes(), ["dir/", "file"]);
        assert_eq!(std::fs::metadata(world.upper().join("file")).unwrap().uid(), rootless.uid);
        world.reset();
        rootless.own();
    }
    let Some(rootless) = Rootless::new("builder-single", false) else { return };
    let mut spec = rootless.world.sh("true");
    spec.process.uid = 1000;
    let (_, said) = rootless.run("native", &spec);
    assert!(said.contains("id 1000 does not exist") && said.contains("install uidmap"), "{said}");
}

#[test]
fn limits_without_cgroups_are_approximated_and_told() {
    let Some(rootless) = Rootless::new("builder", true) else { return };
    let mut spec = rootless.world.sh("ulimit -d; echo ok");
    spec.limits = Limits { memory: Some(64 << 20), pids: Some(100), cpus: Some(0.5), timeout: None };
    let (output, said) = rootless.run("native", &spec);
    assert_eq!(output, "65536\nok\n", "{said}");
    for what in ["memory limit is not exact", "CPU limit is not exact", "process limit is not exact"] {
        assert!(said.contains(what), "{said}");
    }
}
