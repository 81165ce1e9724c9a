//! The plugin's page names every parameter.

use cooperage_plugin_ftp::{source, task::parameters};
use schemars::{JsonSchema, schema_for};

/// The parameters that a part of the page does not name.
fn missing<P: JsonSchema>(text: &str) -> Vec<String> {
    let schema = schema_for!(P).to_value();
    let names = schema["properties"].as_object().unwrap().keys();
    let known =
        |name: &&String| ["`{}`", "`{}:", " {},", " {} }"].iter().any(|form| text.contains(&form.replace("{}", name)));
    names.filter(|name| !known(name)).cloned().collect()
}

#[test]
fn every_parameter_is_documented() {
    let page = include_str!("../README.md");
    let (task, rest) = page.split_once("## As a source").unwrap();
    let source = rest.split_once("## As a registry").unwrap().0;
    assert_eq!(missing::<parameters::Parameters>(task), [""; 0]);
    assert_eq!(missing::<parameters::Upload>(task), [""; 0]);
    assert_eq!(missing::<parameters::Download>(task), [""; 0]);
    assert_eq!(missing::<parameters::Delete>(task), [""; 0]);
    assert_eq!(missing::<parameters::Mirror>(task), [""; 0]);
    assert_eq!(missing::<parameters::Rename>(task), [""; 0]);
    assert_eq!(missing::<source::Parameters>(source), [""; 0]);
}
