//! The run loop: starts a step when all it waits for is over, until every step is; knows nothing of attempts.

use super::attempt::{Ended, Life, Task};
use super::cancel::Cancel;
use super::ports::{Event, FaultKind, Handle, Observer, RunOptions, Runner, StepCall, StepError, StepOutputs};
use super::result::{FlowResult, StepFault, StepResult};
use super::status::{Change, SkipReason, Status};
use crate::diagnostic::{Code, Diagnostic};
use crate::expression::{Scope, StepValues};
use crate::file::Condition;
use crate::plan::{Node, Plan, StepId};
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
    by_id: HashMap<&'a StepId, usize>,
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
    values: Arc<serde_json::Map<String, serde_json::Value>>,
    tree: Option<Handle>,
    fault: Option<StepFault>,
    skipped: Option<SkipReason>,
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
            values: Arc::default(),
            tree: None,
            fault: None,
            skipped: None,
        });
        Run {
            plan,
            runner,
            options,
            cancel,
            places: Arc::new(Semaphore::new(options.parallelism.clamp(1, Semaphore::MAX_PERMITS))),
            states: states.collect(),
            by_id: plan.nodes.iter().enumerate().map(|(index, node)| (&node.id, index)).collect(),
            waits: plan.nodes.iter().map(|node| node.dependencies.len()).collect(),
            dependents,
            tasks: JoinSet::new(),
            ids: HashMap::new(),
        }
    }

    /// Everything the step waits for is over: runs it, or ends it at once and returns true.
    fn begin(&mut self, index: usize) -> bool {
        let node = &self.plan.nodes[index];
        if self.cancel.is_cancelled() && !node.step.survives_failure() {
            self.fault(index, Change::Cancel, StepError::new(FaultKind::Cancelled, "cancelled before it began"), None);
            return true;
        }
        match self.prepare(node) {
            Ok(Ok(call)) => {
                let task = Task {
                    life: self.states[index].life.clone(),
                    runner: self.runner.clone(),
                    call,
                    retry: node.step.retry,
                    places: self.places.clone(),
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
                self.states[index].life.change(Change::Skip, Event::Skipped { reason });
                true
            }
            Err(diagnostic) => {
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
        let scope = self.scope(node, blocked.is_none());
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
        let input = match self.input(node)? {
            Ok(input) => input,
            Err(reason) => return Ok(Err(reason)),
        };
        Ok(Ok(StepCall {
            id: node.id.clone(),
            uses: step.uses.value.clone(),
            parameters: step.with.evaluate(&scope)?,
            secrets: step.with.secrets(),
            input,
            attempt: 0,
            timeout: step.timeout,
            cancel: Cancel::new(),
        }))
    }

    /// Why the step must not run unless it says otherwise.
    fn blocked(&self, node: &Node) -> Option<SkipReason> {
        let name = |index: usize| self.plan.nodes[index].id.to_string();
        let empty = node
            .dependencies
            .iter()
            .find(|edge| edge.data && self.states[edge.node].life.status() != Status::Succeeded);
        self.culprit(node)
            .map(|index| SkipReason::Failure(name(index)))
            .or_else(|| empty.map(|edge| SkipReason::NoResult(name(edge.node))))
    }

    fn culprit(&self, node: &Node) -> Option<usize> {
        let mut edges = node.dependencies.iter();
        edges.find_map(|edge| self.states[edge.node].culprit)
    }

    /// The tree that `in` names. Even a step that runs after failures cannot run without it.
    fn input(&self, node: &Node) -> Result<Result<Option<Handle>, SkipReason>, Box<Diagnostic>> {
        let Some(name) = &node.step.input else {
            return Ok(Ok(None));
        };
        let id = StepId { image: node.id.image.clone(), step: name.value.clone() };
        let state = self.by_id.get(&id).map(|index| &self.states[*index]);
        match state.filter(|state| state.life.status() == Status::Succeeded) {
            None => Ok(Err(SkipReason::NoResult(id.to_string()))),
            Some(state) if state.tree.is_some() => Ok(Ok(state.tree.clone())),
            Some(_) => {
                let message = format!("the step `{}` gives no files", name.value);
                Err(Diagnostic::error(&self.plan.source, Code::InvalidValue, name.span.clone(), message)
                    .hint("`in` needs a step that makes files; its values are reached by `steps.NAME.OUTPUT`")
                    .into())
            }
        }
    }

    fn scope(&self, node: &Node, success: bool) -> Scope {
        let names = crate::file::check::references(&node.step).map(|reference| reference.step.clone());
        let steps = names.filter_map(|step| {
            let id = StepId { image: node.id.image.clone(), step };
            let state = self.by_id.get(&id).map(|index| &self.states[*index])?;
            let values = StepValues { status: state.life.status().as_str(), values: state.values.clone() };
            Some((id.step, values))
        });
        Scope {
            steps: steps.collect(),
            env: self.plan.variables.clone(),
            image: node.id.image.clone(),
            failure: self.culprit(node).is_some(),
            success,
        }
    }

    /// A task came back.
    fn end(&mut self, index: usize, ended: Ended) {
        let state = &mut self.states[index];
        (state.attempts, state.duration) = (ended.attempts, ended.duration);
        match ended.result {
            Ok(StepOutputs { values, tree }) => {
                (state.values, state.tree) = (Arc::new(values), tree);
                let finished = Event::Finished { status: Status::Succeeded, duration: state.duration, error: None };
                state.life.change(Change::Succeed, finished);
            }
            Err(error) => {
                let stopped = error.kind == FaultKind::Cancelled && self.cancel.is_cancelled();
                let change = if stopped { Change::Cancel } else { Change::Fail };
                let diagnostic = error.pointer.as_deref().and_then(|pointer| {
                    let diagnostic = self.plan.parameter_error(index, pointer, &error.message)?;
                    Some(diagnostic.maybe_hint(error.hint.clone()))
                });
                self.fault(index, change, error, diagnostic);
            }
        }
    }

    fn fault(&mut self, index: usize, change: Change, error: StepError, diagnostic: Option<Diagnostic>) {
        let state = &mut self.states[index];
        let status = if change == Change::Cancel { Status::Cancelled } else { Status::Failed };
        state.fault = Some(StepFault { error: error.clone(), diagnostic });
        state.life.change(change, Event::Finished { status, duration: state.duration, error: Some(error) });
    }

    /// Frees what waited for this step alone.
    fn over(&mut self, index: usize, open: &mut VecDeque<usize>) {
        let node = &self.plan.nodes[index];
        let own = match self.states[index].life.status() {
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
        let states = self.states.into_iter().zip(&self.plan.nodes);
        states
            .map(|(state, node)| StepResult {
                id: node.id.clone(),
                status: state.life.status(),
                tolerated: node.step.continue_on_error,
                attempts: state.attempts,
                duration: state.duration,
                values: Arc::unwrap_or_clone(state.values),
                tree: state.tree,
                fault: state.fault,
                skipped: state.skipped,
            })
            .collect()
    }
}

/// The runner panicked. The panic's own message went to the panic hook.
fn broke_down() -> Ended {
    let mut error = StepError::new(FaultKind::Failed, "the step broke down inside the host");
    error.hint = Some("this is a defect of the program: please report it".to_string());
    Ended { result: Err(error), attempts: 1, duration: Duration::ZERO }
}
