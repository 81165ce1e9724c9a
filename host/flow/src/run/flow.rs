//! The run loop: starts a step when all it waits for is over, until every step is; knows nothing of attempts.

use super::attempt::{Ended, Life, Task, cancelled};
use super::cancel::Cancel;
use super::facts::{Fact, Facts};
use super::group::Group;
use super::journal::{Keeping, stamp};
use super::log::StepLog;
use super::ports::{Event, FaultKind, Observer, RunOptions, Runner, StepCall, StepError, StepOutputs};
use super::result::{FlowResult, StepFault, StepResult};
use super::status::{Change, SkipReason, Status};
use crate::diagnostic::Diagnostic;
use crate::file::Condition;
use crate::plan::{Node, Plan};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

/// Runs every step of a plan and returns when all are over. Needs a tokio runtime with time enabled; steps run
/// on its worker threads. Dropping the future stops everything at once.
///
/// Once `cancel` is set, what runs is told to stop, what waits is cancelled, and `finally` and `always()` steps
/// still run, each for at most `options.grace`.
pub async fn run(
    plan: &Plan,
    runner: Arc<dyn Runner>,
    observer: Arc<dyn Observer>,
    options: &RunOptions,
    cancel: &Cancel,
) -> FlowResult {
    let begin = Instant::now();
    let mut run = Run::new(plan, runner, observer, options, cancel);
    let mut open: VecDeque<usize> = (0..plan.nodes.len()).filter(|index| run.waits[*index] == 0).collect();
    loop {
        while let Some(index) = open.pop_front() {
            if run.begin(index) {
                run.over(index, &mut open);
            }
        }
        let Some(joined) = run.tasks.join_next_with_id().await else {
            break;
        };
        let (id, ended) = match joined {
            Ok((id, ended)) => (id, ended),
            Err(error) => (error.id(), broke_down()),
        };
        if let Some(index) = run.ids.remove(&id) {
            run.end(index, ended);
            run.over(index, &mut open);
        }
    }
    FlowResult::new(run.results(), begin.elapsed())
}

struct Run<'a> {
    plan: &'a Plan,
    runner: Arc<dyn Runner>,
    options: &'a RunOptions,
    cancel: &'a Cancel,
    places: Arc<Semaphore>,
    states: Vec<State>,
    facts: Facts<'a>,
    /// Of the nodes that have a matrix.
    groups: Vec<Option<Group>>,
    /// How many of a node's dependencies are not over.
    waits: Vec<usize>,
    dependents: Vec<Vec<usize>>,
    tasks: JoinSet<Ended>,
    ids: HashMap<Id, usize>,
}

struct State {
    life: Arc<Life>,
    /// The step that failed or was cancelled, of this one and all that it waited for.
    culprit: Option<usize>,
    attempts: u32,
    duration: Duration,
    fault: Option<StepFault>,
    skipped: Option<SkipReason>,
    log: StepLog,
    resumed: bool,
    /// Of its entry in the journal.
    stamp: Option<String>,
}

impl<'a> Run<'a> {
    fn new(
        plan: &'a Plan,
        runner: Arc<dyn Runner>,
        observer: Arc<dyn Observer>,
        options: &'a RunOptions,
        cancel: &'a Cancel,
    ) -> Run<'a> {
        let mut dependents = vec![Vec::new(); plan.nodes.len()];
        for (index, node) in plan.nodes.iter().enumerate() {
            node.dependencies.iter().for_each(|edge| dependents[edge.node].push(index));
        }
        let states = plan.nodes.iter().map(|node| State {
            life: Arc::new(Life::new(node.id.clone(), observer.clone())),
            culprit: None,
            attempts: 0,
            duration: Duration::ZERO,
            fault: None,
            skipped: None,
            log: StepLog::default(),
            resumed: false,
            stamp: None,
        });
        Run {
            plan,
            runner,
            options,
            cancel,
            places: Arc::new(Semaphore::new(options.parallelism.clamp(1, Semaphore::MAX_PERMITS))),
            states: states.collect(),
            facts: Facts::new(plan),
            groups: groups(plan),
            waits: plan.nodes.iter().map(|node| node.dependencies.len()).collect(),
            dependents,
            tasks: JoinSet::new(),
            ids: HashMap::new(),
        }
    }

    /// Everything the step waits for is over: runs it, or ends it at once and returns true.
    fn begin(&mut self, index: usize) -> bool {
        let node = &self.plan.nodes[index];
        let culprit = self.groups[index].as_ref().and_then(Group::culprit);
        if culprit.is_some() || (self.cancel.is_cancelled() && !node.step.survives_failure()) {
            self.fault(index, Change::Cancel, cancelled("before it began", culprit), None);
            return true;
        }
        match self.prepare(node) {
            Ok(Ok(call)) => {
                self.states[index].log = call.log.clone();
                let task = Task {
                    life: self.states[index].life.clone(),
                    runner: self.runner.clone(),
                    call,
                    retry: node.step.retry,
                    places: self.places.clone(),
                    group: self.groups[index].clone(),
                    keeping: self.keeping(node),
                    cancel: self.cancel.clone(),
                    grace: self.options.grace,
                    survivor: node.step.survives_failure(),
                };
                let handle = self.tasks.spawn(task.run());
                self.ids.insert(handle.id(), index);
                false
            }
            Ok(Err(reason)) => {
                self.states[index].skipped = Some(reason.clone());
                self.facts.set(index, fact(Status::Skipped, StepOutputs::default()));
                self.states[index].life.change(Change::Skip, Event::Skipped { reason });
                true
            }
            Err(mut diagnostic) => {
                // An expression has the file as it was read; in that of the plan secrets in clear are blotted out.
                diagnostic.source = self.plan.source.clone();
                let mut error = StepError::new(FaultKind::Invalid, diagnostic.message.clone());
                error.hint = diagnostic.hint.clone();
                self.fault(index, Change::Fail, error, Some(*diagnostic));
                true
            }
        }
    }

    /// The call, or the reason why there is none; the error is an expression that fails.
    fn prepare(&self, node: &Node) -> Result<Result<StepCall, SkipReason>, Box<Diagnostic>> {
        let blocked = self.blocked(node);
        let scope = self.facts.scope(node, blocked.is_none(), self.culprit(node).is_some());
        let step = &node.step;
        if let Some(reason) = blocked.filter(|_| !step.survives_failure()) {
            return Ok(Err(reason));
        }
        let holds = match &step.condition {
            None => true,
            Some(Condition::Constant(value)) => *value,
            Some(Condition::Expression(expression)) => expression.holds(&scope)?,
        };
        if !holds {
            return Ok(Err(SkipReason::Condition));
        }
        self.facts.call(node, &scope)
    }

    fn keeping(&self, node: &Node) -> Option<Keeping> {
        let journal = self.options.journal.clone()?;
        let before = node.dependencies.iter().map(|edge| {
            let (id, state) = (self.plan.nodes[edge.node].id.key(), &self.states[edge.node]);
            format!("{id} {}", state.stamp.as_deref().unwrap_or_else(|| self.status(edge.node).as_str()))
        });
        let unchanged = node
            .dependencies
            .iter()
            .all(|edge| self.states[edge.node].resumed || self.states[edge.node].skipped.is_some());
        Some(Keeping { journal, before: before.collect(), unchanged })
    }

    fn status(&self, index: usize) -> Status {
        self.facts.get(index).status
    }

    /// Why the step must not run unless it says otherwise.
    fn blocked(&self, node: &Node) -> Option<SkipReason> {
        let name = |index: usize| self.plan.nodes[index].id.to_string();
        let empty = node.dependencies.iter().find(|edge| edge.data && self.status(edge.node) != Status::Succeeded);
        self.culprit(node)
            .map(|index| SkipReason::Failure(name(index)))
            .or_else(|| empty.map(|edge| SkipReason::NoResult(name(edge.node))))
    }

    /// One that failed rather than one that was cancelled because of it.
    fn culprit(&self, node: &Node) -> Option<usize> {
        let culprits = || node.dependencies.iter().filter_map(|edge| self.states[edge.node].culprit);
        culprits().find(|index| self.status(*index) == Status::Failed).or_else(|| culprits().next())
    }

    /// A task came back.
    fn end(&mut self, index: usize, ended: Ended) {
        let state = &mut self.states[index];
        (state.attempts, state.duration, state.resumed) = (ended.attempts, ended.duration, ended.resumed);
        match ended.result {
            Ok(outputs) if ended.resumed => {
                state.stamp = Some(ended.stamp);
                self.facts.set(index, fact(Status::Succeeded, outputs));
                state.life.change(Change::Resume, Event::Resumed);
            }
            Ok(outputs) => {
                state.stamp = Some(ended.stamp);
                self.facts.set(index, fact(Status::Succeeded, outputs));
                let finished = Event::Finished { status: Status::Succeeded, duration: state.duration, error: None };
                state.life.change(Change::Succeed, finished);
            }
            Err(error) => {
                let group = self.groups[index].as_ref();
                let told = self.cancel.is_cancelled() || group.and_then(Group::culprit).is_some();
                let stopped = error.kind == FaultKind::Cancelled && told;
                let change = if stopped { Change::Cancel } else { Change::Fail };
                let diagnostic = self.plan.parameter_error(index, &error);
                self.fault(index, change, error, diagnostic);
            }
        }
    }

    fn fault(&mut self, index: usize, change: Change, error: StepError, diagnostic: Option<Diagnostic>) {
        let state = &mut self.states[index];
        let status = if change == Change::Cancel { Status::Cancelled } else { Status::Failed };
        let node = &self.plan.nodes[index];
        if let Some(group) = self.groups[index].as_ref().filter(|_| status == Status::Failed) {
            group.failed(&node.id.to_string());
        }
        self.facts.set(index, fact(status, StepOutputs::default()));
        state.fault = Some(StepFault { error: error.clone(), diagnostic });
        state.life.change(change, Event::Finished { status, duration: state.duration, error: Some(error) });
    }

    /// Frees what waited for this step alone.
    fn over(&mut self, index: usize, open: &mut VecDeque<usize>) {
        let node = &self.plan.nodes[index];
        let own = match self.status(index) {
            Status::Failed => !node.step.continue_on_error,
            Status::Cancelled => true,
            _ => false,
        };
        let culprit = self.culprit(node).or(own.then_some(index));
        self.states[index].culprit = culprit;
        for dependent in &self.dependents[index] {
            self.waits[*dependent] -= 1;
            if self.waits[*dependent] == 0 {
                open.push_back(*dependent);
            }
        }
    }

    fn results(self) -> Vec<StepResult> {
        let nodes = self.plan.nodes.iter().enumerate();
        let states = self.states.into_iter().zip(nodes);
        states
            .map(|(state, (index, node))| {
                let Fact { status, values, tree } = self.facts.get(index).clone();
                StepResult {
                    id: node.id.clone(),
                    instance: node.instance.clone(),
                    status,
                    tolerated: node.step.continue_on_error,
                    resumed: state.resumed,
                    attempts: state.attempts,
                    duration: state.duration,
                    values: values.as_ref().clone(),
                    tree,
                    fault: state.fault,
                    skipped: state.skipped,
                    log: state.log.text(),
                }
            })
            .collect()
    }
}

/// The same group for all instances of one matrix.
fn groups(plan: &Plan) -> Vec<Option<Group>> {
    let mut known = HashMap::new();
    let groups = plan.nodes.iter().map(|node| {
        let (key, matrix) = (node.group()?, node.step.matrix.as_ref()?);
        Some(known.entry(key).or_insert_with(|| Group::new(matrix, node.step.continue_on_error)).clone())
    });
    groups.collect()
}

fn fact(status: Status, outputs: StepOutputs) -> Fact {
    Fact { status, values: Arc::new(outputs.values), tree: outputs.tree }
}

/// The runner panicked. The panic's own message went to the panic hook.
fn broke_down() -> Ended {
    let mut error = StepError::new(FaultKind::Failed, "the step broke down inside the host");
    error.hint = Some("this is a defect of the program: please report it".to_string());
    Ended { result: Err(error), attempts: 1, duration: Duration::ZERO, stamp: stamp(), resumed: false }
}
