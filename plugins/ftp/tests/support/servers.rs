//! Real servers: `vsftpd` and `pyftpdlib`, each in a directory of its own on a free port of the loopback. Where one is
//! not installed there is nothing to test against, and a line says so; with `CI` set it is a failure.

#![allow(clippy::print_stderr, clippy::disallowed_methods)] // a test that is skipped has to say so

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cooperage_plugin_ftp::server::{Login, Server};

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Lists for people only, and for anonymous users here.
    Vsftpd,
    /// Lists for machines.
    Pyftpdlib,
}

pub const ALL: [Kind; 2] = [Kind::Vsftpd, Kind::Pyftpdlib];
const PYTHON: &str = "/usr/bin/python3";

const SCRIPT: &str = r#"
import sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import ThreadedFTPServer
authorizer = DummyAuthorizer()
authorizer.add_user("alice", "s3cret", sys.argv[2], perm="elradfmwMT")
FTPHandler.authorizer = authorizer
ThreadedFTPServer(("127.0.0.1", int(sys.argv[1])), FTPHandler).serve_forever()
"#;

impl Running {
    /// Gives the server's user all files that the test wrote.
    pub fn hand_over(&self) {
        if !self.base.is_empty() {
            assert!(Command::new("chown").args(["-R", "ftp"]).arg(&self.files).status().unwrap().success());
        }
    }
}

/// A running server; dropped, it is gone.
pub struct Running {
    pub server: Server,
    /// Where the user may write, as the server names it: with a slash at its end, or empty.
    pub base: &'static str,
    /// The same on this machine.
    pub files: PathBuf,
    child: Child,
    _directory: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_there(kind: Kind) -> bool {
    let found = match kind {
        Kind::Vsftpd => {
            let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
            root && std::path::Path::new("/usr/sbin/vsftpd").exists()
        }
        Kind::Pyftpdlib => {
            let run = Command::new(PYTHON).args(["-c", "import pyftpdlib"]).stderr(Stdio::null()).status();
            run.is_ok_and(|status| status.success())
        }
    };
    assert!(found || std::env::var_os("CI").is_none(), "{kind:?} is not installed, or needs to be run by root");
    if !found {
        eprintln!("skipped: {kind:?} is not installed, or needs to be run by root");
    }
    found
}

/// Starts a server for a test.
pub fn start(kind: Kind) -> Option<Running> {
    if !is_there(kind) {
        return None;
    }
    // Between looking for a free port and taking it, somebody else may have taken it.
    let running = (0..5).find_map(|_| attempt(kind));
    Some(running.unwrap_or_else(|| panic!("{kind:?} does not answer")))
}

fn attempt(kind: Kind) -> Option<Running> {
    let directory = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let root = directory.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let (command, base, files, login) = match kind {
        Kind::Vsftpd => {
            let empty = directory.path().join("empty");
            let files = root.join("pub");
            for path in [&empty, &files] {
                std::fs::create_dir(path).unwrap();
            }
            let mine = Command::new("chown").arg("ftp").arg(&files).status().unwrap();
            assert!(mine.success());
            // The server leaves its rights before it enters the directory.
            let open = Command::new("chmod").arg("755").arg(directory.path()).status().unwrap();
            assert!(open.success());
            let config = format!(
                "listen=YES\nlisten_address=127.0.0.1\nlisten_port={port}\nbackground=NO\nanonymous_enable=YES\n\
                 anon_root={}\nwrite_enable=YES\nanon_upload_enable=YES\nanon_mkdir_write_enable=YES\n\
                 anon_other_write_enable=YES\nanon_world_readable_only=NO\nanon_umask=022\nseccomp_sandbox=NO\n\
                 xferlog_enable=NO\nascii_upload_enable=YES\n\
                 ascii_download_enable=YES\nsecure_chroot_dir={}\n",
                root.display(),
                empty.display()
            );
            let path = directory.path().join("config");
            std::fs::write(&path, config).unwrap();
            let mut command = Command::new("/usr/sbin/vsftpd");
            command.arg(path);
            (command, "pub/", files, Login::anonymous())
        }
        Kind::Pyftpdlib => {
            let mut command = Command::new(PYTHON);
            command.args(["-c", SCRIPT, &port.to_string()]).arg(&root);
            (command, "", root.clone(), Login::new("alice", Some("s3cret".to_owned())).unwrap())
        }
    };
    let mut command = command;
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut running = Running { server: super::server(port, login), base, files, child, _directory: directory };
    for _ in 0..600 {
        if running.child.try_wait().unwrap().is_some() {
            return None;
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(running);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    None
}
