//! Reaching for what was not given.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

use cooperage_sdk::bindings::imports::cooperage::plugin::{state, trees as wit};
use cooperage_sdk::prelude::*;

fn told<T>(result: std::io::Result<T>) -> Result<Outputs> {
    let text = result.map_or_else(|error| format!("{:?}", error.kind()), |_| "reached".to_owned());
    Ok(Outputs::new().value("result", text))
}

/// A place, written as the user's word for it would not be: `at HOST:PORT`.
fn place(at: &str) -> &str {
    at.strip_prefix("at ").or_else(|| at.strip_prefix("ftp://")).unwrap_or(at)
}

pub(crate) fn tcp(at: &str) -> Result<Outputs> {
    let at = place(at);
    told(TcpStream::connect(at).and_then(|mut stream| {
        stream.write_all(b"hello")?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)
    }))
}

/// Through the host's own connections; `tls` begins TLS under a name.
pub(crate) fn connection(at: &str) -> Result<Outputs> {
    let at = place(at);
    let (place, tls) = at.split_once(' ').unwrap_or((at, ""));
    let (host, port) = place.rsplit_once(':').unwrap_or((place, "0"));
    let port = port.parse().unwrap_or(0);
    let connection = cooperage_sdk::net::connect(host, port, cooperage_sdk::net::Patience::default())?;
    if !tls.is_empty() {
        connection.start_tls(tls)?;
    }
    connection.write(b"hello")?;
    let answer = connection.read(5)?;
    Ok(Outputs::new().value("result", String::from_utf8_lossy(&answer).into_owned()))
}

pub(crate) fn fetch(at: &str, parameters: &str) -> Result<Outputs> {
    let tree = Tree::fetch(at, parameters, &cooperage_sdk::trees::Origin::new("fetch"))?;
    Ok(Outputs::new().value("digest", tree.digest()?))
}

pub(crate) fn udp(at: &str) -> Result<Outputs> {
    told(UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(b"x", at)))
}

pub(crate) fn listen(at: &str) -> Result<Outputs> {
    told(TcpListener::bind(at))
}

pub(crate) fn resolve(at: &str) -> Result<Outputs> {
    told((at, 80).to_socket_addrs())
}

pub(crate) fn environment() -> Outputs {
    let variables: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
    let mut input = String::new();
    let stdin = std::io::stdin().read_to_string(&mut input).map_or(0, |length| length);
    let here = std::fs::read_dir("/").map_or(0, Iterator::count);
    let arguments = std::env::args().count();
    Outputs::new()
        .value("variables", variables)
        .value("stdin", stdin)
        .value("files", here)
        .value("arguments", arguments)
}

/// Tries each way out of the granted directory; names those that led to something.
pub(crate) fn files(secret: &str) -> Result<Outputs> {
    let mut found = Vec::new();
    let ways = [
        "/etc/passwd",
        "/data/../etc/passwd",
        "/data/../../etc/passwd",
        "/data/x/../../etc/passwd",
        "/data/link",
        "/data/link/",
        "/data/link/.",
        "/data/dir-link/passwd",
        "/data/dir-link/../passwd",
        "/data/dir/../../secret",
        "/data/up/secret",
        "/data//../secret",
        "/data/./../secret",
    ];
    for way in ways {
        if std::fs::read_to_string(way).is_ok_and(|text| text.contains(secret) || text.contains("root:")) {
            found.push(way.to_owned());
        }
        if std::fs::read_dir(way)
            .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() == "passwd")))
        {
            found.push(format!("{way} (listed)"));
        }
    }
    for way in ["/data/link", "/data/dir-link/new", "/data/../new", "/data/up/new", "/new"] {
        if std::fs::write(way, "x").is_ok() {
            found.push(format!("{way} (written)"));
        }
    }
    for (from, to) in
        [("/data/file", "/data/../moved"), ("/data/file", "/data/up/moved"), ("/data/file", "/data/dir-link/")]
    {
        if std::fs::rename(from, to).is_ok() || std::fs::hard_link(from, to).is_ok() {
            found.push(format!("{from} to {to}"));
        }
    }
    if std::fs::hard_link("/data/link", "/data/copied").is_ok()
        && std::fs::read_to_string("/data/copied").is_ok_and(|text| text.contains(secret))
    {
        found.push("hard link".to_owned());
    }
    let read = std::fs::read_to_string("/data/file").unwrap_or_default();
    let wrote = std::fs::write("/data/made", "x").is_ok();
    let truncated = std::fs::OpenOptions::new().write(true).truncate(true).open("/data/file").is_ok();
    let removed = std::fs::remove_file("/data/file").is_ok();
    Ok(Outputs::new().value("escapes", found).value("read", read).value("wrote", wrote || truncated || removed))
}

pub(crate) fn secret(name: &str) -> Result<Outputs> {
    let value = secrets::reveal(name)?;
    Ok(Outputs::new().value("length", value.len()))
}

pub(crate) fn print_secret(name: &str) -> Result<Outputs> {
    let value = String::from_utf8_lossy(&secrets::reveal(name)?).into_owned();
    info!("it is {value}");
    println!("it is {value}");
    let (half, rest) = value.split_at(value.len() / 2);
    print!("{half}");
    println!("{rest}");
    let step = Step::new(&format!("step {value}"));
    drop(step);
    panic!("panicking with {value}")
}

pub(crate) fn keep(n: u64) -> Result<Outputs> {
    for n in 0..n {
        state::set(&n.to_string(), b"value", None)?;
    }
    Ok(Outputs::new().value("kept", state::get("0")?.is_some()))
}

fn process(options: &[(String, String)]) -> wit::Process {
    wit::Process {
        args: vec!["/bin/true".into()],
        env: Vec::new(),
        cwd: "/".into(),
        user: String::new(),
        network: wit::Network::Default,
        stdin: Vec::new(),
        options: options.to_vec(),
    }
}

fn origin() -> wit::Origin {
    wit::Origin { name: "RUN true".into(), created_by: String::new(), location: None }
}

pub(crate) fn run() -> Result<Outputs> {
    let tree = wit::Tree::scratch().run(&process(&[]), &[], &origin());
    let further = tree.make_directory("/after", 0o755, None, &origin());
    further.stat("/after", true)?;
    Ok(Outputs::new())
}

pub(crate) fn odd_mount() -> Result<Outputs> {
    let mount = wit::Mount {
        kind: "device".into(),
        target: "/dev/sda".into(),
        source: None,
        path: String::new(),
        identity: String::new(),
        read_only: true,
        options: Vec::new(),
    };
    wit::Tree::scratch().run(&process(&[]), &[mount], &origin()).digest()?;
    Ok(Outputs::new())
}
