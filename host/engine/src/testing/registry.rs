//! A real registry for a test: the distribution project's `docker-registry`, on a free port, ended on drop.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::certificates::Certificates;

/// The user whom a registry with authentication knows.
pub(crate) const USER: &str = "alice";
/// That user's password.
pub(crate) const PASSWORD: &str = "s3cret";
/// bcrypt of [`PASSWORD`], cost 5.
const HTPASSWD: &str = "alice:$2y$05$ytbm914KqzUClro7puQqNuYj65tftK7Geisc8tkAPILxsdjJ1zR7O\n";

/// A running registry.
pub(crate) struct Registry {
    child: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Registry {
    /// Starts one; none if the program is not installed, which is a failure where the variable `CI` is set.
    pub fn start(authentication: bool, tls: Option<&Certificates>) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        std::fs::write(directory.path().join("config.yml"), config(directory.path(), port, authentication, tls))
            .unwrap();
        std::fs::write(directory.path().join("htpasswd"), HTPASSWD).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(directory.path().join("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.path().join("log")).unwrap())
            .spawn();
        let child = match child {
            Ok(child) => child,
            Err(error) => {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "a test may not be skipped silently where all is installed"
                )]
                let required = std::env::var_os("CI").is_some();
                assert!(!required, "cannot start docker-registry: {error}");
                #[expect(clippy::print_stderr, reason = "whoever runs the tests should know what was left out")]
                {
                    eprintln!("skipped: cannot start docker-registry: {error}");
                }
                return None;
            }
        };
        let registry = Self { child, port, _directory: directory };
        registry.wait();
        Some(registry)
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn wait(&self) {
        let begin = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begin.elapsed() < Duration::from_secs(20), "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(directory: &Path, port: u16, authentication: bool, tls: Option<&Certificates>) -> String {
    let data = directory.join("data");
    let mut text = format!(
        "version: 0.1\nlog: {{ level: warn }}\nstorage:\n  delete: {{ enabled: true }}\n  filesystem: {{ rootdirectory: {} }}\n\
         http:\n  addr: 127.0.0.1:{port}\n  secret: for-tests\n",
        data.display()
    );
    if let Some(tls) = tls {
        let (certificate, key) = (tls.path("server.crt"), tls.path("server.key"));
        text.push_str(&format!("  tls: {{ certificate: {}, key: {} }}\n", certificate.display(), key.display()));
    }
    if authentication {
        let file = directory.join("htpasswd");
        text.push_str(&format!("auth:\n  htpasswd: {{ realm: tests, path: {} }}\n", file.display()));
    }
    text
}
