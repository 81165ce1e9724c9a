//! The plugin `kubernetes` as a step of flows, against a stand-in for an API server.

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, Front, TOKEN, WEB};
use crate::support::{Machine, Ran, have};

const PASSWORD: &str = "hunter2-of-a-test";
const DIGEST: &str = "sha256:9b2a28eb47540823042a2ba401386845089bb7b62a9637d55816132c4c3c36eb";

fn start() -> Option<(Machine, Cluster)> {
    if !have(&[]) {
        return None;
    }
    let machine = Machine::new();
    machine.write("token", format!("{TOKEN}\n"));
    machine.write("wrong", "wrong-token-of-a-test");
    machine.write("password", PASSWORD);
    Some((machine, Cluster::start()))
}

/// Runs a flow of one step with these parameters; `IMAGE` stands for an image.
fn deploy(machine: &Machine, server: &str, with: &str, more: &str, args: &[&str]) -> Ran {
    let with = with.replace("IMAGE", &format!("registry.example/web@{DIGEST}"));
    let flow = format!(
        "version: 1\nflow:\n  deploy:\n    uses: kubernetes\n    with: {{ server: '{server}', token: {{ secret: TOKEN }}, \
         namespace: shop, {with} }}\n{more}"
    );
    machine.write("cooperage.yaml", flow);
    let secrets =
        ["--secret", "id=TOKEN,src=token", "--secret", "id=PASSWORD,src=password", "--secret", "id=WRONG,src=wrong"];
    machine.run(&[&["run", "--output", "json"], &secrets[..], args].concat())
}

#[track_caller]
fn values(ran: &Ran) -> Value {
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let result = ran.json();
    let steps = result["steps"].as_array().unwrap();
    steps.iter().find(|step| step["id"] == "deploy").unwrap()["values"].clone()
}

#[test]
fn an_image_is_deployed_with_the_secret_to_pull_it() {
    let Some((machine, cluster)) = start() else { return };
    let with = "deployment: web, image: 'IMAGE', env: { MODE: 'on' }, \
                pull_secret: { name: pull, username: robot, password: { secret: PASSWORD } }";
    let ran = deploy(&machine, &cluster.url(), with, "", &["--progress", "plain"]);
    let values = values(&ran);
    assert_eq!(values["workload"], "deployment/web");
    assert_eq!((&values["generation"], &values["replicas"]), (&2.into(), &3.into()));
    assert_eq!(values["previous_image"], "registry.example/web:1");
    assert_eq!(values["objects"], json!(["secret/pull", "deployment/web"]));
    ran.says(&["3 pods are new and available"]);
    let state = cluster.state();
    let patch = &state.applied[WEB]["spec"]["template"]["spec"];
    assert_eq!(
        *patch,
        json!({ "imagePullSecrets": [{ "name": "pull" }], "containers": [{ "name": "main",
            "image": format!("registry.example/web@{DIGEST}"), "env": [{ "name": "MODE", "value": "on" }] }] })
    );
    assert_eq!(state.applied["/api/v1/namespaces/shop/secrets/pull"]["type"], "kubernetes.io/dockerconfigjson");
    let patches: Vec<_> = state.requests.iter().filter(|request| request.starts_with("PATCH")).collect();
    assert!(patches.iter().all(|request| request.contains("fieldManager=cooperage")), "{patches:?}");
    assert!(patches.iter().all(|request| request.ends_with("application/apply-patch+yaml")), "{patches:?}");
    for secret in [TOKEN, PASSWORD] {
        assert!(!ran.stderr.contains(secret) && !ran.stdout.contains(secret), "{ran:?}");
    }
}

#[test]
fn manifests_of_the_project_are_applied() {
    let Some((machine, cluster)) = start() else { return };
    machine
        .write("deploy/1.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: one }\ndata: { mode: \"0644\" }\n");
    machine.write("deploy/2.json", r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"two"}}"#);
    machine.write("deploy/README.md", "no manifest");
    let ran = deploy(&machine, &cluster.url(), "apply: [deploy]", "", &[]);
    assert_eq!(values(&ran)["objects"], json!(["configmap/one", "configmap/two"]));
    let applied = &cluster.state().applied["/api/v1/namespaces/shop/configmaps/one"];
    assert_eq!(
        *applied,
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "one", "namespace": "shop" },
        "data": { "mode": "0644" } })
    );
    deploy(&machine, &cluster.url(), "apply: [absent]", "", &[]).says(&["/absent", "`in:`"]);
    machine.write("deploy/3.yaml", "a: [");
    let ran = deploy(&machine, &cluster.url(), "apply: [deploy]", "", &[]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    ran.says(&["deploy/3.yaml:1"]);
}

#[test]
fn manifests_are_written_instead() {
    let Some((machine, cluster)) = start() else { return };
    machine.write("Dockerfile", "FROM scratch\nCOPY deploy/01-secret-pull.yaml deploy/02-deployment-web.yaml /\n");
    let with = "deployment: web, container: main, image: 'IMAGE', write: deploy, \
                pull_secret: { name: pull, username: robot, password: { secret: PASSWORD } }";
    // The next step finds them beside what the project has.
    let more = "  image: { uses: dockerfile, in: deploy }\n";
    let ran = deploy(&machine, &cluster.url(), with, more, &[]);
    let manifests = values(&ran)["manifests"].as_str().unwrap().to_owned();
    assert!(manifests.starts_with("apiVersion: apps/v1\nkind: Deployment\n"), "{manifests}");
    assert!(manifests.contains(DIGEST) && !manifests.contains("kind: Secret"), "{manifests}");
    ran.says(&["password of the registry in clear"]);
    assert!(cluster.state().requests.is_empty());
}

#[test]
fn what_goes_wrong_is_said() {
    let Some((machine, cluster)) = start() else { return };
    let image = "deployment: web, image: 'IMAGE'";
    for (with, code, says) in [
        ("deployment: absent, image: 'IMAGE'", 2, &["deployment/absent in shop", "answers 404"][..]),
        ("deployment: web, container: absent, image: 'IMAGE'", 2, &["no container \"absent\"", "it has main"]),
        ("deployment: web, imgae: 'IMAGE'", 2, &["imgae", "cooperage.yaml:5"]),
        ("deployment: web, cronjob: web, image: 'IMAGE'", 2, &["two workloads"]),
    ] {
        let ran = deploy(&machine, &cluster.url(), with, "", &[]);
        assert_eq!(ran.code, Some(code), "{with}: {}", ran.stderr);
        ran.says(says);
    }
    cluster.state().owned = true;
    let ran = deploy(&machine, &cluster.url(), image, "", &[]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    ran.says(&["[name=\"main\"].image: conflict with \"helm\"", "`force: true`"]);
    values(&deploy(&machine, &cluster.url(), &format!("{image}, force: true"), "", &[]));

    let asked = cluster.state().requests.len();
    let flow = |with: &str| {
        format!("version: 1\nflow: {{ a: {{ uses: kubernetes, with: {{ deployment: web, {with} }} }} }}\n")
    };
    let config = "current-context: a\ncontexts: [{ name: a, context: { cluster: a, user: a } }]\n\
                  clusters: [{ name: a, cluster: { server: 'https://cluster.invalid' } }]\nusers: [{ name: a, user: { token: hunter2 } }]\n";
    machine.write("kubeconfig", config);
    for (with, code, says) in [
        ("kubeconfig: { secret: K }", 3, "server: \"https://cluster.invalid\""),
        ("kubeconfig: { secret: K }, server: 'https://cluster.invalid'", 4, "cluster.invalid"),
        ("kubeconfig: { secret: K }, server: 'https://other.invalid'", 2, "is for cluster.invalid"),
        ("token: { secret: K }, server: 'http://cluster.invalid'", 3, "without encryption"),
        ("server: 'https://169.254.169.254'", 3, "169.254.169.254"),
    ] {
        machine.write("cooperage.yaml", flow(with));
        let ran = machine.fails(&["run", "--secret", "id=K,src=kubeconfig"], code);
        ran.says(&[says]).does_not_say(&["hunter2"]);
    }
    assert_eq!(cluster.state().requests.len(), asked);
}

#[test]
fn a_wrong_token_is_told_and_not_shown() {
    let Some((machine, cluster)) = start() else { return };
    let flow = format!(
        "version: 1\nflow: {{ a: {{ uses: kubernetes, with: {{ server: '{}', namespace: shop, deployment: web, image: x, \
         token: {{ secret: T }} }} }} }}\n",
        cluster.url()
    );
    machine.write("cooperage.yaml", flow);
    let ran = machine.fails(&["run", "--secret", "id=T,src=wrong"], 4);
    ran.says(&["answers 401", "does not accept the token"]).does_not_say(&["wrong-token"]);
    assert_eq!(cluster.state().requests.len(), 1, "a wrong token is not tried again");
}

#[test]
fn a_rollout_that_does_not_end_is_explained() {
    let Some((machine, cluster)) = start() else { return };
    cluster.state().stuck = true;
    let ran = deploy(&machine, &cluster.url(), "deployment: web, image: 'IMAGE', wait: 2s", "", &[]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    ran.says(&[
        "is not done after 2s",
        "0 of 3 new pods have been made",
        "pod web-1: container main waits: ImagePullBackOff",
    ]);
}

#[test]
fn a_server_that_dies_in_the_middle_is_told() {
    let Some((machine, cluster)) = start() else { return };
    cluster.state().mortal = true;
    let ran = deploy(&machine, &cluster.url(), "deployment: web, image: 'IMAGE', wait: 3s", "", &[]);
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    ran.says(&["waiting for deployment/web ended", "cannot be reached"]);
    let patches = cluster.state().requests.iter().filter(|request| request.starts_with("PATCH")).count();
    assert_eq!(patches, 1);
}

#[test]
fn certificates_are_checked() {
    if !have(&["nginx", "openssl"]) {
        return;
    }
    let Some((machine, cluster)) = start() else { return };
    let front = Front::start(&machine, &cluster, false);
    let with = "deployment: web, image: 'IMAGE'";
    let ran = deploy(&machine, &front.url, with, "", &[]);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    ran.says(&["cannot be reached", front.host(), "authority that is not known here", "ca: FILE"]);
    assert!(cluster.state().requests.is_empty());
    machine.configure(&format!("registries:\n  \"{}\": {{ ca: {} }}\n", front.host(), front.authority.display()));
    assert_eq!(values(&deploy(&machine, &front.url, with, "", &[]))["generation"], 2);
}

#[test]
fn a_client_certificate_is_the_hosts() {
    if !have(&["nginx", "openssl"]) {
        return;
    }
    let Some((machine, cluster)) = start() else { return };
    let front = Front::start(&machine, &cluster, true);
    machine.configure(&format!("registries:\n  \"{}\": {{ ca: {} }}\n", front.host(), front.authority.display()));
    let with = "deployment: web, image: 'IMAGE'";
    let ran = deploy(&machine, &front.url, with, "", &[]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    ran.says(&["answers 400"]);
    assert!(cluster.state().requests.is_empty());
    for (from, to) in [("server.crt", "client.cert"), ("server.key", "client.key")] {
        let to = machine.outside("home/.config/cooperage/certs.d").join(front.host()).join(to);
        Machine::write_to(to, std::fs::read(front.authority.with_file_name(from)).unwrap());
    }
    assert_eq!(values(&deploy(&machine, &front.url, with, "", &[]))["generation"], 2);
}
