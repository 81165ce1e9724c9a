//! The stand-in: requests in, checks, answers out.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use super::apply::Tracked;
use super::{TOKEN, types};

/// A request.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub headers: BTreeMap<String, String>,
    pub body: Value,
}

/// What goes wrong with a request.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// It is answered with this status and this text.
    Answer(u16, String),
    /// The connection is closed before anything is done.
    Before,
    /// What was asked for is done, and the connection closed before the answer.
    After,
    /// Somebody else changes the object first.
    Overtaken,
}

#[derive(Default)]
pub struct State {
    pub objects: BTreeMap<String, Tracked>,
    pub requests: Vec<Seen>,
    /// Troubles of the next requests of a method whose path and query have a text.
    pub troubles: Vec<(&'static str, &'static str, Trouble)>,
    /// What becomes of the status of a changed workload, in order; `NOW` stands for the generation.
    pub rollout: VecDeque<Value>,
    /// Events of one watch; then it ends, in the middle of a line if `torn`.
    pub watch_length: usize,
    pub torn: bool,
    /// Whether reading an object makes its rollout go on.
    pub advance_on_read: bool,
    pub pods: Vec<Value>,
    /// How often the server must be asked before it knows a new kind.
    pub making: usize,
    /// How many connections are closed at once after an object was changed: the server is away.
    pub away: usize,
    is_away: bool,
    pub complaints: Vec<String>,
    version: u64,
}

/// A running stand-in; dropped, it is gone, and whatever it found wrong fails the test.
pub struct Server {
    port: u16,
    state: Arc<Mutex<State>>,
    ended: Arc<AtomicBool>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { watch_length: usize::MAX, version: 100, ..State::default() }));
        let ended = Arc::new(AtomicBool::new(false));
        let (shared, stop) = (state.clone(), ended.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let state = shared.clone();
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { port, state, ended }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Puts an object there that `kubectl create` made.
    pub fn has(&self, path: &str, object: Value) -> &Self {
        assert_eq!(types::wrong(&object), None);
        let mut state = self.state();
        let mut tracked = Tracked::made_by("kubectl-create", object);
        state.version += 1;
        tracked.live["metadata"]["resourceVersion"] = state.version.to_string().into();
        tracked.live["metadata"]["generation"] = 1.into();
        state.objects.insert(path.to_owned(), tracked);
        drop(state);
        self
    }

    /// An object as it is.
    #[track_caller]
    pub fn object(&self, path: &str) -> Value {
        self.state().objects.get(path).unwrap_or_else(|| panic!("there is no {path}")).live.clone()
    }

    pub fn trouble(&self, method: &'static str, text: &'static str, trouble: Trouble) -> &Self {
        self.state().troubles.push((method, text, trouble));
        self
    }

    /// What the next rollouts look like.
    pub fn rolls_out(&self, statuses: impl IntoIterator<Item = Value>) -> &Self {
        self.state().rollout.extend(statuses);
        self
    }

    /// The requests so far, as `PATCH /path`.
    pub fn lines(&self) -> Vec<String> {
        self.state().requests.iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect()
    }

    /// The bodies of all PATCHes so far.
    pub fn patches(&self) -> Vec<Value> {
        self.state().requests.iter().filter(|seen| seen.method == "PATCH").map(|seen| seen.body.clone()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if !std::thread::panicking() {
            assert_eq!(self.state().complaints, Vec::<String>::new());
        }
    }
}

/// The usual Deployment of the tests.
pub fn deployment(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name, "namespace": "shop" },
        "spec": { "replicas": 3, "selector": { "matchLabels": { "app": name } }, "template": {
            "metadata": { "labels": { "app": name } },
            "spec": { "containers": [{ "name": "web", "image": image }] } } },
    })
}

pub const WEB: &str = "/apis/apps/v1/namespaces/shop/deployments/web";

/// A status of a Deployment of three pods.
pub fn deployed(updated: u32, available: u32, total: u32) -> Value {
    json!({ "observedGeneration": "NOW", "updatedReplicas": updated, "availableReplicas": available, "replicas": total,
        "readyReplicas": available })
}

/// All new and available.
pub fn done() -> Value {
    deployed(3, 3, 3)
}

pub fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code })
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let Some(seen) = receive(&stream) else { return };
    let trouble = {
        let mut state = state.lock().unwrap();
        state.requests.push(seen.clone());
        if state.is_away && state.away > 0 {
            state.away -= 1;
            return;
        }
        state.is_away |= seen.method == "PATCH";
        let query: String = seen.query.iter().map(|(name, value)| format!("&{name}={value}")).collect();
        let line = format!("{}?{query}", seen.path);
        let at = state.troubles.iter().position(|(method, text, _)| *method == seen.method && line.contains(text));
        at.map(|at| state.troubles.remove(at).2)
    };
    match trouble {
        Some(Trouble::Before) => return,
        Some(Trouble::Answer(code, text)) => return send(&stream, code, &text),
        Some(Trouble::Overtaken) => {
            let mut state = state.lock().unwrap();
            let version = state.next_version();
            if let Some(tracked) = state.objects.get_mut(&seen.path) {
                tracked.live["metadata"]["resourceVersion"] = version.into();
            }
        }
        Some(Trouble::After) | None => {}
    }
    if seen.query.contains_key("watch") {
        return watch(&stream, &seen, state);
    }
    let (code, answer) = state.lock().unwrap().answer(&seen);
    if !matches!(trouble, Some(Trouble::After)) {
        send(&stream, code, &answer.to_string());
    }
}

fn receive(stream: &TcpStream) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (unescape(name), unescape(value))
    };
    Some(Seen {
        method,
        path: path.to_owned(),
        query: query.split('&').filter(|part| !part.is_empty()).map(pair).collect(),
        headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    })
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let hex: String = rest.by_ref().take(2).map(char::from).collect();
            bytes.push(u8::from_str_radix(&hex, 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}

fn send(mut stream: &TcpStream, code: u16, body: &str) {
    let head = format!(
        "HTTP/1.1 {code} x\r\ncontent-type: application/json\r\nlocation: https://login.example/\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
}

/// Streams what becomes of an object, one state after the other.
fn watch(mut stream: &TcpStream, seen: &Seen, state: &Mutex<State>) {
    let refusal = state.lock().unwrap().check(seen);
    if let Some((code, answer)) = refusal {
        return send(stream, code, &answer.to_string());
    }
    let mut state = state.lock().unwrap();
    let name = seen.query.get("fieldSelector").and_then(|selector| selector.strip_prefix("metadata.name="));
    let path = format!("{}/{}", seen.path, name.unwrap_or_default());
    if !state.objects.contains_key(&path) || seen.query.get("resourceVersion").is_none_or(|version| version == "0") {
        state.complaints.push(format!("a watch of nothing: {seen:?}"));
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunk =
        |mut stream: &TcpStream, text: &str| stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes());
    let _ = chunk(stream, "{\"type\":\"BOOKMARK\",\"object\":{\"kind\":\"Deployment\"}}\n");
    for _ in 0..state.watch_length {
        if !state.advance(&path) {
            break;
        }
        let event = json!({ "type": "MODIFIED", "object": state.objects[&path].shown() });
        let _ = chunk(stream, &format!("{event}\n"));
    }
    if state.torn {
        let _ = chunk(stream, "{\"type\":\"MODI");
        return;
    }
    let expired = status(410, "Expired", "too old resource version");
    let _ = chunk(stream, &format!("{}\n", json!({ "type": "ERROR", "object": expired })));
    let _ = stream.write_all(b"0\r\n\r\n");
}

impl State {
    fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    /// The next state of a rollout, if there is one.
    fn advance(&mut self, path: &str) -> bool {
        let Some(mut status) = self.rollout.pop_front() else { return false };
        let version = self.next_version();
        let Some(tracked) = self.objects.get_mut(path) else { return false };
        if status["observedGeneration"] == "NOW" {
            status["observedGeneration"] = tracked.live["metadata"]["generation"].clone();
        }
        tracked.live["status"] = status;
        tracked.live["metadata"]["resourceVersion"] = version.into();
        true
    }

    /// What every request must have, and what refuses it.
    fn check(&mut self, seen: &Seen) -> Option<(u16, Value)> {
        let header = |name: &str| seen.headers.get(name).map(String::as_str).unwrap_or_default();
        if !header("user-agent").starts_with("cooperage-kubernetes/") || header("accept") != "application/json" {
            self.complaints.push(format!("headers of {seen:?}"));
        }
        if header("authorization") != format!("Bearer {TOKEN}") {
            return Some((401, status(401, "Unauthorized", "Unauthorized")));
        }
        None
    }

    fn answer(&mut self, seen: &Seen) -> (u16, Value) {
        if let Some(refusal) = self.check(seen) {
            return refusal;
        }
        match seen.method.as_str() {
            "GET" => self.get(seen),
            "PATCH" => self.patch(seen),
            _ => {
                self.complaints.push(format!("method of {seen:?}"));
                (405, status(405, "MethodNotAllowed", "no"))
            }
        }
    }

    fn get(&mut self, seen: &Seen) -> (u16, Value) {
        if let Some(kinds) = self.kinds(&seen.path) {
            return (200, kinds);
        }
        if seen.path.ends_with("/pods") {
            if seen.query.get("labelSelector").is_none_or(|selector| !selector.contains("app=")) {
                self.complaints.push(format!("selector of {seen:?}"));
            }
            return (200, json!({ "kind": "PodList", "apiVersion": "v1", "items": self.pods }));
        }
        if self.advance_on_read {
            self.advance(&seen.path);
        }
        match self.objects.get(&seen.path) {
            Some(tracked) => (200, tracked.shown()),
            None => not_found(&seen.path),
        }
    }

    /// A discovery document.
    fn kinds(&mut self, path: &str) -> Option<Value> {
        if path == "/apis/example.com/v1" && self.making > 0 {
            self.making -= 1;
            return None;
        }
        let resource = |name: &str, kind: &str, namespaced: bool| json!({ "name": name, "kind": kind, "namespaced": namespaced, "verbs": ["get", "patch"] });
        let resources = match path {
            "/api/v1" => vec![
                resource("namespaces/status", "Namespace", false),
                resource("configmaps", "ConfigMap", true),
                resource("services", "Service", true),
            ],
            "/apis/apiextensions.k8s.io/v1" => {
                vec![resource("customresourcedefinitions", "CustomResourceDefinition", false)]
            }
            "/apis/example.com/v1" if self.objects.keys().any(|path| path.ends_with("things.example.com")) => {
                vec![resource("things", "Thing", true)]
            }
            _ => return None,
        };
        Some(json!({ "kind": "APIResourceList", "groupVersion": "x", "resources": resources }))
    }

    fn patch(&mut self, seen: &Seen) -> (u16, Value) {
        let query = |name: &str| seen.query.get(name).map(String::as_str).unwrap_or_default();
        let known = ["fieldManager", "force", "fieldValidation", "dryRun"];
        let manager = query("fieldManager");
        if manager.is_empty()
            || query("fieldValidation") != "Strict"
            || seen.query.keys().any(|name| !known.contains(&name.as_str()))
        {
            self.complaints.push(format!("query of {seen:?}"));
        }
        if seen.headers.get("content-type").is_none_or(|kind| kind != "application/apply-patch+yaml") {
            self.complaints.push(format!("content type of {seen:?}"));
        }
        if let Some(wrong) = types::wrong(&seen.body) {
            self.complaints.push(format!("{wrong} in {}", seen.body));
        }
        let metadata = &seen.body["metadata"];
        let (_, name) = seen.path.rsplit_once('/').unwrap();
        let namespace =
            seen.path.split_once("/namespaces/").and_then(|(_, rest)| rest.split_once('/')).map(|(name, _)| name);
        if metadata["name"] != name || metadata["namespace"].as_str() != namespace {
            self.complaints.push(format!("names of {seen:?}"));
        }
        if let Some(namespace) = namespace.filter(|namespace| {
            !matches!(*namespace, "shop" | "default")
                && !self.objects.contains_key(&format!("/api/v1/namespaces/{namespace}"))
        }) {
            let mut answer = status(404, "NotFound", &format!("namespaces {namespace:?} not found"));
            answer["details"] = json!({ "name": namespace, "kind": "namespaces" });
            return (404, answer);
        }
        let mut tracked = self.objects.get(&seen.path).cloned().unwrap_or_default();
        let is_new = tracked.live.is_null();
        if let Some(version) = metadata["resourceVersion"].as_str()
            && tracked.live["metadata"]["resourceVersion"] != version
        {
            return (
                409,
                status(
                    409,
                    "Conflict",
                    "the object has been modified; please apply your changes to the latest version",
                ),
            );
        }
        let before = tracked.live["spec"].clone();
        if let Err(conflicts) = tracked.apply(manager, query("force") == "true", &seen.body) {
            return contested(&conflicts);
        }
        if let Some(refusal) = invalid(&tracked.live) {
            return refusal;
        }
        let generation = tracked.live["metadata"]["generation"].as_i64().unwrap_or(0);
        let changed = i64::from(tracked.live["spec"] != before || is_new);
        tracked.live["metadata"]["generation"] = (generation + changed).into();
        tracked.live["metadata"]["resourceVersion"] = self.next_version().into();
        let shown = tracked.shown();
        if query("dryRun").is_empty() {
            self.objects.insert(seen.path.clone(), tracked);
        }
        (if is_new { 201 } else { 200 }, shown)
    }
}

fn not_found(path: &str) -> (u16, Value) {
    let name = path.rsplit('/').next().unwrap();
    (404, status(404, "NotFound", &format!("{name:?} not found")))
}

fn contested(conflicts: &[super::apply::Conflict]) -> (u16, Value) {
    let mut answer = status(409, "Conflict", &format!("Apply failed with {} conflicts", conflicts.len()));
    let cause = |conflict: &super::apply::Conflict| {
        json!({ "reason": "FieldManagerConflict", "field": conflict.field,
            "message": format!("conflict with {:?} using apps/v1", conflict.manager) })
    };
    answer["details"] = json!({ "causes": conflicts.iter().map(cause).collect::<Vec<_>>() });
    (409, answer)
}

/// What a real server finds missing in a whole object.
fn invalid(object: &Value) -> Option<(u16, Value)> {
    let template = match object["kind"].as_str()? {
        "Deployment" | "StatefulSet" | "DaemonSet" => &object["spec"]["template"],
        "CronJob" => &object["spec"]["jobTemplate"]["spec"]["template"],
        _ => return None,
    };
    let mut missing = Vec::new();
    if object["kind"] != "CronJob" && object["spec"]["selector"].as_object().is_none_or(serde_json::Map::is_empty) {
        missing.push("spec.selector".to_owned());
    }
    let containers = template["spec"]["containers"].as_array().cloned().unwrap_or_default();
    if containers.is_empty() {
        missing.push("spec.template.spec.containers".to_owned());
    }
    for (at, container) in containers.iter().enumerate().filter(|(_, container)| !container["image"].is_string()) {
        missing.push(format!("spec.template.spec.containers[{at}].image of {}", container["name"]));
    }
    if missing.is_empty() {
        return None;
    }
    let mut answer = status(422, "Invalid", "the object is invalid");
    let cause = |field: &String| json!({ "reason": "FieldValueRequired", "message": "Required value", "field": field });
    answer["details"] = json!({ "causes": missing.iter().map(cause).collect::<Vec<_>>() });
    Some((422, answer))
}
