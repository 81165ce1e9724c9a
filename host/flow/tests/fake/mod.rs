//! A runner that does what the parameters of a step say, and an observer that writes down what happens.
#![allow(dead_code, reason = "every file of tests uses another part of it")]

use async_trait::async_trait;
use cooperage_flow::{
    Cancel, Event, FaultKind, FlowFile, Gone, Handle, NoImageDependencies, Observer, ParseOptions, Plan, Preview,
    RunOptions, Runner, Source, StepCall, StepError, StepId, StepOutputs, run,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What a step can be told to do, under `with`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Orders {
    /// How long it takes.
    ms: u64,
    /// Does not listen when told to stop.
    stubborn: bool,
    /// Fails with that message,
    fail: Option<String>,
    /// the first so many times,
    times: Option<u32>,
    /// in a way that may pass,
    retryable: bool,
    /// not before so many milliseconds,
    retry_after: Option<u64>,
    /// refused,
    refuse: bool,
    /// because of that parameter,
    pointer: Option<String>,
    /// whose name should be one of these.
    known: Option<Vec<String>>,
    panic: bool,
    out: Map<String, Value>,
    tree: Option<String>,
    /// What it says.
    say: Option<String>,
    /// What a look at it tells: `hit`, `miss` or nothing.
    preview: Option<String>,
    /// What it is is not known.
    vague: bool,
}

/// Keeps every call.
#[derive(Default)]
pub struct Fake {
    calls: Mutex<Vec<StepCall>>,
    running: AtomicUsize,
    most: AtomicUsize,
    /// Stands for the files of the project.
    pub files: Mutex<String>,
    /// Trees that can no longer be restored.
    pub lost: Mutex<Vec<String>>,
    /// The steps that a run went on with, and their outputs.
    pub resumed: Mutex<Vec<String>>,
    /// Nothing can be gone on with.
    pub full: AtomicBool,
}

impl Fake {
    /// Every call, in their order.
    pub fn calls(&self) -> Vec<StepCall> {
        self.calls.lock().unwrap().clone()
    }

    /// The last call of a step.
    pub fn call(&self, step: &str) -> StepCall {
        self.calls.lock().unwrap().iter().rfind(|call| call.id.step == step).unwrap().clone()
    }

    /// The steps that were run, in their order.
    pub fn ran(&self) -> Vec<String> {
        self.calls.lock().unwrap().iter().map(|call| call.id.to_string()).collect()
    }

    /// How many steps ran at a time, at most.
    pub fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Runner for Fake {
    async fn run(&self, call: StepCall) -> Result<StepOutputs, StepError> {
        self.calls.lock().unwrap().push(call.clone());
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let result = obey(&call).await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        result
    }

    async fn preview(&self, call: &StepCall) -> Preview {
        let orders: Orders = serde_json::from_value(call.parameters.clone()).unwrap();
        match orders.preview.as_deref() {
            Some("hit") => Preview::Hit(outputs(orders)),
            Some("miss") => Preview::Miss("it was never done".to_string()),
            _ => Preview::Unknown("nobody looked".to_string()),
        }
    }

    async fn fingerprint(&self, call: &StepCall) -> Option<String> {
        let orders: Orders = serde_json::from_value(call.parameters.clone()).unwrap();
        let name = |tree: &Handle| tree.downcast_ref::<String>().unwrap().clone();
        let trees: Vec<_> = call.input.iter().map(name).chain(call.inputs.iter().map(|(_, tree)| name(tree))).collect();
        (!orders.vague).then(|| format!("{} {trees:?}", self.files.lock().unwrap()))
    }

    async fn save(&self, _: &StepCall, outputs: &StepOutputs) -> Option<Value> {
        let name = |tree: &Handle| Value::String(tree.downcast_ref::<String>().unwrap().clone());
        Some(outputs.tree.as_ref().map_or(Value::Null, name))
    }

    async fn restore(&self, _: &StepCall, saved: &Value) -> Result<Option<Handle>, Gone> {
        let name = saved.as_str().map(str::to_string);
        match name {
            Some(name) if self.lost.lock().unwrap().contains(&name) => Err(Gone),
            name => Ok(name.map(|name| Arc::new(name) as _)),
        }
    }

    async fn resume(&self, call: &StepCall, outputs: &StepOutputs) -> Result<(), StepError> {
        self.resumed.lock().unwrap().push(format!("{} {}", call.id, Value::Object(outputs.values.clone())));
        if self.full.load(Ordering::SeqCst) { Err(StepError::new(FaultKind::Failed, "no space")) } else { Ok(()) }
    }
}

fn outputs(orders: Orders) -> StepOutputs {
    StepOutputs { values: orders.out, tree: orders.tree.map(|tree| Arc::new(tree) as _) }
}

async fn obey(call: &StepCall) -> Result<StepOutputs, StepError> {
    let orders: Orders = serde_json::from_value(call.parameters.clone()).unwrap();
    call.log.write(orders.say.clone().unwrap_or_default().as_bytes());
    if orders.ms > 0 && orders.stubborn {
        sleep(Duration::from_millis(orders.ms)).await;
    } else if orders.ms > 0 {
        tokio::select! {
            () = call.cancel.cancelled() => return Err(StepError::new(FaultKind::Cancelled, "told to stop")),
            () = sleep(Duration::from_millis(orders.ms)) => {}
        }
    }
    assert!(!orders.panic, "told to panic");
    if let Some(message) = orders.fail.clone().filter(|_| orders.times.is_none_or(|times| call.attempt <= times)) {
        let kind = if orders.refuse { FaultKind::Refused } else { FaultKind::Failed };
        let mut error = StepError::new(kind, message);
        error.retryable = orders.retryable;
        error.retry_after = orders.retry_after.map(Duration::from_millis);
        error.pointer = orders.pointer;
        error.known = orders.known;
        return Err(error);
    }
    Ok(outputs(orders))
}

/// Writes down what happens, each line with the time.
struct Log {
    begin: Instant,
    text: Mutex<String>,
    fake: Arc<Fake>,
}

impl Observer for Log {
    fn event(&self, step: &StepId, event: Event) {
        let what = match event {
            Event::Queued => "queued".to_string(),
            Event::Started { attempt } => format!("started {attempt}"),
            Event::Retrying { delay, error, .. } => {
                format!("retrying in {}s: {error}", delay.as_secs())
            }
            Event::Skipped { reason } => format!("skipped: {reason}"),
            Event::Resumed => "resumed".to_string(),
            Event::NotKept { reason } => format!("not kept: {reason}"),
            Event::Finished { status, error: None, .. } => status.to_string(),
            Event::Finished { status, error: Some(error), .. } => format!("{status}: {error}"),
        };
        writeln!(self.text.lock().unwrap(), "{} {step} {what}", self.begin.elapsed().as_millis()).unwrap();
    }
}

/// In the order of time and, at one time, of the plan: tasks of one moment take turns as tokio likes.
fn sorted(log: &str, plan: &Plan) -> String {
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_by_key(|line| {
        let (time, rest) = line.split_once(' ').unwrap();
        let time: u64 = time.parse().unwrap();
        (time, plan.nodes.iter().position(|node| rest.starts_with(&format!("{} ", node.id))))
    });
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Options with a short grace.
pub fn options() -> RunOptions {
    RunOptions { parallelism: 4, grace: Duration::from_secs(2), journal: None }
}

/// A file with these steps at the top level.
pub fn file(steps: &str) -> FlowFile {
    let indented: String = steps.trim_start_matches('\n').lines().map(|line| format!("\n{line}")).collect();
    let flow =
        if steps.starts_with('\n') { indented } else { steps.lines().map(|line| format!("\n  {line}")).collect() };
    let options = ParseOptions {
        variables: BTreeMap::from([("MODE".to_string(), "debug".to_string())]),
        plugins: None,
        limits: &[],
    };
    FlowFile::parse(Source::new("cooperage.yaml", format!("version: 1\nflow:{flow}\n")), &options)
        .unwrap_or_else(|report| panic!("{report}"))
}

/// The plan of these steps.
pub fn plan(steps: &str) -> Plan {
    file(steps).plan(&NoImageDependencies).unwrap_or_else(|report| panic!("{report}"))
}

/// What happens when these steps run, and what comes of it.
pub async fn play(steps: &str) -> String {
    play_with(steps, options(), None).await
}

/// The same with options, and cancelled after a while.
pub async fn play_with(steps: &str, options: RunOptions, cancel_after: Option<Duration>) -> String {
    let plan = plan(steps);
    let fake = Arc::new(Fake::default());
    let log = Arc::new(Log { begin: Instant::now(), text: Mutex::default(), fake: fake.clone() });
    let cancel = Cancel::new();
    if cancel_after == Some(Duration::ZERO) {
        cancel.cancel();
    }
    let canceller = cancel.clone();
    let later = tokio::spawn(async move {
        if let Some(after) = cancel_after {
            sleep(after).await;
            canceller.cancel();
        }
    });
    let result = run(&plan, fake, log.clone(), &options, &cancel).await;
    later.abort();
    let mut text = sorted(&log.text.lock().unwrap(), &plan);
    for call in log.fake.calls.lock().unwrap().iter() {
        let name = |tree: &Handle| tree.downcast_ref::<String>().unwrap().clone();
        let named = call.inputs.iter().map(|(input, tree)| format!("{input}={}", name(tree)));
        let trees: Vec<String> = call.input.iter().map(name).chain(named).collect();
        if !trees.is_empty() {
            let line = format!("{} started {}", call.id, call.attempt);
            text = text.replace(&line, &format!("{line} on {}", trees.join(" ")));
        }
    }
    writeln!(text, "{:?}", result.outcome).unwrap();
    for (id, fault) in result.failures() {
        writeln!(text, "{id}: {:?} {}", fault.error.kind, fault.error).unwrap();
    }
    text
}
