//! A directory of repositories made with git itself, served by its own `http-backend`, which is started for each
//! request; and a layer to look into.

#![allow(dead_code, reason = "each test file uses its part")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cooperage_plugin_git::clone::{self, Cloned, Wanted};
use cooperage_plugin_git::edge::{Answer, Body, Exchange, Http};
use cooperage_plugin_git::login::Login;
use cooperage_plugin_git::place;
use cooperage_plugin_git::refs::Reference;
use cooperage_sdk::http::Headers;
use cooperage_sdk::layer::LayerWriter;
use cooperage_sdk::{Error, Result};

pub const HOST: &str = "https://git.example";

/// Changes an answer on its way: the request's path, and the answer's body.
type Twist = Box<dyn Fn(&Exchange, Vec<u8>) -> Vec<u8>>;
/// Answers in place of git.
type Instead = Box<dyn Fn(&Exchange) -> Option<Answer>>;

/// Repositories behind HTTP.
pub struct World {
    dir: tempfile::TempDir,
    pub twist: RefCell<Option<Twist>>,
    pub instead: RefCell<Option<Instead>>,
    /// Method, URL and `authorization` of each request.
    pub requests: RefCell<Vec<(String, String, Option<String>)>>,
    /// How many bytes of an answer come before the connection breaks.
    pub breaks_after: RefCell<Option<usize>>,
}

impl World {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            twist: RefCell::default(),
            instead: RefCell::default(),
            requests: RefCell::default(),
            breaks_after: RefCell::default(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs git in a repository; what it printed.
    #[track_caller]
    pub fn git(&self, repository: &str, args: &[&str]) -> String {
        self.git_with(repository, args, b"")
    }

    #[track_caller]
    pub fn git_with(&self, repository: &str, args: &[&str], stdin: &[u8]) -> String {
        let mut command = git();
        command.arg("-C").arg(self.path(repository)).args(args);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("git");
        child.stdin.take().unwrap().write_all(stdin).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// A new repository with some files.
    pub fn repository(&self, name: &str, files: &[(&str, &[u8])]) -> String {
        std::fs::create_dir_all(self.path(name)).unwrap();
        self.git(name, &["init", "--quiet", "--initial-branch", "main"]);
        self.commit(name, files)
    }

    /// Writes files and commits them; the commit.
    pub fn commit(&self, name: &str, files: &[(&str, &[u8])]) -> String {
        for (path, content) in files {
            let path = self.path(name).join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        self.git(name, &["add", "--all"]);
        self.git(name, &["commit", "--quiet", "--message", "files"]);
        self.git(name, &["rev-parse", "HEAD"])
    }

    /// An object that git itself would not write; its id.
    pub fn raw_object(&self, name: &str, kind: &str, content: &[u8]) -> String {
        self.git_with(name, &["hash-object", "-t", kind, "--literally", "-w", "--stdin"], content)
    }

    /// A branch with a commit of a raw tree: modes, names and ids.
    pub fn raw_branch(&self, name: &str, branch: &str, entries: &[(&str, &[u8], &str)]) -> String {
        let tree = self.raw_tree(name, entries);
        self.branch_of(name, branch, &tree)
    }

    pub fn raw_tree(&self, name: &str, entries: &[(&str, &[u8], &str)]) -> String {
        let bytes =
            |id: &str| (0..20).map(|at| u8::from_str_radix(&id[2 * at..2 * at + 2], 16).unwrap()).collect::<Vec<_>>();
        let tree: Vec<u8> = entries
            .iter()
            .flat_map(|(mode, name, id)| [mode.as_bytes(), b" ", name, b"\0", &bytes(id)].concat())
            .collect();
        self.raw_object(name, "tree", &tree)
    }

    pub fn branch_of(&self, name: &str, branch: &str, tree: &str) -> String {
        let text = format!("tree {tree}\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1700000000 +0000\n\nraw\n");
        let commit = self.raw_object(name, "commit", text.as_bytes());
        self.git(name, &["update-ref", &format!("refs/heads/{branch}"), &commit]);
        commit
    }

    /// What a step would do, with the reference and no credentials.
    pub fn fetch(&self, name: &str, reference: &str) -> Result<(Cloned, Files)> {
        self.fetch_wanted(&self.wanted(name, reference))
    }

    pub fn wanted(&self, name: &str, reference: &str) -> Wanted {
        Wanted {
            url: place::repository(&format!("{HOST}/{name}")).unwrap(),
            reference: Reference::parse(reference).unwrap(),
            expected: None,
            subdirectory: Vec::new(),
            submodules: true,
        }
    }

    pub fn fetch_wanted(&self, wanted: &Wanted) -> Result<(Cloned, Files)> {
        self.fetch_as(wanted, &Login::known(&wanted.url, None).unwrap())
    }

    pub fn fetch_as(&self, wanted: &Wanted, login: &Login<'_>) -> Result<(Cloned, Files)> {
        let resolved = clone::resolve(self, login, wanted)?;
        let mut layer = LayerWriter::to(Vec::new());
        let cloned = clone::clone(self, login, wanted, resolved, &mut layer)?;
        Ok((cloned, files(&layer.end()?, &self.path("unpacked"))))
    }

    fn backend(&self, exchange: &Exchange) -> (u16, Headers, Vec<u8>) {
        let mut command = git();
        command.arg("http-backend").env("GIT_PROJECT_ROOT", self.dir.path()).env("GIT_HTTP_EXPORT_ALL", "1");
        command.env("PATH_INFO", exchange.url.path()).env("QUERY_STRING", exchange.url.query().unwrap_or_default());
        command.env("REQUEST_METHOD", exchange.method).env("REMOTE_ADDR", "127.0.0.1");
        for (variable, header) in [("CONTENT_TYPE", "content-type"), ("GIT_PROTOCOL", "git-protocol")] {
            command.env(variable, exchange.headers.get(header).unwrap_or_default());
        }
        command.env("CONTENT_LENGTH", exchange.body.len().to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        // A backend that refuses does not read.
        let _ = child.stdin.take().unwrap().write_all(&exchange.body);
        let output = child.wait_with_output().unwrap().stdout;
        let end = output.windows(4).position(|four| four == b"\r\n\r\n").expect("the end of the head");
        let (mut status, mut headers) = (200, Headers::default());
        for line in String::from_utf8_lossy(&output[..end]).lines() {
            let (name, value) = line.split_once(':').unwrap();
            match name {
                "Status" => status = value.trim()[..3].parse().unwrap(),
                _ => headers.append(name, value.trim()),
            }
        }
        (status, headers, output[end + 4..].to_vec())
    }
}

impl Http for World {
    fn send(&self, exchange: Exchange) -> Result<Answer> {
        let authorization = exchange.headers.get("authorization").map(str::to_owned);
        self.requests.borrow_mut().push((exchange.method.to_owned(), exchange.url.to_string(), authorization));
        if let Some(instead) = &*self.instead.borrow()
            && let Some(answer) = instead(&exchange)
        {
            return Ok(answer);
        }
        if exchange.url.authority() != "git.example" {
            return Err(Error::denied(format!("{} is not granted", exchange.url.authority())));
        }
        let (status, headers, mut body) = self.backend(&exchange);
        if let Some(twist) = &*self.twist.borrow() {
            body = twist(&exchange, body);
        }
        let breaks_after = if exchange.method == "POST" { *self.breaks_after.borrow() } else { None };
        Ok(Answer { status, headers, body: Box::new(Piecewise { body, at: 0, breaks_after }) })
    }
}

/// An answer of a few words.
pub fn answer(status: u16, fields: &[(&str, &str)], text: &str) -> Answer {
    let mut headers = Headers::default();
    fields.iter().for_each(|(name, value)| headers.append(*name, *value));
    Answer { status, headers, body: Box::new(Piecewise { body: text.into(), at: 0, breaks_after: None }) }
}

struct Piecewise {
    body: Vec<u8>,
    at: usize,
    breaks_after: Option<usize>,
}

impl Body for Piecewise {
    fn chunk(&mut self, max: u32) -> Result<Vec<u8>> {
        let end = self.breaks_after.unwrap_or(usize::MAX).min(self.body.len());
        if self.at == end && end < self.body.len() {
            return Err(Error::unavailable("the connection broke"));
        }
        let chunk = self.body[self.at..end].iter().copied().take(max.min(10_000) as usize).collect::<Vec<_>>();
        self.at += chunk.len();
        Ok(chunk)
    }
}

/// Path to what is there: mode, and content or target.
pub type Files = BTreeMap<String, (u32, String)>;

/// What an archive holds, as tar and the file system see it.
fn files(archive: &[u8], into: &Path) -> Files {
    let _ = std::fs::remove_dir_all(into);
    std::fs::create_dir(into).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["-xpf", "-", "--no-same-owner", "-C"]).arg(into).stdin(Stdio::piped());
    let mut child = tar.spawn().unwrap();
    child.stdin.take().unwrap().write_all(archive).unwrap();
    assert!(child.wait().unwrap().success());
    let mut found = Files::new();
    walk(into, into, &mut found);
    found
}

/// The files below a directory, without `.git`.
pub fn walk(root: &Path, directory: &Path, found: &mut Files) {
    use std::os::unix::fs::PermissionsExt;
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        let meta = entry.metadata().unwrap();
        if entry.file_name() == ".git" {
            continue;
        }
        if meta.is_symlink() {
            found.insert(name, (0o120_000, std::fs::read_link(&path).unwrap().to_string_lossy().into_owned()));
        } else if meta.is_dir() {
            found.insert(format!("{name}/"), (meta.permissions().mode() & 0o777, String::new()));
            walk(root, &path, found);
        } else {
            let mut content = Vec::new();
            std::fs::File::open(&path).unwrap().read_to_end(&mut content).unwrap();
            let text = if content.len() > 200 {
                format!("{} bytes", content.len())
            } else {
                String::from_utf8_lossy(&content).into_owned()
            };
            found.insert(name, (meta.permissions().mode() & 0o777, text));
        }
    }
}

fn git() -> Command {
    let mut command = Command::new("git");
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", "/nonexistent");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "A").env(format!("GIT_{who}_EMAIL"), "a@b");
        command.env(format!("GIT_{who}_DATE"), "1700000000 +0100");
    }
    let config = [
        ("safe.directory", "*"),
        ("protocol.file.allow", "always"),
        ("core.protectNTFS", "false"),
        ("core.protectHFS", "false"),
    ];
    command.env("GIT_CONFIG_COUNT", config.len().to_string());
    for (at, (key, value)) in config.iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{at}"), key).env(format!("GIT_CONFIG_VALUE_{at}"), value);
    }
    command
}

/// Whether git with its HTTP backend is there. With `CI` set it must be.
#[allow(clippy::print_stderr, clippy::disallowed_methods, reason = "a test that is passed over says so")]
pub fn have_git() -> bool {
    let there = git().arg("--exec-path").output().is_ok_and(|output| {
        Path::new(String::from_utf8_lossy(&output.stdout).trim()).join("git-http-backend").exists()
    });
    assert!(there || std::env::var_os("CI").is_none(), "this test needs git");
    if !there {
        eprintln!("passed over: this test needs git with its http-backend");
    }
    there
}
