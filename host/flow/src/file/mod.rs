//! The flow file as a value, every name with its place; knows neither graph nor run.

pub(crate) mod check;
mod fields;
mod matrix;
mod names;
mod read;
mod step;
mod variables;

pub(crate) use fields::{
    FILE_FIELDS, IMAGE_FIELDS, PLUGIN_FIELDS, PUSH_FIELDS, REGISTRIES_FIELDS, RETRY_FIELDS, STEP_FIELDS, TAG_FIELDS,
};

use crate::diagnostic::{Diagnostic, Report};
use crate::expression::Expression;
use crate::matrix::Matrix;
use crate::parameters::Parameters;
use crate::source::{Located, Source};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What reading a file needs besides its text.
#[derive(Debug, Clone, Default)]
pub struct ParseOptions {
    /// Values of `${NAME}` and `env.NAME`.
    pub variables: BTreeMap<String, String>,
    /// Names that `uses` may name without the file declaring them, such as the bundled plugins. With None,
    /// names are not checked here.
    pub plugins: Option<Vec<String>>,
    /// Names that stand under a plugin's `limits`. With none, names are not checked here.
    pub limits: &'static [&'static str],
}

/// A flow file without mistakes.
#[derive(Debug, Clone)]
pub struct FlowFile {
    /// The text it was read from.
    pub source: Arc<Source>,
    /// Where images come from and go to.
    pub registries: Registries,
    /// Plugins by name, in the order of the file.
    pub plugins: Vec<Plugin>,
    /// Images by name, in the order of the file.
    pub images: Vec<Image>,
    /// The flow at the top level, and one flow per tag of each image, in the order of the file.
    pub flows: Vec<Flow>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<Diagnostic>,
    /// The variables, for `env` in expressions.
    pub(crate) variables: Arc<BTreeMap<String, String>>,
}

/// The section `registries`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    /// Where the images that the file's names stand for come from.
    pub pull: Option<Located<String>>,
    /// Where they go.
    pub push: Option<Located<String>>,
}

/// A plugin that the file declares.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// Its name in `uses`.
    pub name: Located<String>,
    /// Where it comes from: `oci://...`, `file:...`.
    pub from: Located<String>,
    /// What the user allows it, by class of capability, for the engine to read.
    pub allow: serde_json::Map<String, serde_json::Value>,
    /// What one call of it may use up, by the name of the limit, for the engine to read.
    pub limits: serde_json::Map<String, serde_json::Value>,
}

/// An image that the file builds.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Its name without registry and tag.
    pub name: Located<String>,
    /// How it is pushed.
    pub push: PushSettings,
    /// Its tags, in the order of the file.
    pub tags: Vec<Located<String>>,
}

/// How an image is pushed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PushSettings {
    /// Instead of `registries.push`.
    pub registry: Option<Located<String>>,
    /// Replaces the first part of the image's name.
    pub override_user: Option<Located<String>>,
    /// Do not push it.
    pub skip: bool,
}

/// Steps that belong together: the flow of one tag of one image, or the one at the top level.
#[derive(Debug, Clone)]
pub struct Flow {
    /// Image and tag; None at the top level.
    pub image: Option<(String, String)>,
    /// In the order of the file.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its name, unique in the flow.
    pub name: Located<String>,
    /// The plugin, by name or by reference.
    pub uses: Located<String>,
    /// What the plugin gets.
    pub with: Parameters,
    /// The step whose tree it gets.
    pub input: Option<Located<String>>,
    /// Steps whose trees it gets besides, by the name that the plugin knows each under.
    pub inputs: Vec<(Located<String>, Located<String>)>,
    /// Steps of this flow, and `IMAGE:TAG` of this file, that must be over before.
    pub needs: Vec<Located<String>>,
    /// Whether it runs; None is `success()`, or `always()` for a `finally` step.
    pub condition: Option<Condition>,
    /// What it is run for; None is once.
    pub matrix: Option<Matrix>,
    /// How long one attempt may take.
    pub timeout: Option<Duration>,
    /// What to do about failures that may pass.
    pub retry: Retry,
    /// A failure does not fail the flow.
    pub continue_on_error: bool,
    /// Runs when every other step of the flow is over, whatever came of them.
    pub finally: bool,
}

/// The value of `if`.
#[derive(Debug, Clone)]
pub enum Condition {
    /// `true` or `false`.
    Constant(bool),
    /// An expression.
    Expression(Expression),
}

impl Condition {
    /// As written.
    pub fn text(&self) -> String {
        match self {
            Condition::Constant(value) => value.to_string(),
            Condition::Expression(expression) => expression.text().to_string(),
        }
    }
}

/// What to do about failures that may pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// How often the step is tried in all, at least 1.
    pub attempts: u32,
    /// How long to wait before the second attempt.
    pub delay: Duration,
    /// By how much each later wait is longer than the one before.
    pub backoff: f64,
}

impl Retry {
    /// No wait is longer.
    pub const MAX_DELAY: Duration = Duration::from_secs(300);

    /// How long to wait after the attempt of that number, counted from 1.
    pub fn delay_after(&self, attempt: u32) -> Duration {
        let factor = self.backoff.powi(attempt.saturating_sub(1).min(1000) as i32);
        let seconds = self.delay.as_secs_f64() * factor;
        Duration::try_from_secs_f64(seconds).unwrap_or(Retry::MAX_DELAY).min(Retry::MAX_DELAY)
    }
}

impl Default for Retry {
    fn default() -> Retry {
        Retry { attempts: 1, delay: Duration::from_secs(1), backoff: 2.0 }
    }
}

impl Step {
    /// The trees it gets: names, of which that of `in` is empty, and steps.
    pub fn trees(&self) -> impl Iterator<Item = (&str, &Located<String>)> {
        let main = self.input.iter().map(|step| ("", step));
        main.chain(self.inputs.iter().map(|(name, step)| (name.value.as_str(), step)))
    }

    /// Whether it may run after something it waits for failed.
    pub fn survives_failure(&self) -> bool {
        match &self.condition {
            // `if: false` never runs, after a failure or not.
            None | Some(Condition::Constant(_)) => self.finally,
            Some(Condition::Expression(expression)) => {
                expression.survives_failure() || (self.finally && !expression.calls_status())
            }
        }
    }
}

impl Flow {
    /// The step of that name.
    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.name.value == name)
    }
}

impl FlowFile {
    /// Reads a file.
    ///
    /// # Errors
    /// Every mistake that shows without knowing what is in a build context: all of them at once, as far as the
    /// text is YAML at all. Cycles between steps are found by [`FlowFile::plan`].
    pub fn parse(source: Source, options: &ParseOptions) -> Result<FlowFile, Report> {
        let mut reader = read::Reader::new(Arc::new(source), options);
        let file = reader.file();
        let report = Report::new(reader.found);
        match file {
            Some(mut file) if !report.has_errors() => {
                file.warnings = report.diagnostics().to_vec();
                // Of what is said later too, secrets in clear are blotted out.
                file.source = file.warnings.first().map_or(file.source, |first| first.source.clone());
                Ok(file)
            }
            _ => Err(report),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let retry = Retry { attempts: 9, delay: Duration::from_secs(2), backoff: 3.0 };
        let waits: Vec<u64> = [1, 2, 3, 4, 5, 6, 99_999].map(|n| retry.delay_after(n).as_secs()).to_vec();
        assert_eq!(waits, [2, 6, 18, 54, 162, 300, 300]);
        let steady = Retry { backoff: 1.0, ..retry };
        assert_eq!(steady.delay_after(7).as_secs(), 2);
    }
}
