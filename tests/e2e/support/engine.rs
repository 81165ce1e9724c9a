//! A Docker engine or a Podman of one test, in a directory of its own, on a unix socket; dropped, it is gone.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Machine, PATH, tool};

/// What a test of engines needs beside the engine itself.
pub const DOCKER: &[&str] = &[super::ROOT, "dockerd", "tar"];
pub const PODMAN: &[&str] = &[super::ROOT, "podman", "runc", "tar"];

/// A running engine.
pub struct Engine {
    child: Child,
    directory: PathBuf,
    pub socket: PathBuf,
}

impl Engine {
    /// A Docker engine without networks of its own, so that RUN has those of the host or none.
    pub fn docker(machine: &Machine) -> Self {
        let directory = machine.outside("docker");
        let path = |name: &str| directory.join(name).display().to_string();
        let mut command = Command::new("dockerd");
        command.args(["--iptables=false", "--ip-masq=false", "--bridge=none"]);
        command.args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")]);
        command.args(["-H", &format!("unix://{}", path("socket"))]);
        Self::start(machine, command, directory.clone())
    }

    /// Podman, which answers to Docker's API on its socket.
    pub fn podman(machine: &Machine) -> Self {
        let directory = machine.outside("podman");
        let path = |name: &str| directory.join(name).display().to_string();
        let limits = "[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\n[containers]\n\
                      default_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";
        let configuration = Machine::write_to(directory.join("containers.conf"), limits);
        let mut command = Command::new("podman");
        command.args(["--root", &path("data"), "--runroot", &path("run"), "--storage-driver", "vfs"]);
        command.args(["system", "service", "--time=0", &format!("unix://{}", path("socket"))]);
        command.env("CONTAINERS_CONF", configuration);
        Self::start(machine, command, directory.clone())
    }

    fn start(machine: &Machine, mut command: Command, directory: PathBuf) -> Self {
        std::fs::create_dir_all(&directory).unwrap();
        let log = std::fs::File::create(directory.join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command.env_remove("DOCKER_HOST").env("PATH", PATH).env("HOME", machine.outside("home"));
        let socket = directory.join("socket");
        let mut engine = Self { child: command.spawn().unwrap(), directory, socket };
        engine.wait();
        engine.base(machine);
        engine
    }

    fn wait(&mut self) {
        for _ in 0..1200 {
            if UnixStream::connect(&self.socket).is_ok() && self.ask("GET", "/_ping", b"").0 == 200 {
                return;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "the engine ended: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the engine does not answer: {}", self.log());
    }

    /// Gives the engine `base:1`, the busybox that machines have.
    fn base(&self, machine: &Machine) {
        let root = machine.text("base/rootfs");
        let archive = self.directory.join("base.tar");
        tool("tar", ["--owner=0", "--group=0", "-C", &root, "-cf", &archive.display().to_string(), "."]);
        let (status, said) = self.ask("POST", "/images/create?fromSrc=-", &std::fs::read(archive).unwrap());
        assert_eq!(status, 200, "{said}");
        let (_, image) = said.split_once("sha256:").unwrap();
        let (status, said) = self.ask("POST", &format!("/images/{}/tag?repo=base&tag=1", &image[..64]), b"");
        assert_eq!(status, 201, "{said}");
    }

    /// One request over a connection of its own: the status and the body.
    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> (u16, String) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nContent-Type: application/x-tar\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        (status, body.to_owned())
    }

    /// Whether the engine has an image of that name.
    pub fn has(&self, name: &str) -> bool {
        self.ask("GET", &format!("/images/{name}/json"), b"").0 == 200
    }

    /// Names of all its images.
    pub fn names(&self) -> Vec<String> {
        let images: serde_json::Value = serde_json::from_str(&self.ask("GET", "/images/json", b"").1).unwrap();
        let names = images.as_array().unwrap().iter().filter_map(|image| image["RepoTags"].as_array()).flatten();
        names.map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Ends it as a system that shuts down does.
    pub fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        // It may have ended by itself.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        for _ in 0..600 {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
        // Engines leave mounts to the next start.
        for mount in mounts_below(&self.directory).iter().rev() {
            let _ = Command::new("umount").args(["-l", mount]).stderr(Stdio::null()).status();
        }
    }
}

fn mounts_below(directory: &Path) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| Path::new(point).starts_with(directory)).map(str::to_owned).collect()
}
