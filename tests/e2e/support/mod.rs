//! A machine for one test: directories, short ways to run `coop` and other tools, and what must be there.

pub mod cluster;
pub mod engine;
pub mod ftp;
pub mod git;
pub mod image;
pub mod processes;
pub mod registry;
pub mod signing;
pub mod web;

use std::ffi::OsStr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub const COOP: &str = env!("CARGO_BIN_EXE_coop");
pub const ROOT: &str = "root";
const BUSYBOX: &str = "/bin/busybox";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const APPLETS: &str = "sh cat echo test ls mkdir rm touch sleep id env wc head dd kill true false ln mv chmod chown";

/// Whether everything is there that a test needs: programs, or `ROOT` for being the superuser. What tests start is found
/// where they find it; `coop` gets the path of a plain machine.
#[allow(clippy::disallowed_methods, clippy::print_stderr, reason = "tests may look and say")]
pub fn have(needs: &[&str]) -> bool {
    let there = |need: &str| match need {
        ROOT => rustix::process::geteuid().is_root(),
        path if path.starts_with('/') => Path::new(path).exists(),
        program => directories().any(|directory| directory.join(program).exists()),
    };
    let missing: Vec<_> = [BUSYBOX].iter().chain(needs).filter(|need| !there(need)).collect();
    assert!(missing.is_empty() || std::env::var_os("CI").is_none(), "this test needs {missing:?}");
    if !missing.is_empty() {
        eprintln!("passed over: this test needs {missing:?}");
    }
    missing.is_empty()
}

#[allow(clippy::disallowed_methods, reason = "tests may look")]
fn directories() -> impl Iterator<Item = PathBuf> {
    let own = std::env::var_os("PATH").unwrap_or_default();
    PATH.split(':').map(PathBuf::from).chain(std::env::split_paths(&own).collect::<Vec<_>>())
}

/// What a command said.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Fails unless the error output has all of these texts.
    #[track_caller]
    pub fn says(&self, texts: &[&str]) -> &Self {
        for text in texts {
            assert!(self.stderr.contains(text), "{text:?} is not in:\n{}", self.stderr);
        }
        self
    }

    /// Fails unless the standard output has all of these texts.
    #[track_caller]
    pub fn prints(&self, texts: &[&str]) -> &Self {
        for text in texts {
            assert!(self.stdout.contains(text), "{text:?} is not in:\n{}", self.stdout);
        }
        self
    }

    /// Fails if the error output has one of these texts.
    #[track_caller]
    pub fn does_not_say(&self, texts: &[&str]) -> &Self {
        for text in texts {
            assert!(!self.stderr.contains(text), "{text:?} is in:\n{}", self.stderr);
        }
        self
    }

    /// Standard output without the line end.
    pub fn out(&self) -> &str {
        self.stdout.trim_end()
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in:\n{}", self.stdout))
    }

    /// The steps that came from the cache, and those that did not, in the plain view.
    pub fn steps(&self) -> (Vec<&str>, Vec<&str>) {
        let lines =
            self.stderr.lines().filter_map(|line| line.strip_prefix('#')?.split_once(' ').map(|(_, rest)| rest));
        let steps = lines.filter(|line| line.contains("] ") && !line.starts_with("FAILED"));
        let (cached, done): (Vec<_>, Vec<_>) = steps.partition(|line| line.starts_with("CACHED "));
        (cached, done)
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// Runs a tool that must succeed; what it printed.
#[track_caller]
pub fn tool<A: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = A>) -> Ran {
    let mut command = Command::new(program);
    command.args(args).env("PATH", PATH).current_dir("/");
    let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let ran = Ran::from(output);
    assert_eq!(ran.code, Some(0), "{command:?}: {}{}", ran.stdout, ran.stderr);
    ran
}

/// Directories of one test. All of it goes when this is dropped.
pub struct Machine {
    dir: tempfile::TempDir,
    /// Further options of every command.
    pub options: Vec<String>,
    cache: PathBuf,
    store: PathBuf,
    user: Option<String>,
}

impl Machine {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("coop-e2e-").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        // Compiled plugins are shared by all tests, as by all builds of a user.
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e-cache");
        // Beside the project and not in it: a project is a build context as a whole.
        let store = dir.path().join("store");
        std::fs::create_dir(dir.path().join("project")).unwrap();
        Self { dir, options: Vec::new(), cache, store, user: None }
    }

    /// Keeps downloaded and compiled plugins to this test.
    pub fn with_own_cache(mut self) -> Self {
        self.cache = self.outside("cache");
        self
    }

    /// Keeps images elsewhere.
    pub fn with_store(mut self, store: &Path) -> Self {
        self.store = store.to_owned();
        self
    }

    /// Runs everything as that user, who gets the whole directory.
    pub fn with_user(mut self, name: &str) -> Self {
        self = self.with_own_cache();
        self.user = Some(name.to_owned());
        // The target directory may be closed to others. Copied by another process: a child that another test forks
        // meanwhile would keep the copy open for writing, and it could not be executed.
        tool("cp", [Path::new(COOP), &self.outside("coop")]);
        for directory in [self.outside(""), self.path("")] {
            tool("chown", [OsStr::new(name), directory.as_os_str()]);
        }
        self
    }

    /// A path in the project, where `coop` is called.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join("project").join(relative)
    }

    /// A path outside of the project.
    pub fn outside(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// What every path of this machine begins with.
    pub fn mark(&self) -> String {
        self.dir.path().display().to_string()
    }

    pub fn text(&self, relative: &str) -> String {
        self.path(relative).display().to_string()
    }

    pub fn store(&self) -> &Path {
        &self.store
    }

    /// Writes a file of the project and the directories above it.
    pub fn write(&self, relative: &str, content: impl AsRef<[u8]>) -> PathBuf {
        Self::write_to(self.path(relative), content)
    }

    /// The configuration of the user.
    pub fn configure(&self, text: &str) {
        Self::write_to(self.outside("home/.config/cooperage/config.yaml"), text);
    }

    /// The policy of whoever runs the machine.
    pub fn policy(&self, text: &str) {
        Self::write_to(self.outside("policy.yaml"), text);
    }

    /// Writes a file anywhere and the directories above it.
    pub fn write_to(path: PathBuf, content: impl AsRef<[u8]>) -> PathBuf {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn read(&self, relative: &str) -> String {
        std::fs::read_to_string(self.path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
    }

    /// A command of `coop` in this machine's directory, with nothing of the tests' own environment.
    pub fn coop(&self, args: &[&str]) -> Command {
        let mut command = match &self.user {
            None => Command::new(COOP),
            Some(user) => {
                let mut command = Command::new("setpriv");
                let group = tool("id", ["-g", user]).out().to_owned();
                command.args([&format!("--reuid={user}"), &format!("--regid={group}"), "--init-groups"]);
                command.arg(self.outside("coop"));
                command
            }
        };
        command.args(args).args(&self.options).current_dir(self.path("")).env_clear().env("PATH", PATH);
        if self.outside("policy.yaml").exists() {
            command.env("COOP_POLICY", self.outside("policy.yaml"));
        }
        command.env("COOP_ROOT", &self.store).env("XDG_CACHE_HOME", &self.cache).env("HOME", self.outside("home"));
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        self.coop(args).output().unwrap().into()
    }

    /// Must end with 0.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> Ran {
        self.fails(args, 0)
    }

    /// Must end with that code.
    #[track_caller]
    pub fn fails(&self, args: &[&str], code: i32) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(code), "coop {args:?} said:\n{}{}", ran.stdout, ran.stderr);
        ran
    }

    /// Builds the directory `context` and returns the digest of the image.
    #[track_caller]
    pub fn build(&self, context: &str, args: &[&str]) -> String {
        let ran = self.ok(&[&["build", context, "--quiet"], args].concat());
        let digest = ran.out().to_owned();
        assert!(digest.starts_with("sha256:"), "{ran:?}");
        digest
    }

    /// A context with one Dockerfile.
    pub fn dockerfile(&self, context: &str, text: &str) -> PathBuf {
        self.write(&format!("{context}/Dockerfile"), text)
    }

    /// Puts `base:1`, a busybox with a shell, into the store. Needs no privilege.
    pub fn base(&self) {
        let bin = self.path("base/rootfs/bin");
        if bin.exists() {
            return drop(self.build("base", &["-t", "base:1"]));
        }
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir_all(self.path("base/rootfs/etc")).unwrap();
        std::fs::copy(BUSYBOX, bin.join("busybox")).unwrap();
        APPLETS.split(' ').for_each(|applet| symlink("busybox", bin.join(applet)).unwrap());
        self.write("base/rootfs/etc/passwd", "root:x:0:0::/:/bin/sh\nworker:x:1000:1000::/:/bin/sh\n");
        self.write("base/rootfs/etc/group", "root:x:0:\nworker:x:1000:\n");
        self.dockerfile("base", "FROM scratch\nCOPY rootfs /\nCMD [\"/bin/sh\"]\n");
        self.build("base", &["-t", "base:1"]);
    }
}

/// Bytes that no compression makes smaller, the same for the same seed.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length.div_ceil(8)).flat_map(|_| next()).take(length).collect()
}
