//! Who signed a plugin, who must have, and what is refused.

use crate::lock::{flow, prints, publish, variant};
use crate::support::registry::Registry;
use crate::support::signing::Key;
use crate::support::{Machine, have, tool};

const LOCK: &str = "cooperage.lock";

#[test]
fn a_plugin_is_signed_by_somebody_trusted_or_pinned_by_hand() {
    if !have(&["docker-registry", "skopeo"]) {
        return;
    }
    let machine = Machine::new().with_own_cache();
    let registry = Registry::start(&machine);
    let name = registry.name("plugins/theirs:1");
    let reference = format!("oci://{name}");
    let file = variant(&machine, |_| {});
    let pushed = machine.ok(&["plugin", "push", &file, &name]);
    let digest = pushed.out().split_once('@').unwrap().1;
    let flow = "version: 1\nflow:\n  image: { uses: dockerfile }\n";
    machine.write("cooperage.yaml", flow);

    let add = ["plugin", "add", "theirs", &reference, "--grant"];
    let exact = format!("{reference}@{digest}");
    machine.fails(&add, 3).says(&["there is no signature of", &exact, "config.yaml", "/etc/cooperage/policy.yaml"]);
    machine.fails(&["build", ".", "--builder", &reference], 3).says(&["there is no signature of"]);
    assert_eq!(machine.read("cooperage.yaml"), flow);
    // What the refusal says is to be written works.
    machine.ok(&["plugin", "add", "pinned", &exact, "--grant"]);

    let (ours, other) = (Key::new(&machine, "ours"), Key::new(&machine, "other"));
    ours.trust_on(&machine);
    other.sign(&machine, &reference);
    machine.fails(&add, 3).says(&["signed by an unknown key", "known are ours"]);
    ours.sign(&machine, &reference);
    prints(&machine, &add, "signed by the key sha256:");
    prints(&machine, &["plugin", "verify", "theirs"], "right   the key ours (sha256:");
    prints(&machine, &["plugin", "verify", &reference], "signed by the key ours");
    prints(&machine, &["plugin", "verify", &reference, "--key", &other.public()], "signed by the key");

    // Where cosign looks for them, as cosign writes them.
    let beside = format!("docker://{}:sha256-{}.sig", registry.name("plugins/theirs"), &digest["sha256:".len()..]);
    let signatures = tool("skopeo", ["inspect", "--raw", "--tls-verify=false", &beside]).json();
    let layers = signatures["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    for layer in layers {
        assert_eq!(layer["mediaType"], "application/vnd.dev.cosign.simplesigning.v1+json");
        assert!(layer["annotations"]["dev.cosignproject.cosign/signature"].is_string());
    }

    // By name, for registries of one's own.
    machine.configure(&format!("trust: {{ rules: [{{ match: '{}/**', require: nothing }}] }}\n", registry.host));
    machine.ok(&["plugin", "add", "more", &reference, "--grant"]);
}

#[test]
fn a_key_that_was_replaced_no_longer_counts() {
    let Some((machine, _registry, old, name)) = flow() else { return };
    machine.ok(&["run"]);
    let before = machine.read(LOCK);
    let new = Key::new(&machine, "acme-2");
    let retired = format!("acme: {{ file: {}, retired: true }}", old.public());
    machine.configure(&format!("trust: {{ keys: {{ {retired}, {} }} }}\n", new.line()));
    for command in [&["run"][..], &["run", "--locked"], &["plugin", "update"]] {
        machine.fails(command, 3).says(&["signed by the key acme", "which is retired"]);
    }
    assert_eq!(machine.read(LOCK), before, "a refusal changes nothing");

    // The same bytes signed again: the lock says that it was somebody else then.
    new.sign(&machine, &name);
    machine.fails(&["run", "--locked"], 3).says(&["was signed by the key sha256:", "when it was locked"]);
    machine.ok(&["plugin", "update"]);
    machine.ok(&["run", "--locked"]);

    // A newer version by yet another key is not taken silently, even if both are trusted.
    let third = Key::new(&machine, "acme-3");
    machine.configure(&format!("trust: {{ keys: {{ {}, {} }} }}\n", new.line(), third.line()));
    publish(&machine, &third, &name, "2.0.0");
    machine.fails(&["plugin", "update"], 3).says(&["version 2.0.0 of the plugin theirs is signed by", "--force"]);
    prints(&machine, &["plugin", "update", "--force"], "1.0.0 -> 2.0.0");
}

#[test]
fn the_policy_of_the_machine_comes_before_the_users() {
    let Some((machine, _registry, key, name)) = flow() else { return };
    let other = Key::new(&machine, "other");
    let host = name.split('/').next().unwrap();
    machine.ok(&["run"]);
    machine.policy(&format!(
        "trust:\n  keys: {{ {} }}\n  rules:\n    - {{ match: '{host}/plugins/*', require: {{ keys: [other] }} }}\n",
        other.line()
    ));
    machine.fails(&["run"], 3).says(&["signed by an unknown key", "a signature by other", "policy.yaml"]);
    // What the user calls by the same name is no key of the machine.
    machine.configure(&format!("trust: {{ keys: {{ other: {{ file: {} }} }} }}\n", key.public()));
    machine.fails(&["run"], 3).says(&["wanted is a signature by other"]);
    other.sign(&machine, &name);
    machine.ok(&["run"]);

    machine.policy(&format!("trust: {{ rules: [{{ match: '{host}/**', require: refuse }}] }}\n"));
    machine.fails(&["run"], 3).says(&["none such at all", "use another plugin"]);
    for (policy, said) in [
        ("trust: { key: {} }\n", "key"),
        ("trust: { keys: { a: { file: nowhere.pub } } }\n", "nowhere.pub"),
        ("trust: { rules: [{ match: x, require: { keys: [b] } }] }\n", "`keys` does not list"),
        ("trust: { rules: [{ match: x, require: { identities: [{ issuer: a, subject: b }] } }] }\n", "trusted-root"),
    ] {
        machine.policy(policy);
        machine.fails(&["run"], 2).says(&["policy.yaml", said]);
    }
}

#[test]
fn mistakes_around_keys() {
    let machine = Machine::new();
    let key = Key::new(&machine, "ours");
    let keygen = ["plugin", "keygen", "--output", &machine.outside("keys/ours").display().to_string()];
    machine.fails(&keygen, 2).says(&["is there already"]);
    let sign = |key: &str| {
        vec!["plugin", "sign", "localhost:1/a:1", "--key", key].into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let fails = |args: &[String], said: &[&str]| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        machine.fails(&args, 2).says(said);
    };
    fails(&sign(&key.private()), &["password", "--password-stdin", "COSIGN_PASSWORD"]);
    let wrong = machine
        .coop(&["plugin", "sign", "localhost:1/a:1", "--key", &key.private()])
        .env("COSIGN_PASSWORD", "x")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(said.contains("the password is wrong"), "{said}");
    let public = key.give_password(&machine, &["plugin", "sign", "localhost:1/a:1", "--key", &key.public()]);
    public.says(&["expected `ENCRYPTED SIGSTORE PRIVATE KEY`"]);
    let unreachable = key.give_password(&machine, &["plugin", "sign", "localhost:1/a:1", "--key", &key.private()]);
    assert_eq!(unreachable.code, Some(4), "{unreachable:?}");
    machine.fails(&["plugin", "verify", "localhost:1/a:1", "--key", &key.private()], 2).says(&["keep that one secret"]);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(key.private()).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}
