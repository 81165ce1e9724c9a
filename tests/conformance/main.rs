//! Builds every case with `coop` and compares the image with what BuildKit made of it (`expected.json`). Knows no
//! Docker: `compare.py` writes the expectations.

#![allow(clippy::disallowed_methods, clippy::print_stderr, reason = "a test says what it lacks")]

mod context;
mod image;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use image::Image;
use serde_json::{Map, Value};

/// Mount points for files that only exist while a process runs; other builders leave them behind.
const MOUNT_POINTS: [&str; 9] =
    ["dev", "proc", "sys", "etc", "etc/hosts", "etc/resolv.conf", "etc/hostname", ".dockerenv", "etc/mtab"];

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance")
}

/// A store of its own, and the base that the cases build upon.
struct Bench {
    directory: tempfile::TempDir,
    base: Image,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let context = directory.path().join("base");
        context::lay_out(&here().join("base"), &context);
        let base = build(directory.path(), &context, "busybox", &[]).expect("the base");
        Self { directory, base }
    }

    /// Builds one case; the result is what differs.
    fn differences(&self, case: &Path) -> Vec<String> {
        let name = case.file_name().unwrap().to_str().unwrap();
        let context = self.directory.path().join(format!("case-{name}"));
        context::lay_out(case, &context);
        let expected = std::fs::read_to_string(case.join("expected.json")).unwrap();
        let expected: Value = serde_json::from_str(&expected).unwrap();
        let options = std::fs::read_to_string(case.join("options.txt")).unwrap_or_default();
        let options: Vec<&str> = options.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        let tag = format!("conformance/{name}");
        match (build(self.directory.path(), &context, &tag, &options), expected["fails"] == true) {
            (Err(_), true) => Vec::new(),
            (Ok(_), true) => vec!["it builds, which it must not".to_owned()],
            (Err(said), false) => vec![format!("it does not build: {said}")],
            (Ok(image), false) => self.compare(&image, &expected),
        }
    }

    /// Expected is what an image has beside the base, or all of it if it is not built upon the base.
    fn compare(&self, image: &Image, expected: &Value) -> Vec<String> {
        let busybox = self.base.content("bin/busybox").map(str::to_owned);
        let mut files = image.lines(busybox.as_deref());
        let mut config = image.config.clone();
        if files.contains_key("bin/busybox") {
            let before = self.base.lines(busybox.as_deref());
            config.retain(|key, value| self.base.config.get(key) != Some(value));
            let gone = before.keys().filter(|path| !files.contains_key(*path)).cloned().collect::<Vec<_>>();
            files.retain(|path, line| before.get(path) != Some(line));
            files.retain(|path, _| before.contains_key(path) || !MOUNT_POINTS.contains(&path.as_str()));
            files.extend(gone.into_iter().map(|path| (path, "gone".to_owned())));
        }
        let files: Map<String, Value> = files.into_iter().map(|(path, line)| (path, line.into())).collect();
        let mut found = differing("", &files, expected["files"].as_object().unwrap());
        found.extend(differing("config ", &config, expected["config"].as_object().unwrap()));
        found
    }
}

fn differing(what: &str, made: &Map<String, Value>, expected: &Map<String, Value>) -> Vec<String> {
    let names: BTreeMap<&String, ()> = made.keys().chain(expected.keys()).map(|name| (name, ())).collect();
    let show = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
    let differs = |name: &&String| made.get(*name) != expected.get(*name);
    let line = |name: &String| format!("{what}{name}: {}, expected {}", show(made.get(name)), show(expected.get(name)));
    names.into_keys().filter(differs).map(line).collect()
}

/// Builds with `coop`; a fault is what it said.
fn build(state: &Path, context: &Path, tag: &str, options: &[&str]) -> Result<Image, String> {
    let archive = state.join(format!("{}.tar", tag.replace('/', "-")));
    let config = state.join("config.yaml");
    std::fs::write(&config, "{}\n").unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_coop"))
        .env("COOP_ROOT", state.join("root"))
        .env("COOP_CONFIG", &config)
        .args(["build", "--progress=plain", "--compression=none", "-t", tag])
        .arg("-o")
        .arg(format!("type=docker,dest={}", archive.display()))
        .args(options)
        .arg(context)
        .output()
        .unwrap();
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned());
    }
    let image = Image::read(&archive);
    std::fs::remove_file(&archive).unwrap();
    Ok(image)
}

#[test]
fn every_case_gives_what_buildkit_gives() {
    if !Path::new("/bin/busybox").exists() {
        assert!(std::env::var_os("CI").is_none(), "the cases need /bin/busybox, a static one");
        eprintln!("passed over: the cases need /bin/busybox, a static one (package busybox-static)");
        return;
    }
    let bench = Bench::new();
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(here().join("cases")).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 40, "only {} cases were found", cases.len());
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let differences = bench.differences(case);
                    if !differences.is_empty() {
                        let name = case.file_name().unwrap().to_string_lossy();
                        failed.lock().unwrap().push(format!("{name}\n    {}", differences.join("\n    ")));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {} cases differ:\n{}", failed.len(), cases.len(), failed.join("\n"));
}
