//! Steps with a matrix: what they become, what others see of them, and how they run. Time as in `run.rs`.

mod fake;

use cooperage_flow::{NoImageDependencies, NoObserver, Outcome, Status, run};
use fake::{Fake, file, options, plan, play};
use serde_json::json;
use std::sync::Arc;

async fn check(yaml: &str, expected: &str) {
    let shown = play(yaml).await;
    let expected: Vec<&str> = expected.trim().lines().map(str::trim).collect();
    assert_eq!(shown.trim(), expected.join("\n"), "\n--- happened ---\n{shown}\n");
}

#[test]
fn a_step_becomes_one_for_each_combination() {
    let yaml = "
        build: { uses: fake, matrix: { os: [a, b], v: [1, 2], exclude: [{ os: b, v: 1 }], include: [{ os: c, fast: true }] } }
        test: { uses: fake, in: build, matrix: { v: [1], os: [a] } }
        all: { uses: fake, needs: [build] }
        last: { uses: fake, finally: true }
    ";
    let plan = plan(yaml);
    let expected = "\
build (a, 1)     fake
build (a, 2)     fake
build (b, 2)     fake
build (c, true)  fake
test (1, a)      fake  after build (a, 1)
all              fake  after build (a, 1), build (a, 2), build (b, 2), build (c, true)
last             fake  after build (a, 1), build (a, 2), build (b, 2), build (c, true), test (1, a), all
";
    assert_eq!(plan.to_string(), expected, "\n{plan}");
    let shown = serde_json::to_value(&plan).unwrap();
    assert_eq!(shown["steps"][0]["id"], "build (a, 1)");
    assert_eq!(shown["steps"][0]["key"], "build.a-1");
    assert_eq!(shown["steps"][0]["matrix"], json!({ "os": "a", "v": 1 }));
    assert_eq!(shown["steps"][6]["matrix"], json!(null));
}

#[test]
fn targets_name_all_or_one() {
    let yaml = "
        a: { uses: fake, matrix: { v: [1, 2, x y] } }
        b: { uses: fake, in: a, matrix: { v: [1, 2, x y] } }
    ";
    let plan = file(yaml).plan(&NoImageDependencies).unwrap();
    let chosen = |target: &str| -> Vec<String> {
        plan.select(&[target]).unwrap().nodes.iter().map(|node| node.id.to_string()).collect()
    };
    assert_eq!(chosen("b").len(), 6);
    assert_eq!(chosen("b (2)"), ["a (2)", "b (2)"]);
    assert_eq!(chosen("b.1"), ["a (1)", "b (1)"]);
    assert_eq!(chosen("a (x y)"), ["a (x y)"]);
    let error = plan.select(&["b (3)"]).unwrap_err().to_string();
    assert!(error.contains("did you mean `b (1)`?"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_instances_see_of_each_other() {
    let yaml = "
        build:
          uses: fake
          matrix: { os: [a, b], v: [1, 2] }
          with: { tree: '${{ matrix.os }}${{ matrix.v }}', out: { '${{ matrix.os }}-digest': x, digest: '${{ matrix.v * 10 }}' } }
        pairs:
          uses: fake
          in: build
          matrix: { v: [1, 2], os: [a, b], exclude: [{ os: b, v: 1 }] }
          with: { text: '${{ steps.build.digest }} of ${{ matrix.os }}', none: '${{ matrix[\"os\"] }}' }
        main: { uses: fake, inputs: { first: only, second: build }, in: only, matrix: { os: [a], v: [2] } }
        only: { uses: fake, with: { tree: o } }
        list: { uses: fake, with: { digests: '${{ steps.build.digest }}', status: '${{ steps.build.status }}', a: '${{ steps.build[\"a-digest\"] }}' } }
        other: { uses: fake, matrix: { arch: [x] }, with: { digests: '${{ steps.build.digest }}' } }
    ";
    let fake = Arc::new(Fake::default());
    let result = run(&plan(yaml), fake.clone(), Arc::new(NoObserver), &options(), &cooperage_flow::Cancel::new()).await;
    assert_eq!(result.outcome, Outcome::Succeeded, "{result:?}");
    let call = |id: &str| fake.calls().into_iter().find(|call| call.id.to_string() == id).unwrap();
    let tree = |handle: &cooperage_flow::Handle| handle.downcast_ref::<String>().unwrap().clone();
    assert_eq!(call("pairs (2, b)").parameters, json!({ "text": "20 of b", "none": "b" }));
    assert_eq!(tree(call("pairs (2, b)").input.as_ref().unwrap()), "b2");
    let main = call("main (a, 2)");
    let inputs: Vec<_> = main.inputs.iter().map(|(name, handle)| (name.as_str(), tree(handle))).collect();
    assert_eq!(inputs, [("first", "o".to_string()), ("second", "a2".to_string())]);
    let list = json!([10, 20, 10, 20]);
    assert_eq!(call("list").parameters, json!({ "digests": list, "status": "succeeded", "a": ["x", "x", null, null] }));
    assert_eq!(call("other (x)").parameters, json!({ "digests": list }));
}

#[tokio::test(start_paused = true)]
async fn no_more_instances_run_at_a_time_than_allowed_and_others_are_not_held_up() {
    let yaml = "
        m: { uses: fake, matrix: { v: [1, 2, 3] }, max_parallel: 1, with: { ms: 10 } }
        a: { uses: fake, with: { ms: 5 } }
    ";
    check(
        yaml,
        "0 m (1) queued
         0 m (1) started 1
         0 m (2) queued
         0 m (3) queued
         0 a queued
         0 a started 1
         5 a succeeded
         10 m (1) succeeded
         10 m (2) started 1
         20 m (2) succeeded
         20 m (3) started 1
         30 m (3) succeeded
         Succeeded",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_failure_of_one_stops_the_others() {
    let yaml = "
        m: { uses: fake, matrix: { v: [1, 2, 3, 4] }, max_parallel: 3, with: { ms: '${{ matrix.v * 10 }}', stubborn: '${{ matrix.v == 3 }}', fail: '${{ matrix.v == 1 ? \"broken\" : null }}' } }
        after: { uses: fake, needs: [m] }
        told: { uses: fake, if: failure(), with: { x: '${{ steps.m.status }}' } }
        apart: { uses: fake, with: { ms: 50 } }
    ";
    check(
        yaml,
        "0 m (1) queued
         0 m (1) started 1
         0 m (2) queued
         0 m (2) started 1
         0 m (3) queued
         0 m (3) started 1
         0 m (4) queued
         0 apart queued
         0 apart started 1
         10 m (1) failed: broken
         10 m (2) cancelled: cancelled while it ran, as `m (1)` failed
         10 m (4) cancelled: cancelled before it began, as `m (1)` failed
         30 m (3) succeeded
         30 after skipped: `m (1)` did not succeed
         30 told queued
         30 told started 1
         30 told succeeded
         50 apart succeeded
         Failed
         m (1): Failed broken",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_fail_fast_and_after_tolerated_failures_the_others_go_on() {
    let yaml = "
        slow: { uses: fake, matrix: { v: [1, 2] }, fail_fast: false, with: { ms: '${{ matrix.v * 10 }}', fail: '${{ matrix.v == 1 ? \"broken\" : null }}' } }
        kind: { uses: fake, matrix: { v: [1, 2] }, continue_on_error: true, with: { ms: '${{ matrix.v * 10 }}', fail: '${{ matrix.v == 1 ? \"broken\" : null }}' } }
        clean: { uses: fake, finally: true, matrix: { v: [1, 2] }, with: { ms: '${{ matrix.v * 10 }}', fail: '${{ matrix.v == 1 ? \"broken\" : null }}' } }
    ";
    let fake = Arc::new(Fake::default());
    let result = run(&plan(yaml), fake, Arc::new(NoObserver), &options(), &cooperage_flow::Cancel::new()).await;
    let statuses: Vec<_> = result.steps.iter().map(|step| step.status).collect();
    assert_eq!(statuses, [Status::Failed, Status::Succeeded].repeat(3));
    assert_eq!(result.outcome, Outcome::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_condition_may_leave_instances_out() {
    let yaml = "
        m: { uses: fake, matrix: { v: [1, 2] }, if: matrix.v > 1, with: { out: { x: '${{ matrix.v }}' } } }
        list: { uses: fake, if: always(), with: { x: '${{ steps.m.x }}', y: '${{ steps.m.status }}' } }
        strict: { uses: fake, with: { x: '${{ steps.m.x }}' } }
    ";
    let fake = Arc::new(Fake::default());
    let result = run(&plan(yaml), fake.clone(), Arc::new(NoObserver), &options(), &cooperage_flow::Cancel::new()).await;
    assert_eq!(result.outcome, Outcome::Succeeded);
    assert_eq!(fake.call("list").parameters, json!({ "x": [null, 2], "y": "skipped" }));
    assert_eq!(result.steps[3].status, Status::Skipped, "one of the values is missing");
}

#[test]
fn a_name_that_comes_out_twice_is_told() {
    let yaml = "
        a: { uses: fake, matrix: { v: [1] }, with: { 'n${{ matrix.v }}': 1, n1: 2 } }
        b: { uses: fake, matrix: { v: [1] }, with: { n1: 2, 'n${{ matrix.v }}': 1 } }
    ";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let shown = runtime.block_on(play(yaml));
    assert!(shown.contains("b (1) failed: `n1` is there twice"), "{shown}");
}
