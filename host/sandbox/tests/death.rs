//! However a run ends, nothing of it is left: no process, no mount, no cgroup; and the reason is told.

mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cooperage_sandbox::{Cancel, Exit, Isolation, Limits, Spec};
use support::{HELPER, World, cgroups_of, eventually, mounts, processes};

fn each(check: impl Fn(&World, &str)) {
    for isolation in [Isolation::Native, Isolation::Oci] {
        let Some(world) = World::with(isolation) else { return };
        // A number of seconds to sleep that no other test has.
        let mark = format!("{}", 100_000_000 + u64::from(std::process::id()) * 10 + isolation as u64);
        check(&world, &mark);
    }
}

fn limited(mut spec: Spec, limits: Limits) -> Spec {
    spec.limits = limits;
    spec
}

/// Ignores SIGTERM, has children, one in a session of its own.
fn stubborn(world: &World, mark: &str) -> Spec {
    world
        .sh(&format!("trap '' TERM; (sleep {mark}5 &); sleep {mark}5 & echo ready; while true; do sleep {mark}5; done"))
}

#[test]
fn children_end_with_the_process() {
    each(|world, mark| {
        let start = Instant::now();
        assert_eq!(world.out(&format!("(sleep {mark}1 &) ; sleep {mark}1 & echo done")), "done");
        assert!(start.elapsed() < Duration::from_secs(20));
        eventually("children are gone", || processes(&format!("{mark}1")).is_empty());
    });
}

#[test]
fn a_timeout_ends_everything() {
    each(|world, mark| {
        let before = mounts();
        let limits = Limits { timeout: Some(Duration::from_millis(700)), ..Limits::default() };
        let start = Instant::now();
        let (exit, output) = world.run(&limited(stubborn(world, mark), limits)).unwrap();
        assert_eq!((exit, output.as_str()), (Exit::TimedOut, "ready\n"));
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
        eventually("processes are gone", || processes(&format!("{mark}5")).is_empty());
        assert_eq!(mounts(), before);
    });
}

#[test]
fn cancelling_is_quick_and_kills_what_does_not_listen() {
    each(|world, mark| {
        let cancel = Cancel::new().unwrap();
        let sandbox = world.sandbox();
        let spec = stubborn(world, mark);
        let clone = cancel.clone();
        let mut ready = None;
        let exit = sandbox.run(
            &spec,
            &mut |_| {
                ready = Some(Instant::now());
                clone.cancel();
            },
            &cancel,
        );
        assert_eq!(exit.unwrap(), Exit::Cancelled);
        assert!(ready.unwrap().elapsed() < Duration::from_secs(30), "{:?}", ready.unwrap().elapsed());
        eventually("processes are gone", || processes(&format!("{mark}5")).is_empty());
        // And a cancelled flag starts nothing at all.
        assert_eq!(sandbox.run(&spec, &mut |_| panic!("started"), &cancel).unwrap(), Exit::Cancelled);
    });
    let Some(world) = World::new() else { return };
    let cancel = Cancel::new().unwrap();
    let clone = cancel.clone();
    let mut seen = Vec::new();
    // Who listens gets the time to tidy up.
    let spec = world.sh("trap 'echo tidy; exit 3' TERM; echo ready; while true; do sleep 0.05; done");
    let exit = world.sandbox().run(
        &spec,
        &mut |bytes| {
            seen.extend_from_slice(bytes);
            clone.cancel();
        },
        &cancel,
    );
    let seen = String::from_utf8_lossy(&seen);
    assert_eq!(exit.unwrap(), Exit::Cancelled);
    assert!(seen.starts_with("ready\n") && seen.ends_with("tidy\n"), "{seen}");
}

#[test]
fn killing_the_host_or_the_helper_leaves_nothing() {
    each(|world, mark| {
        for whom in ["host", "helper"] {
            let before = mounts();
            let mark = format!("{mark}{whom}");
            let mut spec = world.sh(&format!("sh -c 'while true; do sleep 0.1; done' {mark}"));
            spec.limits.memory = Some(256 << 20);
            let file = world.dir.path().join("spec.json");
            std::fs::write(&file, serde_json::to_vec(&spec).unwrap()).unwrap();
            let isolation = serde_json::to_value(world.isolation).unwrap();
            let mut host = Command::new(HELPER)
                .args(["host", isolation.as_str().unwrap()])
                .arg(&file)
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            eventually("it runs", || !processes(&mark).is_empty());
            let helper = format!("__sandbox {}", host.id());
            assert!(processes(&helper).len() >= 2, "the helper and the first process");
            if whom == "host" {
                host.kill().unwrap();
                host.wait().unwrap();
            } else {
                let children = format!("/proc/{0}/task/{0}/children", host.id());
                let pid = std::fs::read_to_string(children).unwrap();
                assert!(Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
                let said = host.wait_with_output().unwrap();
                let said = String::from_utf8_lossy(&said.stderr).into_owned();
                assert!(said.contains("ERROR the sandbox helper died (signal: 9 (SIGKILL))"), "{said}");
                continue_after(world, &mark, &helper, &before);
                continue;
            }
            continue_after(world, &mark, &helper, &before);
        }
    });
}

fn continue_after(world: &World, mark: &str, helper: &str, before: &str) {
    eventually("the processes are gone", || processes(mark).is_empty() && processes(helper).is_empty());
    assert_eq!(mounts(), before);
    world.reset();
}

#[test]
fn an_abandoned_group_is_removed_by_the_next_run() {
    let Some(mut world) = World::new() else { return };
    let Some(parent) = memory_group() else { return support::skip("no v1 memory hierarchy") };
    for isolation in [Isolation::Native, Isolation::Oci] {
        let dead = parent.join("cooperage-4194304000-1-0");
        std::fs::create_dir_all(dead.join("inner")).unwrap();
        let touched = Command::new("touch").args(["-d", "2 minutes ago"]).arg(&dead).status().unwrap();
        assert!(touched.success());
        world.isolation = isolation;
        let memory = (isolation == Isolation::Native).then_some(64 << 20);
        world.ok(&limited(world.spec(&["true"]), Limits { memory, ..Limits::default() }));
        assert!(!dead.exists(), "{isolation:?}");
    }
}

fn memory_group() -> Option<std::path::PathBuf> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = own.lines().find_map(|line| line.split_once(":memory:"))?.1;
    let directory = std::path::PathBuf::from(format!("/sys/fs/cgroup/memory{path}"));
    directory.is_dir().then_some(directory)
}

#[test]
fn limits_hold_and_their_groups_are_gone_afterwards() {
    if memory_group().is_none() {
        return support::skip("no v1 memory hierarchy");
    }
    each(|world, _| {
        let memory = Limits { memory: Some(48 << 20), ..Limits::default() };
        let hungry = "x=$(yes | head -c 100000000 | tr -d '\\n'); echo survived ${#x}";
        let (exit, output) = world.run(&limited(world.sh(hungry), memory)).unwrap();
        assert_eq!((exit, output.contains("survived")), (Exit::OutOfMemory, false), "{output}");
        let (exit, output) = world.run(&limited(world.sh("echo small"), memory)).unwrap();
        assert_eq!((exit, output.as_str()), (Exit::Code(0), "small\n"));
        let pids = Limits { pids: Some(30), ..Limits::default() };
        // An OCI runtime counts with its own threads.
        let many = "for i in $(seq 1 40); do sleep 5 & done; echo all";
        let (exit, output) = world.run(&limited(world.sh(many), pids)).unwrap();
        assert!(exit != Exit::Code(0) && output.contains("fork"), "{exit:?} {output}");
        let cpus = Limits { cpus: Some(0.2), ..Limits::default() };
        let busy = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; cat /proc/self/cgroup > /dev/null; \
                    read up rest < /proc/uptime; echo $up";
        world.ok(&limited(world.sh(busy), cpus));
        let left: Vec<_> = cgroups_of(std::process::id());
        // Other tests of this process run meanwhile; theirs hold processes or go away.
        eventually("the groups are gone", || left.iter().all(|group| !group.exists() || !is_empty(group)));
    });
}

fn is_empty(group: &std::path::Path) -> bool {
    std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().is_empty()
}

#[test]
fn a_process_with_set_user_id_dies_with_the_host_too() {
    let Some(world) = World::new() else { return };
    world.add_program("/usr/bin/tail");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
    std::fs::set_permissions(world.base("usr/bin/tail"), mode).unwrap();
    let mark = format!("/dev/null-{}", std::process::id());
    let mut spec = world.spec(&["/usr/bin/tail", "-F", &mark]);
    spec.process.uid = 1000;
    let file = world.dir.path().join("spec.json");
    std::fs::write(&file, serde_json::to_vec(&spec).unwrap()).unwrap();
    let mut host = Command::new(HELPER);
    let mut host =
        host.args(["host", "native"]).arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("it runs", || !processes(&format!("tail -F {mark}")).is_empty());
    host.kill().unwrap();
    host.wait().unwrap();
    eventually("it is gone", || processes(&mark).is_empty());
}
