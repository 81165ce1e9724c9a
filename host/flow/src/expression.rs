//! One CEL expression of a flow file: compiled once, evaluated in a [`Scope`]; knows no step's life.

use crate::diagnostic::{Code, Diagnostic, nearest};
use crate::matrix::Instance;
use crate::references::{MatrixUse, Reference, Use, Walk, list};
use crate::source::{Source, Span};
use cel::{Context, Env, ExecutionError, Program};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

static STANDARD: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// A longer expression is refused: the parser's time grows faster than its input.
const MAX_BYTES: usize = 4096;

/// What expressions see.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The steps that are over, by name.
    pub steps: BTreeMap<String, StepValues>,
    /// `env`: the variables that the caller gave.
    pub env: Arc<BTreeMap<String, String>>,
    /// `matrix`: the combination that the step runs for.
    pub matrix: Option<Arc<Instance>>,
    /// `image` and `tag`; both empty in a flow that builds no named image.
    pub image: Option<(String, String)>,
    /// `failure()`: something that this step waits for failed.
    pub failure: bool,
    /// `success()`: everything that this step waits for went well.
    pub success: bool,
}

/// What expressions see of one step.
#[derive(Debug, Clone, Default)]
pub struct StepValues {
    /// `succeeded`, `failed`, `skipped` or `cancelled`.
    pub status: &'static str,
    /// Its outputs.
    pub values: Arc<Map<String, Value>>,
}

/// A compiled expression.
#[derive(Debug, Clone)]
pub struct Expression {
    source: Arc<Source>,
    text: String,
    span: Span,
    program: Arc<Program>,
    references: Vec<Reference>,
    matrix: Vec<MatrixUse>,
    status_functions: Vec<&'static str>,
}

impl Expression {
    /// Compiles. `places` gives the place in the file of each byte of `text`, and of its end.
    pub(crate) fn compile(
        source: &Arc<Source>,
        text: &str,
        places: &[usize],
        variables: &BTreeMap<String, String>,
        found: &mut Vec<Diagnostic>,
    ) -> Option<Expression> {
        let whole = places.first().copied().unwrap_or(0)..places.last().copied().unwrap_or(0);
        let trimmed = text.trim();
        let lead = text.len() - text.trim_start().len();
        let wrong = |span: Span, message: String| Diagnostic::error(source, Code::Expression, span, message);
        if trimmed.is_empty() {
            found.push(wrong(whole, "the expression is empty".to_string()));
            return None;
        }
        let places = &places[lead..=lead + trimmed.len()];
        let span = places[0]..places[trimmed.len()];
        if trimmed.len() > MAX_BYTES {
            found.push(wrong(span, format!("the expression is longer than {MAX_BYTES} bytes")));
            return None;
        }
        let program = match STANDARD.compile(trimmed) {
            Ok(program) => program,
            Err(errors) => {
                found.push(syntax_error(source, trimmed, places, &errors));
                return None;
            }
        };
        let mut walk = Walk {
            source,
            info: program.source_info(),
            places,
            variables,
            found,
            references: Vec::new(),
            matrix: Vec::new(),
            status_functions: Vec::new(),
            asked: Vec::new(),
            unset: Vec::new(),
        };
        walk.run(program.expression());
        let (references, matrix, status_functions) = (walk.references, walk.matrix, walk.status_functions);
        let program = Arc::new(program);
        Some(Expression {
            source: source.clone(),
            text: trimmed.to_string(),
            span,
            program,
            references,
            matrix,
            status_functions,
        })
    }

    /// The expression as written, without white space around it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where it stands.
    pub fn span(&self) -> Span {
        self.span.clone()
    }

    /// The steps it mentions.
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// What it mentions of the matrix of its step.
    pub(crate) fn matrix(&self) -> &[MatrixUse] {
        &self.matrix
    }

    /// Whether its value depends on no step at all.
    pub(crate) fn is_constant(&self) -> bool {
        self.references.is_empty() && !self.calls_status()
    }

    /// Whether it calls `always()` or `failure()`, that is, may hold after a failure.
    pub fn survives_failure(&self) -> bool {
        self.status_functions.iter().any(|name| *name != "success")
    }

    /// Whether it calls one of `always()`, `failure()` and `success()`.
    pub(crate) fn calls_status(&self) -> bool {
        !self.status_functions.is_empty()
    }

    /// Whether it calls the function of that name.
    pub(crate) fn calls(&self, function: &str) -> bool {
        self.status_functions.contains(&function)
    }

    /// The value, with its type. An output of a step that did not succeed is `null`.
    ///
    /// # Errors
    /// What went wrong, at the part of the expression that it went wrong in as far as that can be told.
    pub fn evaluate(&self, scope: &Scope) -> Result<Value, Box<Diagnostic>> {
        let mut context = Context::with_env(STANDARD.clone());
        let (success, failure) = (scope.success, scope.failure);
        for (name, value) in [("always", true), ("failure", failure), ("success", success)] {
            // Fails only where the library has a function of that name, which a test excludes.
            let _ = context.add_function(name, move || value);
        }
        let (image, tag) = scope.image.clone().unwrap_or_default();
        context.add_variable_from_value("image", image);
        context.add_variable_from_value("tag", tag);
        context.add_variable_from_value(
            "env",
            scope.env.iter().map(|(k, v)| (k.clone(), v.clone())).collect::<HashMap<_, _>>(),
        );
        context.add_variable_from_value("matrix", self.matrix_values(scope));
        context.add_variable_from_value("steps", self.steps(scope));
        let result = self.program.execute(&context).map_err(|error| self.failed(&error, scope))?;
        result.json().map_err(|_| {
            self.error(self.span.clone(), "the result has no form in JSON".to_string())
                .hint("make it text with `string(...)`")
                .into()
        })
    }

    /// The value of a condition.
    ///
    /// # Errors
    /// As [`Expression::evaluate`], and if the value is no boolean.
    pub fn holds(&self, scope: &Scope) -> Result<bool, Box<Diagnostic>> {
        match self.evaluate(scope)? {
            Value::Bool(value) => Ok(value),
            other => Err(self
                .error(self.span.clone(), format!("a condition must be true or false, this is {}", kind(&other)))
                .label(excerpt(&other))
                .into()),
        }
    }

    /// Only the steps that are mentioned: a large output of another step costs nothing.
    fn steps(&self, scope: &Scope) -> HashMap<String, cel::Value> {
        let mut steps: HashMap<String, HashMap<String, cel::Value>> = HashMap::new();
        for reference in &self.references {
            let known = scope.steps.get(&reference.step);
            let status = known.map_or("skipped", |step| step.status);
            let values = steps.entry(reference.step.clone()).or_insert_with(|| {
                let values = known.iter().flat_map(|step| step.values.iter());
                values.map(|(name, value)| (name.clone(), to_cel(value))).collect()
            });
            values.insert("status".to_string(), cel::Value::from(status));
            let Some(output) = reference.output.as_ref().filter(|_| status != "succeeded") else {
                continue;
            };
            let tested = self.references.iter().any(|other| {
                other.usage == Use::Presence && other.step == reference.step && other.output.as_ref() == Some(output)
            });
            if !tested {
                values.entry(output.clone()).or_insert(cel::Value::Null);
            }
        }
        steps.into_iter().map(|(name, values)| (name, cel::Value::from(values))).collect()
    }

    /// The combination; a value that only others have is `null`, unless `has()` asks for it.
    fn matrix_values(&self, scope: &Scope) -> HashMap<String, cel::Value> {
        let own = scope.matrix.iter().flat_map(|instance| instance.values());
        let mut values: HashMap<_, _> = own.map(|(name, value)| (name.to_string(), to_cel(value))).collect();
        for name in self.matrix.iter().filter_map(|mention| mention.name.as_ref()) {
            if !self.matrix.iter().any(|other| other.tested && other.name.as_ref() == Some(name)) {
                values.entry(name.clone()).or_insert(cel::Value::Null);
            }
        }
        values
    }

    fn failed(&self, error: &ExecutionError, scope: &Scope) -> Diagnostic {
        if let ExecutionError::NoSuchKey(key) = error {
            let missing = self.references.iter().find(|reference| reference.output.as_deref() == Some(key.as_str()));
            if let Some(reference) = missing {
                let values = scope.steps.get(&reference.step).map(|step| step.values.clone()).unwrap_or_default();
                let names = || values.keys().map(String::as_str);
                let hint = match nearest(key, names()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if values.is_empty() => format!("`{}` has no outputs", reference.step),
                    None => format!("the outputs of `{}` are {}", reference.step, list(names())),
                };
                let message = format!("the step `{}` has no output `{key}`", reference.step);
                return self.error(self.span.clone(), message).hint(hint);
            }
            return self.error(self.span.clone(), format!("there is no `{key}` here"));
        }
        self.error(self.span.clone(), explain(error))
    }

    /// A warning about the expression.
    pub(crate) fn remark(&self, code: Code, message: &str) -> Diagnostic {
        Diagnostic::error(&self.source, code, self.span.clone(), message).warning()
    }

    /// A mistake that the whole expression is to blame for.
    pub(crate) fn mistake(&self, message: String) -> Diagnostic {
        self.error(self.span.clone(), message)
    }

    fn error(&self, span: Span, message: String) -> Diagnostic {
        Diagnostic::error(&self.source, Code::Expression, span, message)
    }
}

/// The first thing the parser stumbled over, without its list of all tokens that could have come instead.
fn syntax_error(source: &Arc<Source>, text: &str, places: &[usize], errors: &cel::ParseErrors) -> Diagnostic {
    let Some(first) = errors.errors.first() else {
        return Diagnostic::error(
            source,
            Code::Expression,
            places[0]..places[text.len()],
            "the expression does not parse",
        );
    };
    let line = usize::try_from(first.pos.0).unwrap_or(1).max(1) - 1;
    let column = usize::try_from(first.pos.1).unwrap_or(1).max(1) - 1;
    let line_start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let at = text[line_start..].char_indices().nth(column).map_or(text.len(), |(at, _)| line_start + at);
    let message = first.msg.strip_prefix("Syntax error: ").unwrap_or(&first.msg);
    let message = message.split(" expecting ").next().unwrap_or(message);
    let quoted = message.split_once('\'').and_then(|(_, rest)| rest.rsplit_once('\'')).map(|(token, _)| token);
    let (message, width) = match quoted {
        Some("<EOF>") => ("the expression ends too early".to_string(), 0),
        Some(token) if message.starts_with("token recognition") && token.starts_with(['"', '\'']) => {
            ("the quote is never closed".to_string(), token.len())
        }
        Some(token) => (format!("`{token}` does not belong here"), token.len()),
        None => (message.to_string(), 0),
    };
    let end = (at + width).min(text.len());
    let hint = quoted.filter(|token| token.contains('$')).map(|_| "variables are written `env.NAME` here".to_string());
    Diagnostic::error(source, Code::Expression, places[at]..places[end].max(places[at]), message).maybe_hint(hint)
}

/// The library's messages show its own types: these are for users.
fn explain(error: &ExecutionError) -> String {
    match error {
        ExecutionError::UnsupportedBinaryOperator(operator, left, right) => {
            format!("cannot {operator} {} and {}", left.type_of(), right.type_of())
        }
        ExecutionError::ValuesNotComparable(left, right) => {
            format!("cannot compare {} with {}", left.type_of(), right.type_of())
        }
        ExecutionError::UnsupportedTargetType { target } => {
            format!("a value of type {} does not fit here", target.type_of())
        }
        ExecutionError::NotSupportedAsMethod { method, target } => {
            format!("a value of type {} has no method `{method}`", target.type_of())
        }
        ExecutionError::UnsupportedIndex(index, value) => {
            format!("a value of type {} has no index of type {}", value.type_of(), index.type_of())
        }
        ExecutionError::UndeclaredReference(name) => format!("there is no `{name}`"),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "division by zero".to_string(),
        ExecutionError::Overflow(..) => "the result is too large".to_string(),
        ExecutionError::IndexOutOfBounds(_) => "the list is shorter than that".to_string(),
        other => {
            let text: String = other.to_string().chars().take(200).collect();
            let mut chars = text.chars();
            chars.next().map_or(text.clone(), |first| first.to_lowercase().chain(chars).collect())
        }
    }
}

/// JSON's numbers become CEL's `int` where they fit, as CEL does not mix `int` and `uint`.
fn to_cel(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(value) => cel::Value::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => cel::Value::Int(int),
            (None, Some(uint)) => cel::Value::UInt(uint),
            _ => cel::Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => cel::Value::from(text.as_str()),
        Value::Array(items) => cel::Value::from(items.iter().map(to_cel).collect::<Vec<_>>()),
        Value::Object(map) => {
            cel::Value::from(map.iter().map(|(k, v)| (k.clone(), to_cel(v))).collect::<HashMap<_, _>>())
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

fn excerpt(value: &Value) -> String {
    let text = value.to_string();
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn evaluate(text: &str) -> Result<Value, String> {
        let source = Arc::new(Source::new("f", text));
        let mut found = Vec::new();
        let places: Vec<usize> = (0..=text.len()).collect();
        let env = Arc::new(BTreeMap::from([("USER".to_string(), "ann".to_string())]));
        let expression = Expression::compile(&source, text, &places, &env, &mut found);
        if let Some(first) = found.first() {
            return Err(format!("{}: {}", first.line_column().1, first.message));
        }
        let values = json!({ "count": 2, "ratio": 0.5, "names": ["x", "y"], "digest": "sha256:1" });
        let ran = StepValues { status: "succeeded", values: Arc::new(values.as_object().unwrap().clone()) };
        let failed = StepValues { status: "failed", values: Arc::default() };
        let steps = BTreeMap::from([("a".to_string(), ran), ("b-c".to_string(), failed)]);
        let image = Some(("company/os".to_string(), "1.10".to_string()));
        let matrix = vec![("version".to_string(), json!(1.5)), ("os".to_string(), json!({ "name": "x" }))];
        let matrix = Some(Arc::new(Instance::new(matrix)));
        let scope = Scope { steps, env, matrix, image, failure: true, success: false };
        expression.unwrap().evaluate(&scope).map_err(|e| e.message)
    }

    #[test]
    fn values_keep_their_types() {
        let cases = [
            ("steps.a.count + 1", json!(3)),
            ("steps.a.ratio * 2.0", json!(1.0)),
            ("steps.a.names", json!(["x", "y"])),
            ("steps.a.names.map(n, n + '!')", json!(["x!", "y!"])),
            ("{'k': steps.a.count, 'n': null}", json!({ "k": 2, "n": null })),
            ("env.USER + '@' + image + ':' + tag", json!("ann@company/os:1.10")),
            ("steps['b-c'].digest", Value::Null),
            ("steps[\"b-c\"].status", json!("failed")),
            ("has(steps['b-c'].digest) ? steps['b-c'].digest : 'none'", json!("none")),
            ("has(env.NOPE) ? env.NOPE : 'd'", json!("d")),
            ("always() && failure() && !success()", json!(true)),
            ("matrix.version + 1.0", json!(2.5)),
            ("matrix.os.name + matrix['os'].name", json!("xx")),
            ("matrix.other", Value::Null),
            ("has(matrix.other) ? matrix.other : 'd'", json!("d")),
            ("matrix", json!({ "version": 1.5, "os": { "name": "x" } })),
            ("'é' + string(steps.a.count)", json!("é2")),
        ];
        for (text, expected) in cases {
            assert_eq!(evaluate(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn mistakes_have_a_column() {
        let cases = [
            ("steps.a.count +", "16: the expression ends too early"),
            ("  ", "1: the expression is empty"),
            ("1 + + 2", "5: `+` does not belong here"),
            ("'é' + + 2", "7: `+` does not belong here"),
            ("'abc", "1: the quote is never closed"),
            ("'é' + envv.X", "7: there is no variable `envv`"),
            ("true && sucess()", "9: there is no function `sucess`"),
            ("steps[image].x", "1: `steps` needs the name of a step"),
            ("'x' + env.NOPE", "7: the variable `NOPE` is not set"),
            ("[1].map(v, v + w)", "16: there is no variable `w`"),
            ("steps.a.diggest", "the step `a` has no output `diggest`"),
            ("steps.a.names[5]", "the list is shorter than that"),
            ("steps.a.count / 0", "division by zero"),
            ("size(1)", "found no matching overload for 'size' applied to '(int)'"),
            ("steps.a.count + 'x'", "cannot add int and string"),
        ];
        for (text, expected) in cases {
            assert_eq!(evaluate(text), Err(expected.to_string()), "{text}");
        }
    }
}
