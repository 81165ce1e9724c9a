//! The plugin's page names every parameter.

use cooperage_plugin_http::{parameters, source};
use schemars::{JsonSchema, schema_for};

fn names<P: JsonSchema>() -> Vec<String> {
    let schema = schema_for!(P).to_value();
    schema["properties"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn every_parameter_is_documented() {
    let page = include_str!("../README.md");
    let (task, source) = page.split_once("## As a source").unwrap();
    let missing = |text: &str, names: Vec<String>| -> Vec<String> {
        names
            .into_iter()
            .filter(|name| !text.contains(&format!("`{name}`")) && !text.contains(&format!("`{name}:")))
            .collect()
    };
    assert_eq!(missing(task, names::<parameters::Parameters>()), [""; 0]);
    assert_eq!(missing(task, names::<parameters::Until>()), [""; 0]);
    assert_eq!(missing(task, names::<parameters::Part>()), [""; 0]);
    assert_eq!(missing(source, names::<source::Parameters>()), [""; 0]);
}
