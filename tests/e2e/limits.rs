//! Limits and the policy of the host through the real `coop`: what a hostile plugin ends with, and that the steps beside
//! it are none the worse for it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::{Machine, Ran, have};

/// The plugin that does what no plugin should, built as its author would.
fn adversary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/adversarial/guests");
        let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--locked", "--release", "--target", "wasm32-wasip2", "--manifest-path"]);
        cargo.arg(guest.join("Cargo.toml")).env("CARGO_TARGET_DIR", &target);
        for leaks in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER"] {
            cargo.env_remove(leaks);
        }
        assert!(cargo.status().unwrap().success(), "the guest builds");
        target.join("wasm32-wasip2/release/cooperage_adversary.wasm")
    })
}

/// Everything that the plugin asks for, but for its directory.
const ALLOW: &str = "{ http: ['http://granted.example'], tcp: ['127.0.0.1:*', '[::1]:*', 'localhost:*'], secrets: [GRANTED], \
                     fs: [{ mount: /data, path: ., access: write }], registries: [push, pull], sources: ['**'], run: true, \
                     state: true }";

/// A flow of one attack and two peaceful steps beside it.
fn flow(limits: &str, attack: &str) -> String {
    format!(
        "version: 1
plugins:
  guest: {{ from: 'file:{}', allow: {ALLOW}{limits} }}
flow:
  peace: {{ uses: guest, with: {{ do: peace, n: 50 }} }}
  attack: {{ uses: guest, with: {{ {attack} }} }}
  later: {{ uses: guest, needs: [peace], with: {{ do: peace, n: 50 }} }}
",
        adversary().display()
    )
}

/// Runs a flow with a policy, if there is one.
fn run(machine: &Machine, flow: &str, policy: Option<&str>, code: i32) -> Ran {
    machine.write("cooperage.yaml", flow);
    let mut command = machine.coop(&["run", "--output", "json"]);
    if let Some(policy) = policy {
        command.env("COOP_POLICY", Machine::write_to(machine.outside("policy.yaml"), policy));
    }
    let ran = Ran::from(command.output().unwrap());
    assert_eq!(ran.code, Some(code), "{}{}", ran.stdout, ran.stderr);
    ran
}

/// All that was said, without the frames around messages and the ends of lines within them.
fn words(ran: &Ran) -> String {
    let both = format!("{} {}", ran.stderr, ran.stdout);
    both.split_whitespace().filter(|word| !matches!(*word, "|" | "│")).collect::<Vec<_>>().join(" ")
}

/// The status of each step, in the order of names.
fn statuses(ran: &Ran) -> Vec<String> {
    let result = ran.json();
    let text = |step: &serde_json::Value, name: &str| step[name].as_str().unwrap().to_owned();
    let steps = result["steps"].as_array().unwrap().iter();
    let mut found: Vec<_> = steps.map(|step| format!("{} {}", text(step, "id"), text(step, "status"))).collect();
    found.sort();
    found
}

#[test]
fn an_attack_fails_its_step_and_no_other() {
    let machine = Machine::new();
    for (attack, limits, says) in [
        (
            "do: spin",
            "cpu: 1s",
            &["it computes for more than 1s", "limits: { cpu: 2s }", "beside `from` of the plugin guest"][..],
        ),
        ("do: sleep", "time: 1s", &["it takes longer than 1s", "limits: { time: 2s }"]),
        ("do: memory", "memory: 32MiB", &["MiB of memory and may have 32", "limits: { memory: 64MiB }"]),
        ("do: steps-held, n: 1000000", "handles: 500", &["more than 500 resources", "limits: { handles: 1000 }"]),
        ("do: blob, n: 100", "blob_bytes: 4MiB", &["limits: { blob_bytes: 8MiB }"]),
        ("do: huge-line, n: 20000000", "cpu: 1m", &["limits: { host_call: 16MiB }"]),
        ("do: panic, n: 7", "cpu: 1m", &["crashed: index out of bounds"]),
        ("do: crash-with-full-hands", "cpu: 1m", &["crashed: with full hands"]),
        ("do: recursion, n: 100000000", "cpu: 1m", &["guest"]),
    ] {
        let ran = run(&machine, &flow(&format!(", limits: {{ {limits} }}"), attack), None, 1);
        assert_eq!(statuses(&ran), ["attack failed", "later succeeded", "peace succeeded"], "{attack}");
        let words = words(&ran);
        says.iter().for_each(|text| assert!(words.contains(text), "{attack}: {text:?} is not in {words}"));
    }
    let escapes = run(&machine, &flow("", "do: escapes"), None, 1);
    for control in ['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}'] {
        for text in [&escapes.stderr, &escapes.stdout] {
            assert!(!text.contains(control), "{control:?}: {}", text.escape_debug());
        }
    }
}

#[test]
fn limits_are_read_from_the_flow_file_and_the_configuration() {
    let machine = Machine::new();
    let wrong = run(&machine, &flow(", limits: { memroy: 1GiB }", "do: nothing"), None, 2);
    wrong.says(&["memroy", "did you mean `memory`?", "cooperage.yaml:3"]);
    let wrong = run(&machine, &flow(", limits: { memory: big }", "do: nothing"), None, 2);
    wrong.says(&["`memory: big`", "`512MiB`"]);
    machine.configure(&format!(
        "plugins: {{ mine: {{ from: 'file:{}', allow: {ALLOW}, limits: {{ cpu: 1s }} }} }}",
        adversary().display()
    ));
    machine.write("cooperage.yaml", "version: 1\nflow: { attack: { uses: mine, with: { do: spin } } }\n");
    machine.fails(&["run"], 1).says(&["more than 1s"]);
    // A plugin of the program is declared for its limits alone, and is allowed what it always was.
    machine.configure("plugins: { http: { from: http, limits: { memory: 1MiB } } }");
    machine
        .write("cooperage.yaml", "version: 1\nflow: { get: { uses: http, with: { url: 'http://127.0.0.1:1/' } } }\n");
    machine.fails(&["run"], 1).says(&["limits: { memory: 2MiB }"]);
}

#[test]
fn the_policy_of_the_host_comes_first() {
    let machine = Machine::new();
    let quiet = flow(", limits: { memory: 128MiB }", "do: nothing");
    run(&machine, &quiet, Some("{}"), 0);
    run(&machine, &quiet, Some("limits: { memory: 128MiB }"), 0);
    for (policy, says) in [
        ("limits: { memory: 64MiB }", &["`memory: 128MiB`", "`limits: { memory: 64MiB }`", "policy.yaml"][..]),
        ("allow: { run: false }", &["the policy of this host does not permit it", "`allow.run` in", "policy.yaml"]),
        ("default: refuse", &["`default: refuse` in", "which has no `allow.http`", "`allow.state`"]),
        ("allow: { registries: ['pull company/**'] }", &["`allow.registries` in"]),
    ] {
        let ran = run(&machine, &quiet, Some(policy), 3);
        let words = words(&ran);
        says.iter().for_each(|text| assert!(words.contains(text), "{policy}: {text:?} is not in {words}"));
        assert!(!words.contains("to allow it, write"), "{policy}: no flow file can allow it: {words}");
    }
    for (policy, says) in [
        ("limits: { memroy: 1 }", "`memroy` is no limit"),
        ("allow: { htpt: [] }", "there is no such capability"),
        ("forbid: all", "forbid"),
        ("default: maybe", "policy.yaml is not right"),
    ] {
        run(&machine, &quiet, Some(policy), 2).says(&[says, "policy.yaml"]);
    }
    // The plugins of the program are capped, too, also where a step's parameters name the place.
    let get = "version: 1\nflow: { get: { uses: http, with: { url: 'http://127.0.0.1:1/' } } }\n";
    run(&machine, get, Some("allow: { http: ['https://*.company.example'] }"), 3)
        .says(&["`allow.http` in", "policy.yaml"]);
    let other = run(&machine, get, Some("allow: { http: ['http://127.0.0.1:1'] }"), 4);
    other.does_not_say(&["policy"]);
}

/// A plugin of a stranger under lists of processes: each side's must allow what is run.
#[test]
fn processes_run_where_every_side_lets_them() {
    let machine = Machine::new();
    let rule = |rule: &str| flow("", "do: run").replace("run: true", &format!("run: {rule}"));
    for (allow, policy, says) in [
        (
            "{ images: alpine }",
            "{}",
            &["stands on no image", r#"run: {"images":["alpine","scratch"]}"#, "{ guest:"][..],
        ),
        ("{ commands: ['make **'] }", "{}", &["may not run `/bin/true`", r#"["make **","/bin/true"]"#]),
        ("{ network: none }", "{}", &["reach the network", r#"["none","host"]"#]),
        ("true", "allow: { run: { images: '**' } }", &["`allow.run` in", "policy.yaml, by its `images`"]),
        ("true", "allow: { run: [{ commands: a }, { network: none }] }", &["`allow.run` in", "policy.yaml, by its"]),
    ] {
        let ran = run(&machine, &rule(allow), Some(policy), 3);
        assert_eq!(statuses(&ran), ["attack failed", "later succeeded", "peace succeeded"], "{allow} {policy}");
        let words = words(&ran);
        says.iter().for_each(|text| assert!(words.contains(text), "{allow} {policy}: {text:?} is not in {words}"));
    }
    for (policy, says) in [
        ("allow: { run: { images: ['base:*'], image: x } }", "there is no `image`"),
        (r#"allow: { run: { commands: "a\0" } }"#, r"`a\0` in `commands`"),
    ] {
        run(&machine, &rule("true"), Some(policy), 2).says(&[says, "policy.yaml"]);
    }
}

#[test]
fn a_policy_holds_the_bundled_builder_to_its_processes() {
    if !have(&["skopeo"]) {
        return;
    }
    let machine = Machine::new();
    machine.base();
    machine.dockerfile("app", "FROM base:1\nRUN --mount=type=cache,id=pip,target=/c touch /done\n");
    let build = |policy: &str, args: &[&str], code: i32| {
        machine.policy(policy);
        let ran = Ran::from(machine.coop(&[&["build", "app", "--no-cache"], args].concat()).output().unwrap());
        assert_eq!(ran.code, Some(code), "{policy}: {}{}", ran.stdout, ran.stderr);
        ran
    };
    for (list, says) in [
        ("images: [alpine, scratch]", &["in the image base:1", "`allow.run` in", "Dockerfile:2"][..]),
        (r#"commands: "/bin/sh -c 'cat **'""#, &["touch /done", "by its `commands`"]),
        ("mounts: ['cache npm', bind]", &["cache pip"]),
        ("network: none", &["--network none"]),
    ] {
        let words = words(&build(&format!("allow: {{ run: {{ {list} }} }}"), &[], 3));
        says.iter().for_each(|text| assert!(words.contains(text), "{list}: {text:?} is not in {words}"));
    }
    build("allow: { run: { images: 'base:*', commands: ['/bin/sh -c **'], mounts: 'cache pi*' } }", &[], 0);
    build("allow: { run: { network: none } }", &["--network", "none"], 0);
}

#[test]
fn what_a_plugin_keeps_is_bounded_by_every_side() {
    let keep = |state: &str| flow("", "do: keep, n: 9").replace("state: true", &format!("state: {state}"));
    for (allow, policy, code, says) in [
        ("{ entries: 9, quota: 1KiB }", "{}", 0, &[][..]),
        ("{ entries: 3 }", "{}", 1, &["may keep 3 values", r#"allow: { state: {"entries":6} }"#]),
        ("{ quota: 2B }", "{}", 1, &["2B together", r#"{"quota":"4B"}"#]),
        ("true", "allow: { state: { entries: 3 } }", 1, &["may keep 3 values", "`allow.state` in", "yaml permits"]),
        ("{ entries: 0 }", "{}", 3, &["state: true (to keep)", "to allow it, write"]),
        ("true", "allow: { state: { quota: 0 } }", 3, &["the policy of this host does not permit it"]),
        ("{ quota: lots }", "{}", 2, &["a size such as `1MiB`"]),
    ] {
        let words = words(&run(&Machine::new(), &keep(allow), Some(policy), code));
        says.iter().for_each(|text| assert!(words.contains(text), "{allow} {policy}: {text:?} is not in {words}"));
    }
}

#[test]
fn compiling_is_limited_by_the_flow_file_and_the_policy() {
    let machine = Machine::new().with_own_cache();
    for (limits, policy, code, says) in [
        (", limits: { component: 1KiB }", "{}", 2, &["more than the limit of 1024", "limits: { component: 3MiB }"][..]),
        (", limits: { compile_memory: 64MiB }", "{}", 2, &["memory", "limits: { compile_memory: 128MiB }"]),
        ("", "limits: { component: 1KiB }", 2, &["more than the limit of 1024"]),
        (
            ", limits: { component: 128MiB }",
            "limits: { component: 100MiB }",
            3,
            &["`component: 128MiB`", "policy.yaml"],
        ),
        (", limits: { component: 128MiB, compile_time: 9m }", "limits: { compile_time: 9m }", 0, &[]),
    ] {
        let words = words(&run(&machine, &flow(limits, "do: nothing"), Some(policy), code));
        says.iter().for_each(|text| assert!(words.contains(text), "{limits} {policy}: {text:?} is not in {words}"));
    }
}

/// What is asked for, what the flow file allows, and what the policy makes of it, without running anything.
#[test]
fn a_look_at_a_plugin_shows_what_holds_for_it_here() {
    let machine = Machine::new();
    let limits = ", limits: { memory: 1GiB, handles: 500 }";
    machine.write("cooperage.yaml", flow(limits, "do: nothing").replace("state: true", "state: { entries: 0 }"));
    machine.policy("allow: { run: { network: none }, secrets: [OTHER] }\nlimits: { memory: 1GiB, cpu: 1m }\n");
    let seen = machine.ok(&["plugin", "inspect", "guest", "--output", "json"]).json();
    let grant = |class: &str| {
        let grants = seen["holds"]["grants"].as_array().unwrap();
        grants.iter().find(|grant| grant["class"] == class).unwrap()
    };
    let run = grant("run");
    assert_eq!((&run["asked"], &run["allowed"], &run["granted"]), (&true.into(), &true.into(), &true.into()));
    assert_eq!(run["capped"], serde_json::json!({ "network": "none" }));
    assert!(grant("secrets")["refused"].as_str().unwrap().contains("`allow.secrets` in"));
    assert_eq!((&grant("state")["missing"], &grant("state")["refused"]), (&true.into(), &serde_json::Value::Null));
    assert_eq!((&seen["limits"]["handles"], &seen["limits"]["memory"]), (&500.into(), &(1u64 << 30).into()));
    assert_eq!(seen["holds"]["capped"], serde_json::json!(["cpu", "memory"]));
    machine.ok(&["plugin", "inspect", "guest"]).prints(&[
        r#"run: asked true, allowed true, capped {"network":"none"} by"#,
        "secrets: asked",
        "not granted",
        "handles: 500",
        "cpu: 1m, capped by",
    ]);
    machine.ok(&["plugin", "inspect", "dockerfile"]).prints(&["allowed all that it asks for, capped"]);
}
