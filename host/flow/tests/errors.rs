//! Mistakes in flow files and exactly what is shown for them.

use cooperage_flow::{FlowFile, KnownOutputs, NoImageDependencies, ParseOptions, Source, StepView};
use std::collections::BTreeMap;

/// Compares what is shown: errors of reading or planning, else warnings.
fn check(yaml: &str, expected: &str) {
    let options = ParseOptions {
        variables: BTreeMap::from([("USER".to_string(), "ann".to_string())]),
        plugins: Some(["git", "script", "dockerfile", "push"].map(str::to_string).to_vec()),
        limits: &["memory", "time"],
    };
    let shown = match FlowFile::parse(Source::new("cooperage.yaml", yaml), &options) {
        Err(report) => report.render(false),
        Ok(file) => match file.plan(&NoImageDependencies) {
            Err(report) => report.render(false),
            Ok(_) => file.warnings.iter().map(|warning| warning.render(false)).collect::<Vec<_>>().join("\n\n"),
        },
    };
    assert_eq!(shown, expected.trim_matches('\n'), "\n--- shown ---\n{shown}\n");
}

#[test]
fn unclosed_brackets() {
    check(
        r#"version: 1
flow: {a: [1
b: 2
"#,
        r#"
error: illegal placement of ':' indicator
 --> cooperage.yaml:3:2
  |
3 | b: 2
  |  ^
  |
help: quote text that has `: ` in it, and close every `[` and `{` before
"#,
    );
}

#[test]
fn tabs() {
    check(
        r#"version: 1
flow:
	a: { uses: git }
"#,
        r#"
error: tabs disallowed within this context (block indentation)
 --> cooperage.yaml:3:2
  |
3 |     a: { uses: git }
  |     ^
  |
help: indent with spaces
"#,
    );
}

#[test]
fn unknown_fields() {
    check(
        r#"version: 1
flow:
  a: { uses: git, wiht: {}, color: red, matrix: [1], env: {A: b}, run: x }
"#,
        r#"
error: a step has no field `wiht`
 --> cooperage.yaml:3:19
  |
3 |   a: { uses: git, wiht: {}, color: red, matrix: [1], env: {A: b}, run: x }
  |                   ^^^^
  |
help: did you mean `with`?

error: a step has no field `color`
 --> cooperage.yaml:3:29
  |
3 |   a: { uses: git, wiht: {}, color: red, matrix: [1], env: {A: b}, run: x }
  |                             ^^^^^
  |
help: its fields are `uses`, `with`, `in`, `inputs`, `needs`, `if`, `matrix`, `max_parallel`, `fail_fast`, `timeout`, `retry`, `continue_on_error` and `finally`

error: `matrix` must be a map, this is a list
 --> cooperage.yaml:3:49
  |
3 |   a: { uses: git, wiht: {}, color: red, matrix: [1], env: {A: b}, run: x }
  |                                                 ^^^ expected a map
  |
help: name what varies and its values: `matrix: { version: [1, 2] }`

error: a step has no field `env`
 --> cooperage.yaml:3:54
  |
3 |   a: { uses: git, wiht: {}, color: red, matrix: [1], env: {A: b}, run: x }
  |                                                      ^^^
  |
help: give the plugin its values under `with`; expressions see the variables as `env.NAME`

error: a step has no field `run`
 --> cooperage.yaml:3:67
  |
3 |   a: { uses: git, wiht: {}, color: red, matrix: [1], env: {A: b}, run: x }
  |                                                                   ^^^
  |
help: write `uses: script` and put the command under `with: { run: ... }`
"#,
    );
}

#[test]
fn unknown_version() {
    check(
        r#"version: 2
step: {}
"#,
        r#"
error: the file builds nothing
 --> cooperage.yaml:1:1
  |
1 | version: 2
  | ^^^^^^^
  |
help: add `images:` or `flow:`

error: version 2 of the flow file is not known
 --> cooperage.yaml:1:10
  |
1 | version: 2
  |          ^
  |
help: this release reads version 1

error: a flow file has no field `step`
 --> cooperage.yaml:2:1
  |
2 | step: {}
  | ^^^^
  |
help: its fields are `version`, `registries`, `plugins`, `images` and `flow`
"#,
    );
}

#[test]
fn wrong_types_at_the_top() {
    check(
        r#"version: "1"
flow: []
"#,
        r#"
error: `version` must be the number 1, this is text
 --> cooperage.yaml:1:10
  |
1 | version: "1"
  |          ^^^ expected the number 1

error: `flow` must be a map, this is a list
 --> cooperage.yaml:2:7
  |
2 | flow: []
  |       ^^ expected a map
"#,
    );
}

#[test]
fn wrong_types_in_steps() {
    check(
        r#"version: 1
flow:
  a: { uses: 3 }
  b: { uses: , with: [1], needs: a, finally: yes }
  c:
"#,
        r#"
error: `uses` must be text, this is a whole number
 --> cooperage.yaml:3:14
  |
3 |   a: { uses: 3 }
  |              ^ expected text
  |
help: quote it: "3"

error: `uses` must be text, this is nothing
 --> cooperage.yaml:4:8
  |
4 |   b: { uses: , with: [1], needs: a, finally: yes }
  |        ^^^^ expected text

error: `with` must be a map, this is a list
 --> cooperage.yaml:4:22
  |
4 |   b: { uses: , with: [1], needs: a, finally: yes }
  |                      ^^^ expected a map

error: `needs` must be a list, this is text
 --> cooperage.yaml:4:34
  |
4 |   b: { uses: , with: [1], needs: a, finally: yes }
  |                                  ^ expected a list
  |
help: write `needs: [a]`

error: `finally` must be true or false, this is text
 --> cooperage.yaml:4:46
  |
4 |   b: { uses: , with: [1], needs: a, finally: yes }
  |                                              ^^^ expected true or false
  |
help: write `true`

error: the step `c` must be a map, this is nothing
 --> cooperage.yaml:5:3
  |
5 |   c:
  |   ^ expected a map
"#,
    );
}

#[test]
fn duplicate_keys() {
    check(
        r#"version: 1
flow:
  a: { uses: git }
  b: { uses: git }
  a: { uses: nope }
"#,
        r#"
error: `a` is there twice
 --> cooperage.yaml:5:3
  |
3 |   a: { uses: git }
  |   - the first one
4 |   b: { uses: git }
5 |   a: { uses: nope }
  |   ^ the second one
  |
help: keep one of the two
"#,
    );
}

#[test]
fn durations_and_counts() {
    check(
        r#"version: 1
flow:
  a: { uses: git, timeout: 10 }
  b: { uses: git, timeout: "10 parsecs" }
  c: { uses: git, timeout: 0s, retry: -1 }
  d: { uses: git, retry: { delay: 1x, backoff: 99 } }
"#,
        r#"
error: `timeout` needs a unit
 --> cooperage.yaml:3:28
  |
3 |   a: { uses: git, timeout: 10 }
  |                            ^^
  |
help: did you mean `10s`?

error: `timeout` is not a duration: unknown time unit "parsecs"
 --> cooperage.yaml:4:28
  |
4 |   b: { uses: git, timeout: "10 parsecs" }
  |                            ^^^^^^^^^^^^
  |
help: write for example `90s`, `10m` or `1h 30m`

error: `timeout` must be longer than nothing
 --> cooperage.yaml:5:28
  |
5 |   c: { uses: git, timeout: 0s, retry: -1 }
  |                            ^^

error: `retry` must be from 0 to 100
 --> cooperage.yaml:5:39
  |
5 |   c: { uses: git, timeout: 0s, retry: -1 }
  |                                       ^^

error: `retry` has no `attempts`
 --> cooperage.yaml:6:19
  |
6 |   d: { uses: git, retry: { delay: 1x, backoff: 99 } }
  |                   ^^^^^
  |
help: say how often the step is tried in all: `retry: { attempts: 3 }`

error: `delay` is not a duration: unknown time unit "x"
 --> cooperage.yaml:6:35
  |
6 |   d: { uses: git, retry: { delay: 1x, backoff: 99 } }
  |                                   ^^
  |
help: write for example `90s`, `10m` or `1h 30m`

error: `backoff` must be from 1 to 10
 --> cooperage.yaml:6:48
  |
6 |   d: { uses: git, retry: { delay: 1x, backoff: 99 } }
  |                                                ^^
  |
help: each wait is this many times the one before
"#,
    );
}

#[test]
fn expressions() {
    check(
        r#"version: 1
flow:
  a:
    uses: script
    if: success() &&
    with:
      run: |
        echo one
        echo ${{ steps.b.x + }}
      text: "a \"quoted\" ${{ stepz.b.x }}"
      open: "x ${{ steps.b"
  b: { uses: git, if: "sucess()" }
"#,
        r#"
error: the expression ends too early
 --> cooperage.yaml:5:21
  |
5 |     if: success() &&
  |                     ^

error: the expression ends too early
 --> cooperage.yaml:9:29
  |
9 |         echo ${{ steps.b.x + }}
  |                             ^

error: there is no variable `stepz`
  --> cooperage.yaml:10:31
   |
10 |       text: "a \"quoted\" ${{ stepz.b.x }}"
   |                               ^^^^^
   |
help: did you mean `steps`?

error: `${{` is never closed
  --> cooperage.yaml:11:16
   |
11 |       open: "x ${{ steps.b"
   |                ^^^
   |
help: close it with `}}`, or write `$${{` for the characters themselves

error: there is no function `sucess`
  --> cooperage.yaml:12:24
   |
12 |   b: { uses: git, if: "sucess()" }
   |                        ^^^^^^
   |
help: did you mean `success`?
"#,
    );
}

#[test]
fn unknown_steps() {
    check(
        r#"version: 1
flow:
  unit-tests: { uses: script }
  a: { uses: script, in: unit-test, needs: [b, "company/os:latest"] }
  c: { uses: script, with: { x: "${{ steps.unit-tests.y }}" } }
"#,
        r#"
error: there is no step `unit-test`
 --> cooperage.yaml:4:26
  |
4 |   a: { uses: script, in: unit-test, needs: [b, "company/os:latest"] }
  |                          ^^^^^^^^^
  |
help: did you mean `unit-tests`?

error: there is no step `b`
 --> cooperage.yaml:4:45
  |
4 |   a: { uses: script, in: unit-test, needs: [b, "company/os:latest"] }
  |                                             ^
  |
help: the steps of this flow are `unit-tests`, `a` and `c`

error: this file does not build `company/os:latest`
 --> cooperage.yaml:4:48
  |
4 |   a: { uses: script, in: unit-test, needs: [b, "company/os:latest"] }
  |                                                ^^^^^^^^^^^^^^^^^^^
  |
help: this file builds no named image; `needs` names steps

error: there is no step `unit`
 --> cooperage.yaml:5:44
  |
5 |   c: { uses: script, with: { x: "${{ steps.unit-tests.y }}" } }
  |                                            ^^^^
  |
help: a name with `-` needs brackets: `steps["unit-tests"]`

error: there is no variable `tests`
 --> cooperage.yaml:5:49
  |
5 |   c: { uses: script, with: { x: "${{ steps.unit-tests.y }}" } }
  |                                                 ^^^^^
  |
help: a name with `-` needs brackets: `steps["NAME"].OUTPUT`
"#,
    );
}

#[test]
fn a_step_that_waits_for_itself() {
    check(
        r#"version: 1
flow:
  a: { uses: script, needs: [b] }
  b: { uses: script, in: c }
  c: { uses: script, with: { x: "${{ steps.a.y }}" } }
  d: { uses: script, needs: [d] }
"#,
        r#"
error: the step `d` waits for itself
 --> cooperage.yaml:6:30
  |
6 |   d: { uses: script, needs: [d] }
  |   - this step                ^
"#,
    );
}

#[test]
fn a_cycle_of_three_kinds_of_edge() {
    check(
        r#"version: 1
flow:
  a: { uses: script, needs: [b] }
  b: { uses: script, in: c }
  c: { uses: script, with: { x: "${{ steps.a.y }}" } }
"#,
        r#"
error: these steps wait for each other: a -> b -> c -> a
 --> cooperage.yaml:3:30
  |
3 |   a: { uses: script, needs: [b] }
  |                              ^ `a` waits for `b`
4 |   b: { uses: script, in: c }
  |                          - `b` waits for `c`
5 |   c: { uses: script, with: { x: "${{ steps.a.y }}" } }
  |                                            - `c` waits for `a`
  |
help: remove one of these
"#,
    );
}

#[test]
fn a_cycle_through_finally() {
    check(
        r#"version: 1
flow:
  a: { uses: script, needs: [clean] }
  clean: { uses: script, finally: true }
"#,
        r#"
error: these steps wait for each other: a -> clean -> a
 --> cooperage.yaml:3:30
  |
3 |   a: { uses: script, needs: [clean] }
  |                              ^^^^^ `a` waits for `clean`
4 |   clean: { uses: script, finally: true }
  |   ----- `clean` waits for `a`, as `finally` steps wait for all others
  |
help: remove one of these
"#,
    );
}

#[test]
fn a_cycle_through_images() {
    check(
        r#"version: 1
images:
  company/os:
    tags: { latest: { flow: { image: { uses: dockerfile, needs: ["company/app:1.10"] } } } }
  company/app:
    tags: { 1.10: { flow: { image: { uses: dockerfile, needs: ["company/os"] } } } }
"#,
        r#"
error: these steps wait for each other: company/os:latest/image -> company/app:1.10/image -> company/os:latest/image
 --> cooperage.yaml:4:66
  |
4 |     tags: { latest: { flow: { image: { uses: dockerfile, needs: ["company/app:1.10"] } } } }
  |                                                                  ^^^^^^^^^^^^^^^^^^ `company/os:latest/image` waits for `company/app:1.10/image`
5 |   company/app:
6 |     tags: { 1.10: { flow: { image: { uses: dockerfile, needs: ["company/os"] } } } }
  |                                                                ------------ `company/app:1.10/image` waits for `company/os:latest/image`
  |
help: remove one of these
"#,
    );
}

#[test]
fn names_of_steps() {
    check(
        r#"version: 1
flow:
  in: { uses: script }
  1st: { uses: script }
"#,
        r#"
error: `in` is a word of the expression language
 --> cooperage.yaml:3:3
  |
3 |   in: { uses: script }
  |   ^^
  |
help: call the step something else

error: `1st` cannot be the name of a step
 --> cooperage.yaml:4:3
  |
4 |   1st: { uses: script }
  |   ^^^
  |
help: a name is at most 64 letters, digits, `_` and `-`, and does not begin with a digit or `-`
"#,
    );
}

#[test]
fn missing_uses() {
    check(
        r#"version: 1
flow:
  a: { with: { x: 1 } }
"#,
        r#"
error: the step `a` has no `uses`
 --> cooperage.yaml:3:3
  |
3 |   a: { with: { x: 1 } }
  |   ^
  |
help: name the plugin that does the work: `uses: script`
"#,
    );
}

#[test]
fn variables() {
    check(
        r#"version: 1
registries:
  pull: "registry.${USR}.example"
  push: registry.${USER
flow:
  a: { uses: script, with: { x: "${{ env.NOPE }}" } }
"#,
        r#"
error: the variable `USR` is not set
 --> cooperage.yaml:3:19
  |
3 |   pull: "registry.${USR}.example"
  |                   ^^^^^^
  |
help: did you mean `USER`?

error: `${` is never closed
 --> cooperage.yaml:4:18
  |
4 |   push: registry.${USER
  |                  ^^
  |
help: close it with `}`, or write `$$` for a dollar sign

error: the variable `NOPE` is not set
 --> cooperage.yaml:6:38
  |
6 |   a: { uses: script, with: { x: "${{ env.NOPE }}" } }
  |                                      ^^^^^^^^
  |
help: set it, or write `has(env.NOPE) ? env.NOPE : "default"`
"#,
    );
}

#[test]
fn secrets_with_an_error() {
    check(
        r#"version: 1
flow:
  a: { uses: script, with: { password: hunter2, login: { api-key: abc, token: { secret: TOKEN } } } }
  b: { uses: script, with: { token: { secret: 3 } } }
"#,
        r#"
error: the name of a secret must be text, this is a whole number
 --> cooperage.yaml:4:47
  |
4 |   b: { uses: script, with: { token: { secret: 3 } } }
  |                                               ^

warning: `password` looks like a secret in clear
 --> cooperage.yaml:3:40
  |
3 |   a: { uses: script, with: { password: *******, login: { api-key: ***, token: { secret: TOKEN } } } }
  |                                        ^^^^^^^
  |
help: name it instead: `{ secret: PASSWORD }`

warning: `api-key` looks like a secret in clear
 --> cooperage.yaml:3:67
  |
3 |   a: { uses: script, with: { password: *******, login: { api-key: ***, token: { secret: TOKEN } } } }
  |                                                                   ^^^
  |
help: name it instead: `{ secret: API_KEY }`
"#,
    );
}

#[test]
fn a_secret_in_clear_is_a_warning_and_not_shown() {
    check(
        r#"version: 1
flow:
  a: { uses: script, with: { password: hunter2 } }
"#,
        r#"
warning: `password` looks like a secret in clear
 --> cooperage.yaml:3:40
  |
3 |   a: { uses: script, with: { password: ******* } }
  |                                        ^^^^^^^
  |
help: name it instead: `{ secret: PASSWORD }`
"#,
    );
}

#[test]
fn unknown_plugins() {
    check(
        r#"version: 1
flow:
  a: { uses: kubernetes }
  b: { uses: scirpt }
"#,
        r#"
error: there is no plugin `kubernetes`
 --> cooperage.yaml:3:14
  |
3 |   a: { uses: kubernetes }
  |              ^^^^^^^^^^
  |
help: declare it: `plugins: { kubernetes: { from: "oci://registry.example/kubernetes:1" } }`

error: there is no plugin `scirpt`
 --> cooperage.yaml:4:14
  |
4 |   b: { uses: scirpt }
  |              ^^^^^^
  |
help: did you mean `script`?
"#,
    );
}

#[test]
fn names_of_images() {
    check(
        r#"version: 1
images:
  Company/OS: { tags: { latest: { flow: {} } } }
  company/app:1: { flow: {} }
"#,
        r#"
error: `Company/OS` is not the name of an image: it consists of lower-case letters, digits, `.`, `_` and `-`, in parts between `/`
 --> cooperage.yaml:3:3
  |
3 |   Company/OS: { tags: { latest: { flow: {} } } }
  |   ^^^^^^^^^^

error: `company/app:1` is not the name of an image: it consists of lower-case letters, digits, `.`, `_` and `-`, in parts between `/`
 --> cooperage.yaml:4:3
  |
4 |   company/app:1: { flow: {} }
  |   ^^^^^^^^^^^^^
  |
help: the tag goes below: `company/app: { tags: { 1: ... } }`

error: the image `company/app:1` has no `tags`
 --> cooperage.yaml:4:3
  |
4 |   company/app:1: { flow: {} }
  |   ^^^^^^^^^^^^^
  |
help: add `tags: { latest: { flow: ... } }`

error: an image has no field `flow`
 --> cooperage.yaml:4:20
  |
4 |   company/app:1: { flow: {} }
  |                    ^^^^
  |
help: every image has `tags`, and every tag its `flow`: `tags: { latest: { flow: ... } }`
"#,
    );
}

#[test]
fn an_empty_file() {
    check(
        r#""#,
        r#"
error: the file is empty
 --> cooperage.yaml:1:1
  |
1 |
  | ^
  |
help: begin with `version: 1`, then `images:` or `flow:`
"#,
    );
}

#[test]
fn an_alias_is_blamed_once() {
    check(
        r#"version: 1
flow:
  a: &x { uses: git, bogus: 1 }
  b: *x
"#,
        r#"
error: a step has no field `bogus`
 --> cooperage.yaml:3:22
  |
3 |   a: &x { uses: git, bogus: 1 }
  |                      ^^^^^
  |
help: its fields are `uses`, `with`, `in`, `inputs`, `needs`, `if`, `matrix`, `max_parallel`, `fail_fast`, `timeout`, `retry`, `continue_on_error` and `finally`
"#,
    );
}

#[test]
fn a_condition_that_never_holds() {
    check(
        r#"version: 1
flow:
  a: { uses: script, if: failure() }
"#,
        r#"
warning: `failure()` never holds: this step waits for nothing
 --> cooperage.yaml:3:26
  |
3 |   a: { uses: script, if: failure() }
  |                          ^^^^^^^^^
  |
help: add `finally: true` to run after all other steps, or `needs`
"#,
    );
}

#[test]
fn not_a_map() {
    check(
        r#"- 1
"#,
        r#"
error: a flow file must be a map, this is a list
 --> cooperage.yaml:1:3
  |
1 | - 1
  |   ^ expected a map
"#,
    );
}

#[test]
fn an_alias_without_anchor() {
    check(
        r#"version: 1
flow: { a: { uses: script, with: { x: *nope } } }
"#,
        r#"
error: this alias has no anchor
 --> cooperage.yaml:2:39
  |
2 | flow: { a: { uses: script, with: { x: *nope } } }
  |                                       ^
  |
help: an alias `*name` needs an anchor `&name` before it; quote text that begins with `*`
"#,
    );
}

#[test]
fn two_documents() {
    check(
        r#"version: 1
---
version: 1
"#,
        r#"
error: the file holds more than one YAML document
 --> cooperage.yaml:3:1
  |
3 | version: 1
  | ^
  |
help: remove everything from the second `---` on
"#,
    );
}

#[test]
fn plugins() {
    check(
        r#"version: 1
plugins:
  chat: { allow: { http: ["https://chat.example"] } }
  my chat: { from: 3 }
flow: {}
"#,
        r#"
error: the plugin `chat` has no `from`
 --> cooperage.yaml:3:3
  |
3 |   chat: { allow: { http: ["https://chat.example"] } }
  |   ^^^^
  |
help: say where it comes from: `from: "oci://registry.example/name:1"` or `from: "file:name.wasm"`

error: `my chat` cannot be the name of a plugin
 --> cooperage.yaml:4:3
  |
4 |   my chat: { from: 3 }
  |   ^^^^^^^
  |
help: a name is at most 64 letters, digits, `_` and `-`, and does not begin with a digit or `-`

error: `from` must be text, this is a whole number
 --> cooperage.yaml:4:20
  |
4 |   my chat: { from: 3 }
  |                    ^ expected text
  |
help: quote it: "3"
"#,
    );
}

#[test]
fn what_cannot_be_computed() {
    check(
        r#"version: 1
flow:
  a: { uses: "${{ env.USER }}", needs: ["${{ image }}"] }
"#,
        r#"
error: `uses` cannot be computed
 --> cooperage.yaml:3:14
  |
3 |   a: { uses: "${{ env.USER }}", needs: ["${{ image }}"] }
  |              ^^^^^^^^^^^^^^^^^
  |
help: `${{ }}` works under `with`, and `if` is an expression

error: an entry of `needs` cannot be computed
 --> cooperage.yaml:3:41
  |
3 |   a: { uses: "${{ env.USER }}", needs: ["${{ image }}"] }
  |                                         ^^^^^^^^^^^^^^
  |
help: `${{ }}` works under `with`, and `if` is an expression
"#,
    );
}

#[test]
fn matrices() {
    check(
        r#"version: 1
flow:
  a: { uses: git, matrix: { v: 1, os: [], "x y": [1], w: "${{ env.USER }}" } }
  b: { uses: git, matrix: {} }
  c: { uses: git, matrix: { v: [1, 1, null] }, max_parallel: 0 }
  d: { uses: git, max_parallel: 2 }
  e: { uses: git, matrix: { v: [1, 2], exclude: [{ v: 1 }, { v: 2 }] } }
  f: { uses: git, matrix: { v: [1], exclude: [{ vv: 1 }, 3], include: { v: 2 } } }
  g: { uses: git, matrix: { v: [a, { n: "${{ x }}" }], in: [1] } }
"#,
        r#"
error: `v` must be a list of values, this is a whole number
 --> cooperage.yaml:3:32
  |
3 |   a: { uses: git, matrix: { v: 1, os: [], "x y": [1], w: "${{ env.USER }}" } }
  |                                ^ expected a list of values
  |
help: write `v: [1]`

error: `os` has no values
 --> cooperage.yaml:3:39
  |
3 |   a: { uses: git, matrix: { v: 1, os: [], "x y": [1], w: "${{ env.USER }}" } }
  |                                       ^^
  |
help: name at least one, or take it out of the matrix

error: `x y` cannot be a name in a matrix
 --> cooperage.yaml:3:43
  |
3 |   a: { uses: git, matrix: { v: 1, os: [], "x y": [1], w: "${{ env.USER }}" } }
  |                                           ^^^^^
  |
help: a name is at most 64 letters, digits, `_` and `-`, and does not begin with a digit or `-`

error: the values of a matrix cannot be computed
 --> cooperage.yaml:3:58
  |
3 |   a: { uses: git, matrix: { v: 1, os: [], "x y": [1], w: "${{ env.USER }}" } }
  |                                                          ^^^^^^^^^^^^^^^^^
  |
help: what will run is known before anything runs: write the values themselves

error: the matrix has no values
 --> cooperage.yaml:4:19
  |
4 |   b: { uses: git, matrix: {} }
  |                   ^^^^^^
  |
help: for example `matrix: { version: [1, 2] }`

error: `v` has this value twice
 --> cooperage.yaml:5:36
  |
5 |   c: { uses: git, matrix: { v: [1, 1, null] }, max_parallel: 0 }
  |                                    ^
  |
help: keep one of the two

error: `v` must be a value, this is nothing
 --> cooperage.yaml:5:39
  |
5 |   c: { uses: git, matrix: { v: [1, 1, null] }, max_parallel: 0 }
  |                                       ^^^^ expected a value

error: `max_parallel` must be from 1 to 256
 --> cooperage.yaml:5:62
  |
5 |   c: { uses: git, matrix: { v: [1, 1, null] }, max_parallel: 0 }
  |                                                              ^

error: `max_parallel` is about the instances of a `matrix`, and this step has none
 --> cooperage.yaml:6:19
  |
6 |   d: { uses: git, max_parallel: 2 }
  |                   ^^^^^^^^^^^^
  |
help: `coop run --jobs NUMBER` says how many steps run at a time

error: `exclude` leaves nothing of the matrix
 --> cooperage.yaml:7:19
  |
7 |   e: { uses: git, matrix: { v: [1, 2], exclude: [{ v: 1 }, { v: 2 }] } }
  |                   ^^^^^^
  |
help: exclude less

error: the matrix has no `vv` to exclude
 --> cooperage.yaml:8:49
  |
8 |   f: { uses: git, matrix: { v: [1], exclude: [{ vv: 1 }, 3], include: { v: 2 } } }
  |                                                 ^^
  |
help: did you mean `v`?

error: an entry of `exclude` must be a map, this is a whole number
 --> cooperage.yaml:8:58
  |
8 |   f: { uses: git, matrix: { v: [1], exclude: [{ vv: 1 }, 3], include: { v: 2 } } }
  |                                                          ^ expected a map

error: `include` must be a list of maps, this is a map
 --> cooperage.yaml:8:71
  |
8 |   f: { uses: git, matrix: { v: [1], exclude: [{ vv: 1 }, 3], include: { v: 2 } } }
  |                                                                       ^^^^^^^^ expected a list of maps
  |
help: for example `include: [{ version: 1 }]`

error: the values of a matrix cannot be computed
 --> cooperage.yaml:9:41
  |
9 |   g: { uses: git, matrix: { v: [a, { n: "${{ x }}" }], in: [1] } }
  |                                         ^^^^^^^^^^
  |
help: what will run is known before anything runs: write the values themselves

error: `in` is a word of the expression language
 --> cooperage.yaml:9:56
  |
9 |   g: { uses: git, matrix: { v: [a, { n: "${{ x }}" }], in: [1] } }
  |                                                        ^^
  |
help: call it something else
"#,
    );
}

#[test]
fn a_matrix_that_is_too_large() {
    let numbers = (0..20).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let yaml = |axes: usize| {
        let axes = (0..axes).map(|axis| format!("a{axis}: [{numbers}]")).collect::<Vec<_>>().join(", ");
        format!("version: 1\nflow:\n  a: {{ uses: git, matrix: {{ {axes} }} }}\n")
    };
    for (axes, message) in [
        (2, "the matrix has 400 combinations, more than 256"),
        (3, "the matrix has more than 4096 combinations"),
        (40, "the matrix has more than 4096 combinations"),
    ] {
        let source = Source::new("cooperage.yaml", yaml(axes));
        let report = FlowFile::parse(source, &ParseOptions::default()).unwrap_err();
        assert_eq!(report.diagnostics()[0].message, message);
        assert_eq!(report.diagnostics()[0].line_column(), (3, 19));
    }
}

#[test]
fn values_of_a_matrix_that_does_not_have_them() {
    check(
        r#"version: 1
flow:
  a: { uses: git, with: { x: "${{ matrix.version }}" } }
  b: { uses: git, if: matrix.verison == 1, matrix: { version: [1], include: [{ extra: 2 }] } }
  c: { uses: git, with: { "n-${{ matrix.other }}": 1, ok: "${{ matrix.extra }}" }, matrix: { version: [1], include: [{ extra: 2 }] } }
"#,
        r#"
error: the step `a` has no matrix
 --> cooperage.yaml:3:42
  |
3 |   a: { uses: git, with: { x: "${{ matrix.version }}" } }
  |                                          ^^^^^^^
  |
help: add one: `matrix: { version: [1, 2] }`

error: the matrix has no `verison`
 --> cooperage.yaml:4:30
  |
4 |   b: { uses: git, if: matrix.verison == 1, matrix: { version: [1], include: [{ extra: 2 }] } }
  |                              ^^^^^^^
  |
help: did you mean `version`?

error: the matrix has no `other`
 --> cooperage.yaml:5:41
  |
5 |   c: { uses: git, with: { "n-${{ matrix.other }}": 1, ok: "${{ matrix.extra }}" }, matrix: { version: [1], include: [{ extra: 2 }] } }
  |                                         ^^^^^
  |
help: it has `version` and `extra`
"#,
    );
}

#[test]
fn files_of_steps_with_a_matrix() {
    check(
        r#"version: 1
flow:
  a: { uses: git, matrix: { v: [1, 2] } }
  b: { uses: git, in: a }
  c: { uses: git, inputs: { lib: a }, matrix: { v: [2, 3] } }
  d: { uses: git, with: { x: "${{ steps.a.y }}" }, matrix: { v: [2, 3] } }
"#,
        r#"
error: `a` is 2 steps, and this one needs the files of one
 --> cooperage.yaml:4:23
  |
4 |   b: { uses: git, in: a }
  |                       ^
  |
help: steps with the same `matrix` are paired: each gets the files of its own

error: of the 2 steps `a` no single one has the values of `c (3)`
 --> cooperage.yaml:5:34
  |
5 |   c: { uses: git, inputs: { lib: a }, matrix: { v: [2, 3] } }
  |                                  ^
  |
help: steps with the same `matrix` are paired: each gets the files of its own

error: `d (3)` has no partner in `a`, while others have one
 --> cooperage.yaml:6:41
  |
6 |   d: { uses: git, with: { x: "${{ steps.a.y }}" }, matrix: { v: [2, 3] } }
  |                                         ^
  |
help: give both steps the same `matrix`
"#,
    );
}

#[test]
fn inputs() {
    check(
        r#"version: 1
flow:
  a: { uses: git, inputs: [b] }
  b: { uses: git, inputs: { "1x": c, d: 3, e: nope } }
"#,
        r#"
error: `inputs` must be a map, this is a list
 --> cooperage.yaml:3:27
  |
3 |   a: { uses: git, inputs: [b] }
  |                           ^^^ expected a map
  |
help: name each: `inputs: { NAME: STEP }`; `in: STEP` is the one without a name

error: `1x` cannot be the name of an input
 --> cooperage.yaml:4:29
  |
4 |   b: { uses: git, inputs: { "1x": c, d: 3, e: nope } }
  |                             ^^^^
  |
help: a name is at most 64 letters, digits, `_` and `-`, and does not begin with a digit or `-`

error: there is no step `c`
 --> cooperage.yaml:4:35
  |
4 |   b: { uses: git, inputs: { "1x": c, d: 3, e: nope } }
  |                                   ^
  |
help: the steps of this flow are `a` and `b`

error: the input `d` must be text, this is a whole number
 --> cooperage.yaml:4:41
  |
4 |   b: { uses: git, inputs: { "1x": c, d: 3, e: nope } }
  |                                         ^ expected text
  |
help: quote it: "3"

error: there is no step `nope`
 --> cooperage.yaml:4:47
  |
4 |   b: { uses: git, inputs: { "1x": c, d: 3, e: nope } }
  |                                               ^^^^
  |
help: the steps of this flow are `a` and `b`
"#,
    );
}

#[test]
fn a_value_that_excludes_nothing() {
    check(
        r#"version: 1
flow:
  a: { uses: git, matrix: { v: [1, 2], exclude: [{ v: "1" }] } }
"#,
        r#"
warning: `v` has no such value, so this excludes nothing
 --> cooperage.yaml:3:55
  |
3 |   a: { uses: git, matrix: { v: [1, 2], exclude: [{ v: "1" }] } }
  |                                                       ^^^
  |
help: write the value as the matrix has it: a number in quotes is text
"#,
    );
}

/// What the bundled plugins give.
struct Outputs;

impl KnownOutputs for Outputs {
    fn outputs(&self, step: &StepView<'_>) -> Option<Vec<String>> {
        match step.uses {
            "script" => {
                Some(step.with["outputs"].as_object().into_iter().flat_map(|map| map.keys().cloned()).collect())
            }
            "push" => Some(vec!["digest".to_string(), "reference".to_string()]),
            _ => None,
        }
    }
}

#[test]
fn unknown_outputs() {
    let yaml = r#"version: 1
flow:
  a: { uses: script, matrix: { v: [1, 2] }, with: { outputs: { "v${{ matrix.v }}": x } } }
  b: { uses: push }
  c: { uses: git, with: { x: "${{ steps.b.digset }} ${{ steps.b.digest }} ${{ steps.d.any }}", y: "${{ steps.a.v2 }} ${{ steps.a.v3 }}" } }
  d: { uses: git, if: "has(steps.b.x) ? steps.b.x == 1 : steps['b'].status == 'failed'" }
  e: { uses: git, with: { x: "${{ steps.a['v1'][0] }}" } }
"#;
    let file = FlowFile::parse(Source::new("cooperage.yaml", yaml), &ParseOptions::default()).unwrap();
    let report = file.plan(&NoImageDependencies).unwrap().check_outputs(&Outputs).unwrap_err();
    let expected = r#"
error: the step `b` has no output `digset`
 --> cooperage.yaml:5:43
  |
5 |   c: { uses: git, with: { x: "${{ steps.b.digset }} ${{ steps.b.digest }} ${{ steps.d.any }}", y: "${{ steps.a.v2 }} ${{ steps.a.v3 }...
  |                                           ^^^^^^
  |
help: did you mean `digest`?

error: the step `a` has no output `v3`
 --> cooperage.yaml:5:130
  |
5 | ...igest }} ${{ steps.d.any }}", y: "${{ steps.a.v2 }} ${{ steps.a.v3 }}" } }
  |                                                                    ^^
  |
help: did you mean `v1`?
"#;
    assert_eq!(report.render(false), expected.trim_matches('\n'), "\n{report}\n");
}

#[test]
fn limits_that_there_are_not() {
    check(
        r#"version: 1
plugins:
  chat: { from: "oci://r.example/chat:1", limits: { memroy: 1GiB } }
flow:
  say: { uses: chat }
"#,
        r#"
error: `limits` has no field `memroy`
 --> cooperage.yaml:3:53
  |
3 |   chat: { from: "oci://r.example/chat:1", limits: { memroy: 1GiB } }
  |                                                     ^^^^^^
  |
help: did you mean `memory`?
"#,
    );
}
