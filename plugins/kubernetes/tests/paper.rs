//! Manifests that are written instead of applied, checked against the published types.

mod support;

use cooperage_plugin_kubernetes::manifests::{self, File};
use cooperage_sdk::ErrorKind;
use serde_json::{Value, json};
use support::server::deployment;
use support::{on_paper, says, types};

/// The files as `kubectl` would read them.
fn written(parameters: Value, files: &[(&str, &str)]) -> Vec<(String, Value)> {
    let outcome = on_paper(parameters, files).unwrap();
    let files = outcome.files().unwrap().into_iter().map(|file| File { path: file.name, text: file.text });
    let read = |file: File| {
        let object = manifests::read(std::slice::from_ref(&file)).unwrap().remove(0).object;
        assert_eq!(types::wrong(&object), None, "{}", file.text);
        (file.path, object)
    };
    files.map(read).collect()
}

#[test]
fn the_least_that_says_what_changes() {
    let found = written(
        json!({ "write": "deploy", "namespace": "shop", "deployment": "web", "container": "web", "image": "r.example/web:2",
            "env": { "MODE": "on" } }),
        &[],
    );
    let patch = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "shop" },
        "spec": { "template": { "spec": { "containers": [
            { "name": "web", "image": "r.example/web:2", "env": [{ "name": "MODE", "value": "on" }] }] } } } });
    assert_eq!(found, [("01-deployment-web.yaml".to_owned(), patch)]);
}

#[test]
fn the_image_goes_into_the_manifests() {
    let text = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{ name: shop }}\n---\n{}\n---\n\
         {{ apiVersion: v1, kind: Service, metadata: {{ name: web }}, spec: {{ ports: [{{ port: 80 }}] }} }}\n",
        deployment("web", "r.example/web:1")
    );
    let wanted = json!({ "write": ".", "namespace": "shop", "deployment": "web", "image": "r.example/web:2", "apply": ["all.yaml"],
        "pull_secret": { "name": "pull", "username": "robot", "password": { "secret": "PASSWORD" } } });
    let found = written(wanted.clone(), &[("all.yaml", &text)]);
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["01-namespace-shop.yaml", "02-secret-pull.yaml", "03-deployment-web.yaml", "04-service-web.yaml"]
    );
    assert_eq!(found[0].1["metadata"], json!({ "name": "shop" }), "a namespace is in none");
    let spec = &found[2].1["spec"]["template"]["spec"];
    assert_eq!(spec["containers"], json!([{ "name": "web", "image": "r.example/web:2" }]));
    assert_eq!(spec["imagePullSecrets"], json!([{ "name": "pull" }]));
    assert_eq!(found[3].1["metadata"]["namespace"], "shop");
    let outcome = on_paper(wanted, &[("all.yaml", &text)]).unwrap();
    assert_eq!(outcome.previous_image.as_deref(), Some("r.example/web:1"));
    assert!(!outcome.manifests().unwrap().contains("kind: Secret"));
    let modes: Vec<u32> = outcome.files().unwrap().iter().map(|file| file.mode).collect();
    assert_eq!(modes, [0o644, 0o600, 0o644, 0o644]);
}

#[test]
fn what_only_a_server_could_tell() {
    let error = on_paper(json!({ "write": ".", "deployment": "web", "image": "a" }), &[]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidInput);
    says(&error, &["deployment/web", "`container`", "`apply`"]);
}

#[test]
fn without_a_namespace_none_is_written() {
    let found = written(json!({ "write": ".", "statefulset": "db", "annotations": { "a/b": "c" } }), &[]);
    assert_eq!(found[0].1["metadata"], json!({ "name": "db" }));
}

/// A custom kind may belong to none.
#[test]
fn a_namespace_is_written_where_it_is_known_to_belong() {
    let text = "{ apiVersion: example.com/v1, kind: Thing, metadata: { name: one } }\n---\n\
        { apiVersion: v1, kind: ConfigMap, metadata: { name: two } }\n";
    let wanted = json!({ "write": ".", "namespace": "shop", "apply": ["all.yaml"] });
    let outcome = on_paper(wanted, &[("all.yaml", text)]).unwrap();
    let namespaces = outcome.documents.iter().map(|document| document.object["metadata"]["namespace"].clone());
    assert_eq!(namespaces.collect::<Vec<_>>(), [Value::Null, json!("shop")]);
}

#[test]
fn who_names_no_namespace_means_that_of_the_manifest() {
    let text = deployment("web", "r.example/web:1").to_string();
    let wanted = json!({ "write": ".", "deployment": "web", "image": "r.example/web:2", "apply": ["web.json"],
        "pull_secret": { "name": "pull", "username": "robot", "password": { "secret": "PASSWORD" } } });
    let found = written(wanted, &[("web.json", &text)]);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].1["metadata"], json!({ "name": "pull", "namespace": "shop" }));
    assert_eq!(found[1].1["spec"]["template"]["spec"]["containers"][0]["image"], "r.example/web:2");
    let elsewhere = json!({ "write": ".", "deployment": "web", "image": "r.example/web:2", "apply": ["web.json"],
        "namespace": "other", "container": "web" });
    assert_eq!(written(elsewhere, &[("web.json", &text)]).len(), 2, "another one of the same name");
}
