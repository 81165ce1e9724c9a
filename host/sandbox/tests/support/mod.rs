//! A busybox root and short ways to run commands in it, for the tests of this crate.
#![allow(dead_code)]

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use cooperage_sandbox::{Cancel, Config, Error, Exit, Isolation, Process, Root, Sandbox, Spec};

pub const HELPER: &str = env!("CARGO_BIN_EXE_sandbox-helper");

/// Says why a test cannot run here; in CI that is a failure.
#[allow(clippy::disallowed_methods, clippy::print_stderr)]
pub fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "cannot be tested here: {why}");
    eprintln!("skipped: {why}");
}

/// One base layer and directories for one run.
pub struct World {
    pub dir: tempfile::TempDir,
    pub isolation: Isolation,
}

impl World {
    pub fn new() -> Option<Self> {
        Self::with(Isolation::Native)
    }

    pub fn with(isolation: Isolation) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("not root");
            return None;
        }
        if !Path::new("/bin/busybox").exists() {
            skip("no /bin/busybox (apt-get install busybox-static)");
            return None;
        }
        if isolation == Isolation::Oci
            && !["/usr/sbin/runc", "/usr/bin/runc"].iter().any(|path| Path::new(path).exists())
        {
            skip("no runc");
            return None;
        }
        let world = Self { dir: tempfile::tempdir().unwrap(), isolation };
        std::fs::set_permissions(world.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let bin = world.base("bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        let applets = "sh ls cat echo id env pwd mkdir rm touch sleep kill ps true false stat wc grep hostname chown \
                       ip mount dd tr sort head test [ mknod su chmod umount unshare readlink ln yes nc find seq sync";
        for applet in applets.split_ascii_whitespace() {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
        }
        for name in ["upper", "work"] {
            std::fs::create_dir(world.dir.path().join(name)).unwrap();
        }
        Some(world)
    }

    /// A path in the base layer.
    pub fn base(&self, path: &str) -> PathBuf {
        self.dir.path().join("base").join(path)
    }

    pub fn upper(&self) -> PathBuf {
        self.dir.path().join("upper")
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.base(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Copies a program of this machine with its libraries.
    pub fn add_program(&self, program: &str) {
        let said = Command::new("ldd").arg(program).output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let libraries = said.split_ascii_whitespace().filter(|word| word.starts_with('/'));
        for path in libraries.chain([program]) {
            let to = self.base(&path[1..]);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(path, to).unwrap();
        }
    }

    pub fn spec(&self, args: &[&str]) -> Spec {
        Spec {
            root: Root {
                lowers: vec![self.base("")],
                upper: self.upper(),
                work: self.dir.path().join("work"),
                userxattr: false,
            },
            process: Process {
                args: args.iter().map(|arg| (*arg).to_owned()).collect(),
                env: vec![("PATH".to_owned(), "/bin".to_owned())],
                ..Process::default()
            },
            ..Spec::default()
        }
    }

    pub fn sh(&self, script: &str) -> Spec {
        self.spec(&["sh", "-c", script])
    }

    pub fn sandbox(&self) -> Sandbox {
        self.sandbox_with(None)
    }

    pub fn sandbox_with(&self, runtime: Option<PathBuf>) -> Sandbox {
        Sandbox::new(Config { isolation: self.isolation, helper: HELPER.into(), runtime }).unwrap()
    }

    pub fn run(&self, spec: &Spec) -> Result<(Exit, String), Error> {
        let mut output = Vec::new();
        let exit = self.sandbox().run(spec, &mut |bytes| output.extend_from_slice(bytes), &Cancel::new().unwrap())?;
        Ok((exit, String::from_utf8_lossy(&output).into_owned()))
    }

    /// Runs a script that must succeed; its output without the last line break.
    pub fn out(&self, script: &str) -> String {
        self.ok(&self.sh(script))
    }

    pub fn ok(&self, spec: &Spec) -> String {
        let (exit, output) = self.run(spec).unwrap();
        assert_eq!(exit, Exit::Code(0), "{output}");
        output.trim_end().to_owned()
    }

    /// What is in the upper directory, one word for each entry.
    pub fn changes(&self) -> Vec<String> {
        let mut found = Vec::new();
        list(&self.upper(), "", &mut found);
        found.sort();
        found
    }

    pub fn reset(&self) {
        for name in ["upper", "work"] {
            std::fs::remove_dir_all(self.dir.path().join(name)).unwrap();
            std::fs::create_dir(self.dir.path().join(name)).unwrap();
        }
    }
}

fn list(directory: &Path, prefix: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().display());
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            found.push(format!("{name}/"));
            list(&entry.path(), &format!("{name}/"), found);
        } else if metadata.file_type().is_char_device() && metadata.rdev() == 0 {
            found.push(format!("-{name}"));
        } else {
            found.push(name);
        }
    }
}

/// The processes of this machine whose command line holds `mark`.
pub fn processes(mark: &str) -> Vec<String> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    pids.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok())
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(mark))
        .collect()
}

/// Waits until `done` holds, at most ten seconds.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("never: {what}");
}

/// Groups of runs of this host process in any hierarchy.
pub fn cgroups_of(pid: u32) -> Vec<PathBuf> {
    let mut find = Command::new("find");
    find.args(["/sys/fs/cgroup", "-type", "d", "-name"]).arg(format!("cooperage-{pid}-*"));
    let found = find.output().unwrap();
    String::from_utf8_lossy(&found.stdout).lines().map(PathBuf::from).collect()
}

/// The mounts of this process.
pub fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap()
}
