//! The OCI image configuration with Docker's additions: reads that of a base, writes that of the result.

use cooperage_sdk::time::rfc3339;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::instructions::Health;
use crate::platform::Platform;

/// What BuildKit adds when an image sets no PATH.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const COMMENT: &str = "cooperage.dockerfile.v0";

/// A configuration that instructions change.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    /// The platform, if the base has one.
    pub platform: Option<Platform>,
    /// `author`
    pub author: Option<String>,
    /// `Env`, as `name=value`
    pub env: Vec<String>,
    /// `Cmd`
    pub cmd: Vec<String>,
    /// `Entrypoint`
    pub entrypoint: Vec<String>,
    /// `User`
    pub user: String,
    /// `WorkingDir`
    pub working_dir: String,
    /// `ExposedPorts`
    pub ports: BTreeSet<String>,
    /// `Volumes`
    pub volumes: BTreeSet<String>,
    /// `Labels`
    pub labels: BTreeMap<String, String>,
    /// `Healthcheck`
    pub health: Option<Value>,
    /// `StopSignal`
    pub stop_signal: Option<String>,
    /// `Shell`
    pub shell: Vec<String>,
    /// `OnBuild`
    pub on_build: Vec<String>,
    /// `history`
    pub history: Vec<Value>,
    /// `os.version` and `os.features`, which only some systems have.
    os_details: Map<String, Value>,
}

impl Config {
    /// That of `FROM scratch`.
    pub fn scratch(platform: &Platform) -> Self {
        Self { platform: Some(platform.clone()), working_dir: "/".into(), ..Self::default() }
    }

    /// That of a base. What is malformed counts as absent.
    pub fn read(image: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let config = &image["config"];
        let list =
            |name: &str| -> Vec<String> { config[name].as_array().into_iter().flatten().filter_map(text).collect() };
        let keys = |name: &str| config[name].as_object().into_iter().flat_map(|map| map.keys().cloned()).collect();
        let word = |name: &str| config[name].as_str().unwrap_or_default().to_owned();
        let labels = config["Labels"].as_object().into_iter().flatten();
        let platform = match (image["os"].as_str(), image["architecture"].as_str()) {
            (Some(os), Some(architecture)) => Some(Platform::new(os, architecture, image["variant"].as_str())),
            _ => None,
        };
        let details = ["os.version", "os.features"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), image.get(name)?.clone())));
        Self {
            platform,
            author: text(&image["author"]).filter(|author| !author.is_empty()),
            env: list("Env"),
            cmd: list("Cmd"),
            entrypoint: list("Entrypoint"),
            user: word("User"),
            working_dir: word("WorkingDir"),
            ports: keys("ExposedPorts"),
            volumes: keys("Volumes"),
            labels: labels.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect(),
            health: config.get("Healthcheck").filter(|value| value.is_object()).cloned(),
            stop_signal: text(&config["StopSignal"]).filter(|signal| !signal.is_empty()),
            shell: list("Shell"),
            on_build: list("OnBuild"),
            history: history(image),
            os_details: details.collect(),
        }
    }

    /// `Env` as pairs.
    pub fn env_pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.env.iter().map(|entry| entry.split_once('=').unwrap_or((entry, "")))
    }

    /// Sets a variable; one that exists keeps its place.
    pub fn set_env(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        let existing = self.env.iter_mut().find(|existing| existing.split('=').next() == Some(name));
        match existing {
            Some(existing) => *existing = entry,
            None => self.env.push(entry),
        }
    }

    /// The shell that runs commands that are no JSON array.
    pub fn shell_or_default(&self, windows: bool) -> Vec<String> {
        match (self.shell.is_empty(), windows) {
            (false, _) => self.shell.clone(),
            (true, true) => ["cmd", "/S", "/C"].map(str::to_owned).to_vec(),
            (true, false) => ["/bin/sh", "-c"].map(str::to_owned).to_vec(),
        }
    }

    /// Sets what `docker` calls the health check.
    pub fn set_health(&mut self, health: &Health) {
        let mut value = Map::new();
        value.insert("Test".into(), json!(health.test));
        let numbers = [
            ("Interval", health.interval),
            ("Timeout", health.timeout),
            ("StartPeriod", health.start_period),
            ("StartInterval", health.start_interval),
            ("Retries", health.retries),
        ];
        for (name, number) in numbers.into_iter().filter(|(_, number)| *number != 0) {
            value.insert(name.into(), json!(number));
        }
        self.health = Some(Value::Object(value));
    }

    /// Adds a history entry. One that is not `empty` belongs to the next operation on the tree.
    pub fn add_history(&mut self, created_by: &str, empty: bool, epoch: u64) {
        let mut entry = json!({ "created": rfc3339(epoch), "created_by": created_by, "comment": COMMENT });
        if empty {
            entry["empty_layer"] = json!(true);
        }
        self.history.push(entry);
    }

    /// The whole configuration without `rootfs`.
    pub fn write(&self, platform: &Platform, epoch: u64) -> Value {
        let mut config = Map::new();
        let mut put = |name: &str, value: Value| {
            let empty = match &value {
                Value::Array(items) => items.is_empty(),
                Value::Object(items) => items.is_empty(),
                Value::String(text) => text.is_empty(),
                value => value.is_null(),
            };
            if !empty {
                config.insert(name.into(), value);
            }
        };
        let set = |keys: &BTreeSet<String>| Value::Object(keys.iter().map(|key| (key.clone(), json!({}))).collect());
        put("User", json!(self.user));
        put("ExposedPorts", set(&self.ports));
        put("Env", json!(self.env));
        put("Entrypoint", json!(self.entrypoint));
        put("Cmd", json!(self.cmd));
        put("Volumes", set(&self.volumes));
        put("WorkingDir", json!(self.working_dir));
        put("Labels", json!(self.labels));
        put("StopSignal", json!(self.stop_signal));
        put("Healthcheck", json!(self.health));
        put("OnBuild", json!(self.on_build));
        put("Shell", json!(self.shell));
        let mut image = Map::new();
        image.insert("created".into(), json!(rfc3339(epoch)));
        image.insert("architecture".into(), json!(platform.architecture));
        image.insert("os".into(), json!(platform.os));
        if let Some(variant) = &platform.variant {
            image.insert("variant".into(), json!(variant));
        }
        if self.platform.as_ref().is_some_and(|own| own.os == platform.os && own.architecture == platform.architecture)
        {
            image.extend(self.os_details.clone());
        }
        if let Some(author) = &self.author {
            image.insert("author".into(), json!(author));
        }
        image.insert("config".into(), Value::Object(config));
        image.insert("history".into(), json!(self.history));
        Value::Object(image)
    }
}

/// The history of a base, with exactly one entry that is not empty for each layer: entries of ours follow, and
/// would else be taken for those of its layers. Old images and odd tools leave it out or miscount.
fn history(image: &Value) -> Vec<Value> {
    let mut history = image["history"].as_array().cloned().unwrap_or_default();
    let Some(layers) = image["rootfs"]["diff_ids"].as_array().map(Vec::len) else {
        return history;
    };
    let mut seen = 0;
    for entry in &mut history {
        if !entry.is_object() {
            *entry = json!({});
        }
        if entry["empty_layer"] != json!(true) {
            seen += 1;
            if seen > layers {
                entry["empty_layer"] = json!(true);
            }
        }
    }
    history.extend((seen..layers).map(|_| json!({ "comment": "no history in the base image" })));
    history
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_survives_reading_and_writing() {
        let base = json!({
            "created": "2024-01-01T00:00:00Z", "architecture": "arm64", "os": "linux", "variant": "v8", "author": "me",
            "config": {
                "Env": ["PATH=/bin", "A=1"], "Cmd": ["sh"], "Labels": {"l": "1"}, "ExposedPorts": {"80/tcp": {}}, "Hostname": "x",
                "Healthcheck": {"Test": ["NONE"]}, "OnBuild": ["RUN x"], "Volumes": null, "Image": "sha256:1",
            },
            "history": [{"created_by": "one"}], "rootfs": {"type": "layers"}, "docker_version": "1",
        });
        let mut config = Config::read(&base);
        config.set_env("A", "2");
        config.set_env("B", "=");
        let written = config.write(&Platform::new("linux", "arm64", None), 0);
        let expected = json!({
            "created": "1970-01-01T00:00:00Z", "architecture": "arm64", "os": "linux", "author": "me",
            "config": {
                "Env": ["PATH=/bin", "A=2", "B=="], "Cmd": ["sh"], "Labels": {"l": "1"}, "ExposedPorts": {"80/tcp": {}},
                "Healthcheck": {"Test": ["NONE"]}, "OnBuild": ["RUN x"],
            },
            "history": [{"created_by": "one"}],
        });
        assert_eq!(written, expected);
    }

    #[test]
    fn the_history_of_a_base_fits_its_layers() {
        let marks = |history: Value, layers: usize| -> String {
            let layers: Vec<String> = (0..layers).map(|layer| format!("sha256:{layer}")).collect();
            let config = Config::read(&json!({"history": history, "rootfs": {"diff_ids": layers}}));
            let mark = |entry: &Value| if entry["empty_layer"] == json!(true) { '-' } else { '+' };
            config.history.iter().map(mark).collect()
        };
        assert_eq!(marks(json!([{}, {"empty_layer": true}, {}]), 2), "+-+");
        assert_eq!(marks(json!([{}, {"empty_layer": true}]), 3), "+-++");
        assert_eq!(marks(json!(null), 2), "++");
        assert_eq!(marks(json!([{}, {}, 7]), 1), "+--");
    }

    #[test]
    fn a_malformed_base_counts_as_empty() {
        for value in [
            json!(null),
            json!([]),
            json!({"config": 1, "history": {}}),
            json!({"config": {"Env": "x", "Labels": [1]}}),
        ] {
            assert_eq!(Config::read(&value), Config::default(), "{value}");
        }
    }
}
