//! What an expression refers to, with places; checks names against what expressions can see, evaluates nothing.

use crate::diagnostic::{Code, Diagnostic, nearest};
use crate::source::{Source, Span};
use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What of a step an expression needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A value: the step must have succeeded.
    Output,
    /// `steps.x.status`: the step must only be over.
    Status,
    /// `has(steps.x.y)`: the step must only be over.
    Presence,
}

/// A mention of another step in an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Name of the step.
    pub step: String,
    /// The output named, if one is.
    pub output: Option<String>,
    /// What is needed of it.
    pub usage: Use,
    /// Where the mention stands.
    pub span: Span,
    /// Where the name of the output stands; that of the step if none is named.
    pub output_span: Span,
}

/// A mention of a value of the step's matrix in an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MatrixUse {
    /// Its name; None where it is computed, or where the whole matrix is meant.
    pub name: Option<String>,
    /// Whether `has()` asks for it.
    pub tested: bool,
    /// Where the name stands.
    pub span: Span,
}

const ROOTS: [&str; 5] = ["steps", "matrix", "env", "image", "tag"];
const TYPES: [&str; 11] =
    ["bool", "bytes", "double", "dyn", "int", "list", "map", "null_type", "string", "type", "uint"];
/// Functions of this crate.
pub(crate) const STATUS_FUNCTIONS: [&str; 3] = ["always", "failure", "success"];
/// Functions and methods of CEL's standard library as `cel` has it; a test compares.
const FUNCTIONS: [&str; 12] =
    ["bool", "bytes", "contains", "double", "dyn", "endsWith", "int", "size", "startsWith", "string", "type", "uint"];
const MACROS: [&str; 6] = ["all", "exists", "exists_one", "filter", "has", "map"];

/// What the walk finds.
pub(crate) struct Walk<'a> {
    pub source: &'a Arc<Source>,
    pub info: &'a SourceInfo,
    /// Place in the file of each byte of the expression, and of its end.
    pub places: &'a [usize],
    pub variables: &'a BTreeMap<String, String>,
    pub found: &'a mut Vec<Diagnostic>,
    pub references: Vec<Reference>,
    pub matrix: Vec<MatrixUse>,
    /// Which of [`STATUS_FUNCTIONS`] are called.
    pub status_functions: Vec<&'static str>,
    /// Variables that `has()` asks for, and mentions of unset ones: no mistake where they are asked for.
    pub asked: Vec<String>,
    pub unset: Vec<(String, Diagnostic)>,
}

/// One step of a path such as `steps.a["b"]`.
struct Segment<'a> {
    /// None where it is computed.
    name: Option<&'a str>,
    id: u64,
}

impl Walk<'_> {
    /// Visits the whole expression.
    pub fn run(&mut self, expr: &IdedExpr) {
        self.visit(expr, &mut Vec::new());
        let unset = std::mem::take(&mut self.unset).into_iter().filter(|(name, _)| !self.asked.contains(name));
        self.found.extend(unset.map(|(_, diagnostic)| diagnostic));
    }

    /// Visits a part of it; `bound` are the names that enclosing macros bind.
    fn visit<'e>(&mut self, expr: &'e IdedExpr, bound: &mut Vec<&'e str>) {
        let mut segments = Vec::new();
        let mut tested = false;
        if let Some(root) = path(expr, &mut segments, &mut tested) {
            let Expr::Ident(name) = &root.expr else {
                return;
            };
            let name = name.as_str();
            if !bound.contains(&name) {
                self.name(root, name, &segments, tested);
            }
            if !segments.iter().all(|segment| segment.name.is_some()) {
                self.visit_indices(expr, bound);
            }
            return;
        }
        match &expr.expr {
            Expr::Call(call) => self.call(expr, call, bound),
            Expr::Select(select) => self.visit(&select.operand, bound),
            Expr::List(list) => list.elements.iter().for_each(|item| self.visit(item, bound)),
            Expr::Map(map) => map.entries.iter().for_each(|entry| self.entry(&entry.expr, bound)),
            Expr::Struct(value) => value.entries.iter().for_each(|entry| self.entry(&entry.expr, bound)),
            Expr::Comprehension(inner) => {
                self.visit(&inner.iter_range, bound);
                self.visit(&inner.accu_init, bound);
                let before = bound.len();
                bound.push(&inner.iter_var);
                bound.extend(inner.iter_var2.as_deref());
                bound.push(&inner.accu_var);
                self.visit(&inner.loop_cond, bound);
                self.visit(&inner.loop_step, bound);
                self.visit(&inner.result, bound);
                bound.truncate(before);
            }
            Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
        }
    }

    fn entry<'e>(&mut self, entry: &'e EntryExpr, bound: &mut Vec<&'e str>) {
        match entry {
            EntryExpr::MapEntry(entry) => {
                self.visit(&entry.key, bound);
                self.visit(&entry.value, bound);
            }
            EntryExpr::StructField(field) => self.visit(&field.value, bound),
        }
    }

    fn call<'e>(&mut self, expr: &'e IdedExpr, call: &'e CallExpr, bound: &mut Vec<&'e str>) {
        let name = call.func_name.as_str();
        if let Some(known) = STATUS_FUNCTIONS.iter().find(|known| **known == name) {
            self.status_functions.push(known);
        } else if name.starts_with(|c: char| c.is_ascii_alphabetic()) && !FUNCTIONS.contains(&name) {
            let candidates = STATUS_FUNCTIONS.into_iter().chain(FUNCTIONS).chain(MACROS);
            let hint = nearest(name, candidates).map(|near| format!("did you mean `{near}`?"));
            let span = self.call_span(expr.id, name);
            let unknown =
                Diagnostic::error(self.source, Code::Expression, span, format!("there is no function `{name}`"));
            self.found.push(unknown.maybe_hint(hint));
        }
        call.target.iter().for_each(|target| self.visit(target, bound));
        call.args.iter().for_each(|argument| self.visit(argument, bound));
    }

    fn visit_indices<'e>(&mut self, expr: &'e IdedExpr, bound: &mut Vec<&'e str>) {
        match &expr.expr {
            Expr::Select(select) => self.visit_indices(&select.operand, bound),
            Expr::Call(call) if call.func_name == "_[_]" && call.args.len() == 2 => {
                self.visit_indices(&call.args[0], bound);
                self.visit(&call.args[1], bound);
            }
            _ => {}
        }
    }

    fn name(&mut self, root: &IdedExpr, name: &str, segments: &[Segment<'_>], tested: bool) {
        let span = self.span(root.id);
        match name {
            "steps" => self.step(span, segments, tested),
            "matrix" => {
                let first = segments.first();
                let name = first.and_then(|segment| segment.name);
                let span = match (first, name) {
                    (Some(segment), Some(name)) => self.segment_span(segment.id, name),
                    _ => span,
                };
                self.matrix.push(MatrixUse { name: name.map(str::to_string), tested, span });
            }
            "env" => self.variable(span, segments, tested),
            _ if ROOTS.contains(&name) || TYPES.contains(&name) => {}
            _ => {
                let dash =
                    span.start.checked_sub(1).is_some_and(|before| self.source.slice(&(before..span.start)) == "-");
                let hint = match nearest(name, ROOTS) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if dash => "a name with `-` needs brackets: `steps[\"NAME\"].OUTPUT`".to_string(),
                    None => format!("expressions see {}; text needs quotes", list(ROOTS)),
                };
                let message = format!("there is no variable `{name}`");
                self.found.push(Diagnostic::error(self.source, Code::Expression, span, message).hint(hint));
            }
        }
    }

    fn step(&mut self, span: Span, segments: &[Segment<'_>], tested: bool) {
        let Some(Segment { name: Some(step), id }) = segments.first() else {
            self.found.push(
                Diagnostic::error(self.source, Code::Expression, span, "`steps` needs the name of a step")
                    .hint("write `steps.NAME.OUTPUT` or `steps[\"NAME\"].OUTPUT`; the name cannot be computed"),
            );
            return;
        };
        let output = segments.get(1).and_then(|segment| segment.name);
        let usage = match (tested, output) {
            (false, Some("status")) => Use::Status,
            (true, _) if segments.len() <= 2 => Use::Presence,
            _ => Use::Output,
        };
        let span = self.segment_span(*id, step);
        let output_span = match (segments.get(1), output) {
            (Some(segment), Some(output)) => self.segment_span(segment.id, output),
            _ => span.clone(),
        };
        self.references.push(Reference {
            step: step.to_string(),
            output: output.map(str::to_string),
            usage,
            span,
            output_span,
        });
    }

    fn variable(&mut self, span: Span, segments: &[Segment<'_>], tested: bool) {
        let Some(Segment { name: Some(name), id }) = segments.first() else {
            return;
        };
        if tested {
            self.asked.push(name.to_string());
        }
        if tested || self.variables.contains_key(*name) {
            return;
        }
        let end = self.segment_span(*id, name).end;
        let hint = nearest(name, self.variables.keys().map(String::as_str)).map_or_else(
            || format!("set it, or write `has(env.{name}) ? env.{name} : \"default\"`"),
            |near| format!("did you mean `{near}`?"),
        );
        let message = format!("the variable `{name}` is not set");
        let unset = Diagnostic::error(self.source, Code::UnsetVariable, span.start..end, message).hint(hint);
        self.unset.push((name.to_string(), unset));
    }

    /// The parser's offsets are bytes, the end included.
    fn span(&self, id: u64) -> Span {
        let (start, stop) = self.info.offset_for(id).unwrap_or((0, 0));
        self.place(start as usize)..self.place(stop as usize + 1)
    }

    /// The place of a name behind a dot, or of a quoted one in brackets.
    fn segment_span(&self, id: u64, name: &str) -> Span {
        let span = self.span(id);
        match self.source.slice(&span) {
            "." => {
                let start = self.info.offset_for(id).map_or(0, |(start, _)| start as usize) + 1;
                self.place(start)..self.place(start + name.len())
            }
            _ => span,
        }
    }

    /// A call is known by its opening parenthesis: the name stands before it.
    fn call_span(&self, id: u64, name: &str) -> Span {
        let start = self.info.offset_for(id).map_or(0, |(start, _)| start as usize);
        let span = self.place(start.saturating_sub(name.len()))..self.place(start);
        if self.source.slice(&span) == name { span } else { self.span(id) }
    }

    fn place(&self, byte: usize) -> usize {
        self.places.get(byte).or(self.places.last()).copied().unwrap_or(0)
    }
}

/// The identifier that a path of selections and indices begins with; None if it begins with anything else.
fn path<'e>(expr: &'e IdedExpr, segments: &mut Vec<Segment<'e>>, tested: &mut bool) -> Option<&'e IdedExpr> {
    match &expr.expr {
        Expr::Ident(_) => Some(expr),
        Expr::Select(select) => {
            let root = path(&select.operand, segments, tested)?;
            *tested |= select.test;
            segments.push(Segment { name: Some(&select.field), id: expr.id });
            Some(root)
        }
        Expr::Call(call) if call.func_name == "_[_]" && call.args.len() == 2 => {
            let root = path(&call.args[0], segments, tested)?;
            let name = match &call.args[1].expr {
                Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
                _ => None,
            };
            segments.push(Segment { name, id: call.args[1].id });
            Some(root)
        }
        _ => None,
    }
}

/// "`a`, `b` and `c`".
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.pop() {
        None => "none".to_string(),
        Some(last) if names.is_empty() => last,
        Some(last) => format!("{} and {last}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever number of arguments a function wants, one that exists never answers "undeclared".
    #[test]
    fn the_functions_listed_are_those_of_the_library() {
        let exists = |name: &str| {
            [format!("{name}()"), format!("{name}('1')"), format!("'1'.{name}('1')")].iter().any(|call| {
                let result = cel::Program::compile(call).unwrap().execute(&cel::Context::default());
                !matches!(result, Err(cel::ExecutionError::UndeclaredReference(_)))
            })
        };
        for name in FUNCTIONS {
            assert!(exists(name), "{name}");
        }
        assert!(!exists("nonsense"));
    }
}
