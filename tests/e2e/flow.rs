//! Flow files: images that need each other, scripts, pushes, and what happens when a step fails.

use crate::support::processes::{Running, eventually, with_command};
use crate::support::registry::Registry;
use crate::support::{Machine, ROOT, have, tool};

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
fn a_context_is_a_directory_of_the_files_that_a_step_works_on() {
    let Some(machine) = machine() else { return };
    let flow = |with: &str| {
        format!(
            "
version: 1
flow:
  make: {{ uses: script, with: {{ image: 'base:1', run: 'mkdir part; echo made > part/file; echo \"$D\" > part/Dockerfile',
          env: {{ D: \"FROM base:1\\nCOPY file /\\nRUN grep made /file\" }} }} }}
  image: {{ uses: dockerfile, in: make, with: {with} }}
"
        )
    };
    check(&machine, &flow("{ context: part }"), 0, &["image succeeded 1", "make succeeded 1"]);
    for (with, says) in [
        ("{ context: 'https://web.example/part.tar' }", "`context` and `in` both say"),
        ("{ context: part, build_args: [A=1] }", "write `build_args: { NAME: VALUE }`"),
    ] {
        machine.write("cooperage.yaml", flow(with));
        machine.fails(&["run"], 2).says(&[says, "cooperage.yaml:6"]);
    }
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
    assert!(lines[0].contains("first script") && lines[1].contains("second script after first"), "{lines:?}");
    let plan = machine.ok(&["run", "--dry-run", "--output", "json"]).json();
    assert_eq!(plan["steps"][1]["after"][0]["step"], "first");
    assert!(plan["steps"][0]["expected"].is_string(), "{plan}");
    machine.fails(&["explain"], 0);
}

#[test]
fn a_plan_tells_what_is_in_the_cache() {
    let Some(machine) = machine() else { return };
    machine.write("app/file", "1");
    machine.dockerfile("app", "FROM base:1\nCOPY file /\nRUN cat /file > /copy\n");
    let flow = "
version: 1
images:
  acme/app:
    tags:
      '1':
        flow:
          make: { uses: script, with: { image: 'base:1', run: 'echo 1 > one', outputs: { one: one } } }
          image: { uses: dockerfile, with: { context: app, build_args: { N: '${{ steps.make.one }}' } } }
          send: { uses: push, with: { image: '${{ steps.image.digest }}', to: 'localhost:1/app:1' } }
          other: { uses: script, in: make, with: { image: 'base:1', run: 'cat one' } }
          told: { uses: script, in: make, with: { image: 'base:1', run: 'echo ${{ steps.image.reference + steps.image.image }}' } }
";
    machine.write("cooperage.yaml", flow);
    let expected = |args: &[&str]| -> Vec<String> {
        let plan = machine.ok(&[&["run", "--dry-run", "--output", "json"], args].concat()).json();
        let steps = plan["steps"].as_array().unwrap().iter();
        let mut told: Vec<_> =
            steps.map(|step| format!("{} {}", step["id"].as_str().unwrap(), step["expected"])).collect();
        told.sort();
        told.into_iter().map(|line| line.replace("acme/app:1/", "").replace('"', "")).collect()
    };
    assert_eq!(expected(&[]), ["image unknown", "make miss", "other unknown", "send unknown", "told unknown"]);
    machine.ok(&["run", "make", "image", "other", "told"]);
    assert_eq!(expected(&[]), ["image hit", "make hit", "other hit", "send miss", "told hit"]);
    // The first step gets the project, which is another one now.
    machine.write("app/file", "2");
    assert_eq!(expected(&[]), ["image unknown", "make miss", "other unknown", "send unknown", "told unknown"]);
    assert!(expected(&["--no-cache"]).iter().all(|line| !line.contains("hit")));
}

#[test]
fn steps_that_gave_files_are_not_done_again_when_a_flow_goes_on() {
    let Some(machine) = machine() else { return };
    let flow = |last: &str| {
        format!(
            "
version: 1
flow:
  make: {{ uses: script, with: {{ image: 'base:1', run: 'echo made > file; echo x >> /log/x; cat /log/x > count',
          caches: [{{ path: /log }}], outputs: {{ count: count }} }} }}
  use: {{ uses: script, in: make, with: {{ image: 'base:1', run: 'test \"$(cat file)\" = made; {last}' }} }}
"
        )
    };
    machine.write("cooperage.yaml", flow("exit 3"));
    machine.fails(&["run"], 1);
    machine.write("cooperage.yaml", flow("exit 0"));
    let result = machine.ok(&["run", "--resume", "--no-cache", "--output", "json"]).json();
    assert_eq!((&result["steps"][0]["resumed"], &result["steps"][1]["resumed"]), (&true.into(), &false.into()));
    assert_eq!(result["steps"][0]["values"]["count"], "x", "it ran once");
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

#[test]
fn a_step_runs_for_every_combination_of_a_matrix() {
    let Some(machine) = machine() else { return };
    let flow = "
version: 1
flow:
  make:
    uses: script
    matrix: { name: [one, two], size: [1, 2], exclude: [{ name: two, size: 1 }] }
    max_parallel: 2
    with:
      image: 'base:1'
      run: 'echo ${{ matrix.name }}${{ matrix.size }} > ${{ matrix.name }}'
      outputs: { text: '${{ matrix.name }}' }
      result: .
  check:
    uses: script
    in: make
    matrix: { size: [1, 2], name: [one, two], exclude: [{ name: two, size: 1 }] }
    with: { image: 'base:1', run: 'test $(cat ${{ matrix.name }}) = ${{ steps.make.text }}' }
  all: { uses: script, with: { image: 'base:1', run: 'test \"${{ steps.make.text }}\" = \"[one1,one2,two2]\"' } }
";
    let expected = [
        "all succeeded 1",
        "check (1, one) succeeded 1",
        "check (2, one) succeeded 1",
        "check (2, two) succeeded 1",
        "make (one, 1) succeeded 1",
        "make (one, 2) succeeded 1",
        "make (two, 2) succeeded 1",
    ];
    let result = check(&machine, flow, 0, &expected);
    assert_eq!(result["steps"][0]["matrix"], serde_json::json!({ "name": "one", "size": 1 }));
    let one = machine.ok(&["run", "check.2-two", "--output", "json"]).json();
    assert_eq!(one["steps"].as_array().unwrap().len(), 2);
}

#[test]
fn trees_of_several_steps_come_together() {
    let Some(machine) = machine() else { return };
    let flow = "
version: 1
flow:
  a: { uses: script, with: { image: 'base:1', run: 'mkdir out; echo a > out/a', result: out } }
  b: { uses: script, with: { image: 'base:1', run: 'echo b > b' } }
  both:
    uses: script
    in: a
    inputs: { other: b, again: a }
    with:
      image: 'base:1'
      run: 'test -e a; cat other/b /inputs/again/a > both; echo x > other/x; ! test -e out'
      inputs: { other: other }
      outputs: { both: both }
  last: { uses: script, in: both, with: { image: 'base:1', run: 'test -e both; ! test -e other/x' } }
";
    let expected = ["a succeeded 1", "b succeeded 1", "both succeeded 1", "last succeeded 1"];
    let result = check(&machine, flow, 0, &expected);
    let both = result["steps"].as_array().unwrap().iter().find(|step| step["id"] == "both").unwrap();
    assert_eq!(both["values"]["both"], "b\na");
}

/// A flow whose second step fails once, until the file `fixed` is there.
const BROKEN: &str = "
version: 1
images:
  acme/app:
    tags:
      '1':
        flow:
          image: { uses: dockerfile, with: { context: image } }
          test: { uses: script, with: { image: 'base:1', run: 'echo ran >> /log/test; MODE', caches: [{ path: /log }] }, needs: [image] }
          after: { uses: script, needs: [test], with: { image: 'base:1', run: 'true' } }
";

#[test]
fn a_flow_goes_on_where_it_failed() {
    let Some(machine) = machine() else { return };
    machine.dockerfile("image", "FROM base:1\nRUN echo image > /image\n");
    let steps = |flow: &str, args: &[&str], code: i32| {
        machine.write("cooperage.yaml", flow);
        let result = machine.fails(&[&["run", "--output", "json"], args].concat(), code).json();
        let steps = result["steps"].as_array().unwrap().iter();
        steps.map(|step| format!("{} {}", step["status"].as_str().unwrap(), step["resumed"])).collect::<Vec<_>>()
    };
    let (broken, fixed) = (BROKEN.replace("MODE", "exit 3"), BROKEN.replace("MODE", "exit 0"));
    assert_eq!(steps(&broken, &[], 1), ["succeeded false", "failed false", "skipped false"]);
    assert_eq!(steps(&broken, &["--resume"], 1), ["succeeded true", "failed false", "skipped false"]);
    machine.dockerfile("image", "FROM base:1\nRUN echo other > /image\n");
    assert_eq!(steps(&broken, &["--resume"], 1), ["succeeded false", "failed false", "skipped false"]);
    assert_eq!(steps(&fixed, &["--resume"], 0), ["succeeded true", "succeeded false", "succeeded false"]);
    // It succeeded: there is nothing to go on from.
    assert_eq!(steps(&fixed, &["--resume"], 0), ["succeeded false", "succeeded false", "succeeded false"]);
}

/// What another build did to the name in the meantime is put right.
#[test]
fn an_image_has_its_name_again_when_a_flow_goes_on() {
    let Some(machine) = machine() else { return };
    machine.dockerfile("image", "FROM base:1\nRUN echo image > /image\n");
    machine.dockerfile("other", "FROM base:1\nRUN echo other > /other\n");
    let digest = || {
        let image = machine.ok(&["image", "inspect", "acme/app:1", "--output", "json"]).json();
        image["descriptor"]["digest"].clone()
    };
    machine.write("cooperage.yaml", BROKEN.replace("MODE", "exit 3"));
    machine.fails(&["run"], 1);
    let made = digest();
    machine.ok(&["build", "other", "--tag", "acme/app:1"]);
    machine.ok(&["run", "--resume", "--dry-run"]);
    assert_ne!(digest(), made, "a look changes nothing");
    let result = machine.fails(&["run", "--resume", "--output", "json"], 1).json();
    assert_eq!(result["steps"][0]["resumed"], true, "{result}");
    assert_eq!(digest(), made);
}

#[test]
fn an_image_is_pushed_again_where_it_has_not_been() {
    if !have(&["docker-registry"]) {
        return;
    }
    let Some(machine) = machine() else { return };
    let registry = Registry::start(&machine);
    machine.dockerfile("image", "FROM base:1\nENV A=1\n");
    let run = |push: &str, args: &[&str]| {
        let flow = format!(
            "
version: 1
registries: {{ push: '{}' }}
images:
  company/app:
    push: {push}
    tags:
      '1':
        flow:
          image: {{ uses: dockerfile, with: {{ context: image }} }}
          push: {{ uses: push, with: {{ image: '${{{{ steps.image.image }}}}' }} }}
          bad: {{ uses: script, needs: [push], with: {{ image: 'base:1', run: 'exit 3' }} }}
",
            registry.host
        );
        machine.write("cooperage.yaml", flow);
        let result = machine.fails(&[&["run", "--output", "json"], args].concat(), 1).json();
        let steps = result["steps"].as_array().unwrap().iter();
        steps.map(|step| format!("{} {}", step["status"].as_str().unwrap(), step["resumed"])).collect::<Vec<_>>()
    };
    let (again, spared) =
        (["succeeded true", "succeeded false", "failed false"], ["succeeded true", "succeeded true", "failed false"]);
    run("{ skip: true }", &[]);
    assert_eq!(run("{ skip: true }", &["--resume"]), spared);
    assert_eq!(run("{ override_user: alice }", &["--resume"]), again);
    assert_eq!(run("{ override_user: alice }", &["--resume"]), spared);
    assert_eq!(run("{ override_user: bob }", &["--resume"]), again);
    assert_eq!(registry.digest("alice/app:1"), registry.digest("bob/app:1"));
}

/// Killed as nothing can prevent; two processes at one flow; a changed context.
#[test]
fn a_killed_flow_goes_on_where_it_was() {
    let Some(machine) = machine() else { return };
    machine.dockerfile("one", "FROM base:1\nRUN echo one > /one\n");
    machine.dockerfile("two", "FROM base:1\nRUN sleep 60734\n");
    let flow = "
version: 1
flow:
  one: { uses: dockerfile, matrix: { v: [1, 2] }, with: { context: one, labels: { v: '${{ matrix.v }}' } } }
  two: { uses: dockerfile, needs: [one], with: { context: two } }
";
    machine.write("cooperage.yaml", flow);
    let mut running = Running::start(machine.coop(&["run", "--progress", "plain"]), &machine.path("log"));
    eventually("the second image is made", || !with_command("sleep\x0060734\0").is_empty());
    machine.fails(&["run", "--resume"], 4).says(&["is being run by another process"]);
    running.kill();
    let plan = machine.ok(&["run", "--resume", "--dry-run", "--output", "json"]).json();
    let expected: Vec<_> = plan["steps"].as_array().unwrap().iter().map(|step| step["expected"].clone()).collect();
    assert_eq!(expected[..2], ["resumed", "resumed"], "{plan}");
    machine.dockerfile("two", "FROM base:1\nRUN echo two > /two\n");
    let result = machine.ok(&["run", "--resume", "--no-cache", "--output", "json"]).json();
    let resumed: Vec<_> = result["steps"].as_array().unwrap().iter().map(|step| step["resumed"].clone()).collect();
    assert_eq!(resumed, [true, true, false], "{result}");
    eventually("what was killed is gone", || with_command("sleep\x0060734\0").is_empty());
}

/// What `junit-10.xsd` of Jenkins' xunit plugin allows, as far as reports have it: for each element what it must have,
/// what it may have, and what may be in it. The form of time stamps is that of Ant's schema.
const JUNIT_RULES: &str = r"
import re, sys, xml.etree.ElementTree as e
problem = ((), ('type', 'message'), ())
rules = {
    'testsuites': ((), ('name', 'time', 'tests', 'failures', 'errors'), ('testsuite',)),
    'testsuite': (('name', 'tests', 'failures', 'errors'),
        ('group', 'time', 'skipped', 'timestamp', 'hostname', 'id', 'package', 'file', 'log', 'url'),
        ('testsuite', 'properties', 'testcase', 'system-out', 'system-err')),
    'testcase': (('name',), ('time', 'classname', 'group'), ('skipped', 'error', 'failure', 'system-out', 'system-err')),
    'failure': problem, 'error': problem, 'skipped': problem, 'system-out': ((), (), ()), 'system-err': ((), (), ()),
}
forms = {'time': r'[0-9]+\.[0-9]{3}', 'timestamp': r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d'}
forms.update((name, '[0-9]+') for name in ('tests', 'failures', 'errors', 'skipped'))
def check(element):
    must, may, within = rules[element.tag]
    for name in must: assert name in element.attrib, (element.tag, name)
    for name, value in element.attrib.items():
        assert name in must + may, (element.tag, name)
        assert re.fullmatch(forms.get(name, r'(?s).*'), value), (element.tag, name, value)
    # The older schema of Jenkins and Ant's have an order: verdicts before output, one of each.
    order = [within.index(child.tag) for child in element]
    assert element.tag != 'testcase' or order == sorted(set(order)), (element.tag, order)
    for child in element: check(child)
suites = e.parse(sys.argv[1]).getroot()
assert suites.tag == 'testsuites'
check(suites)
";

#[test]
fn reports_are_written_whatever_came_of_the_flow_and_have_no_secret() {
    if !have(&["python3"]) {
        return;
    }
    let Some(machine) = machine() else { return };
    machine.write("token", "hunter2-of-a-test");
    let flow = "
version: 1
flow:
  leak:
    uses: script
    with:
      image: 'base:1'
      secrets: [{ name: token, env: TOKEN }]
      run: 'echo \"<&> $TOKEN\"; echo $TOKEN > out'
      outputs: { out: out }
  bad: { uses: script, with: { image: 'base:1', run: 'echo \"oh ${{ steps.leak.out }}\"; exit 7' } }
  never: { uses: script, needs: [bad], with: { image: 'base:1', run: 'true' } }
  kind: { uses: script, continue_on_error: true, with: { image: 'base:1', run: 'exit 1' } }
";
    machine.write("cooperage.yaml", flow);
    let (secret, junit, json) = (
        format!("id=token,src={}", machine.text("token")),
        format!("junit={}", machine.text("report.xml")),
        format!("json={}", machine.text("report.json")),
    );
    let args =
        ["run", "--secret", &secret, "--report", &junit, "--report", &json, "--output", "json", "--progress", "plain"];
    let ran = machine.fails(&args, 1);
    let read = |name: &str| std::fs::read_to_string(machine.path(name)).unwrap();
    let (xml, report) = (read("report.xml"), read("report.json"));
    for (place, text) in [("stdout", &ran.stdout), ("stderr", &ran.stderr), ("xml", &xml), ("json", &report)] {
        assert!(!text.contains("hunter2"), "{place}: {text}");
    }
    let program = JUNIT_RULES.to_owned()
        + "
suite, = suites
print(suites.get('tests'), suites.get('failures'), suites.get('errors'), suite.get('skipped'))
for case in suite: print(case.get('name'), [child.tag for child in case])";
    let shown = tool("python3", ["-c", &program, &machine.text("report.xml")]).stdout;
    let expected = "\
4 1 0 2
leak ['system-out']
bad ['failure', 'system-out']
never ['skipped']
kind ['skipped']
";
    assert_eq!(shown, expected, "{xml}");
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["outcome"], "failed");
    assert!(report["steps"][0]["log"].as_str().unwrap().contains("<&> ***"), "{report}");
    machine.fails(&["run", "--report", "html=x"], 2).says(&["html"]);
    let store = machine.text("../store");
    let grep = std::process::Command::new("grep").args(["-rl", "hunter2", &format!("{store}/flows")]).output().unwrap();
    assert!(grep.stdout.is_empty(), "{}", String::from_utf8_lossy(&grep.stdout));
}

#[test]
fn a_wrong_name_of_an_output_is_told_before_anything_runs() {
    let Some(machine) = machine() else { return };
    let flow = "
version: 1
flow:
  make: { uses: script, with: { image: 'base:1', run: 'echo it ran', outputs: { answer: answer } } }
  use: { uses: script, with: { image: 'base:1', run: 'echo ${{ steps.make.anwser }}' } }
";
    machine.write("cooperage.yaml", flow);
    let ran = machine.fails(&["run"], 2);
    ran.says(&["has no output `anwser`", "did you mean `answer`?", "cooperage.yaml:5"]);
    ran.does_not_say(&["it ran"]);
}
