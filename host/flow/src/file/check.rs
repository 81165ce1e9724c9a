//! Names in a file that must name something else in it; follows no edge further than one step.

use super::{Flow, FlowFile, ParseOptions, Step};
use crate::diagnostic::{Code, Diagnostic, nearest};
use crate::expression::Expression;
use crate::file::Condition;
use crate::references::{Reference, list};
use crate::source::{Located, Span};

/// Checks every step's `in`, `needs`, `uses` and expressions.
pub(super) fn check(file: &FlowFile, options: &ParseOptions, found: &mut Vec<Diagnostic>) {
    for flow in &file.flows {
        for step in &flow.steps {
            check_uses(file, options, step, found);
            for (_, input) in step.trees() {
                check_step(file, flow, step, &input.value, &input.span, found);
            }
            check_matrix(file, step, found);
            for need in &step.needs {
                if is_image(&need.value) {
                    check_image(file, flow, need, found);
                } else {
                    check_step(file, flow, step, &need.value, &need.span, found);
                }
            }
            for reference in references(step) {
                check_step(file, flow, step, &reference.step, &reference.span, found);
            }
            check_condition(step, found);
        }
    }
}

/// Every mention of another step in the expressions of a step.
pub(crate) fn references(step: &Step) -> impl Iterator<Item = &Reference> {
    expressions(step).flat_map(Expression::references)
}

/// Every expression of a step.
pub(crate) fn expressions(step: &Step) -> impl Iterator<Item = &Expression> {
    let condition = match &step.condition {
        Some(Condition::Expression(expression)) => Some(expression),
        _ => None,
    };
    step.with.expressions().into_iter().chain(condition)
}

/// A name of a step has neither of them.
pub(crate) fn is_image(need: &str) -> bool {
    need.contains([':', '/'])
}

/// Image and tag of `IMAGE[:TAG]`; the colon of a registry's port is none of a tag.
pub(crate) fn split_image(reference: &str) -> (&str, &str) {
    let after_slash = reference.rfind('/').map_or(0, |at| at + 1);
    match reference[after_slash..].rfind(':') {
        Some(colon) => (&reference[..after_slash + colon], &reference[after_slash + colon + 1..]),
        None => (reference, "latest"),
    }
}

fn check_step(file: &FlowFile, flow: &Flow, step: &Step, name: &str, span: &Span, found: &mut Vec<Diagnostic>) {
    let wrong = |code, message: String| Diagnostic::error(&file.source, code, span.clone(), message);
    if name == step.name.value {
        let message = format!("the step `{name}` waits for itself");
        found.push(wrong(Code::Cycle, message).related(step.name.span.clone(), "this step"));
        return;
    }
    if flow.step(name).is_some() {
        return;
    }
    let names = || flow.steps.iter().map(|step| step.name.value.as_str());
    // In CEL, `steps.unit-tests.x` is `steps.unit` minus `tests.x`.
    let dashed = names().find(|other| other.split('-').next() == Some(name) && *other != name);
    let hint = match (nearest(name, names()), dashed) {
        (_, Some(dashed)) if file.source.slice(&(span.end..span.end + 1)) == "-" => {
            format!("a name with `-` needs brackets: `steps[\"{dashed}\"]`")
        }
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, _) => match file.flows.iter().find(|other| other.step(name).is_some()) {
            Some(_) => {
                "a step of that name is in another flow; across flows, write `needs: [\"IMAGE:TAG\"]`".to_string()
            }
            None => format!("the steps of this flow are {}", list(names())),
        },
    };
    found.push(wrong(Code::UnknownStep, format!("there is no step `{name}`")).hint(hint));
}

/// `matrix.NAME` in an expression needs a matrix with that name.
fn check_matrix(file: &FlowFile, step: &Step, found: &mut Vec<Diagnostic>) {
    for mention in expressions(step).flat_map(Expression::matrix) {
        let wrong = |message: String| Diagnostic::error(&file.source, Code::Expression, mention.span.clone(), message);
        let Some(matrix) = &step.matrix else {
            let message = format!("the step `{}` has no matrix", step.name.value);
            found.push(wrong(message).hint("add one: `matrix: { version: [1, 2] }`"));
            continue;
        };
        let unknown = mention.name.as_ref().filter(|name| !matrix.names.contains(name));
        let Some(name) = unknown.filter(|_| !matrix.instances.is_empty()) else { continue };
        let names = || matrix.names.iter().map(String::as_str);
        let hint = match nearest(name, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it has {}", list(names())),
        };
        found.push(wrong(format!("the matrix has no `{name}`")).hint(hint));
    }
}

fn check_image(file: &FlowFile, flow: &Flow, need: &Located<String>, found: &mut Vec<Diagnostic>) {
    let (name, tag) = split_image(&need.value);
    let wrong = |code, message: String| Diagnostic::error(&file.source, code, need.span.clone(), message);
    if flow.image.as_ref().is_some_and(|(image, own)| image == name && own == tag) {
        found.push(
            wrong(Code::Cycle, format!("`{name}:{tag}` waits for itself")).hint("name the step instead of the image"),
        );
        return;
    }
    let all = file.flows.iter().filter_map(|flow| flow.image.as_ref()).map(|(name, tag)| format!("{name}:{tag}"));
    let all: Vec<String> = all.collect();
    let wanted = format!("{name}:{tag}");
    if all.contains(&wanted) {
        return;
    }
    let hint = match nearest(&wanted, all.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if all.is_empty() => "this file builds no named image; `needs` names steps".to_string(),
        None => format!("the images of this file are {}", list(all.iter().map(String::as_str))),
    };
    found.push(wrong(Code::UnknownStep, format!("this file does not build `{wanted}`")).hint(hint));
}

fn check_uses(file: &FlowFile, options: &ParseOptions, step: &Step, found: &mut Vec<Diagnostic>) {
    let Some(bundled) = &options.plugins else {
        return;
    };
    let uses = step.uses.value.as_str();
    let names =
        || file.plugins.iter().map(|plugin| plugin.name.value.as_str()).chain(bundled.iter().map(String::as_str));
    if uses.is_empty() || uses.contains([':', '/']) || names().any(|name| name == uses) {
        return;
    }
    let hint = nearest(uses, names()).map_or_else(
        || format!("declare it: `plugins: {{ {uses}: {{ from: \"oci://registry.example/{uses}:1\" }} }}`"),
        |near| format!("did you mean `{near}`?"),
    );
    let unknown = Diagnostic::error(
        &file.source,
        Code::UnknownPlugin,
        step.uses.span.clone(),
        format!("there is no plugin `{uses}`"),
    );
    found.push(unknown.hint(hint));
}

fn check_condition(step: &Step, found: &mut Vec<Diagnostic>) {
    let Some(Condition::Expression(expression)) = &step.condition else {
        return;
    };
    let waits =
        step.finally || step.trees().next().is_some() || !step.needs.is_empty() || references(step).next().is_some();
    if expression.calls("failure") && !expression.calls("always") && !waits {
        found.push(
            expression
                .remark(Code::NeverRuns, "`failure()` never holds: this step waits for nothing")
                .hint("add `finally: true` to run after all other steps, or `needs`"),
        );
    }
}
