//! A registry of one test on a free port of the loopback: plain, with a password, or with TLS of its own authority.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cooperage_store::Digest;

use super::{Machine, tool};

pub const USER: &str = "alice";
pub const PASSWORD: &str = "correct-horse";

/// What a registry asks of its clients.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Password,
    Tls,
}

/// A running `docker-registry`; dropped, it is gone.
pub struct Registry {
    child: Child,
    pub host: String,
    pub data: PathBuf,
    /// The authority of a registry with TLS.
    pub authority: Option<PathBuf>,
    log: PathBuf,
}

impl Registry {
    pub fn start(machine: &Machine) -> Self {
        Self::start_as(machine, Kind::Plain)
    }

    pub fn start_as(machine: &Machine, kind: Kind) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let directory = format!("registry-{port}");
        let data = machine.outside(&directory).join("data");
        let mut config = format!(
            "version: 0.1\nlog: {{ level: info }}\nstorage:\n  filesystem: {{ rootdirectory: {} }}\n  \
             delete: {{ enabled: true }}\nhttp:\n  addr: 127.0.0.1:{port}\n  secret: tests\n",
            data.display()
        );
        let mut authority = None;
        if kind == Kind::Tls {
            let ca = certificates(machine, &directory);
            let file = |name: &str| machine.outside(&directory).join(name).display().to_string();
            config += &format!("  tls: {{ certificate: {}, key: {} }}\n", file("server.crt"), file("server.key"));
            authority = Some(ca);
        }
        if kind == Kind::Password {
            let line = tool("htpasswd", ["-Bbn", "-C", "4", USER, PASSWORD]).stdout;
            let path = Machine::write_to(machine.outside(&directory).join("htpasswd"), line);
            config += &format!("auth:\n  htpasswd: {{ realm: tests, path: {} }}\n", path.display());
        }
        let file = Machine::write_to(machine.outside(&directory).join("config.yml"), config);
        let log = machine.outside(&directory).join("log");
        let out = std::fs::File::create(&log).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(file).stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        let mut registry =
            Self { child: command.spawn().unwrap(), host: format!("localhost:{port}"), data, authority, log };
        registry.wait(port);
        registry
    }

    fn wait(&mut self, port: u16) {
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "the registry ended: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the registry does not answer: {}", self.log());
    }

    /// A name at this registry.
    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.host)
    }

    /// What it wrote, one line for each request.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// How many requests there were of a method for paths with that text.
    pub fn requests(&self, method: &str, path: &str) -> usize {
        let request = format!("\"{method} ");
        let lines = self.log();
        lines.lines().filter(|line| line.contains(&request) && line.contains(path)).count()
    }

    /// The digest of a manifest or index, over what skopeo gets.
    #[track_caller]
    pub fn digest(&self, name: &str) -> String {
        Digest::of(self.skopeo("--raw", name).as_bytes()).to_string()
    }

    /// The configuration of an image, as skopeo gets it.
    #[track_caller]
    pub fn configuration(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(&self.skopeo("--config", name)).unwrap()
    }

    #[track_caller]
    fn skopeo(&self, what: &str, name: &str) -> String {
        let url = format!("docker://{}", self.name(name));
        tool("skopeo", ["inspect", "--tls-verify=false", what, &url]).stdout
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An authority and a certificate that it signed for the loopback; the authority's file.
pub fn certificates(machine: &Machine, directory: &str) -> PathBuf {
    let file = |name: &str| machine.outside(directory).join(name).display().to_string();
    let extensions = "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n";
    Machine::write_to(file("extensions").into(), extensions);
    let openssl = |args: &[&str]| {
        tool("openssl", args);
    };
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let (ca, ca_key) = (file("ca.crt"), file("ca.key"));
    let authority = ["req", "-x509", "-days", "2", "-subj", "/CN=authority of a test", "-keyout", &ca_key, "-out", &ca];
    openssl(&[&authority[..], &new_key].concat());
    let (key, request) = (file("server.key"), file("server.csr"));
    openssl(&[&["req", "-subj", "/CN=localhost", "-keyout", &key, "-out", &request][..], &new_key].concat());
    let (certificate, extensions) = (file("server.crt"), file("extensions"));
    openssl(&[
        "x509",
        "-req",
        "-days",
        "2",
        "-CAcreateserial",
        "-in",
        &request,
        "-CA",
        &ca,
        "-CAkey",
        &ca_key,
        "-extfile",
        &extensions,
        "-out",
        &certificate,
    ]);
    ca.into()
}
