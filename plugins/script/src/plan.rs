//! From parameters and the configuration of an image to one process with its mounts. It knows neither trees nor the
//! host.

use cooperage_sdk::trees::{Network, Process};
use cooperage_sdk::{Error, Result};
use serde_json::Value;

use crate::parameters::{NetworkChoice, Parameters, Sharing};

const WORKDIR: &str = "/workspace";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const SECRETS: &str = "/run/secrets";
const INPUTS: &str = "/inputs";

/// Parameters that make sense together.
#[derive(Debug)]
pub struct Wanted<'a> {
    parameters: &'a Parameters,
    args: Vec<String>,
    /// Limits and the like, as the contract has them.
    options: Vec<(String, String)>,
    /// Sizes of the directories in memory.
    sizes: Vec<Option<u64>>,
    /// Names of the trees beside the main one.
    inputs: Vec<String>,
}

/// What to run.
#[derive(Debug)]
pub struct Plan {
    /// What the user sees while it runs.
    pub name: String,
    /// Where the input goes and the result comes from; absolute, never the root.
    pub workdir: String,
    /// To whom the input belongs; none is whom it belonged to before.
    pub owner: Option<String>,
    /// The process.
    pub process: Process,
    /// Its mounts.
    pub mounts: Vec<Mount>,
    /// Names and absolute paths.
    pub outputs: Vec<(String, String)>,
    /// The directory that becomes the step's tree.
    pub result: String,
}

/// A mount.
#[derive(Debug, PartialEq, Eq)]
pub struct Mount {
    /// What it is.
    pub kind: Kind,
    /// Where; absolute, or empty for a secret that is an environment variable only.
    pub target: String,
    /// Whether the script may only read.
    pub read_only: bool,
    /// Options of the contract.
    pub options: Vec<(&'static str, String)>,
}

/// What a mount is.
#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory that lasts.
    Cache {
        /// Which.
        identity: String,
    },
    /// A secret.
    Secret {
        /// Which.
        name: String,
    },
    /// A tree that another step gave.
    Input {
        /// Under which name.
        name: String,
    },
    /// An empty directory in memory.
    Tmpfs,
}

impl<'a> Wanted<'a> {
    /// Checks what the schema cannot say. `inputs` are the names of the trees beside the main one.
    ///
    /// # Errors
    /// `invalid-input`.
    pub fn new(parameters: &'a Parameters, inputs: Vec<String>) -> Result<Self> {
        let wrong = |why: String| Err(Error::invalid_input(why));
        let Parameters { run, args, shell, env, workdir, secrets, outputs, .. } = parameters;
        let args = match (run, args) {
            (Some(script), None) => {
                let default = || ["/bin/sh", "-e", "-c"].map(str::to_owned).to_vec();
                let mut args = shell.clone().unwrap_or_else(default);
                if args.is_empty() {
                    return wrong("`shell` names no program".into());
                }
                args.push(script.clone());
                args
            }
            (None, Some(_)) if shell.is_some() => return wrong("`shell` goes with `run`, not with `args`".into()),
            (None, Some(args)) if args.is_empty() => return wrong("`args` names no program".into()),
            (None, Some(args)) => args.clone(),
            (Some(_), Some(_)) => return wrong("there are both `run` and `args`".into()),
            (None, None) => return wrong("there is nothing to run: give `run` or `args`".into()),
        };
        if let Some(name) = env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return wrong(format!("{name:?} is no name of an environment variable"));
        }
        if let Some(workdir) = workdir
            && (!workdir.starts_with('/') || absolute("/", workdir) == "/")
        {
            return wrong(format!("the working directory {workdir:?} is not an absolute path below the root"));
        }
        if let Some(secret) = secrets.iter().find(|secret| secret.name.is_empty() || secret.name.contains('/')) {
            return wrong(format!("{:?} is no name of a secret", secret.name));
        }
        if let Some((name, _)) = outputs.iter().find(|(name, path)| name.is_empty() || path.is_empty()) {
            return wrong(format!("output {name:?} needs a name and a path"));
        }
        if let Some(name) = parameters.inputs.keys().find(|name| !inputs.contains(name)) {
            let message = format!("`inputs` says where {name:?} goes, but the step has no input of that name");
            return Err(Error::invalid_input(message)
                .hint(format!("name the step that it comes from beside `with`: `inputs: {{ {name}: STEP }}`")));
        }
        let modes = parameters.caches.iter().map(|cache| &cache.mode);
        let mut modes = modes.chain(secrets.iter().map(|secret| &secret.mode)).flatten();
        if let Some(mode) = modes.find(|mode| !u32::from_str_radix(mode, 8).is_ok_and(|bits| bits <= 0o7777)) {
            return wrong(format!("{mode:?} are not octal permission bits"));
        }
        let sizes = parameters.tmpfs.iter().map(|tmpfs| tmpfs.size.as_ref().map(|size| size.bytes(&tmpfs.path)));
        Ok(Self {
            parameters,
            args,
            options: options(parameters)?,
            sizes: sizes.map(Option::transpose).collect::<Result<_>>()?,
            inputs,
        })
    }
}

/// Limits and the like, as the contract has them: bytes, processors, processes, milliseconds.
fn options(parameters: &Parameters) -> Result<Vec<(String, String)>> {
    let limits = &parameters.limits;
    let mut options = Vec::new();
    let mut set = |name: &str, value: String| options.push((name.to_owned(), value));
    if let Some(hostname) = &parameters.hostname {
        set("hostname", hostname.clone());
    }
    if let Some(size) = &parameters.shm_size {
        set("shm-size", size.bytes("shm_size")?.to_string());
    }
    if let Some(memory) = &limits.memory {
        set("memory", memory.bytes("memory")?.to_string());
    }
    if let Some(cpus) = limits.cpus {
        if !(0.01..=100_000.0).contains(&cpus) {
            return Err(Error::invalid_input(format!("cpus: {cpus} is not a number of processors")));
        }
        set("cpus", cpus.to_string());
    }
    if let Some(pids) = limits.pids {
        if pids == 0 {
            return Err(Error::invalid_input("pids: a script is at least one process"));
        }
        set("pids", pids.to_string());
    }
    if let Some(timeout) = &limits.timeout {
        set("timeout", timeout.milliseconds("timeout")?.to_string());
    }
    Ok(options)
}

impl Plan {
    /// With what the image's configuration says where the parameters say nothing.
    #[must_use]
    pub fn new(wanted: Wanted, config: &Value) -> Self {
        let Wanted { parameters, args, options, sizes, inputs } = wanted;
        let config = &config["config"];
        let text = |name: &str| config[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let workdir = match &parameters.workdir {
            Some(workdir) => absolute("/", workdir),
            None => match absolute("/", &text("WorkingDir").unwrap_or_default()).as_str() {
                "/" => WORKDIR.to_owned(),
                workdir => workdir.to_owned(),
            },
        };
        let user = parameters.user.clone().or_else(|| text("User")).unwrap_or_default();
        let mut process = Process::new(args);
        process.env = environment(config, parameters);
        process.cwd.clone_from(&workdir);
        process.user.clone_from(&user);
        process.options = options;
        process.stdin = parameters.stdin.clone().unwrap_or_default().into_bytes();
        process.network = match parameters.network {
            NetworkChoice::Default => Network::Default,
            NetworkChoice::None => Network::None,
            NetworkChoice::Host => Network::Host,
        };
        let outputs = parameters.outputs.iter().map(|(name, path)| (name.clone(), absolute(&workdir, path)));
        Self {
            name: format!("run {}", title(parameters)),
            // A script that may not write to its own input could do little.
            mounts: mounts(parameters, &workdir, is_root(&user), &inputs, &sizes),
            owner: Some(user).filter(|user| !user.is_empty()),
            process,
            outputs: outputs.collect(),
            result: absolute(&workdir, parameters.result.as_deref().unwrap_or_default()),
            workdir,
        }
    }
}

/// The image's variables in their order, then ours; ours win.
fn environment(config: &Value, parameters: &Parameters) -> Vec<(String, String)> {
    let listed = config["Env"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match env.iter_mut().find(|(n, _)| n == name) {
        Some((_, old)) => value.clone_into(old),
        None => env.push((name.to_owned(), value.to_owned())),
    };
    set("PATH", PATH);
    for (name, value) in listed.iter().filter_map(Value::as_str).filter_map(|variable| variable.split_once('=')) {
        set(name, value);
    }
    for (name, value) in &parameters.env {
        set(name, value);
    }
    env
}

/// Whether a user is the one that every file is open to.
fn is_root(user: &str) -> bool {
    matches!(user.split(':').next().unwrap_or_default(), "" | "0" | "root")
}

fn mounts(parameters: &Parameters, workdir: &str, root: bool, inputs: &[String], sizes: &[Option<u64>]) -> Vec<Mount> {
    // What root makes is closed to others, and only the host knows which number a user has.
    let mode = |wanted: &Option<String>, open: &str| {
        let mode = wanted.clone().or_else(|| (!root).then(|| open.to_owned()));
        mode.map(|mode| ("mode", mode))
    };
    let inputs = inputs.iter().map(|name| {
        let target = match parameters.inputs.get(name) {
            Some(path) => absolute(workdir, path),
            None => format!("{INPUTS}/{name}"),
        };
        Mount { kind: Kind::Input { name: name.clone() }, target, read_only: false, options: Vec::new() }
    });
    let tmpfs = parameters.tmpfs.iter().zip(sizes).map(|(tmpfs, size)| {
        let options = size.iter().map(|size| ("size", size.to_string())).collect();
        Mount { kind: Kind::Tmpfs, target: absolute(workdir, &tmpfs.path), read_only: false, options }
    });
    let caches = parameters.caches.iter().map(|cache| {
        let target = absolute(workdir, &cache.path);
        let identity = cache.id.clone().unwrap_or_else(|| target.clone());
        let sharing = match cache.sharing {
            Sharing::Shared => "shared",
            Sharing::Private => "private",
            Sharing::Locked => "locked",
        };
        let mut options = vec![("sharing", sharing.to_owned())];
        options.extend(mode(&cache.mode, "0777"));
        Mount { kind: Kind::Cache { identity }, target, read_only: cache.read_only, options }
    });
    let secrets = parameters.secrets.iter().map(|secret| {
        let target = match (&secret.path, &secret.env) {
            (Some(path), _) => absolute(workdir, path),
            (None, Some(_)) => String::new(),
            (None, None) => format!("{SECRETS}/{}", secret.name),
        };
        let mut options = vec![("required", "true".to_owned())];
        options.extend(mode(&secret.mode, "0444"));
        options.extend(secret.env.iter().map(|env| ("env", env.clone())));
        Mount { kind: Kind::Secret { name: secret.name.clone() }, target, read_only: false, options }
    });
    inputs.chain(tmpfs).chain(caches).chain(secrets).collect()
}

/// The first line of what is run.
fn title(parameters: &Parameters) -> String {
    const LONGEST: usize = 60;
    let text = match (&parameters.run, &parameters.args) {
        (Some(run), _) => run.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned(),
        (None, args) => args.as_deref().unwrap_or_default().join(" "),
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A path from the root on, without `.`, `..` and empty parts.
#[must_use]
pub fn absolute(base: &str, path: &str) -> String {
    let base = if path.starts_with('/') { "" } else { base };
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A pattern that means this path and no other.
#[must_use]
pub fn literal(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for c in path.chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// Without the end of the last line, as `$(...)` in a shell gives it.
#[must_use]
pub fn trimmed(text: &str) -> &str {
    text.trim_end_matches(['\n', '\r'])
}

#[cfg(test)]
mod tests {
    use cooperage_sdk::ErrorKind;
    use serde_json::json;

    use super::*;

    fn parameters(value: Value) -> Parameters {
        let mut all = json!({ "image": "busybox" });
        all.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    fn plan(value: Value, config: Value) -> Plan {
        let parameters = parameters(value);
        Plan::new(Wanted::new(&parameters, Vec::new()).unwrap(), &json!({ "config": config }))
    }

    fn variable<'p>(plan: &'p Plan, name: &str) -> Option<&'p str> {
        plan.process.env.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_script_runs_in_the_shell_and_stops_at_the_first_fault() {
        let plan = plan(json!({ "run": "\n  make test\nmake dist" }), json!({}));
        assert_eq!(plan.process.args, ["/bin/sh", "-e", "-c", "\n  make test\nmake dist"]);
        assert_eq!(plan.name, "run make test");
        assert_eq!((plan.workdir.as_str(), plan.process.cwd.as_str()), ("/workspace", "/workspace"));
        assert_eq!((plan.process.user.as_str(), plan.owner), ("", None));
        assert_eq!(plan.process.env, [("PATH".to_owned(), PATH.to_owned())]);
        assert_eq!(plan.process.network, Network::Default);
    }

    #[test]
    fn shells_and_programs() {
        assert_eq!(plan(json!({ "run": "x", "shell": ["bash", "-c"] }), json!({})).process.args, ["bash", "-c", "x"]);
        assert_eq!(plan(json!({ "args": ["go", "vet"] }), json!({})).process.args, ["go", "vet"]);
    }

    #[test]
    fn the_image_is_respected_and_the_flow_wins() {
        let config = json!({
            "Env": ["PATH=/opt/bin", "A=image=1", "B=image", "broken"], "WorkingDir": "/src/", "User": "app:app"
        });
        let plan1 = plan(json!({ "run": "x" }), config.clone());
        assert_eq!((plan1.workdir.as_str(), plan1.process.user.as_str()), ("/src", "app:app"));
        assert_eq!(plan1.owner.as_deref(), Some("app:app"));
        assert_eq!(variable(&plan1, "PATH"), Some("/opt/bin"));
        assert_eq!(variable(&plan1, "A"), Some("image=1"));

        let wanted = json!({ "run": "x", "env": { "B": "flow", "C": "" }, "workdir": "/w/../v", "user": "0", "network": "none" });
        let plan2 = plan(wanted, config);
        assert_eq!((plan2.workdir.as_str(), plan2.process.user.as_str()), ("/v", "0"));
        assert_eq!(variable(&plan2, "B"), Some("flow"));
        assert_eq!(variable(&plan2, "C"), Some(""));
        assert_eq!(plan2.process.env.len(), 4);
        assert_eq!(plan2.process.network, Network::None);
        assert_eq!(plan(json!({ "run": "x" }), json!({ "WorkingDir": "/" })).workdir, "/workspace");
    }

    #[test]
    fn mounts_and_outputs() {
        let plan = plan(
            json!({
                "run": "x",
                "caches": [{ "path": "/root/.cache" }, { "path": "target", "id": "t", "sharing": "locked" }],
                "secrets": [{ "name": "a" }, { "name": "b", "env": "B" }, { "name": "c", "path": "c.txt" }],
                "outputs": { "version": "out/version", "other": "/etc/os-release" },
            }),
            json!({}),
        );
        let mount = |kind, target: &str, options: &[(&'static str, &str)]| Mount {
            kind,
            target: target.into(),
            read_only: false,
            options: options.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
        };
        let cache = |identity: &str| Kind::Cache { identity: identity.into() };
        let secret = |name: &str| Kind::Secret { name: name.into() };
        assert_eq!(
            plan.mounts,
            [
                mount(cache("/root/.cache"), "/root/.cache", &[("sharing", "shared")]),
                mount(cache("t"), "/workspace/target", &[("sharing", "locked")]),
                mount(secret("a"), "/run/secrets/a", &[("required", "true")]),
                mount(secret("b"), "", &[("required", "true"), ("env", "B")]),
                mount(secret("c"), "/workspace/c.txt", &[("required", "true")]),
            ]
        );
        let output = |name: &str, path: &str| (name.to_owned(), path.to_owned());
        assert_eq!(plan.outputs, [output("other", "/etc/os-release"), output("version", "/workspace/out/version")]);
    }

    #[test]
    fn limits_are_those_of_the_contract() {
        let plan = plan(
            json!({
                "run": "x", "stdin": "in", "hostname": "h", "shm_size": "1m", "result": "dist",
                "limits": { "memory": "512m", "cpus": 1.5, "pids": 100, "timeout": "1.5m" },
            }),
            json!({}),
        );
        let options: Vec<_> =
            plan.process.options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected = [
            ("hostname", "h"),
            ("shm-size", "1048576"),
            ("memory", "536870912"),
            ("cpus", "1.5"),
            ("pids", "100"),
            ("timeout", "90000"),
        ];
        assert_eq!(options, expected);
        assert_eq!(plan.process.stdin, b"in");
        assert_eq!(plan.result, "/workspace/dist");
    }

    #[test]
    fn inputs_are_seen_where_the_flow_says() {
        let parameters = parameters(json!({
            "run": "x", "inputs": { "lib": "vendor/lib" }, "tmpfs": [{ "path": "/t", "size": "1k" }, { "path": "u" }],
        }));
        let wanted = Wanted::new(&parameters, vec!["lib".into(), "docs".into()]).unwrap();
        let plan = Plan::new(wanted, &json!({}));
        let shown: Vec<_> = plan.mounts.iter().map(|mount| (mount.target.as_str(), &mount.kind)).collect();
        let input = |name: &str| Kind::Input { name: name.into() };
        let expected = [
            ("/workspace/vendor/lib", input("lib")),
            ("/inputs/docs", input("docs")),
            ("/t", Kind::Tmpfs),
            ("/workspace/u", Kind::Tmpfs),
        ];
        assert_eq!(shown, expected.each_ref().map(|(target, kind)| (*target, kind)));
        assert_eq!(plan.mounts[2].options, [("size", "1024".to_owned())]);
    }

    #[test]
    fn who_is_not_root_can_use_caches_and_secrets() {
        let mounts = |user: &str| {
            let all = json!({
                "run": "x", "user": user, "secrets": [{ "name": "s" }, { "name": "t", "mode": "0440" }],
                "caches": [{ "path": "/c", "read_only": true }],
            });
            let modes = plan(all, json!({})).mounts.into_iter().map(|mount| {
                let mode = mount.options.iter().find(|(name, _)| *name == "mode");
                (mount.read_only, mode.map(|(_, mode)| mode.clone()))
            });
            modes.collect::<Vec<_>>()
        };
        let own = Some("0440".to_owned());
        for root in ["0", "root:staff", "0:0"] {
            assert_eq!(mounts(root), [(true, None), (false, None), (false, own.clone())]);
        }
        let open = |mode: &str| Some(mode.to_owned());
        assert_eq!(mounts("app"), [(true, open("0777")), (false, open("0444")), (false, own)]);
    }

    #[test]
    fn what_makes_no_sense_together() {
        for wrong in [
            json!({}),
            json!({ "run": "x", "args": ["y"] }),
            json!({ "args": [] }),
            json!({ "run": "x", "shell": [] }),
            json!({ "args": ["x"], "shell": ["y"] }),
            json!({ "run": "x", "workdir": "relative" }),
            json!({ "run": "x", "workdir": "/a/.." }),
            json!({ "run": "x", "env": { "A=B": "" } }),
            json!({ "run": "x", "secrets": [{ "name": "../a" }] }),
            json!({ "run": "x", "outputs": { "a": "" } }),
            json!({ "run": "x", "inputs": { "a": "/a" } }),
            json!({ "run": "x", "limits": { "memory": "much" } }),
            json!({ "run": "x", "limits": { "cpus": 0 } }),
            json!({ "run": "x", "limits": { "cpus": -1.5 } }),
            json!({ "run": "x", "limits": { "pids": 0 } }),
            json!({ "run": "x", "limits": { "timeout": "soon" } }),
            json!({ "run": "x", "shm_size": "0" }),
            json!({ "run": "x", "tmpfs": [{ "path": "/t", "size": "-1" }] }),
            json!({ "run": "x", "caches": [{ "path": "/c", "mode": "rwx" }] }),
            json!({ "run": "x", "secrets": [{ "name": "a", "mode": "99999" }] }),
        ] {
            let error = Wanted::new(&parameters(wrong.clone()), Vec::new()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidInput, "{wrong}");
        }
    }

    #[test]
    fn patterns_mean_one_path() {
        assert_eq!(literal("/a/b"), "/a/b");
        assert_eq!(literal("/a[1]*\\?"), "/a\\[1]\\*\\\\\\?");
    }

    #[test]
    fn titles_are_short() {
        let plan = plan(json!({ "run": "é".repeat(100) }), json!({}));
        assert_eq!(plan.name.chars().count(), "run ".len() + 61);
    }

    #[test]
    fn the_last_end_of_line_goes() {
        assert_eq!(trimmed("1.2\n3\r\n\n"), "1.2\n3");
    }
}
