//! The sections of a flow file from its YAML tree; a mistake is noted and reading goes on.

use super::fields::{Advice, Fields, entries, no_advice};
use super::names::{RESERVED, image_name_problem, is_name, tag_problem};
use super::{
    FILE_FIELDS, Flow, FlowFile, IMAGE_FIELDS, Image, PLUGIN_FIELDS, PUSH_FIELDS, ParseOptions, Plugin, PushSettings,
    REGISTRIES_FIELDS, Registries, Step, TAG_FIELDS, check, step, variables,
};
use crate::diagnostic::{Code, Diagnostic};
use crate::parameters::plain_value;
use crate::source::{Located, Source};
use crate::yaml::{self, Key, Node, Value};
use std::sync::Arc;

/// Reads one file and keeps what it finds wrong.
pub(crate) struct Reader<'o> {
    pub source: Arc<Source>,
    pub options: &'o ParseOptions,
    pub found: Vec<Diagnostic>,
}

impl<'o> Reader<'o> {
    pub fn new(source: Arc<Source>, options: &'o ParseOptions) -> Reader<'o> {
        Reader { source, options, found: Vec::new() }
    }

    /// The file, with whatever could be read of it.
    pub fn file(&mut self) -> Option<FlowFile> {
        let root = yaml::read(&self.source.clone(), &mut self.found)?;
        let source = self.source.clone();
        if root.value == Value::Null {
            self.found.push(
                Diagnostic::error(&source, Code::MissingField, 0..0, "the file is empty")
                    .hint("begin with `version: 1`, then `images:` or `flow:`"),
            );
            return None;
        }
        let entries = entries(&source, &root, &root.span, "a flow file", &mut self.found)?;
        let fields = Fields::new(&source, entries, FILE_FIELDS, "a flow file", &file_advice, &mut self.found);
        self.version(&fields);
        let mut file = FlowFile {
            source: source.clone(),
            registries: self.registries(&fields),
            plugins: self.plugins(&fields),
            images: Vec::new(),
            flows: Vec::new(),
            warnings: Vec::new(),
            variables: Arc::new(self.options.variables.clone()),
        };
        if let Some(steps) = fields.map("flow", &mut self.found) {
            let steps = self.steps(steps);
            file.flows.push(Flow { image: None, steps });
        }
        for (key, node) in fields.map("images", &mut self.found).unwrap_or_default() {
            self.image(key, node, &mut file);
        }
        if fields.get("flow").is_none() && fields.get("images").is_none() {
            let start = entries.first().map_or(0..0, |(key, _)| key.span.clone());
            self.found.push(
                Diagnostic::error(&source, Code::MissingField, start, "the file builds nothing")
                    .hint("add `images:` or `flow:`"),
            );
        }
        check::check(&file, self.options, &mut self.found);
        Some(file)
    }

    fn version(&mut self, fields: &Fields<'_>) {
        let Some((_, node)) = fields.get("version") else {
            let missing = Diagnostic::error(&self.source, Code::MissingField, 0..0, "`version` is missing");
            self.found.push(missing.hint("begin the file with `version: 1`"));
            return;
        };
        match &node.value {
            Value::Int(1) => {}
            Value::Int(_) | Value::UInt(_) => {
                let message = format!("version {} of the flow file is not known", self.source.slice(&node.span));
                let wrong = Diagnostic::error(&self.source, Code::Unsupported, node.span.clone(), message);
                self.found.push(wrong.hint("this release reads version 1"));
            }
            _ => fields.wrong_type("version", "the number 1", None, &mut self.found),
        }
    }

    fn registries(&mut self, fields: &Fields<'_>) -> Registries {
        let Some(entries) = fields.map("registries", &mut self.found) else {
            return Registries::default();
        };
        let fields =
            Fields::new(fields.source, entries, REGISTRIES_FIELDS, "`registries`", &no_advice, &mut self.found);
        Registries { pull: self.expanded(&fields, "pull"), push: self.expanded(&fields, "push") }
    }

    fn expanded(&mut self, fields: &Fields<'_>, name: &str) -> Option<Located<String>> {
        let text = fields.text(name, &mut self.found)?;
        variables::expand(&self.source, text, &self.options.variables, &mut self.found)
    }

    fn plugins(&mut self, fields: &Fields<'_>) -> Vec<Plugin> {
        let mut plugins = Vec::new();
        let source = fields.source;
        for (key, node) in fields.map("plugins", &mut self.found).unwrap_or_default() {
            self.name(key, "a plugin");
            let what = format!("the plugin `{}`", key.name);
            let Some(entries) = entries(source, node, &key.span, &what, &mut self.found) else {
                continue;
            };
            let fields = Fields::new(source, entries, PLUGIN_FIELDS, "a plugin", &no_advice, &mut self.found);
            if fields.get("from").is_none() {
                self.found.push(
                    Diagnostic::error(source, Code::MissingField, key.span.clone(), format!("{what} has no `from`"))
                        .hint("say where it comes from: `from: \"oci://registry.example/name:1\"` or `from: \"file:name.wasm\"`"),
                );
            }
            let allow = fields.map("allow", &mut self.found).unwrap_or_default();
            let allow = allow.iter().map(|(class, value)| (class.name.clone(), plain_value(value))).collect();
            let limits = self.limits(&fields);
            let name = Located::new(key.name.clone(), key.span.clone());
            let from = self.expanded(&fields, "from").unwrap_or_else(|| Located::new(String::new(), key.span.clone()));
            plugins.push(Plugin { name, from, allow, limits });
        }
        plugins
    }

    /// What the values mean is the engine's business; a name that is none is told with its place.
    fn limits(&mut self, plugin: &Fields<'_>) -> serde_json::Map<String, serde_json::Value> {
        let entries = plugin.map("limits", &mut self.found).unwrap_or_default();
        if !self.options.limits.is_empty() {
            Fields::new(plugin.source, entries, self.options.limits, "`limits`", &no_advice, &mut self.found);
        }
        entries.iter().map(|(name, value)| (name.name.clone(), plain_value(value))).collect()
    }

    fn image(&mut self, key: &Key, node: &Node, file: &mut FlowFile) {
        let source = self.source.clone();
        if let Some(problem) = image_name_problem(&key.name) {
            let message = format!("`{}` is not the name of an image: {problem}", key.name);
            let wrong = Diagnostic::error(&source, Code::InvalidValue, key.span.clone(), message);
            let tagged = key.name.rsplit_once(':').filter(|(name, _)| image_name_problem(name).is_none());
            self.found.push(wrong.maybe_hint(
                tagged.map(|(name, tag)| format!("the tag goes below: `{name}: {{ tags: {{ {tag}: ... }} }}`")),
            ));
        }
        let what = format!("the image `{}`", key.name);
        let Some(entries_of_image) = entries(&source, node, &key.span, &what, &mut self.found) else {
            return;
        };
        let fields = Fields::new(&source, entries_of_image, IMAGE_FIELDS, "an image", &image_advice, &mut self.found);
        if fields.get("tags").is_none() {
            self.found.push(
                Diagnostic::error(&source, Code::MissingField, key.span.clone(), format!("{what} has no `tags`"))
                    .hint("add `tags: { latest: { flow: ... } }`"),
            );
        }
        let mut tags = Vec::new();
        for (tag, node) in fields.map("tags", &mut self.found).unwrap_or_default() {
            if let Some(problem) = tag_problem(&tag.name) {
                let message = format!("`{}` is not a tag: {problem}", tag.name);
                self.found.push(Diagnostic::error(&source, Code::InvalidValue, tag.span.clone(), message));
            }
            tags.push(Located::new(tag.name.clone(), tag.span.clone()));
            let steps = self.tag(&what, tag, node);
            file.flows.push(Flow { image: Some((key.name.clone(), tag.name.clone())), steps });
        }
        let push = self.push(&fields);
        file.images.push(Image { name: Located::new(key.name.clone(), key.span.clone()), push, tags });
    }

    fn tag(&mut self, image: &str, tag: &Key, node: &Node) -> Vec<Step> {
        let source = self.source.clone();
        let what = format!("the tag `{}` of {image}", tag.name);
        let Some(entries) = entries(&source, node, &tag.span, &what, &mut self.found) else {
            return Vec::new();
        };
        let fields = Fields::new(&source, entries, TAG_FIELDS, "a tag", &tag_advice, &mut self.found);
        if fields.get("flow").is_none() {
            let missing =
                Diagnostic::error(&source, Code::MissingField, tag.span.clone(), format!("{what} has no `flow`"));
            self.found.push(missing.hint("the steps go under `flow`"));
        }
        fields.map("flow", &mut self.found).map_or_else(Vec::new, |steps| self.steps(steps))
    }

    fn push(&mut self, fields: &Fields<'_>) -> PushSettings {
        let Some(entries) = fields.map("push", &mut self.found) else {
            return PushSettings::default();
        };
        let fields = Fields::new(fields.source, entries, PUSH_FIELDS, "`push`", &no_advice, &mut self.found);
        PushSettings {
            registry: self.expanded(&fields, "registry"),
            override_user: self.expanded(&fields, "override_user"),
            skip: fields.flag("skip", &mut self.found),
        }
    }

    fn steps(&mut self, entries: &[(Key, Node)]) -> Vec<Step> {
        entries
            .iter()
            .map(|(key, node)| {
                self.name(key, "a step");
                step::read(self, key, node)
            })
            .collect()
    }

    /// Names are used in expressions and in `IMAGE:TAG/STEP`.
    fn name(&mut self, key: &Key, what: &str) {
        let wrong = |code, message| Diagnostic::error(&self.source, code, key.span.clone(), message);
        if !is_name(&key.name) {
            let message = format!("`{}` cannot be the name of {what}", key.name);
            self.found.push(
                wrong(Code::InvalidValue, message)
                    .hint("a name is at most 64 letters, digits, `_` and `-`, and does not begin with a digit or `-`"),
            );
        } else if what == "a step" && RESERVED.contains(&key.name.as_str()) {
            let message = format!("`{}` is a word of the expression language", key.name);
            self.found.push(wrong(Code::ReservedName, message).hint("call the step something else"));
        }
    }
}

fn file_advice(name: &str) -> Option<Advice> {
    let hint = match name {
        "steps" | "tasks" | "jobs" => "steps go under `flow`, or under `images: NAME: tags: TAG: flow`",
        "containers" => "this is a field of crane.yaml; give the file with `coop flow -f crane.yaml`",
        _ => return None,
    };
    Some((Code::UnknownField, format!("a flow file has no field `{name}`"), hint.to_string()))
}

fn image_advice(name: &str) -> Option<Advice> {
    let hint = "every image has `tags`, and every tag its `flow`: `tags: { latest: { flow: ... } }`";
    (name == "flow").then(|| (Code::UnknownField, "an image has no field `flow`".to_string(), hint.to_string()))
}

fn tag_advice(name: &str) -> Option<Advice> {
    (name == "uses").then(|| {
        let message = "a tag has no field `uses`".to_string();
        (Code::UnknownField, message, "steps have names: `flow: { image: { uses: ... } }`".to_string())
    })
}
