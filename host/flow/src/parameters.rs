//! What a step gets under `with`: text, numbers, expressions and names of secrets, each with its place.

use crate::align::align;
use crate::diagnostic::{Code, Diagnostic};
use crate::expression::{Expression, Scope};
use crate::references::Reference;
use crate::source::{Source, Span};
use crate::template::{Template, is_template};
use crate::yaml::{self, Node};
use serde::Serialize;
use serde_json::{Map, Number, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A secret that a parameter names; its value is never in the parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SecretRef {
    /// Where in the parameters, as a JSON pointer (RFC 6901).
    pub pointer: String,
    /// The secret's name.
    pub name: String,
}

/// The parameters of one step.
#[derive(Debug, Clone)]
pub struct Parameters {
    root: Parameter,
}

#[derive(Debug, Clone)]
struct Parameter {
    span: Span,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Literal(Value),
    Template { raw: String, template: Template },
    Secret(String),
    List(Vec<Parameter>),
    Map(Vec<(Name, Parameter)>),
}

/// A name in a map, such as that of an output.
#[derive(Debug, Clone)]
struct Name {
    span: Span,
    /// As written.
    raw: String,
    /// If it has to be computed.
    template: Option<Template>,
}

impl Parameters {
    /// No parameters, of a step that stands at `span`.
    pub(crate) fn empty(span: Span) -> Parameters {
        Parameters { root: Parameter { span, content: Content::Map(Vec::new()) } }
    }

    /// Reads the value of `with`, which the caller knows to be a map.
    pub(crate) fn read(
        source: &Arc<Source>,
        node: &Node,
        variables: &BTreeMap<String, String>,
        found: &mut Vec<Diagnostic>,
    ) -> Parameters {
        let mut reader = Reader { source, variables, found };
        Parameters { root: reader.read(node, None) }
    }

    /// The parameters as written: expressions as text, secrets as `{"secret": NAME}`.
    pub fn raw(&self) -> Value {
        self.root.raw()
    }

    /// The parameters with every expression evaluated; a secret stays `{"secret": NAME}`.
    ///
    /// # Errors
    /// The first expression that fails.
    pub fn evaluate(&self, scope: &Scope) -> Result<Value, Box<Diagnostic>> {
        self.root.evaluate(scope)
    }

    /// The same as far as no step is needed for it: what cannot be known yet stays as it is written.
    pub(crate) fn known(&self, scope: &Scope) -> Value {
        self.root.known(scope)
    }

    /// The secrets that the file names. Something that only looks like one in the output of a step is none.
    pub fn secrets(&self, scope: &Scope) -> Vec<SecretRef> {
        let mut secrets = Vec::new();
        self.root.visit(scope, &mut String::new(), &mut |pointer, parameter| {
            if let Content::Secret(name) = &parameter.content {
                secrets.push(SecretRef { pointer: pointer.to_string(), name: name.clone() });
            }
        });
        secrets
    }

    /// Whether no value has to be computed.
    pub fn is_literal(&self) -> bool {
        self.expressions().is_empty()
    }

    /// Every expression.
    pub fn expressions(&self) -> Vec<&Expression> {
        let mut expressions = Vec::new();
        self.root.expressions(&mut expressions);
        expressions
    }

    /// The steps that the expressions mention.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.expressions().into_iter().flat_map(Expression::references)
    }

    /// The place of the value at a JSON pointer, or of the deepest part of it that is there: where to show that a
    /// value does not fit a plugin's schema.
    pub fn span_of(&self, pointer: &str) -> Span {
        self.find(pointer).1.span.clone()
    }

    /// The place of the name that a JSON pointer ends with, if it is written in the file.
    pub fn span_of_name(&self, pointer: &str) -> Option<Span> {
        self.find(pointer).0.map(|name| name.span.clone())
    }

    /// What is at a JSON pointer, or the deepest part of it that is there; its name, if the whole is there.
    fn find(&self, pointer: &str) -> (Option<&Name>, &Parameter) {
        let mut found = (None, &self.root);
        for token in pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            let next = match &found.1.content {
                Content::Map(entries) => {
                    entries.iter().find(|(name, _)| name.raw == token).map(|(name, value)| (Some(name), value))
                }
                Content::List(items) => {
                    token.parse().ok().and_then(|index: usize| items.get(index)).map(|value| (None, value))
                }
                _ => None,
            };
            match next {
                Some(next) => found = next,
                None => return (None, found.1),
            }
        }
        found
    }
}

impl Parameter {
    fn raw(&self) -> Value {
        match &self.content {
            Content::Literal(value) => value.clone(),
            Content::Template { raw, .. } => Value::String(raw.clone()),
            Content::Secret(name) => secret_value(name),
            Content::List(items) => Value::Array(items.iter().map(Parameter::raw).collect()),
            Content::Map(entries) => {
                Value::Object(entries.iter().map(|(name, value)| (name.raw.clone(), value.raw())).collect())
            }
        }
    }

    fn known(&self, scope: &Scope) -> Value {
        let constant = |template: &Template| {
            let constant = template.expressions().all(Expression::is_constant);
            constant.then(|| template.evaluate(scope).ok()).flatten()
        };
        match &self.content {
            Content::Template { template, .. } => constant(template).unwrap_or_else(|| self.raw()),
            Content::List(items) => Value::Array(items.iter().map(|item| item.known(scope)).collect()),
            Content::Map(entries) => {
                let name = |name: &Name| match name.template.as_ref().and_then(constant) {
                    Some(Value::String(text)) => text,
                    _ => name.raw.clone(),
                };
                Value::Object(entries.iter().map(|(own, value)| (name(own), value.known(scope))).collect())
            }
            Content::Literal(_) | Content::Secret(_) => self.raw(),
        }
    }

    fn evaluate(&self, scope: &Scope) -> Result<Value, Box<Diagnostic>> {
        Ok(match &self.content {
            Content::Literal(value) => value.clone(),
            Content::Template { template, .. } => template.evaluate(scope)?,
            Content::Secret(name) => secret_value(name),
            Content::List(items) => {
                Value::Array(items.iter().map(|item| item.evaluate(scope)).collect::<Result<_, _>>()?)
            }
            Content::Map(entries) => {
                let mut map = Map::new();
                for (name, value) in entries {
                    let (key, value) = (name.evaluate(scope)?, value.evaluate(scope)?);
                    let expression = name.template.as_ref().and_then(|template| template.expressions().next());
                    if let Some(expression) = expression.filter(|_| map.contains_key(&key)) {
                        return Err(expression.mistake(format!("`{key}` is there twice")).into());
                    }
                    map.insert(key, value);
                }
                Value::Object(map)
            }
        })
    }

    fn visit(&self, scope: &Scope, pointer: &mut String, visit: &mut dyn FnMut(&str, &Parameter)) {
        visit(pointer, self);
        let length = pointer.len();
        let mut descend = |token: String, value: &Parameter| {
            pointer.push('/');
            pointer.push_str(&token.replace('~', "~0").replace('/', "~1"));
            value.visit(scope, pointer, visit);
            pointer.truncate(length);
        };
        match &self.content {
            Content::List(items) => items.iter().enumerate().for_each(|(index, item)| descend(index.to_string(), item)),
            Content::Map(entries) => entries.iter().for_each(|(name, value)| {
                // A name that cannot be computed fails the step before its secrets matter.
                descend(name.evaluate(scope).unwrap_or_else(|_| name.raw.clone()), value);
            }),
            _ => {}
        }
    }

    fn expressions<'a>(&'a self, into: &mut Vec<&'a Expression>) {
        match &self.content {
            Content::Template { template, .. } => into.extend(template.expressions()),
            Content::List(items) => items.iter().for_each(|item| item.expressions(into)),
            Content::Map(entries) => entries.iter().for_each(|(name, value)| {
                into.extend(name.template.iter().flat_map(Template::expressions));
                value.expressions(into);
            }),
            Content::Literal(_) | Content::Secret(_) => {}
        }
    }
}

impl Name {
    fn evaluate(&self, scope: &Scope) -> Result<String, Box<Diagnostic>> {
        match self.template.as_ref().map(|template| template.evaluate(scope)).transpose()? {
            None => Ok(self.raw.clone()),
            Some(Value::String(name)) => Ok(name),
            Some(other) => Ok(other.to_string()),
        }
    }
}

struct Reader<'a> {
    source: &'a Arc<Source>,
    variables: &'a BTreeMap<String, String>,
    found: &'a mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn read(&mut self, node: &Node, field: Option<&str>) -> Parameter {
        let content = match &node.value {
            yaml::Value::Text(text) => self.text(node, text, field),
            yaml::Value::List(items) => Content::List(items.iter().map(|item| self.read(item, field)).collect()),
            yaml::Value::Map(entries) => self.map(entries),
            scalar => Content::Literal(scalar_value(scalar)),
        };
        Parameter { span: node.span.clone(), content }
    }

    fn text(&mut self, node: &Node, text: &str, field: Option<&str>) -> Content {
        if is_template(text) {
            let places = align(self.source, &node.span, text);
            let template = Template::parse(self.source, text, &places, self.variables, self.found);
            return Content::Template { raw: text.to_string(), template };
        }
        if let Some(field) = field.filter(|field| !text.is_empty() && names_a_secret(field)) {
            let name: String =
                field.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
            let message = format!("`{field}` looks like a secret in clear");
            self.found.push(
                Diagnostic::error(self.source, Code::PlainSecret, node.span.clone(), message)
                    .warning()
                    .hint(format!("name it instead: `{{ secret: {name} }}`")),
            );
        }
        Content::Literal(Value::String(text.to_string()))
    }

    fn map(&mut self, entries: &[(yaml::Key, Node)]) -> Content {
        if let [(key, value)] = entries
            && key.name == "secret"
        {
            return self.secret(value);
        }
        let mut read = |(key, value): &(yaml::Key, Node)| (self.name(key), self.read(value, Some(&key.name)));
        Content::Map(entries.iter().map(&mut read).collect())
    }

    fn name(&mut self, key: &yaml::Key) -> Name {
        let template = is_template(&key.name).then(|| {
            let places = align(self.source, &key.span, &key.name);
            Template::parse(self.source, &key.name, &places, self.variables, self.found)
        });
        Name { span: key.span.clone(), raw: key.name.clone(), template }
    }

    fn secret(&mut self, value: &Node) -> Content {
        let wrong = |message: String| Diagnostic::error(self.source, Code::WrongType, value.span.clone(), message);
        match &value.value {
            yaml::Value::Text(name) if is_template(name) => {
                self.found
                    .push(wrong("the name of a secret cannot be computed".to_string()).hint("write the name itself"));
                Content::Literal(Value::Null)
            }
            yaml::Value::Text(name) if !name.is_empty() => Content::Secret(name.clone()),
            _ => {
                self.found.push(wrong(format!("the name of a secret must be text, this is {}", value.kind())));
                Content::Literal(Value::Null)
            }
        }
    }
}

fn secret_value(name: &str) -> Value {
    Value::Object(Map::from_iter([("secret".to_string(), Value::String(name.to_string()))]))
}

fn scalar_value(value: &yaml::Value) -> Value {
    match value {
        yaml::Value::Bool(value) => Value::Bool(*value),
        yaml::Value::Int(value) => (*value).into(),
        yaml::Value::UInt(value) => (*value).into(),
        yaml::Value::Float(value) => Number::from_f64(*value).map_or(Value::Null, Value::Number),
        yaml::Value::Text(text) => Value::String(text.clone()),
        yaml::Value::Null | yaml::Value::List(_) | yaml::Value::Map(_) => Value::Null,
    }
}

/// The value of a YAML node that is kept as it is.
pub(crate) fn plain_value(node: &Node) -> Value {
    match &node.value {
        yaml::Value::List(items) => Value::Array(items.iter().map(plain_value).collect()),
        yaml::Value::Map(entries) => {
            Value::Object(entries.iter().map(|(key, value)| (key.name.clone(), plain_value(value))).collect())
        }
        scalar => scalar_value(scalar),
    }
}

fn names_a_secret(field: &str) -> bool {
    let field = field.to_ascii_lowercase().replace('-', "_");
    let last = field.rsplit('_').next().unwrap_or(&field);
    ["password", "passwd", "passphrase", "secret", "token", "apikey"].contains(&last)
        || ["api_key", "access_key", "private_key"].iter().any(|name| field.ends_with(name))
}
