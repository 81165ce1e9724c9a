//! Repositories of one test behind HTTP on a free port of the loopback: git's own `http-backend`, started for each
//! request, behind a server that can ask for a password and break off.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::{Machine, PATH};

/// What a test needs.
pub const NEEDS: [&str; 2] = ["git", "/usr/lib/git-core/git-http-backend"];
/// `alice` with `correct-horse`, and that as a token.
const ADMITTED: [&str; 2] = ["Basic YWxpY2U6Y29ycmVjdC1ob3JzZQ==", "Basic eC1hY2Nlc3MtdG9rZW46Y29ycmVjdC1ob3JzZQ=="];

/// A running server; dropped, it is gone.
pub struct Git {
    /// `127.0.0.1:PORT`.
    pub host: String,
    root: PathBuf,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    root: PathBuf,
    password: bool,
    ended: AtomicBool,
    /// Bytes of an answer's body after which the connection breaks.
    breaks_after: AtomicUsize,
    requests: Mutex<Vec<String>>,
}

impl Git {
    /// With what is in `name` outside of the project; `password` asks every client who it is.
    pub fn start(machine: &Machine, name: &str, password: bool) -> Self {
        let root = machine.outside(name);
        std::fs::create_dir_all(&root).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            root: root.clone(),
            password,
            ended: AtomicBool::new(false),
            breaks_after: AtomicUsize::new(usize::MAX),
            requests: Mutex::default(),
        });
        let serving = shared.clone();
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.ended.load(Ordering::SeqCst) {
                    return;
                }
                let shared = serving.clone();
                // A client that goes away is no fault of a test.
                std::thread::spawn(move || stream.and_then(|stream| serve(&shared, &stream)));
            }
        });
        Self { host, root, shared, accepting: Some(accepting) }
    }

    /// The URL of a repository.
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.host)
    }

    /// Makes a repository if it is not there, writes files and commits them; the commit.
    #[track_caller]
    pub fn commit(&self, name: &str, files: &[(&str, &[u8])]) -> String {
        let directory = self.root.join(name);
        if !directory.exists() {
            std::fs::create_dir_all(&directory).unwrap();
            self.git(name, &["init", "--quiet", "--initial-branch", "main"]);
        }
        files.iter().for_each(|(path, content)| drop(Machine::write_to(directory.join(path), content)));
        self.git(name, &["add", "--all"]);
        self.git(name, &["commit", "--quiet", "--message", "files"]);
        self.git(name, &["rev-parse", "HEAD"])
    }

    /// Runs git in a repository; what it printed.
    #[track_caller]
    pub fn git(&self, name: &str, args: &[&str]) -> String {
        let output = git().arg("-C").arg(self.root.join(name)).args(args).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// The directory of a repository.
    pub fn directory(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// From now on connections break after so many bytes of an answer's body.
    pub fn break_after(&self, bytes: usize) {
        self.shared.breaks_after.store(bytes, Ordering::SeqCst);
    }

    /// The requests so far, as `METHOD PATH`, with `+` before those that had credentials.
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }
}

impl Drop for Git {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the one that accepts.
        let _ = TcpStream::connect(&self.host);
        let _ = self.accepting.take().map(JoinHandle::join);
    }
}

/// One request of a connection, answered in chunks.
fn serve(shared: &Shared, stream: &TcpStream) -> std::io::Result<()> {
    let mut input = BufReader::new(stream);
    let mut line = String::new();
    input.read_line(&mut line)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        input.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let header = |name: &str| headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value.as_str());
    let authorization = header("authorization");
    let mark = if authorization.is_empty() { "" } else { "+" };
    shared.requests.lock().unwrap().push(format!("{mark}{method} {target}"));
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    input.read_exact(&mut body)?;
    let mut out = stream;
    if shared.password && !ADMITTED.contains(&authorization) {
        return out.write_all(
            b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm=\"tests\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        );
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut backend = git();
    backend.arg("http-backend").env("GIT_PROJECT_ROOT", &shared.root).env("GIT_HTTP_EXPORT_ALL", "1");
    backend.env("REQUEST_METHOD", &method).env("PATH_INFO", path).env("QUERY_STRING", query);
    backend.env("CONTENT_TYPE", header("content-type")).env("GIT_PROTOCOL", header("git-protocol"));
    backend.env("CONTENT_LENGTH", body.len().to_string()).env("REMOTE_ADDR", "127.0.0.1");
    let mut child = backend.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    // One that refuses does not read.
    let _ = child.stdin.take().expect("a pipe").write_all(&body);
    let result = answer(shared, &mut BufReader::new(child.stdout.take().expect("a pipe")), &mut out);
    let _ = child.kill();
    child.wait()?;
    result
}

/// From CGI to HTTP.
fn answer(shared: &Shared, backend: &mut impl BufRead, out: &mut impl Write) -> std::io::Result<()> {
    let (mut status, mut head) = ("200 OK".to_owned(), String::new());
    loop {
        let mut line = String::new();
        backend.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some(("Status", value)) => value.clone_into(&mut status),
            Some((name, value)) => drop(write!(head, "{name}: {value}\r\n")),
            None => break,
        }
    }
    write!(out, "HTTP/1.1 {status}\r\n{head}transfer-encoding: chunked\r\nconnection: close\r\n\r\n")?;
    let mut left = shared.breaks_after.load(Ordering::SeqCst);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let most = buffer.len().min(left);
        let length = backend.read(&mut buffer[..most])?;
        if length == 0 && left > 0 {
            return out.write_all(b"0\r\n\r\n");
        }
        if length == 0 {
            return Ok(());
        }
        write!(out, "{length:x}\r\n")?;
        out.write_all(&buffer[..length])?;
        out.write_all(b"\r\n")?;
        left -= length;
    }
}

fn git() -> Command {
    let mut command = Command::new("git");
    command.env_clear().env("PATH", PATH).env("HOME", Path::new("/nonexistent"));
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "A").env(format!("GIT_{who}_EMAIL"), "a@b");
        command.env(format!("GIT_{who}_DATE"), "1700000000 +0100");
    }
    let config = [("safe.directory", "*"), ("protocol.file.allow", "always")];
    command.env("GIT_CONFIG_COUNT", config.len().to_string());
    for (at, (key, value)) in config.iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{at}"), key).env(format!("GIT_CONFIG_VALUE_{at}"), value);
    }
    command
}
