//! Prints what a plugin says of itself, as JSON: for the plugins that are bundled with the host, asked while the host is
//! built and is not there yet. A description comes from code without imports of consequence, so that an interpreter of core modules is enough:
//! the call and the record that it returns are as the component model's canonical ABI has them.

use std::io::Write as _;

use serde_json::{Map, Value, json};
use wasmi::{Engine, Func, Instance, Linker, Module, Store, Val};
use wasmparser::{Parser, Payload};

/// The function, as the core module exports it.
const DESCRIBE: &str = "cooperage:plugin/plugin@0.1.0#describe";
/// Bytes of a string or a list in memory: where it is, and how long.
const PAIR: u32 = 8;

fn main() {
    let path = std::env::args().nth(1).expect("usage: cooperage-sdk-describe COMPONENT");
    let component = std::fs::read(&path).unwrap_or_else(|error| panic!("reading {path}: {error}"));
    std::io::stdout().write_all(describe(&component).as_bytes()).expect("writing the description");
}

/// The description of a component as JSON. Panics if it does not describe itself as the contract says.
fn describe(component: &[u8]) -> String {
    let (mut store, instance) = instance(component);
    if let Some(start) = instance.get_func(&store, "_initialize") {
        start.call(&mut store, &[], &mut []).expect("starting the plugin");
    }
    let function = instance.get_func(&store, DESCRIBE).expect("the function `describe`");
    let mut result = [Val::I32(0)];
    function.call(&mut store, &[], &mut result).expect("asking the plugin what it is");
    let memory = instance.get_memory(&store, "memory").expect("the memory of the plugin");
    let Val::I32(record) = result[0] else { panic!("`describe` gives no record") };
    Record { memory: memory.data(&store) }.description(record.cast_unsigned()).to_string()
}

/// The core module that has the function, with every import a trap: a description needs none.
fn instance(component: &[u8]) -> (Store<()>, Instance) {
    let engine = Engine::default();
    let module = modules(component)
        .into_iter()
        .filter_map(|bytes| Module::new(&engine, bytes).ok())
        .find(|module| module.exports().any(|export| export.name() == DESCRIBE))
        .expect("a core module that describes the plugin");
    let mut store = Store::new(&engine, ());
    let mut linker = Linker::new(&engine);
    for import in module.imports() {
        let ty = import.ty().func().expect("an import that is a function").clone();
        let name = format!("{} {}", import.module(), import.name());
        let refuse = move |_: wasmi::Caller<'_, ()>, _: &[Val], _: &mut [Val]| {
            Err(wasmi::Error::new(format!("a description must not need {name}")))
        };
        let function = Func::new(&mut store, ty, refuse);
        linker.define(import.module(), import.name(), function).expect("each import once");
    }
    let instance = linker.instantiate_and_start(&mut store, &module).expect("an instance of the plugin");
    (store, instance)
}

/// The core modules of a component.
fn modules(component: &[u8]) -> Vec<&[u8]> {
    let payloads = Parser::new(0).parse_all(component).map(|payload| payload.expect("a component"));
    let place = |offset| usize::try_from(offset).expect("an offset in memory");
    let module = |payload| match payload {
        Payload::ModuleSection { unchecked_range: range, .. } => component.get(place(range.start)..place(range.end)),
        _ => None,
    };
    payloads.filter_map(module).collect()
}

/// Reads the record, whose fields are strings and lists, one after the other.
struct Record<'a> {
    memory: &'a [u8],
}

impl Record<'_> {
    fn description(&self, at: u32) -> Value {
        let field = |number: u32| at + number * PAIR;
        let json = |text: String| serde_json::from_str::<Value>(&text).expect("JSON in the description");
        let pairs = |at| self.list(at, 2 * PAIR).map(|at| (self.text(at), self.text(at + PAIR)));
        let parameters: Map<_, _> = pairs(field(3)).map(|(role, schema)| (role, json(schema))).collect();
        let capabilities: Vec<_> = self
            .list(field(4), 3 * PAIR)
            .map(|at| {
                let (class, request, reason) = (self.text(at), self.text(at + PAIR), self.text(at + 2 * PAIR));
                json!({ "class": class, "request": json(request), "reason": reason })
            })
            .collect();
        let annotations: Map<_, _> = pairs(field(6)).map(|(name, value)| (name, Value::from(value))).collect();
        json!({
            "name": self.text(field(0)),
            "version": self.text(field(1)),
            "summary": self.text(field(2)),
            "parameters": parameters,
            "capabilities": capabilities,
            "provides": self.list(field(5), PAIR).map(|at| self.text(at)).collect::<Vec<_>>(),
            "annotations": annotations,
        })
    }

    fn word(&self, at: u32) -> u32 {
        let at = at as usize;
        u32::from_le_bytes(self.memory[at..at + 4].try_into().expect("four bytes"))
    }

    /// Where the elements of a list are.
    fn list(&self, at: u32, size: u32) -> impl Iterator<Item = u32> {
        let first = self.word(at);
        (0..self.word(at + 4)).map(move |number| first + number * size)
    }

    fn text(&self, at: u32) -> String {
        let (start, length) = (self.word(at) as usize, self.word(at + 4) as usize);
        String::from_utf8(self.memory[start..start + length].to_vec()).expect("text in UTF-8")
    }
}
