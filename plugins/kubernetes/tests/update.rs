//! Images of workloads, pull secrets and manifests, applied to a server that checks every request.

mod support;

use base64::Engine;
use cooperage_sdk::ErrorKind;
use serde_json::{Value, json};
use support::server::{Server, Trouble, WEB, deployed, deployment, done, status};
use support::{PASSWORD, says, step};

fn web() -> Server {
    let server = Server::start();
    server.has(WEB, deployment("web", "r.example/web:1"));
    server
}

fn container<'v>(object: &'v Value, name: &str) -> &'v Value {
    let all = object["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    all.iter().find(|container| container["name"] == name).unwrap()
}

#[test]
fn an_image_is_set_and_nothing_else() {
    let server = web();
    server.rolls_out([deployed(1, 3, 4), deployed(3, 2, 3), done()]);
    let outcome =
        step(&server, json!({ "deployment": "web", "image": "r.example/web:2", "force": true }), &[]).unwrap();
    let mut patch = server.patches().remove(0);
    assert!(patch["metadata"].as_object_mut().unwrap().remove("resourceVersion").is_some());
    assert_eq!(
        patch,
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "shop" },
            "spec": { "template": { "spec": { "containers": [{ "name": "web", "image": "r.example/web:2" }] } } } })
    );
    assert_eq!(
        server.lines(),
        [format!("GET {WEB}"), format!("PATCH {WEB}"), "GET /apis/apps/v1/namespaces/shop/deployments".into()]
    );
    assert_eq!(outcome.previous_image.as_deref(), Some("r.example/web:1"));
    assert_eq!((outcome.generation(), outcome.replicas()), (Some(2), Some(3)));
    assert_eq!(container(&server.object(WEB), "web")["image"], "r.example/web:2");
}

#[test]
fn fields_of_others_are_taken_over_only_by_force() {
    let server = web();
    let error = step(&server, json!({ "deployment": "web", "image": "r.example/web:2" }), &[]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    says(
        &error,
        &[
            "deployment/web in shop",
            ".spec.template.spec.containers[name=\"web\"].image",
            "kubectl-create",
            "`force: true`",
        ],
    );
    assert_eq!(container(&server.object(WEB), "web")["image"], "r.example/web:1");
    // The same value is no conflict.
    step(&server, json!({ "deployment": "web", "image": "r.example/web:1", "wait": 0 }), &[]).unwrap();
    step(&server, json!({ "deployment": "web", "image": "r.example/web:3", "wait": 0, "force": true }), &[]).unwrap();
    // Afterwards it is ours.
    step(&server, json!({ "deployment": "web", "image": "r.example/web:4", "wait": 0 }), &[]).unwrap();
    assert_eq!(container(&server.object(WEB), "web")["image"], "r.example/web:4");
}

#[test]
fn a_value_that_others_take_from_elsewhere_is_not_set_even_by_force() {
    let server = Server::start();
    let mut object = deployment("web", "r.example/web:1");
    let from = json!({ "fieldRef": { "fieldPath": "metadata.name" } });
    object["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{ "name": "POD", "valueFrom": from }]);
    server.has(WEB, object);
    let wanted = json!({ "deployment": "web", "env": { "POD": "x" }, "force": true, "wait": 0 });
    let error = step(&server, wanted, &[]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    says(&error, &["deployment/web in shop cannot be changed", "`valueFrom`", "POD", "web", "leave it out of `env`"]);
    assert!(server.patches().is_empty());
}

#[test]
fn what_other_steps_have_set_stays() {
    let server = Server::start();
    let mut object = deployment("web", "r.example/web:1");
    object["spec"]["template"]["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": "proxy", "image": "r.example/proxy:1",
        "ports": [{ "containerPort": 80, "protocol": "TCP" }] }));
    // The whole manifest comes from one step, the images from others, all by the same manager.
    let manifest = object.to_string();
    step(&server, json!({ "apply": ["web.json"], "wait": 0 }), &[("web.json", &manifest)]).unwrap();
    let image = |container: &str, image: &str| {
        let wanted = json!({ "deployment": "web", "container": container, "image": image, "wait": 0,
            "env": { "FOR": container }, "annotations": { "example.com/last": container } });
        step(&server, wanted, &[]).unwrap()
    };
    image("web", "r.example/web:2");
    let outcome = image("proxy", "r.example/proxy:2");
    assert_eq!(outcome.previous_image.as_deref(), Some("r.example/proxy:1"));
    let live = server.object(WEB);
    assert_eq!(
        container(&live, "web"),
        &json!({ "name": "web", "image": "r.example/web:2", "env": [{ "name": "FOR", "value": "web" }] })
    );
    assert_eq!(container(&live, "proxy")["image"], "r.example/proxy:2");
    assert_eq!(container(&live, "proxy")["ports"], json!([{ "containerPort": 80, "protocol": "TCP" }]));
    assert_eq!(live["spec"]["replicas"], 3);
    assert_eq!(live["spec"]["template"]["metadata"]["annotations"]["example.com/last"], "proxy");
    // What is applied no more goes.
    let less = deployment("web", "r.example/web:5").to_string();
    step(&server, json!({ "apply": ["web.json"], "wait": 0 }), &[("web.json", &less)]).unwrap();
    let left = server.object(WEB)["spec"]["template"]["spec"]["containers"].clone();
    assert_eq!(left, json!([{ "name": "web", "image": "r.example/web:5" }]));
}

#[test]
fn two_at_once_do_not_undo_each_other() {
    let server = Server::start();
    let mut object = deployment("web", "r.example/web:1");
    let names: Vec<String> = (0..4).map(|number| format!("c{number}")).collect();
    let containers: Vec<Value> = names.iter().map(|name| json!({ "name": name, "image": "r.example/x:1" })).collect();
    object["spec"]["template"]["spec"]["containers"] = containers.into();
    server.has(WEB, object);
    std::thread::scope(|scope| {
        for name in &names {
            let server = &server;
            scope.spawn(move || {
                for version in 2..6 {
                    let image = format!("r.example/x:{version}");
                    step(
                        server,
                        json!({ "deployment": "web", "container": name, "image": image, "force": true, "wait": 0 }),
                        &[],
                    )
                    .unwrap();
                }
            });
        }
    });
    for name in &names {
        assert_eq!(container(&server.object(WEB), name)["image"], "r.example/x:5", "{name}");
    }
}

#[test]
fn somebody_faster_is_waited_out_but_not_for_ever() {
    let server = web();
    for _ in 0..9 {
        server.trouble("PATCH", "web", Trouble::Overtaken);
    }
    step(&server, json!({ "deployment": "web", "image": "a", "force": true, "wait": 0 }), &[]).unwrap();
    for _ in 0..10 {
        server.trouble("PATCH", "web", Trouble::Overtaken);
    }
    let error = step(&server, json!({ "deployment": "web", "image": "b", "force": true, "wait": 0 }), &[]).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    says(&error, &["has been modified"]);
}

#[test]
fn manifests_are_tried_again_unless_they_are_for_one_state_only() {
    let server = Server::start();
    let stale = status(409, "Conflict", "the object has been modified").to_string();
    let manifest = "{ apiVersion: v1, kind: ConfigMap, metadata: { name: a } }";
    for _ in 0..3 {
        server.trouble("PATCH", "configmaps/a", Trouble::Answer(409, stale.clone()));
    }
    step(&server, json!({ "apply": ["a.yaml"] }), &[("a.yaml", manifest)]).unwrap();
    let pinned = "{ apiVersion: v1, kind: ConfigMap, metadata: { name: a, resourceVersion: '1' } }";
    let error = step(&server, json!({ "apply": ["a.yaml"] }), &[("a.yaml", pinned)]).unwrap_err();
    says(&error, &["has been modified", "`metadata.resourceVersion`"]);
    assert_eq!(server.patches().len(), 5);
}

#[test]
fn every_kind_of_workload() {
    let server = Server::start();
    let template = json!({ "metadata": { "labels": { "app": "x" } }, "spec": { "containers": [{ "name": "main", "image": "r.example/x:1" }] } });
    let selector = json!({ "matchLabels": { "app": "x" } });
    let object = |version: &str, kind: &str, spec: Value| json!({ "apiVersion": version, "kind": kind, "metadata": { "name": "x", "namespace": "shop" }, "spec": spec });
    for (kind, path, object, status) in [
        (
            "statefulset",
            "/apis/apps/v1/namespaces/shop/statefulsets/x",
            object(
                "apps/v1",
                "StatefulSet",
                json!({ "replicas": 2, "serviceName": "x", "selector": selector, "template": template }),
            ),
            json!({ "observedGeneration": "NOW", "replicas": 2, "readyReplicas": 2, "updatedReplicas": 2, "currentRevision": "b", "updateRevision": "b" }),
        ),
        (
            "daemonset",
            "/apis/apps/v1/namespaces/shop/daemonsets/x",
            object("apps/v1", "DaemonSet", json!({ "selector": selector, "template": template })),
            json!({ "observedGeneration": "NOW", "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2 }),
        ),
        (
            "cronjob",
            "/apis/batch/v1/namespaces/shop/cronjobs/x",
            object(
                "batch/v1",
                "CronJob",
                json!({ "schedule": "@daily", "jobTemplate": { "spec": { "template": template } } }),
            ),
            json!({}),
        ),
    ] {
        server.has(path, object).rolls_out([status]);
        let outcome = step(&server, json!({ kind: "x", "image": "r.example/x:2", "force": true }), &[]).unwrap();
        assert_eq!(outcome.previous_image.as_deref(), Some("r.example/x:1"));
        assert!(server.object(path).to_string().contains("r.example/x:2"));
        assert_eq!(outcome.replicas(), (kind != "cronjob").then_some(2), "{kind}");
        server.state().rollout.clear();
    }
}

#[test]
fn a_pull_secret_is_made_and_used() {
    let server = web();
    server.rolls_out([done()]);
    let wanted = json!({ "deployment": "web", "image": "r.example:5000/web:2", "force": true,
        "pull_secret": { "name": "pull", "username": "robot", "password": { "secret": "PASSWORD" } } });
    let outcome = step(&server, wanted, &[]).unwrap();
    let secret = server.object("/api/v1/namespaces/shop/secrets/pull");
    assert_eq!(secret["type"], "kubernetes.io/dockerconfigjson");
    let data = secret["data"][".dockerconfigjson"].as_str().unwrap();
    let data = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
    let config: Value = serde_json::from_slice(&data).unwrap();
    assert_eq!(config["auths"]["r.example:5000"]["password"], PASSWORD);
    assert_eq!(server.object(WEB)["spec"]["template"]["spec"]["imagePullSecrets"], json!([{ "name": "pull" }]));
    assert!(server.lines()[0].ends_with("/secrets/pull"), "the secret comes first");
    let manifests = outcome.manifests().unwrap();
    assert!(manifests.contains("kind: Deployment") && !manifests.contains("kind: Secret"), "{manifests}");
}

#[test]
fn manifests_are_applied_in_order_to_their_places() {
    let server = Server::start();
    server.rolls_out([done()]);
    server.state().making = 3;
    let crd = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: { name: things.example.com }\nspec:\n  \
        group: example.com\n  scope: Namespaced\n  names: { kind: Thing, plural: things }\n  versions:\n  - { name: v1, served: true, storage: true }\n";
    let rest = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: settings, namespace: other }}\ndata: {{ a: b }}\n---\n{}\n---\n\
         {{ apiVersion: example.com/v1, kind: Thing, metadata: {{ name: one }} }}\n",
        deployment("web", "r.example/web:1")
    );
    let wanted = json!({ "apply": ["all"], "deployment": "web", "image": "r.example/web:9", "namespace": "shop",
        "pull_secret": { "name": "pull", "username": "robot", "password": { "secret": "PASSWORD" } } });
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: { name: other }\n";
    let files = [("a/0.yaml", namespace), ("a/1.yaml", crd), ("a/2.yaml", rest.as_str())];
    let outcome = step(&server, wanted, &files).unwrap();
    let applied: Vec<String> =
        server.lines().into_iter().filter_map(|line| line.strip_prefix("PATCH ").map(str::to_owned)).collect();
    assert_eq!(
        applied,
        [
            "/api/v1/namespaces/other",
            "/api/v1/namespaces/shop/secrets/pull",
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.com",
            "/api/v1/namespaces/other/configmaps/settings",
            WEB,
            "/apis/example.com/v1/namespaces/shop/things/one",
        ]
    );
    assert_eq!(container(&server.object(WEB), "web")["image"], "r.example/web:9", "the image is in the manifest");
    assert_eq!(outcome.previous_image, None);
    assert_eq!(outcome.documents.len(), 6);
    assert_eq!(outcome.generation(), Some(1));
}

#[test]
fn several_manifests_are_not_one_workload() {
    let elsewhere = |namespace: &str| {
        let mut object = deployment("web", "r.example/web:1");
        object["metadata"]["namespace"] = namespace.into();
        object.to_string()
    };
    let (shop, other) = (elsewhere("shop"), elsewhere("other"));
    let files = [("a.json", shop.as_str()), ("b.json", other.as_str())];
    let image = json!({ "apply": ["."], "deployment": "web", "image": "r.example/web:2", "wait": 0 });
    let server = Server::start();
    let mut unsaid = image.clone();
    unsaid["namespace"] = Value::Null;
    let error = step(&server, unsaid, &files).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidInput);
    says(&error, &["deployment/web (a.json) in shop", "deployment/web (b.json) in other", "`namespace`"]);
    assert!(server.lines().is_empty());
    let namespace = "{ apiVersion: v1, kind: Namespace, metadata: { name: other } }";
    step(&server, image, &[("0.yaml", namespace), files[0], files[1]]).unwrap();
    assert_eq!(container(&server.object(WEB), "web")["image"], "r.example/web:2");
    let other = server.object("/apis/apps/v1/namespaces/other/deployments/web");
    assert_eq!(container(&other, "web")["image"], "r.example/web:1");
}

#[test]
fn a_dry_run_changes_nothing_and_does_not_wait() {
    let server = web();
    let before = server.object(WEB);
    let wanted = json!({ "deployment": "web", "image": "r.example/web:2", "force": true, "dry_run": true,
        "pull_secret": { "name": "pull", "username": "robot", "password": { "secret": "PASSWORD" } } });
    step(&server, wanted, &[]).unwrap();
    assert_eq!(server.object(WEB), before);
    let state = server.state();
    assert_eq!(state.objects.len(), 1);
    let patches: Vec<_> = state.requests.iter().filter(|seen| seen.method == "PATCH").collect();
    assert!(patches.len() == 2 && patches.iter().all(|seen| seen.query["dryRun"] == "All"));
    assert!(state.requests.iter().all(|seen| !seen.query.contains_key("watch")));
}

#[test]
fn a_step_may_only_wait() {
    let server = web();
    server.rolls_out([done()]);
    let outcome = step(&server, json!({ "deployment": "web" }), &[]).unwrap();
    assert_eq!((outcome.generation(), server.patches().len()), (Some(1), 0));
    assert_eq!(outcome.previous_image.as_deref(), Some("r.example/web:1"));
}

#[test]
fn the_manager_has_the_name_that_the_user_gives_it() {
    let server = web();
    step(
        &server,
        json!({ "deployment": "web", "image": "a", "force": true, "wait": 0, "field_manager": "team a & b" }),
        &[],
    )
    .unwrap();
    assert_eq!(server.state().requests[1].query["fieldManager"], "team a & b");
}
