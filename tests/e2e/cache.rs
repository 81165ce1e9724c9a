//! What is done again and what is not, and whether `coop explain` knows why.

use std::fs::{File, FileTimes};
use std::time::{Duration, SystemTime};

use crate::support::processes::{Running, eventually};
use crate::support::{Machine, ROOT, have};

const DOCKERFILE: &str = "FROM base:1\nCOPY first /first\nRUN cat /first > /made\nCOPY second /second\n";

fn machine() -> Option<Machine> {
    if !have(&[ROOT]) {
        return None;
    }
    let machine = Machine::new();
    machine.base();
    machine.write("context/first", "1");
    machine.write("context/second", "2");
    machine.dockerfile("context", DOCKERFILE);
    Some(machine)
}

/// Builds and compares which steps came from the cache and which were done, by their numbers in the stage.
#[track_caller]
fn check(machine: &Machine, args: &[&str], cached: &[&str], done: &[&str]) {
    let ran = machine.ok(&[&["build", "context", "-t", "result:1", "--progress", "plain"], args].concat());
    let (found_cached, found_done) = ran.steps();
    let numbers = |lines: &[&str]| {
        let number = |line: &&str| line.split_once("] ").unwrap().0.rsplit_once(['[', ' ']).unwrap().1.to_owned();
        let mut numbers: Vec<_> = lines.iter().map(number).collect();
        numbers.sort();
        numbers.dedup();
        numbers
    };
    assert_eq!((numbers(&found_cached), numbers(&found_done)), (own(cached), own(done)), "{}", ran.stderr);
}

fn own(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn a_second_build_does_nothing() {
    let Some(machine) = machine() else { return };
    check(&machine, &[], &[], &["2/4", "3/4", "4/4"]);
    check(&machine, &[], &["2/4", "3/4", "4/4"], &[]);
    let digest = machine.build("context", &[]);
    assert_eq!(machine.build("context", &[]), digest);
    // What is copied is the same files again, so only the process runs anew.
    check(&machine, &["--no-cache"], &["2/4", "4/4"], &["3/4"]);
}

#[test]
fn times_of_files_do_not_matter() {
    let Some(machine) = machine() else { return };
    let digest = machine.build("context", &[]);
    for age in [0, 100_000_000] {
        let time = SystemTime::now() - Duration::from_secs(age);
        let file = File::options().append(true).open(machine.path("context/first")).unwrap();
        file.set_times(FileTimes::new().set_modified(time)).unwrap();
        assert_eq!(machine.build("context", &[]), digest);
        check(&machine, &[], &["2/4", "3/4", "4/4"], &[]);
    }
    machine.write("context/first", "1");
    check(&machine, &[], &["2/4", "3/4", "4/4"], &[]);
}

#[test]
fn a_changed_file_is_noticed_even_if_size_and_time_are_as_before() {
    let Some(machine) = machine() else { return };
    let time = SystemTime::now() - Duration::from_secs(1000);
    let path = machine.path("context/first");
    let date = || File::options().append(true).open(&path).unwrap().set_times(FileTimes::new().set_modified(time));
    date().unwrap();
    let before = machine.build("context", &[]);
    machine.write("context/first", "9");
    date().unwrap();
    assert_ne!(machine.build("context", &[]), before);
}

#[test]
fn only_what_uses_a_changed_file_is_done_again() {
    let Some(machine) = machine() else { return };
    machine.build("context", &["-t", "result:1"]);
    machine.write("context/second", "two");
    check(&machine, &[], &["2/4", "3/4"], &["4/4"]);
    // The last layer holds what it held before, whatever lies below it.
    machine.write("context/first", "one");
    check(&machine, &[], &["4/4"], &["2/4", "3/4"]);
    machine.write("context/unused", "x");
    check(&machine, &[], &["2/4", "3/4", "4/4"], &[]);
    machine.dockerfile("context", &format!("# A comment\n{}", DOCKERFILE.replace("COPY second", "COPY  second")));
    check(&machine, &[], &["2/4", "3/4", "4/4"], &[]);
}

#[test]
fn what_was_built_before_is_found_again() {
    let Some(machine) = machine() else { return };
    let before = machine.build("context", &["-t", "result:1"]);
    machine.write("context/first", "other");
    assert_ne!(machine.build("context", &["-t", "result:1"]), before);
    machine.write("context/first", "1");
    check(&machine, &[], &["2/4", "3/4", "4/4"], &[]);
    assert_eq!(machine.build("context", &["-t", "result:1"]), before);
}

#[test]
fn explain_names_the_part_that_changed() {
    let Some(machine) = machine() else { return };
    let explain = |wanted: &[&str]| {
        let ran = machine.ok(&["explain", "result:1"]);
        for text in wanted {
            assert!(ran.stdout.contains(text), "{text:?} is not in:\n{}", ran.stdout);
        }
    };
    machine.build("context", &["-t", "result:1"]);
    explain(&["COPY first /first", "the first build of this name"]);
    machine.build("context", &["-t", "result:1"]);
    explain(&["cached"]);
    machine.write("context/first", "3");
    machine.build("context", &["-t", "result:1"]);
    explain(&["the files it copies changed", "the tree it starts from changed"]);
    machine.dockerfile("context", &DOCKERFILE.replace("cat /first", "cat /first /first"));
    machine.build("context", &["-t", "result:1"]);
    explain(&["cat /first > /made", "cat /first /first > /made"]);

    let steps = machine.ok(&["explain", "result:1", "--output", "json"]).json();
    let run = steps.as_array().unwrap().iter().find(|step| step["name"].as_str().unwrap().contains("RUN")).unwrap();
    assert_eq!(run["result"], "miss");
    let changes = run["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 1, "one part changed: {changes:?}");
    assert_eq!(run["location"]["line"], 3);
    machine.fails(&["explain", "nothing:1"], 2).says(&["nothing:1 was not built here"]);
}

#[test]
fn two_builds_at_once_run_a_step_once() {
    let Some(machine) = machine() else { return };
    // The cache directory counts how often the step runs; the build that waits must not run it too.
    let step = "RUN --mount=type=cache,target=/count echo x >> /count/runs && sleep 2 && cat /count/runs > /runs";
    machine.dockerfile("context", &format!("FROM base:1\n{step}\n"));
    let mut running = ["one", "two", "three"].map(|name| {
        let command = machine.coop(&["build", "context", "-t", &format!("{name}:1"), "--progress", "plain"]);
        Running::start(command, &machine.path(name))
    });
    for (running, name) in running.iter_mut().zip(["one", "two", "three"]) {
        assert_eq!(running.wait(), Some(0), "{}", machine.read(name));
    }
    let read = "FROM base:1\nRUN --mount=type=cache,target=/count test \"$(wc -l < /count/runs)\" = 1\n";
    machine.dockerfile("context", read);
    machine.ok(&["build", "context"]);
    let digests = ["one:1", "two:1", "three:1"].map(|name| {
        let shown = machine.ok(&["image", "inspect", name, "--output", "json"]).json();
        shown["descriptor"]["digest"].as_str().unwrap().to_owned()
    });
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

#[test]
fn a_build_that_waited_for_one_that_died_does_the_work_itself() {
    let Some(machine) = machine() else { return };
    // A number that no other test sleeps.
    machine.write("context/seconds", "60417");
    machine.dockerfile(
        "context",
        "FROM base:1\nRUN --mount=type=bind,target=/in --mount=type=cache,target=/c \
         echo x >> /c/started; test $(wc -l < /c/started) -gt 1 || sleep $(cat /in/seconds)\n",
    );
    let command = || machine.coop(&["build", "context", "--progress", "plain"]);
    let mut first = Running::start(command(), &machine.path("first"));
    let sleeping = || !crate::support::processes::with_command("sleep\x0060417\0").is_empty();
    eventually("the step runs", sleeping);
    let mut second = Running::start(command(), &machine.path("second"));
    eventually("the second build is at work", || second.has_open(|path| path.ends_with("lease")));
    first.kill();
    assert_eq!(second.wait(), Some(0), "{}", machine.read("second"));
    machine.assert_nothing_runs();
}

#[test]
fn an_image_and_its_cache_can_be_removed() {
    let Some(machine) = machine() else { return };
    machine.build("context", &["-t", "result:1"]);
    machine.ok(&["image", "rm", "result:1"]);
    machine.fails(&["image", "inspect", "result:1"], 2).says(&["there is no image result:1"]);
    check(&machine, &[], &["2/4", "3/4", "4/4"], &[]);
    machine.ok(&["image", "rm", "result:1", "base:1", "--cache"]);
    machine.base();
    check(&machine, &[], &[], &["2/4", "3/4", "4/4"]);
}
