//! Going on after a failure: what is done again and what is not.

mod fake;

use cooperage_flow::{Cancel, Entry, Journal, NoObserver, Outcome, RunOptions, StepId, forecast, run};
use fake::{Fake, plan};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// A journal in memory, through the text that a file would have.
#[derive(Default)]
struct Memory {
    entries: Mutex<BTreeMap<String, String>>,
    full: bool,
}

impl Journal for Memory {
    fn find(&self, step: &StepId) -> Option<Entry> {
        self.entries.lock().unwrap().get(&step.key()).map(|text| serde_json::from_str(text).unwrap())
    }

    fn keep(&self, step: &StepId, entry: &Entry) -> Result<(), String> {
        if self.full {
            return Err("no space".to_string());
        }
        self.entries.lock().unwrap().insert(step.key(), serde_json::to_string(entry).unwrap());
        Ok(())
    }

    fn forget(&self, step: &StepId) -> Result<(), String> {
        self.entries.lock().unwrap().remove(&step.key());
        Ok(())
    }
}

/// One flow that is changed and run again and again.
#[derive(Default)]
struct Scene {
    journal: Arc<Memory>,
    fake: Arc<Fake>,
}

impl Scene {
    /// Runs; the steps that were really run.
    async fn run(&self, yaml: &str) -> (Outcome, String) {
        let before = self.fake.ran().len();
        let options = RunOptions { journal: Some(self.journal.clone()), ..RunOptions::default() };
        let result = run(&plan(yaml), self.fake.clone(), Arc::new(NoObserver), &options, &Cancel::new()).await;
        for step in &result.steps {
            assert_eq!(step.resumed, step.status.as_str() == "succeeded" && step.attempts == 0, "{step:?}");
        }
        let mut ran = self.fake.ran().split_off(before);
        ran.sort();
        (result.outcome, ran.join(" "))
    }

    async fn check(&self, yaml: &str, outcome: Outcome, ran: &str) {
        assert_eq!(self.run(yaml).await, (outcome, ran.to_string()), "{yaml}");
    }
}

const FLOW: &str = "
    source: { uses: fake, with: { tree: src, out: { commit: abc } } }
    test: { uses: fake, in: source, matrix: { v: [1, 2] }, fail_fast: false, with: { tree: 't${{ matrix.v }}', fail: '${{ matrix.v == 2 ? env.MODE : null }}' } }
    image: { uses: fake, in: source, with: { commit: '${{ steps.source.commit }}', out: { digest: d } } }
    push: { uses: fake, needs: [test], with: { digest: '${{ steps.image.digest }}' } }
    off: { uses: fake, if: false }
    clean: { uses: fake, finally: true }
";

/// The same flow after its mistake was corrected.
fn mended() -> String {
    FLOW.replace("env.MODE", "null")
}

#[tokio::test(start_paused = true)]
async fn only_what_failed_and_what_comes_after_is_done() {
    let scene = Scene::default();
    scene.check(FLOW, Outcome::Failed, "clean image source test (1) test (2)").await;
    scene.check(FLOW, Outcome::Failed, "clean test (2)").await;
    scene.check(&mended(), Outcome::Succeeded, "clean push test (2)").await;
    scene.check(&mended(), Outcome::Succeeded, "").await;
}

#[tokio::test(start_paused = true)]
async fn what_changed_and_everything_after_it_is_done_again() {
    let scene = Scene::default();
    scene.run(FLOW).await;
    let other = FLOW.replace("with: { commit:", "with: { more: 1, commit:");
    scene.check(&other, Outcome::Failed, "clean image test (2)").await;
    // The outputs are the same, and so would be all keys but for the stamps.
    let other = mended().replace("with: { tree: src", "with: { ms: 1, tree: src");
    scene.check(&other, Outcome::Succeeded, "clean image push source test (1) test (2)").await;
    *scene.fake.files.lock().unwrap() = "changed".to_string();
    scene.check(&other, Outcome::Succeeded, "clean image push source test (1) test (2)").await;
}

#[tokio::test(start_paused = true)]
async fn a_tree_that_is_gone_is_made_again() {
    let scene = Scene::default();
    scene.run(FLOW).await;
    scene.fake.lost.lock().unwrap().push("t1".to_string());
    scene.check(&mended(), Outcome::Succeeded, "clean push test (1) test (2)").await;
    scene.fake.lost.lock().unwrap().push("src".to_string());
    scene.check(&mended(), Outcome::Succeeded, "clean image push source test (1) test (2)").await;
}

/// Killed after `a` was done again and before `b` was: `b` must not be taken for done.
#[tokio::test(start_paused = true)]
async fn what_comes_after_a_repeated_step_is_repeated_even_after_a_kill() {
    let yaml = "
        a: { uses: fake, with: { tree: t } }
        b: { uses: fake, needs: [a] }
    ";
    let scene = Scene::default();
    scene.run(yaml).await;
    let old = scene.journal.entries.lock().unwrap()["b"].clone();
    scene.fake.lost.lock().unwrap().push("t".to_string());
    scene.check(yaml, Outcome::Succeeded, "a b").await;
    scene.fake.lost.lock().unwrap().clear();
    scene.journal.entries.lock().unwrap().insert("b".to_string(), old);
    scene.check(yaml, Outcome::Succeeded, "b").await;
    scene.check(yaml, Outcome::Succeeded, "").await;
}

/// What was done once with other parameters, then failed, is not done just because the parameters are back.
#[tokio::test(start_paused = true)]
async fn a_failed_step_is_not_what_it_was_before() {
    let (good, bad) = ("a: { uses: fake, with: { ms: 1 } }\n", "a: { uses: fake, with: { ms: 2, fail: broken } }\n");
    let scene = Scene::default();
    scene.check(good, Outcome::Succeeded, "a").await;
    scene.check(bad, Outcome::Failed, "a").await;
    scene.check(good, Outcome::Succeeded, "a").await;
}

#[tokio::test(start_paused = true)]
async fn what_runs_after_failures_runs_again_when_they_are_gone() {
    let yaml = "
        a: { uses: fake, with: { fail: '${{ env.MODE }}' } }
        told: { uses: fake, needs: [a], if: always() }
    ";
    let scene = Scene::default();
    scene.check(yaml, Outcome::Failed, "a told").await;
    scene.check(&yaml.replace("env.MODE", "null"), Outcome::Succeeded, "a told").await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_known_is_always_done() {
    let yaml = "
        a: { uses: fake, with: { vague: true } }
        b: { uses: fake, needs: [a] }
        c: { uses: fake }
    ";
    let scene = Scene::default();
    scene.check(yaml, Outcome::Succeeded, "a b c").await;
    scene.check(yaml, Outcome::Succeeded, "a b").await;
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_cannot_be_written_fails_no_step() {
    let scene = Scene { journal: Arc::new(Memory { full: true, ..Memory::default() }), ..Scene::default() };
    scene.check("a: { uses: fake }\n", Outcome::Succeeded, "a").await;
}

/// What a run would do, one line per step.
async fn look(yaml: &str, scene: &Scene, resume: bool) -> String {
    let plan = plan(yaml);
    let journal = resume.then(|| scene.journal.clone() as Arc<dyn Journal>);
    let before = scene.journal.entries.lock().unwrap().clone();
    let shown = forecast(&plan, scene.fake.as_ref(), journal).await.to_string();
    assert_eq!(*scene.journal.entries.lock().unwrap(), before, "a look changes nothing");
    shown
}

#[tokio::test(start_paused = true)]
async fn a_look_tells_what_would_happen() {
    let yaml = "
        cached: { uses: fake, with: { preview: hit, tree: t, out: { go: true, n: 1 } } }
        known: { uses: fake, in: cached, if: steps.cached.go, with: { preview: miss, n: '${{ steps.cached.n }}', out: { x: 1 } } }
        open: { uses: fake, with: { preview: hit, x: '${{ steps.known.x }}' } }
        order: { uses: fake, needs: [known], with: { preview: hit } }
        maybe: { uses: fake, needs: [cached], if: steps.known.x == 1 }
        off: { uses: fake, if: false }
        none: { uses: fake, with: { x: '${{ steps.off.y }}' } }
        sorry: { uses: fake, needs: [known], if: failure() }
        always: { uses: fake, needs: [known], if: \"always() && steps.known.status == 'succeeded'\" }
        wrong: { uses: fake, with: { x: '${{ steps.cached.nope }}' } }
        last: { uses: fake, finally: true, with: { preview: miss } }
    ";
    let shown = look(yaml, &Scene::default(), false).await;
    let expected = "\
hit      cached  fake
miss     known   fake  after cached  if steps.cached.go  as it was never done
unknown  open    fake  after known  as it uses what `known` gives, which is not known yet
hit      order   fake  after known
unknown  maybe   fake  after cached, known  if steps.known.x == 1  as it uses what `known` gives, which is not known yet
skip     off     fake  if false  as its condition does not hold
skip     none    fake  after off  as `off`, which it uses, has no result
skip     sorry   fake  after known  if failure()  as it runs only after a failure
unknown  always  fake  after known  if always() && steps.known.status == 'succeeded'  as nobody looked
unknown  wrong   fake  after cached  as the step `cached` has no output `nope`
miss     last    fake  after cached, known, open, order, maybe, off, none, sorry, always, wrong  as it was never done
";
    assert_eq!(shown, expected, "\n{shown}");
}

#[tokio::test(start_paused = true)]
async fn every_step_has_one_line_however_its_condition_is_written() {
    let yaml = "
  a:
    uses: fake
    with: { preview: miss }
  b:
    uses: fake
    if: |
      always()
        && true
    with: { preview: hit }
  c:
    uses: fake
    with: { preview: miss }
";
    let shown = look(yaml, &Scene::default(), false).await;
    let expected = "\
miss     a  fake  as it was never done
hit      b  fake  if always() && true
miss     c  fake  as it was never done
";
    assert_eq!(shown, expected, "\n{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_look_before_going_on_knows_what_was_done() {
    let scene = Scene::default();
    scene.run(FLOW).await;
    let shown = look(&mended(), &scene, true).await;
    let words: Vec<&str> = shown.lines().map(|line| line.split("  ").next().unwrap().trim()).collect();
    assert_eq!(words, ["resumed", "resumed", "unknown", "resumed", "unknown", "skip", "unknown"], "{shown}");
    let shown = look(&mended(), &scene, false).await;
    assert!(!shown.contains("resumed"), "{shown}");
}

/// What others changed since is for a run to bring back, not for a look.
#[tokio::test(start_paused = true)]
async fn only_a_run_goes_on_with_what_was_done() {
    let yaml =
        "a: { uses: fake, with: { out: { digest: d } } }\nb: { uses: fake, needs: [a], with: { fail: broken } }\n";
    let scene = Scene::default();
    scene.check(yaml, Outcome::Failed, "a b").await;
    assert!(look(yaml, &scene, true).await.starts_with("resumed"));
    assert!(scene.fake.resumed.lock().unwrap().is_empty());
    scene.check(yaml, Outcome::Failed, "b").await;
    assert_eq!(*scene.fake.resumed.lock().unwrap(), [r#"a {"digest":"d"}"#]);
    // Where that is impossible, the step has failed, and nothing after it runs.
    scene.fake.full.store(true, Ordering::SeqCst);
    scene.check(yaml, Outcome::Failed, "").await;
}

#[tokio::test(start_paused = true)]
async fn a_look_as_json() {
    let plan = plan("a: { uses: fake, with: { preview: miss } }\n");
    let shown = serde_json::to_value(forecast(&plan, &Fake::default(), None).await).unwrap();
    assert_eq!(shown["steps"][0]["expected"], "miss");
    assert_eq!(shown["steps"][0]["reason"], "it was never done");
    assert_eq!(shown["steps"][0]["holds"], true);
    assert_eq!(shown["steps"][0]["id"], "a");
}

#[tokio::test(start_paused = true)]
async fn what_steps_say_is_kept_and_secrets_can_be_taken_out() {
    let yaml = "
        a: { uses: fake, with: { say: 'the key is hunter2', out: { key: hunter2 } } }
        b: { uses: fake, retry: 1, with: { say: again, fail: 'hunter2 refused', retryable: true } }
    ";
    let options = RunOptions::default();
    let result = run(&plan(yaml), Arc::new(Fake::default()), Arc::new(NoObserver), &options, &Cancel::new()).await;
    assert_eq!(result.steps[0].log, "the key is hunter2");
    assert_eq!(result.steps[1].log, "againagain");
    let result = result.redacted(&|text| text.replace("hunter2", "***"));
    assert_eq!(result.steps[0].log, "the key is ***");
    let shown = serde_json::to_string(&result).unwrap();
    assert!(!shown.contains("hunter2") && shown.contains("*** refused"), "{shown}");
}
