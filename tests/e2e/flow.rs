//! Flow files: images that need each other, scripts, pushes, and what happens when a step fails.

use crate::support::registry::Registry;
use crate::support::{Machine, ROOT, have};

fn machine() -> Option<Machine> {
    if !have(&[ROOT]) {
        return None;
    }
    let machine = Machine::new();
    machine.base();
    Some(machine)
}

/// Runs a flow file; the steps of the result, as `id status attempts`.
#[track_caller]
fn check(machine: &Machine, flow: &str, code: i32, expected: &[&str]) -> serde_json::Value {
    machine.write("cooperage.yaml", flow);
    let ran = machine.fails(&["run", "--output", "json"], code);
    let result = ran.json();
    let steps = result["steps"].as_array().unwrap().iter();
    let mut found: Vec<_> = steps
        .map(|step| {
            let text = |name: &str| step[name].as_str().unwrap().to_owned();
            format!("{} {} {}", text("id"), text("status"), step["attempts"])
        })
        .collect();
    found.sort();
    assert_eq!(found, expected, "{}", ran.stderr);
    result
}

#[test]
fn an_image_waits_for_the_one_it_builds_on() {
    let Some(machine) = machine() else { return };
    machine.write("lib/file", "library");
    machine.dockerfile("lib", "FROM base:1\nCOPY file /lib\n");
    machine.dockerfile("app", "FROM acme/lib:1\nRUN cat /lib /lib > /app\n");
    let flow = "
version: 1
images:
  acme/app: { tags: { '2': { flow: { image: { uses: dockerfile, with: { context: app } } } } } }
  acme/lib: { tags: { '1': { flow: { image: { uses: dockerfile, with: { context: lib } } } } } }
";
    let expected = ["acme/app:2/image succeeded 1", "acme/lib:1/image succeeded 1"];
    let result = check(&machine, flow, 0, &expected);
    let app = machine.ok(&["image", "inspect", "acme/app:2", "--output", "json"]).json();
    let step = result["steps"].as_array().unwrap().iter().find(|step| step["id"] == "acme/app:2/image").unwrap();
    assert_eq!(step["values"]["digest"], app["descriptor"]["digest"]);
    // One target brings what it needs, and nothing else.
    machine.write("cooperage.yaml", flow);
    let only = machine.ok(&["run", "acme/lib:1", "--output", "json"]).json();
    assert_eq!(only["steps"].as_array().unwrap().len(), 1);
    machine.fails(&["run", "acme/lob:1"], 2).says(&["acme/lob:1"]);
}

#[test]
fn files_and_values_go_from_step_to_step() {
    let Some(machine) = machine() else { return };
    machine.write("given", "from the project");
    machine.write("Dockerfile", "FROM base:1\nCOPY made /made\nARG N\nENV N=$N\n");
    let flow = "
version: 1
images:
  app:
    tags:
      latest:
        flow:
          make:
            uses: script
            with: { image: 'base:1', run: 'cat given > made; echo 42 > answer', outputs: { answer: answer } }
          copy: { uses: script, in: make, with: { image: 'base:1', run: 'cat made made > twice; rm answer' } }
          look: { uses: script, in: copy, with: { image: 'base:1', run: 'test -e twice; test ! -e answer' } }
          again: { uses: script, in: make, with: { image: 'base:1', run: 'test -e answer; test ! -e twice' } }
          image: { uses: dockerfile, in: make, with: { build_args: { N: '${{ steps.make.answer }}' } } }
";
    let expected = ["again", "copy", "image", "look", "make"].map(|step| format!("app:latest/{step} succeeded 1"));
    let result = check(&machine, flow, 0, &expected.each_ref().map(String::as_str));
    let make = result["steps"].as_array().unwrap().iter().find(|step| step["id"] == "app:latest/make").unwrap();
    assert_eq!(make["values"]["answer"], "42");
    if have(&["skopeo"]) {
        assert!(machine.configuration("app:latest")["config"]["Env"].to_string().contains("N=42"));
    }
    assert!(!machine.path("made").exists(), "a step does not write into the project");
    let ran = machine.ok(&["run", "--progress", "plain"]);
    ran.says(&["CACHED"]);
    assert_eq!(machine.ok(&["run", "--output", "json"]).json()["outcome"], "succeeded");
}

#[test]
fn an_image_is_pushed_under_the_name_of_the_user() {
    if !have(&["docker-registry", "skopeo"]) {
        return;
    }
    let Some(machine) = machine() else { return };
    let registry = Registry::start(&machine);
    machine.write("Dockerfile", "FROM base:1\nENV A=1\n");
    let flow = format!(
        "
version: 1
registries: {{ push: '{}' }}
images:
  company/app:
    push: {{ override_user: '${{WHO}}' }}
    tags:
      '1':
        flow:
          image: {{ uses: dockerfile }}
          push: {{ uses: push, with: {{ image: '${{{{ steps.image.image }}}}' }} }}
          told: {{ uses: script, with: {{ image: 'base:1', run: 'test ${{{{ steps.push.digest }}}} = ${{{{ steps.image.digest }}}}' }} }}
  company/kept: {{ push: {{ skip: true }}, tags: {{ '1': {{ flow: {{
    image: {{ uses: dockerfile }}, push: {{ uses: push, with: {{ image: '${{{{ steps.image.image }}}}' }} }} }} }} }} }}
",
        registry.host
    );
    machine.write("cooperage.yaml", flow);
    let result = machine.ok(&["run", "--var", "WHO=alice", "--output", "json"]).json();
    let push = result["steps"].as_array().unwrap().iter().find(|step| step["id"] == "company/app:1/push").unwrap();
    assert_eq!(push["values"]["digest"], registry.digest("alice/app:1").as_str());
    assert_eq!(registry.requests("PUT", "kept"), 0, "{}", registry.log());
}

#[test]
fn a_failed_step_fails_the_flow_and_skips_what_needs_it() {
    let Some(machine) = machine() else { return };
    let flow = "
version: 1
flow:
  bad: { uses: script, with: { image: 'base:1', run: 'echo oh no; exit 7' } }
  after: { uses: script, needs: [bad], with: { image: 'base:1', run: 'true' } }
  always: { uses: script, needs: [bad], if: 'always()', with: { image: 'base:1', run: 'echo told ${{ steps.bad.status }}' } }
  rescue: { uses: script, needs: [bad], if: 'failure()', with: { image: 'base:1', run: 'true' } }
  never: { uses: script, if: false, with: { image: 'base:1', run: 'exit 1' } }
  last: { uses: script, finally: true, with: { image: 'base:1', run: 'true' } }
";
    let expected = [
        "after skipped 0",
        "always succeeded 1",
        "bad failed 1",
        "last succeeded 1",
        "never skipped 0",
        "rescue succeeded 1",
    ];
    check(&machine, flow, 1, &expected);
    let ran = machine.fails(&["run", "--no-cache", "--progress", "plain"], 1);
    ran.says(&["oh no", "told failed", "exit code 7", "error: bad:"]);
    assert!(ran.stdout.contains("skipped"), "{}", ran.stdout);
}

#[test]
fn a_step_is_tried_again_and_may_fail() {
    let Some(machine) = machine() else { return };
    let flow = "
version: 1
flow:
  flaky:
    uses: script
    retry: { attempts: 3, delay: 10ms }
    with:
      image: 'base:1'
      caches: [{ path: /state }]
      run: 'if test -e /state/tried; then echo second; else touch /state/tried; exit 9; fi'
  hopeless:
    uses: script
    retry: { attempts: 2, delay: 10ms }
    continue_on_error: true
    with: { image: 'base:1', run: 'exit 3' }
";
    check(&machine, flow, 0, &["flaky succeeded 2", "hopeless failed 2"]);
}

#[test]
fn a_step_that_takes_too_long_is_ended() {
    let Some(machine) = machine() else { return };
    let flow = "
version: 1
flow:
  slow: { uses: script, timeout: 500ms, with: { image: 'base:1', run: 'sleep 60233' } }
";
    let result = check(&machine, flow, 1, &["slow failed 1"]);
    let message = result["steps"][0]["fault"].to_string();
    assert!(message.contains("500ms") || message.contains("time"), "{message}");
    machine.assert_nothing_runs();
}

#[test]
fn a_plan_is_shown_and_not_run() {
    let Some(machine) = machine() else { return };
    let flow = "
version: 1
flow:
  first: { uses: script, with: { image: 'base:1', run: 'echo it ran > /dev/stderr' } }
  second: { uses: script, in: first, with: { image: 'base:1', run: 'true' } }
";
    machine.write("cooperage.yaml", flow);
    let ran = machine.ok(&["run", "--dry-run"]);
    ran.does_not_say(&["it ran"]);
    let lines: Vec<_> = ran.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines, ["first script", "second script after first"]);
    let plan = machine.ok(&["run", "--dry-run", "--output", "json"]).json();
    assert_eq!(plan["steps"][1]["after"][0]["step"], "first");
    machine.fails(&["explain"], 0);
}

#[test]
fn a_script_gets_its_secrets_and_nobody_else_sees_them() {
    let Some(machine) = machine() else { return };
    machine.write("token", "hunter2-of-a-test");
    let flow = "
version: 1
flow:
  use:
    uses: script
    with:
      image: 'base:1'
      secrets: [{ name: token }]
      run: 'test $(wc -c < /run/secrets/token) = 17 && cat /run/secrets/token'
";
    machine.write("cooperage.yaml", flow);
    let secret = format!("id=token,src={}", machine.text("token"));
    let ran = machine.ok(&["run", "--secret", &secret, "--progress", "plain"]);
    ran.does_not_say(&["hunter2-of-a-test"]);
    machine.fails(&["run", "--no-cache"], 2).says(&["token"]);
}
