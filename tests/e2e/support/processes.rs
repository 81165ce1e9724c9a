//! What processes, mounts and files a run leaves behind, read from /proc and the store's directory.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cooperage_store::Digest;

use super::Machine;

/// A `coop` in the background; dropped, it is killed.
pub struct Running(pub Child);

impl Running {
    pub fn start(mut command: Command, log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self(command.spawn().unwrap())
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Kills it at once, as nothing can prevent, and waits until it is gone.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// The exit code, after it ended by itself.
    pub fn wait(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }

    /// Whether it has a file open that fits.
    pub fn has_open(&self, fits: impl Fn(&Path) -> bool) -> bool {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.id())).into_iter().flatten().flatten();
        files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|path| fits(&path))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended unless a test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something holds: a minute at most, for the machine may be busy.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never: {what}");
}

/// The processes, beside this one, whose command line, root, directory or environment has that text.
pub fn with_text(text: &str) -> Vec<String> {
    let has = |directory: &PathBuf| {
        let link = |name: &str| std::fs::read_link(directory.join(name)).unwrap_or_default().display().to_string();
        let file =
            |name: &str| String::from_utf8_lossy(&std::fs::read(directory.join(name)).unwrap_or_default()).into_owned();
        [file("cmdline"), file("environ"), link("root"), link("cwd")].iter().any(|found| found.contains(text))
    };
    let own = std::process::id().to_string();
    let number = |name: &str| name.bytes().all(|b| b.is_ascii_digit()) && name != own;
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let processes = entries.filter(|entry| number(&entry.file_name().to_string_lossy())).map(|entry| entry.path());
    processes.filter(has).map(|path| path.display().to_string()).collect()
}

/// The processes whose command line begins with that text, where a zero byte ends each argument.
pub fn with_command(text: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let has = |path: &PathBuf| {
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        // The helpers of a run have the command in their own command line; only the process itself begins with it.
        line.starts_with(text.as_bytes())
    };
    entries.filter(has).map(|path| path.display().to_string()).collect()
}

impl Machine {
    /// Fails if a process or a mount of this machine's directory stays.
    #[track_caller]
    pub fn assert_nothing_runs(&self) {
        let directory = self.mark();
        eventually("no process is left", || with_text(&directory).iter().all(|process| self.is_registry(process)));
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let left: Vec<_> = mounts.lines().filter(|line| line.contains(&directory)).collect();
        assert!(left.is_empty(), "mounts are left: {left:?}");
    }

    fn is_registry(&self, process: &str) -> bool {
        let line = std::fs::read(Path::new(process).join("cmdline")).unwrap_or_default();
        line.starts_with(b"docker-registry")
    }

    /// Fails if the store has a file that no build would look for, or one whose content is not what its name says.
    #[track_caller]
    pub fn assert_store_is_clean(&self) {
        let names = |directory: &str| {
            let entries = std::fs::read_dir(self.store().join(directory)).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names("work"), [""; 0], "work is left");
        let hexadecimal = |name: &String| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
        for name in names("blobs/sha256") {
            assert!(hexadecimal(&name), "a stray blob: {name}");
            let content = std::fs::read(self.store().join("blobs/sha256").join(&name)).unwrap();
            assert_eq!(Digest::of(&content).hex(), name, "a blob that is not what it is called");
        }
        for name in names("layers") {
            assert!(hexadecimal(&name) || name == ".locks", "a stray layer: {name}");
        }
        let known =
            ["blobs", "cache", "flows", "images.db", "images.db-shm", "images.db-wal", "layers", "lease", "work"];
        for name in names("") {
            assert!(known.contains(&name.as_str()), "{name} in the store");
        }
    }
}
