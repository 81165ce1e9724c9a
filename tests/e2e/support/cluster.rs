//! A stand-in for the API server of a cluster, since no real one runs here: one Deployment of three pods, what is applied
//! to it, and its rollout. The plugin's own tests check requests against the types of the API; this one is for the way
//! through the real `coop`, with TLS by an nginx in front.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Machine, registry};

pub const TOKEN: &str = "token-of-a-service-account";
pub const WEB: &str = "/apis/apps/v1/namespaces/shop/deployments/web";

/// What the cluster has, and how it behaves.
#[derive(Default)]
pub struct State {
    /// What was applied last, by path.
    pub applied: BTreeMap<String, Value>,
    /// `METHOD path?query`, with the content type of a PATCH.
    pub requests: Vec<String>,
    /// The image of the container `main`.
    pub image: String,
    pub generation: u64,
    /// How many pods have that image.
    pub updated: u64,
    /// Whether the image cannot be pulled.
    pub stuck: bool,
    /// Whether the server is killed once it has changed something.
    pub mortal: bool,
    /// Whether the image belongs to somebody else.
    pub owned: bool,
    dead: bool,
}

/// A running stand-in. It ends with the test.
pub struct Cluster {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Cluster {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State { image: "registry.example/web:1".into(), generation: 1, updated: 3, ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                // Whoever breaks the connection gets no answer.
                std::thread::spawn(move || drop(serve(&stream, &state)));
            }
        });
        Self { port, state }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// An nginx that does TLS for a cluster; dropped, it is gone.
pub struct Front {
    child: Child,
    /// `https://localhost:PORT`.
    pub url: String,
    /// The authority of its certificate.
    pub authority: PathBuf,
}

impl Front {
    /// With `certificates`, clients must show one that the same authority has signed.
    pub fn start(machine: &Machine, cluster: &Cluster, certificates: bool) -> Self {
        let name = format!("front-{certificates}");
        let directory = machine.outside(&name);
        let path = |name: &str| directory.join(name).display().to_string();
        std::fs::create_dir_all(path("temporary")).unwrap();
        let authority = registry::certificates(machine, &name);
        let verify = format!("ssl_client_certificate {}; ssl_verify_client on;", authority.display());
        let verify = if certificates { verify } else { String::new() };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {};\n", path("temporary")))
            .concat();
        let config = format!(
            "daemon off; master_process off; pid {}; error_log {};\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}\n\
             server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {};\n\
             {verify}\n\
             location / {{ proxy_pass {}; proxy_buffering off; }} }}\n}}\n",
            path("pid"),
            path("errors"),
            path("server.crt"),
            path("server.key"),
            cluster.url(),
        );
        let file = Machine::write_to(path("nginx.conf").into(), config);
        let mut command = Command::new("nginx");
        command.env("PATH", super::PATH).arg("-c").arg(file).arg("-e").arg(path("errors"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut front = Self { child, url: format!("https://localhost:{port}"), authority };
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return front;
            }
            assert!(front.child.try_wait().unwrap().is_none(), "nginx ended");
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("nginx does not answer");
    }

    /// `localhost:PORT`.
    pub fn host(&self) -> &str {
        self.url.trim_start_matches("https://")
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or("").to_owned(), words.next().unwrap_or("").to_owned());
    let (mut length, mut token, mut kind) = (0, false, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap_or(0),
            "authorization" => token = value == format!("Bearer {TOKEN}"),
            "content-type" => kind = format!(" {value}"),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut now = state.lock().unwrap();
    now.requests.push(format!("{method} {target}{kind}"));
    if now.dead {
        return Ok(());
    }
    if !token {
        return answer(stream, 401, &refusal(401, "Unauthorized", "Unauthorized"));
    }
    if query.contains("watch=1") {
        drop(now);
        return watch(stream, state);
    }
    match (method.as_str(), path) {
        ("GET", WEB) => answer(stream, 200, &now.deployment()),
        ("GET", path) if path.ends_with("/pods") => answer(stream, 200, &now.pods()),
        ("GET", "/api/v1") => {
            let kind = json!({ "name": "configmaps", "kind": "ConfigMap", "namespaced": true });
            answer(stream, 200, &json!({ "kind": "APIResourceList", "resources": [kind] }))
        }
        ("PATCH", WEB) if now.owned && !query.contains("force=true") => answer(stream, 409, &contested()),
        ("PATCH", path) => {
            now.apply(path, body);
            now.dead = now.mortal;
            let object = if path == WEB { now.deployment() } else { now.applied[path].clone() };
            answer(stream, 200, &object)
        }
        _ => answer(stream, 404, &refusal(404, "NotFound", "not found")),
    }
}

fn answer(mut stream: &TcpStream, code: u16, body: &Value) -> std::io::Result<()> {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {code} x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

/// A pod more has the new image every 100 ms, unless it cannot be had.
fn watch(mut stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n")?;
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(100));
        let mut now = state.lock().unwrap();
        if !now.stuck && now.updated < 3 {
            now.updated += 1;
        }
        let line = format!("{}\n", json!({ "type": "MODIFIED", "object": now.deployment() }));
        drop(now);
        stream.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes())?;
    }
    stream.write_all(b"0\r\n\r\n")
}

fn refusal(code: u16, reason: &str, message: &str) -> Value {
    json!({ "kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": code })
}

fn contested() -> Value {
    let mut status = refusal(409, "Conflict", "Apply failed with 1 conflict");
    status["details"] = json!({ "causes": [{ "reason": "FieldManagerConflict",
        "message": "conflict with \"helm\" using apps/v1",
        "field": ".spec.template.spec.containers[name=\"main\"].image" }] });
    status
}

impl State {
    fn apply(&mut self, path: &str, body: Value) {
        let image = body.pointer("/spec/template/spec/containers/0/image").and_then(Value::as_str);
        if let Some(image) = image.filter(|image| path == WEB && *image != self.image) {
            self.image = image.to_owned();
            self.generation += 1;
            self.updated = 0;
        }
        self.applied.insert(path.to_owned(), body);
    }

    fn deployment(&self) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "web", "namespace": "shop", "generation": self.generation, "resourceVersion": "7" },
            "spec": { "replicas": 3, "selector": { "matchLabels": { "app": "web" } },
                "template": { "spec": { "containers": [{ "name": "main", "image": self.image }] } } },
            "status": { "observedGeneration": self.generation, "replicas": 3, "updatedReplicas": self.updated,
                "availableReplicas": self.updated },
        })
    }

    fn pods(&self) -> Value {
        let waiting =
            json!({ "reason": "ImagePullBackOff", "message": format!("Back-off pulling image {}", self.image) });
        let pod = json!({ "metadata": { "name": "web-1" }, "status": { "containerStatuses": [
            { "name": "main", "ready": false, "state": { "waiting": waiting } }] } });
        json!({ "kind": "PodList", "items": if self.stuck { vec![pod] } else { Vec::new() } })
    }
}
