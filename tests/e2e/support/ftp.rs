//! FTP servers of one test on free ports of the loopback: vsftpd for anonymous users, with or without TLS of its own
//! authority, and pyftpdlib for a user with a password, as slow as a test wants it.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::registry::{PASSWORD, USER, certificates};
use super::{Machine, ROOT, tool};

/// What a test with vsftpd needs.
pub const VSFTPD: [&str; 3] = ["vsftpd", "openssl", ROOT];
/// What a test with pyftpdlib needs.
pub const PYFTPDLIB: [&str; 2] = ["/usr/bin/python3", "/usr/lib/python3/dist-packages/pyftpdlib"];

/// Speaks until it is killed: port, directory, user, password, bytes a second.
const SCRIPT: &str = r#"
import sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler, ThrottledDTPHandler
from pyftpdlib.servers import ThreadedFTPServer
port, root, user, password, limit = sys.argv[1:]
authorizer = DummyAuthorizer()
authorizer.add_user(user, password, root, perm="elradfmwMT")
FTPHandler.authorizer = authorizer
class Slow(ThrottledDTPHandler):
    read_limit = write_limit = int(limit)
FTPHandler.dtp_handler = Slow
ThreadedFTPServer(("127.0.0.1", int(port)), FTPHandler).serve_forever()
"#;

/// How vsftpd protects its connections.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    None,
    Explicit,
    Implicit,
}

/// A running server; dropped, it is gone.
pub struct Ftp {
    child: Child,
    /// `localhost:PORT`.
    pub host: String,
    /// The directory that users may write to: `pub` of vsftpd, all of pyftpdlib's.
    pub files: PathBuf,
    /// The authority of the certificate.
    pub authority: PathBuf,
    log: PathBuf,
}

impl Ftp {
    /// vsftpd with its own default for TLS: data connections must resume the session of the control connection.
    pub fn vsftpd(machine: &Machine, protection: Protection) -> Self {
        let port = free_port();
        let name = format!("vsftpd-{port}");
        let directory = machine.outside(&name);
        let path = |name: &str| directory.join(name).display().to_string();
        let files = directory.join("root/pub");
        for directory in [&files, &directory.join("empty")] {
            std::fs::create_dir_all(directory).unwrap();
        }
        let mut config = format!(
            "listen=YES\nlisten_address=127.0.0.1\nlisten_port={port}\nbackground=NO\nanonymous_enable=YES\n\
             anon_root={}\nwrite_enable=YES\nanon_upload_enable=YES\nanon_mkdir_write_enable=YES\n\
             anon_other_write_enable=YES\nanon_world_readable_only=NO\nanon_umask=022\nseccomp_sandbox=NO\n\
             secure_chroot_dir={}\nascii_upload_enable=YES\nascii_download_enable=YES\nxferlog_enable=YES\n\
             vsftpd_log_file={}\n",
            path("root"),
            path("empty"),
            path("transfers"),
        );
        let mut authority = PathBuf::new();
        if protection != Protection::None {
            authority = certificates(machine, &name);
            let implicit = if protection == Protection::Implicit { "implicit_ssl=YES\n" } else { "" };
            config += &format!(
                "ssl_enable=YES\nallow_anon_ssl=YES\nforce_anon_data_ssl=YES\nforce_anon_logins_ssl=YES\n\
                 ssl_ciphers=HIGH\nrsa_cert_file={}\nrsa_private_key_file={}\n{implicit}",
                path("server.crt"),
                path("server.key"),
            );
        }
        let file = Machine::write_to(directory.join("config"), config);
        let mut command = Command::new("/usr/sbin/vsftpd");
        command.arg(file);
        let ftp = Self::start(command, port, files, authority, directory.join("log"));
        ftp.hand_over();
        ftp
    }

    /// pyftpdlib, which gives and takes so many bytes a second at most; 0 is no limit.
    pub fn pyftpdlib(machine: &Machine, limit: u64) -> Self {
        let port = free_port();
        let directory = machine.outside(&format!("pyftpdlib-{port}"));
        let files = directory.join("root");
        std::fs::create_dir_all(&files).unwrap();
        let mut command = Command::new(PYFTPDLIB[0]);
        command.args(["-c", SCRIPT, &port.to_string()]).arg(&files).args([USER, PASSWORD, &limit.to_string()]);
        Self::start(command, port, files, PathBuf::new(), directory.join("log"))
    }

    fn start(mut command: Command, port: u16, files: PathBuf, authority: PathBuf, log: PathBuf) -> Self {
        let out = std::fs::File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        let host = format!("localhost:{port}");
        let mut ftp = Self { child: command.spawn().unwrap(), host, files, authority, log };
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return ftp;
            }
            assert!(ftp.child.try_wait().unwrap().is_none(), "the server ended: {}", ftp.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the server does not answer: {}", ftp.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A file that it serves. After the last one, [`Ftp::hand_over`] gives them to the user of vsftpd.
    pub fn serve(&self, name: &str, content: impl AsRef<[u8]>) {
        Machine::write_to(self.files.join(name), content);
    }

    /// Gives all files to the user that vsftpd runs as.
    pub fn hand_over(&self) {
        tool("chown", [Path::new("-R"), Path::new("ftp"), &self.files]);
    }

    /// What a file has.
    #[track_caller]
    pub fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.files.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The names in a directory, sorted.
    pub fn names(&self, directory: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.files.join(directory)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Ends it in the middle of whatever it does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Ftp {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
