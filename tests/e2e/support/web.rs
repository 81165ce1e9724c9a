//! An nginx of one test on free ports of the loopback: files, uploads, a password, redirects, TLS of its own authority.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Machine;
use super::registry::{PASSWORD, USER, certificates};

/// What a test with this server needs.
pub const NEEDS: [&str; 2] = ["nginx", "openssl"];

/// A running nginx; dropped, it is gone.
pub struct Web {
    child: Child,
    /// `http://localhost:PORT`.
    pub plain: String,
    /// `https://localhost:PORT`.
    pub secure: String,
    /// The authority of the certificate.
    pub authority: PathBuf,
    directory: PathBuf,
}

impl Web {
    pub fn start(machine: &Machine) -> Self {
        let directory = machine.outside("web");
        let path = |name: &str| directory.join(name).display().to_string();
        for name in ["files/up", "temporary"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        let authority = certificates(machine, "web");
        Machine::write_to(path("passwords").into(), format!("{USER}:{{PLAIN}}{PASSWORD}\n"));
        let (plain, secure) = (free_port(), free_port());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {};\n", path("temporary")))
            .concat();
        let config = format!(
            "daemon off; master_process off; pid {pid}; error_log {errors};
events {{}}
http {{
access_log {access}; client_max_body_size 0; default_type application/octet-stream;
types {{ application/json json; text/plain txt; }}
{temporary}
server {{
    listen 127.0.0.1:{plain};
    listen 127.0.0.1:{secure} ssl;
    ssl_certificate {certificate}; ssl_certificate_key {key};
    root {files};
    location /up/ {{ dav_methods PUT DELETE; }}
    location /private/ {{ alias {files}/; auth_basic tests; auth_basic_user_file {passwords}; }}
    location /moved {{ return 302 /a.json; }}
    location /inside {{ return 302 http://10.255.255.1/x; }}
    location /full {{ return 507; }}
}}
}}
",
            pid = path("pid"),
            errors = path("errors"),
            access = path("access"),
            certificate = path("server.crt"),
            key = path("server.key"),
            files = path("files"),
            passwords = path("passwords"),
        );
        let file = Machine::write_to(path("nginx.conf").into(), config);
        let log = std::fs::File::create(path("log")).unwrap();
        let mut command = Command::new("nginx");
        command.env("PATH", super::PATH).arg("-c").arg(file).arg("-e").arg(path("errors"));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap();
        let origin = |scheme: &str, port: u16| format!("{scheme}://localhost:{port}");
        let mut web =
            Self { child, plain: origin("http", plain), secure: origin("https", secure), authority, directory };
        web.wait(plain);
        web
    }

    fn wait(&mut self, port: u16) {
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "nginx ended: {}", self.read("log"));
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("nginx does not answer: {}", self.read("log"));
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.join(name)).unwrap_or_default()
    }

    /// A file that it serves, or that was sent to it below `up`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join("files").join(name)
    }

    pub fn serve(&self, name: &str, content: impl AsRef<[u8]>) {
        Machine::write_to(self.file(name), content);
    }

    /// How many requests there were whose log line has that text.
    pub fn requests(&self, text: &str) -> usize {
        self.read("access").lines().filter(|line| line.contains(text)).count()
    }

    /// `localhost:PORT` of the encrypted side.
    pub fn secure_host(&self) -> &str {
        self.secure.trim_start_matches("https://")
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
