//! The plugin `docker` against a real Docker engine and a real Podman.

use rustix::process::Signal;
use serde_json::Value;

use crate::support::engine::{DOCKER, Engine, PODMAN};
use crate::support::processes::{Running, eventually, with_command};
use crate::support::registry::{Kind, PASSWORD, Registry, USER};
use crate::support::{Machine, Ran, have};

/// What is done to show that both engines answer to the same plugin is done to both.
const DOCKERFILE: &str =
    "FROM base:1\nARG WHO=nobody\nRUN echo hello $WHO > /hello; echo see''n\nCOPY . /app\nENV A=b\n";

/// The plugin without leave to switch protocols, so that BuildKit has no session.
const PLAIN: &str = "plain";

fn machine(needs: &[&str], start: fn(&Machine) -> Engine) -> Option<(Machine, Engine)> {
    if !have(needs) {
        return None;
    }
    let machine = Machine::new();
    machine.base();
    let engine = start(&machine);
    let socket = engine.socket.display();
    let requests = "requests: [GET /_ping, GET /version, POST /v*/build, GET /v*/images/**/json, GET /v*/images/**/get, \
                    POST /v*/images/create]";
    machine.configure(&format!(
        "services: {{ docker: {socket} }}
registries: {{ docker.local: {{ plugin: docker }} }}
plugins:
  {PLAIN}: {{ from: docker, allow: {{ service: [{{ name: docker, {requests} }}], secrets: [{{ from: parameters }}], state: true }} }}
"
    ));
    Some((machine, engine))
}

fn docker() -> Option<(Machine, Engine)> {
    machine(DOCKER, Engine::docker)
}

/// `coop build` of a context with the engine.
#[track_caller]
fn build(machine: &Machine, context: &str, args: &[&str], code: i32) -> Ran {
    build_by("docker", machine, context, args, code)
}

#[track_caller]
fn build_by(plugin: &str, machine: &Machine, context: &str, args: &[&str], code: i32) -> Ran {
    let command = ["build", context, "--builder", plugin, "--progress", "plain", "--set", "network=host"];
    machine.fails(&[&command, args].concat(), code)
}

fn application(machine: &Machine) {
    machine.write("app/file", "text");
    machine.write("app/left", "out");
    machine.write("app/.dockerignore", "left\n");
    machine.dockerfile("app", DOCKERFILE);
}

/// What the Dockerfile above makes of the context above, whoever builds it.
#[track_caller]
fn check_application(machine: &Machine, image: &str) {
    if have(&["umoci", "skopeo"]) {
        let tree = machine.tree(image);
        let has = |entry: &str| assert!(tree.iter().any(|found| found == entry), "{entry} is not in {tree:#?}");
        has("0644 0:0 /hello = hello me\\n");
        has("0644 0:0 /app/file = text");
        assert!(tree.iter().any(|entry| entry.starts_with("0644 0:0 /app/Dockerfile")));
        assert!(!tree.iter().any(|entry| entry.contains("/app/left")), "{tree:#?}");
        let configuration = machine.configuration(image);
        assert!(configuration["config"]["Env"].as_array().unwrap().contains(&Value::from("A=b")));
        assert_eq!(configuration["config"]["Labels"]["l"], "v");
        let layers = configuration["rootfs"]["diff_ids"].as_array().unwrap().len();
        let history = configuration["history"].as_array().unwrap().iter();
        assert_eq!(history.filter(|entry| entry["empty_layer"] != true).count(), layers);
    }
}

#[test]
fn both_builders_of_docker_build() {
    let Some((machine, engine)) = docker() else { return };
    application(&machine);
    for (plugin, builder, said) in [
        ("docker", "auto", "building with BuildKit of Docker"),
        ("docker", "classic", "building with the classic builder"),
        (PLAIN, "buildkit", "building with BuildKit of Docker"),
    ] {
        let (image, set) = (format!("{plugin}-{builder}:1"), format!("builder={builder}"));
        let build = |args: &[&str]| build_by(plugin, &machine, "app", args, 0);
        let args = ["--set", &set, "--build-arg", "WHO=me", "--label", "l=v", "-t", &image];
        // Later ones must not find what the first one left.
        let anew = [&args[..], &["--set", "no_cache=true"]].concat();
        build(&anew).says(&[said, "seen", "COPY . /app"]).does_not_say(&["CACHED [2/"]);
        check_application(&machine, &image);
        build(&args).says(&["CACHED"]).does_not_say(&["seen"]);
        build(&[&args[..], &["--no-cache"]].concat()).says(&["seen"]);
    }
    let before = engine.names().len();
    build(&machine, "app", &["--set", "keep=false", "--set", "no_cache=true"], 0);
    assert_eq!(engine.names().len(), before, "{:?}", engine.names());
    build(&machine, "app", &["--set", "tag=[\"kept:1\"]"], 0);
    assert!(engine.has("kept:1"));
}

#[test]
fn dockerfiles_that_are_not_to_be_copied() {
    let Some((machine, _engine)) = docker() else { return };
    application(&machine);
    machine.write("app/.dockerignore", "left\nDockerfile\n.dockerignore\n");
    let outside = Machine::write_to(machine.outside("Outside"), "FROM base:1\nCOPY . /app\n").display().to_string();
    let inline = "dockerfile_inline=FROM base:1\nCOPY . /app\n";
    let over_a_session = "over a session";
    for (plugin, hidden, elsewhere) in [
        ("docker", over_a_session, over_a_session),
        (PLAIN, "leaves the Dockerfile out, and only the classic builder", "no file of the context"),
    ] {
        machine.write("app/.dockerignore", "left\nDockerfile\n.dockerignore\n");
        let build = |args: &[&str], said: &str| {
            build_by(plugin, &machine, "app", args, 0).says(&[said]);
        };
        build(&["-t", "hidden:1"], hidden);
        machine.write("app/.dockerignore", "left\n");
        build(&["--set", inline, "-t", "inline:1"], elsewhere);
        build(&["-f", &outside, "-t", "outside:1"], elsewhere);
        if have(&["umoci"]) {
            let files = |image: &str| {
                let tree = machine.tree(image).into_iter();
                tree.filter_map(|entry| Some(entry.split_once(" /app/")?.1.to_owned())).collect::<Vec<_>>()
            };
            assert_eq!(files("hidden:1"), ["", "file = text"], "{plugin}");
            for image in ["inline:1", "outside:1"] {
                let files = files(image);
                assert!(files.iter().any(|file| file.starts_with("Dockerfile")), "{plugin} {image} {files:?}");
                assert!(!files.iter().any(|file| file.contains("cooperage") || file.starts_with("left")), "{files:?}");
            }
        }
    }
    machine.dockerfile("app", "# syntax=docker/dockerfile:1\nFROM base:1\n");
    build(&machine, "app", &["--set", "builder=classic"], 0).says(&["classic builder"]);
}

#[test]
fn what_goes_wrong_is_told() {
    let Some((machine, mut engine)) = docker() else { return };
    for builder in ["builder=buildkit", "builder=classic"] {
        machine.dockerfile("bad", "FROM base:1\nRUN echo so far; exit 7\n");
        build(&machine, "bad", &["--set", builder], 1).says(&["so far", "the build failed", "code: 7"]);
        machine.dockerfile("bad", "FROM base:1\nNOTHING\n");
        build(&machine, "bad", &["--set", builder], 2).says(&["unknown instruction: NOTHING"]);
    }
    machine.dockerfile("bad", "FROM base:1\nRUN --mount=type=secret,id=a true\n");
    let secret = ["--set", "secrets={\"a\":{\"secret\":\"A\"}}"];
    build(&machine, "bad", &secret, 2).says(&["there is no secret `A`"]);
    build_by(PLAIN, &machine, "bad", &secret, 1).says(&["over a session", "UPGRADE /v1.41/session"]);
    build(&machine, "bad", &["--set", "dockerfile=../D"], 2).says(&["outside of the build context"]);
    build(&machine, "bad", &["--set", "dockerfile=none"], 2).says(&["has no none"]);

    machine.dockerfile("slow", "FROM base:1\nRUN echo begun; sleep 60531\n");
    let command = ["build", "slow", "--builder", "docker", "--progress", "plain", "--set", "network=host"];
    let mut running = Running::start(machine.coop(&command), &machine.path("log"));
    eventually("the build has begun", || machine.read("log").contains("begun\n"));
    engine.stop();
    assert!(matches!(running.wait(), Some(1 | 4)), "{}", machine.read("log"));
    build(&machine, "slow", &[], 4).says(&["the engine cannot be reached", "services: { docker: SOCKET }"]);
}

#[test]
fn over_a_session_the_engine_asks_for_what_it_needs() {
    let Some((machine, engine)) = docker() else { return };
    let secret = format!("id=A,src={}", machine.write("secret", "not to be seen").display());
    let run = "RUN --mount=type=secret,id=a echo $(wc -c < /run/secrets/a) bytes";
    machine.dockerfile("app", &format!("FROM base:1\n{run}\nCOPY . /app\nRUN cat /app/d/*.txt /app/link\n"));
    machine.write("app/d/ä.txt", "one");
    machine.write("app/d/b.txt", "two");
    machine.write("app/d.e", "between d and what it has");
    machine.write("app/empty", "");
    std::os::unix::fs::symlink("d/b.txt", machine.path("app/link")).unwrap();
    let args = ["--set", "secrets={\"a\":{\"secret\":\"A\"}}", "--secret", &secret, "-t", "app:1"];
    build(&machine, "app", &args, 0).says(&["14 bytes", "twoonetwo"]).does_not_say(&["not to be seen"]);
    // What has the same size as before has not the same content.
    machine.write("app/d/b.txt", "TWO");
    build(&machine, "app", &args, 0).says(&["CACHED", "TWOoneTWO"]);

    machine.write(
        "cooperage.yaml",
        "version: 1\nflow:\n  image: { uses: docker, with: { build: { tag: [\"stays:1\"], network: host } } }\n",
    );
    machine.write("Dockerfile", "FROM base:1\nCOPY app/empty /empty\n");
    let images = |machine: &Machine| machine.ok(&["image", "ls", "--output", "json"]).json().as_array().unwrap().len();
    let before = images(&machine);
    let ran = machine.ok(&["run", "--output", "json"]);
    let id = ran.json()["steps"][0]["values"]["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("sha256:") && engine.has("stays:1"), "{id} {:?}", engine.names());
    assert_eq!(images(&machine), before, "the image stays where it was built");
}

#[test]
fn a_cancelled_build_ends_in_the_engine() {
    let Some((machine, _engine)) = docker() else { return };
    for (builder, seconds) in [("builder=buildkit", "60541"), ("builder=classic", "60542")] {
        machine.dockerfile("slow", &format!("FROM base:1\nRUN sleep {seconds}\n"));
        let command = ["build", "slow", "--builder", "docker", "--set", "network=host", "--set", builder];
        let mut running = Running::start(machine.coop(&command), &machine.path("log"));
        let sleeps = || !with_command(&format!("sleep\0{seconds}\0")).is_empty();
        eventually("the step runs in the engine", sleeps);
        running.signal(Signal::INT);
        assert_eq!(running.wait(), Some(130), "{}", machine.read("log"));
        eventually("the engine ends the step", || !sleeps());
    }
}

#[test]
fn two_builds_at_once() {
    let Some((machine, _engine)) = docker() else { return };
    application(&machine);
    let start = |builder: &str, who: &str| {
        let (set, who) = (format!("builder={builder}"), format!("WHO={who}"));
        let command =
            ["build", "app", "--builder", "docker", "--set", "network=host", "--set", &set, "--build-arg", &who];
        Running::start(machine.coop(&command), &machine.path(builder))
    };
    let mut all = [start("buildkit", "a"), start("classic", "b")];
    for running in &mut all {
        assert_eq!(running.wait(), Some(0), "{}{}", machine.read("buildkit"), machine.read("classic"));
    }
}

/// Images go into the engine and come out of it by their names at `docker.local`.
fn keeps_images(machine: &Machine, engine: &Engine) {
    machine.dockerfile("mine", "FROM base:1\nCOPY Dockerfile /made\n");
    machine.build("mine", &["-t", "docker.local/team/mine:1"]);
    machine.ok(&["image", "push", "docker.local/team/mine:1"]);
    assert!(engine.has("team/mine:1"), "{:?}", engine.names());
    machine.ok(&["image", "rm", "docker.local/team/mine:1"]);
    let pulled = |machine: &Machine| machine.ok(&["image", "pull", "docker.local/team/mine:1"]).stdout;
    let first = pulled(machine);
    let other = Machine::new();
    other.configure(&std::fs::read_to_string(machine.outside("home/.config/cooperage/config.yaml")).unwrap());
    assert_eq!(pulled(&other), first, "the same image has the same digest everywhere");
    machine.dockerfile("next", "FROM docker.local/team/mine:1\nCOPY Dockerfile /next\n");
    machine.build("next", &["-t", "next:1"]);
    if have(&["umoci"]) {
        let tree = machine.tree("next:1");
        assert!(tree.iter().any(|entry| entry.contains(" /made")) && tree.iter().any(|entry| entry.contains(" /next")));
    }
    machine.fails(&["image", "pull", "docker.local/team/none:1"], 2).says(&["the engine has no image team/none:1"]);
}

#[test]
fn the_store_of_docker_is_a_registry() {
    let Some((machine, engine)) = docker() else { return };
    keeps_images(&machine, &engine);
}

#[test]
fn podman_answers_to_the_same_plugin() {
    let Some((machine, engine)) = machine(PODMAN, Engine::podman) else { return };
    application(&machine);
    let args = ["--build-arg", "WHO=me", "--label", "l=v", "-t", "app:1"];
    build(&machine, "app", &args, 0).says(&["building with Podman", "seen", "COPY . /app"]);
    check_application(&machine, "app:1");
    build(&machine, "app", &args, 0).says(&["CACHED"]);
    let file = machine.write("secret", "not to be seen");
    let secret = format!("id=A,src={}", file.display());
    let run = "RUN --mount=type=secret,id=a echo $(wc -c < /run/secrets/a) bytes";
    machine.dockerfile("app", &format!("FROM base:1\n{run}\nCOPY . /app\nRUN ls -a /app\n"));
    let args = ["--set", "secrets={\"a\":{\"secret\":\"A\"}}", "--secret", &secret];
    build(&machine, "app", &args, 0).says(&["14 bytes"]).does_not_say(&["not to be seen", ".cooperage.secret"]);
    build(&machine, "app", &["--set", "builder=buildkit"], 1).says(&["Podman has no BuildKit"]);
    keeps_images(&machine, &engine);
}

#[test]
fn registries_that_want_a_login() {
    let needs = [DOCKER, &["docker-registry", "htpasswd"]].concat();
    let Some((machine, engine)) = machine(&needs, Engine::docker) else { return };
    let registry = Registry::start_as(&machine, Kind::Password);
    let name = registry.name("team/base:1");
    let right = machine.write("right", format!("{PASSWORD}\n")).display().to_string();
    let wrong = machine.write("wrong", "no\n").display().to_string();
    let auth = format!("{{ username: {USER}, password: {{ secret: PW }} }}");
    let flow = format!(
        "
version: 1
images:
  app:
    tags:
      latest:
        flow:
          login:
            uses: docker
            with: {{ login: [{{ host: '{}', username: {USER}, password: {{ secret: PW }} }}] }}
          push:
            uses: docker
            needs: [login]
            with: {{ push: {{ image: 'base:1', to: '{name}', auth: {auth} }} }}
",
        registry.host
    );
    machine.write("cooperage.yaml", flow);
    machine.fails(&["run", "--secret", &format!("id=PW,src={wrong}")], 4).says(&["cannot log in to"]);
    let secret = format!("id=PW,src={right}");
    let ran = machine.ok(&["run", "--output", "json", "--secret", &secret]);
    let result = ran.json();
    let push = result["steps"].as_array().unwrap().iter().find(|step| step["id"] == "app:latest/push").unwrap();
    assert!(push["values"]["digest"].as_str().unwrap().starts_with("sha256:"), "{push}");

    assert_eq!(engine.ask("DELETE", &format!("/images/{name}"), b"").0, 200);
    machine.dockerfile("private", &format!("FROM {name}\nRUN echo done\n"));
    build(&machine, "private", &[], 4).says(&["401 Unauthorized", "give the engine a credential"]);
    build_by(PLAIN, &machine, "private", &[], 4).says(&["cannot pull"]);
    let credential = format!(
        "registry_auth=[{{\"host\":\"{}\",\"username\":\"{USER}\",\"password\":{{\"secret\":\"PW\"}}}}]",
        registry.host
    );
    let args = ["--set", &credential, "--secret", &secret];
    build(&machine, "private", &args, 0).says(&["done"]).does_not_say(&["the engine pulls"]);
    let anew = [&args[..], &["--set", "no_cache=true"]].concat();
    build_by(PLAIN, &machine, "private", &anew, 0).says(&["the engine pulls the base images", "done"]);
    for builder in ["builder=classic", "builder=buildkit"] {
        build(&machine, "private", &[&args[..], &["--set", "pull=true", "--set", builder]].concat(), 0);
    }
}
