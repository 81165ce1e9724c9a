//! Running flows: what starts when, and how it ends. Time is tokio's paused clock, in milliseconds.

mod fake;

use cooperage_flow::{Cancel, FaultKind, NoImageDependencies, NoObserver, Outcome, RunOptions, run};
use fake::{Fake, plan, play, play_with};
use std::sync::Arc;
use std::time::Duration;

/// Runs a flow, four steps at a time, and compares what happened with when.
async fn check(yaml: &str, expected: &str) {
    assert_same(&play(yaml).await, expected);
}

fn assert_same(shown: &str, expected: &str) {
    let expected: Vec<&str> = expected.trim().lines().map(str::trim).collect();
    assert_eq!(shown.trim(), expected.join("\n"), "\n--- happened ---\n{shown}\n");
}

#[tokio::test(start_paused = true)]
async fn independent_steps_run_at_the_same_time_and_dependent_ones_in_turn() {
    let yaml = "
        source: { uses: fake, with: { ms: 10, tree: src } }
        test: { uses: fake, in: source, with: { ms: 20 } }
        lint: { uses: fake, in: source, with: { ms: 5 } }
        image: { uses: fake, in: source, needs: [test], with: { ms: 5, out: { image: 'sha256:1' } } }
        push: { uses: fake, with: { ref: '${{ steps.image.image }}' } }
    ";
    check(
        yaml,
        "0 source queued
         0 source started 1
         10 source succeeded
         10 test queued
         10 test started 1 on src
         10 lint queued
         10 lint started 1 on src
         15 lint succeeded
         30 test succeeded
         30 image queued
         30 image started 1 on src
         35 image succeeded
         35 push queued
         35 push started 1
         35 push succeeded
         Succeeded",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn no_more_steps_run_at_a_time_than_allowed() {
    let steps: String = (0..12).map(|n| format!("s{n}: {{ uses: fake, with: {{ ms: 10 }} }}\n")).collect();
    for (parallelism, duration) in [(1, 120), (3, 40), (0, 120), (100, 10)] {
        let fake = Arc::new(Fake::default());
        let options = RunOptions { parallelism, ..RunOptions::default() };
        let result = run(&plan(&steps), fake.clone(), Arc::new(NoObserver), &options, &Cancel::new()).await;
        assert_eq!(result.outcome, Outcome::Succeeded);
        assert_eq!(result.duration.as_millis(), duration);
        assert_eq!(fake.most(), parallelism.clamp(1, 12));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_skips_what_waits_for_it_and_nothing_else() {
    let yaml = "
        test: { uses: fake, with: { ms: 5, fail: broken } }
        image: { uses: fake, needs: [test] }
        push: { uses: fake, needs: [image] }
        docs: { uses: fake, with: { ms: 10 } }
        report: { uses: fake, needs: [test], if: failure() }
        praise: { uses: fake, needs: [test], if: '${{ success() }}' }
        after: { uses: fake, needs: [report] }
        clean: { uses: fake, finally: true, with: { text: '${{ steps.image.x }}${{ steps.docs.status }}' } }
    ";
    check(
        yaml,
        "0 test queued
         0 test started 1
         0 docs queued
         0 docs started 1
         5 test failed: broken
         5 image skipped: `test` did not succeed
         5 push skipped: `test` did not succeed
         5 report queued
         5 report started 1
         5 report succeeded
         5 praise skipped: `test` did not succeed
         5 after skipped: `test` did not succeed
         10 docs succeeded
         10 clean queued
         10 clean started 1
         10 clean succeeded
         Failed
         test: Failed broken",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_cleans_up_may_say_that_it_always_does() {
    let yaml = "
        a: { uses: fake, with: { fail: broken } }
        clean: { uses: fake, finally: true, if: true }
        never: { uses: fake, finally: true, if: false }
        next: { uses: fake, needs: [a], if: true }
    ";
    check(
        yaml,
        "0 a queued
         0 a started 1
         0 a failed: broken
         0 next skipped: `a` did not succeed
         0 clean queued
         0 clean started 1
         0 clean succeeded
         0 never skipped: its condition does not hold
         Failed
         a: Failed broken",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn tolerated_failures_and_conditions() {
    let yaml = "
        flaky: { uses: fake, continue_on_error: true, with: { fail: broken } }
        order: { uses: fake, needs: [flaky] }
        value: { uses: fake, with: { x: '${{ steps.flaky.digest }}' } }
        never: { uses: fake, if: \"env.MODE == 'other'\" }
        off: { uses: fake, if: false }
        after: { uses: fake, needs: [never, off] }
        told: { uses: fake, with: { x: '${{ steps.flaky.status }}' } }
    ";
    check(
        yaml,
        "0 flaky queued
         0 flaky started 1
         0 flaky failed: broken
         0 order queued
         0 order started 1
         0 order succeeded
         0 value skipped: `flaky`, which it uses, has no result
         0 never skipped: its condition does not hold
         0 off skipped: its condition does not hold
         0 after queued
         0 after started 1
         0 after succeeded
         0 told queued
         0 told started 1
         0 told succeeded
         Succeeded",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn only_failures_that_may_pass_are_retried() {
    let yaml = "
        passes: { uses: fake, retry: { attempts: 3, delay: 1s, backoff: 3 }, with: { times: 2, retryable: true, fail: busy } }
        stays: { uses: fake, retry: 5, with: { fail: broken } }
        ends: { uses: fake, retry: 1, with: { retryable: true, fail: busy } }
        later: { uses: fake, retry: 1, with: { times: 1, retryable: true, fail: busy, retry_after: 7000 } }
    ";
    check(
        yaml,
        "0 passes queued
         0 passes started 1
         0 passes retrying in 1s: busy
         0 stays queued
         0 stays started 1
         0 stays failed: broken
         0 ends queued
         0 ends started 1
         0 ends retrying in 1s: busy
         0 later queued
         0 later started 1
         0 later retrying in 7s: busy
         1000 passes queued
         1000 passes started 2
         1000 passes retrying in 3s: busy
         1000 ends queued
         1000 ends started 2
         1000 ends failed: busy
         4000 passes queued
         4000 passes started 3
         4000 passes succeeded
         7000 later queued
         7000 later started 2
         7000 later succeeded
         Failed
         stays: Failed broken
         ends: Failed busy",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_step_that_waits_to_be_retried_gives_its_place_to_others() {
    let yaml = "
        a: { uses: fake, retry: { attempts: 2, delay: 1s }, with: { times: 1, retryable: true, fail: busy } }
        b: { uses: fake, with: { ms: 100 } }
    ";
    let options = RunOptions { parallelism: 1, ..RunOptions::default() };
    let shown = play_with(yaml, options, None).await;
    assert!(shown.contains("0 b started 1") && shown.contains("1000 a started 2"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn time_limits() {
    let yaml = "
        polite: { uses: fake, timeout: 1s, with: { ms: 5000 } }
        stubborn: { uses: fake, timeout: 1s, retry: 3, with: { ms: 60000, stubborn: true } }
        quick: { uses: fake, timeout: 1s, with: { ms: 999 } }
    ";
    check(
        yaml,
        "0 polite queued
         0 polite started 1
         0 stubborn queued
         0 stubborn started 1
         0 quick queued
         0 quick started 1
         999 quick succeeded
         1000 polite failed: took longer than 1s
         3000 stubborn failed: took longer than 1s and did not stop when told to
         Failed
         polite: TimedOut took longer than 1s
         stubborn: TimedOut took longer than 1s and did not stop when told to",
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn cancelling_stops_everything_but_what_cleans_up() {
    let yaml = "
        done: { uses: fake, with: { ms: 10 } }
        polite: { uses: fake, with: { ms: 5000 } }
        stubborn: { uses: fake, with: { ms: 60000, stubborn: true } }
        next: { uses: fake, needs: [polite] }
        paused: { uses: fake, retry: { attempts: 2, delay: 1m }, with: { retryable: true, fail: busy } }
        clean: { uses: fake, finally: true, with: { ms: 500 } }
        slow: { uses: fake, finally: true, with: { ms: 5000 } }
    ";
    let shown = play_with(yaml, fake::options(), Some(Duration::from_millis(100))).await;
    assert_same(
        &shown,
        "0 done queued
         0 done started 1
         0 polite queued
         0 polite started 1
         0 stubborn queued
         0 stubborn started 1
         0 paused queued
         0 paused started 1
         0 paused retrying in 60s: busy
         10 done succeeded
         100 polite cancelled: cancelled while it ran
         100 next cancelled: cancelled before it began
         100 paused cancelled: cancelled before it was tried again
         2100 stubborn cancelled: cancelled while it ran; it did not stop by itself
         2100 clean queued
         2100 clean started 1
         2100 slow queued
         2100 slow started 1
         2600 clean succeeded
         4100 slow cancelled: cancelled while it ran
         Cancelled",
    );
}

/// The grace of a step begins with it, however long it had to wait for its place.
#[tokio::test(start_paused = true)]
async fn what_cleans_up_waits_for_its_place_after_a_cancel() {
    let yaml = "
        work: { uses: fake, with: { ms: 5000 } }
        idle: { uses: fake }
        one: { uses: fake, finally: true, with: { ms: 1500 } }
        two: { uses: fake, finally: true, with: { ms: 1500 } }
        three: { uses: fake, finally: true, with: { ms: 1500 } }
    ";
    let options = RunOptions { parallelism: 1, ..fake::options() };
    let shown = play_with(yaml, options, Some(Duration::from_millis(100))).await;
    assert_same(
        &shown,
        "0 work queued
         0 work started 1
         0 idle queued
         100 work cancelled: cancelled while it ran
         100 idle cancelled: cancelled before it began
         100 one queued
         100 one started 1
         100 two queued
         100 three queued
         1600 one succeeded
         1600 two started 1
         3100 two succeeded
         3100 three started 1
         4600 three succeeded
         Cancelled",
    );
}

#[tokio::test(start_paused = true)]
async fn cancelled_before_it_begins() {
    let yaml = "
        a: { uses: fake }
        clean: { uses: fake, finally: true }
    ";
    check_cancelled(
        yaml,
        "0 a cancelled: cancelled before it began\n0 clean queued\n0 clean started 1\n0 clean succeeded\nCancelled",
    )
    .await;
}

async fn check_cancelled(yaml: &str, expected: &str) {
    assert_same(&play_with(yaml, fake::options(), Some(Duration::ZERO)).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_the_failure_of_one_step() {
    let yaml = "
        a: { uses: fake, with: { panic: true } }
        b: { uses: fake, with: { ms: 1 } }
    ";
    let shown = play(yaml).await;
    assert!(shown.contains("a failed: the step broke down inside the host"), "{shown}");
    assert!(shown.contains("1 b succeeded"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn what_a_step_gets() {
    let yaml = "
        a: { uses: fake, with: { out: { count: 2, names: [x, y] } } }
        b:
          uses: oci://registry.example/acme/tool:1
          with:
            count: '${{ steps.a.count + 1 }}'
            list: ['${{ steps.a.names }}', 1.5, true, null]
            text: 'n=${{ steps.a.count }} l=${{ steps.a.names }} none=${{ null }} $${{ kept }} ${SHELL}'
            'to/ken': { secret: TOKEN }
            lookalike: '${{ {\"secret\": \"OTHER\"} }}'
            mode: '${{ env.MODE }}${{ image }}${{ tag }}'
    ";
    let fake = Arc::new(Fake::default());
    let result = run(&plan(yaml), fake.clone(), Arc::new(NoObserver), &fake::options(), &Cancel::new()).await;
    assert_eq!(result.outcome, Outcome::Succeeded, "{result:?}");
    let call = fake.call("b");
    assert_eq!(call.uses, "oci://registry.example/acme/tool:1");
    assert_eq!(
        call.parameters,
        serde_json::json!({
            "count": 3,
            "list": [["x", "y"], 1.5, true, null],
            "text": "n=2 l=[\"x\",\"y\"] none= ${{ kept }} ${SHELL}",
            "to/ken": { "secret": "TOKEN" },
            "lookalike": { "secret": "OTHER" },
            "mode": "debug",
        })
    );
    let secrets: Vec<_> = call.secrets.iter().map(|secret| (secret.pointer.as_str(), secret.name.as_str())).collect();
    assert_eq!(secrets, [("/to~1ken", "TOKEN")]);
}

#[tokio::test(start_paused = true)]
async fn failures_that_the_file_is_to_blame_for_are_shown_in_it() {
    let yaml = "
        a: { uses: fake, with: { out: { digest: x } } }
        b: { uses: fake, with: { x: '${{ steps.a.digst }}' } }
        c: { uses: fake, in: a }
        d: { uses: fake, if: steps.a.digest }
        e: { uses: fake, with: { deep: [{ port: 99999 }], fail: 'too large', pointer: /deep/0/port } }
        f: { uses: fake, with: { refuse: true, fail: no grant } }
        g: { uses: fake, with: { deep: [{ prot: 1 }], fail: 'no such name', pointer: /deep/0/prot, known: [host, port] } }
        h: { uses: fake, with: { deep: [{ elsewhere: 1 }], fail: 'no such name', pointer: /deep/0/elsewhere, known: [host] } }
    ";
    let result =
        run(&plan(yaml), Arc::new(Fake::default()), Arc::new(NoObserver), &fake::options(), &Cancel::new()).await;
    let shown: Vec<String> = result
        .failures()
        .map(|(id, fault)| fault.diagnostic.as_ref().map_or_else(|| id.to_string(), |found| found.render(false)))
        .collect();
    let expected = r#"
error: the step `a` has no output `digst`
 --> cooperage.yaml:4:42
  |
4 |         b: { uses: fake, with: { x: '${{ steps.a.digst }}' } }
  |                                          ^^^^^^^^^^^^^
  |
help: did you mean `digest`?

error: the step `a` gives no files
 --> cooperage.yaml:5:30
  |
5 |         c: { uses: fake, in: a }
  |                              ^
  |
help: `in` needs a step that makes files; its values are reached by `steps.NAME.OUTPUT`

error: a condition must be true or false, this is text
 --> cooperage.yaml:6:30
  |
6 |         d: { uses: fake, if: steps.a.digest }
  |                              ^^^^^^^^^^^^^^ "x"

error: too large
 --> cooperage.yaml:7:49
  |
7 |         e: { uses: fake, with: { deep: [{ port: 99999 }], fail: 'too large', pointer: /deep/0/port } }
  |                                                 ^^^^^

f

error: no such name
 --> cooperage.yaml:9:43
  |
9 |         g: { uses: fake, with: { deep: [{ prot: 1 }], fail: 'no such name', pointer: /deep/0/prot, known: [host, port] } }
  |                                           ^^^^
  |
help: did you mean `port`?

error: no such name
  --> cooperage.yaml:10:43
   |
10 |         h: { uses: fake, with: { deep: [{ elsewhere: 1 }], fail: 'no such name', pointer: /deep/0/elsewhere, known: [host] } }
   |                                           ^^^^^^^^^
   |
help: known here: `host`"#;
    assert_eq!(shown.join("\n\n"), expected.trim_start_matches('\n'), "\n{}", shown.join("\n\n"));
    assert!(result.failed_by(FaultKind::Refused) && result.failed_by(FaultKind::Invalid));
}

/// The line of a failure is shown, and with it all that stands on it.
#[tokio::test(start_paused = true)]
async fn no_failure_shows_a_secret_that_the_file_has_in_clear() {
    let yaml = "
        a: { uses: fake, with: { out: { digest: x } } }
        b: { uses: fake, with: { x: '${{ steps.a.digst }}', password: hunter2 } }
        c: { uses: fake, if: steps.a.digest, with: { password: hunter2 } }
        d: { uses: fake, in: a, with: { password: hunter2 } }
        e: { uses: fake, with: { password: hunter2, fail: wrong, pointer: /password } }
    ";
    let result =
        run(&plan(yaml), Arc::new(Fake::default()), Arc::new(NoObserver), &fake::options(), &Cancel::new()).await;
    for (id, fault) in result.failures() {
        let shown = fault.diagnostic.as_ref().unwrap().render(false);
        assert!(shown.contains("password: *******") && !shown.contains("hunter2"), "{id}: {shown}");
    }
    assert_eq!(result.failures().count(), 4);
}

#[tokio::test]
async fn values_pass_through_a_long_chain_of_steps() {
    let steps: String = (0..500)
        .map(|n| match n {
            0 => "s0: { uses: fake, with: { out: { n: 0 } } }\n".to_string(),
            _ => format!("s{n}: {{ uses: fake, with: {{ out: {{ n: '${{{{ steps.s{}.n + 1 }}}}' }} }} }}\n", n - 1),
        })
        .collect();
    let plan = plan(&steps);
    let result =
        run(&plan, Arc::new(Fake::default()), Arc::new(NoObserver), &RunOptions::default(), &Cancel::new()).await;
    assert_eq!(result.steps[499].values["n"], 499);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_selected_counts_as_skipped() {
    let yaml = "
        test: { uses: fake }
        push: { uses: fake, needs: [test], with: { out: { digest: x } } }
        notify: { uses: fake, needs: [test], if: always(), with: { x: '${{ steps.push.digest }}', y: '${{ steps.push.status }}' } }
    ";
    let plan = fake::file(yaml).plan(&NoImageDependencies).unwrap().select(&["test"]).unwrap();
    let fake = Arc::new(Fake::default());
    let result = run(&plan, fake.clone(), Arc::new(NoObserver), &fake::options(), &Cancel::new()).await;
    assert_eq!(result.outcome, Outcome::Succeeded);
    assert_eq!(result.steps.len(), 2);
    assert_eq!(fake.call("notify").parameters, serde_json::json!({ "x": null, "y": "skipped" }));
}

#[tokio::test]
async fn a_run_can_be_spawned() {
    let run = async {
        let plan = plan("a: { uses: fake, with: { out: { x: 1 } } }\nb: { uses: fake, if: steps.a.x == 1 }\n");
        run(&plan, Arc::new(Fake::default()), Arc::new(NoObserver), &RunOptions::default(), &Cancel::new()).await
    };
    assert_eq!(tokio::spawn(run).await.unwrap().outcome, Outcome::Succeeded);
}

/// Once cancelled, even what runs on is not tried again.
#[tokio::test(start_paused = true)]
async fn cancelling_ends_retries() {
    let yaml = "
        clean: { uses: fake, finally: true, retry: { attempts: 9, delay: 1s }, with: { ms: 150, retryable: true, fail: busy } }
    ";
    check_cancelled(yaml, "0 clean queued\n0 clean started 1\n150 clean failed: busy\nFailed\nclean: Failed busy")
        .await;
}
