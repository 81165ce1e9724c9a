//! A `coop` that is killed or told to stop: nothing runs on, nothing stays mounted, and the next run works.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::support::processes::{Running, eventually, with_command};
use crate::support::registry::Registry;
use crate::support::{Machine, ROOT, have, noise};

fn machine() -> Option<Machine> {
    if !have(&[ROOT]) {
        return None;
    }
    let machine = Machine::new();
    machine.base();
    Some(machine)
}

/// Starts a build whose RUN sleeps for a number of seconds that no other test sleeps for, and waits until it does.
fn sleeping(machine: &Machine, seconds: &str, isolation: &str) -> Running {
    machine.write("context/seconds", seconds);
    machine.dockerfile(
        "context",
        "FROM base:1\nCOPY seconds /\nRUN touch /half && sleep $(cat /seconds) & sleep $(cat /seconds)\n",
    );
    let mut command = machine.coop(&["build", "context", "-t", "result:1", "--progress", "plain"]);
    command.env("COOP_ISOLATION", isolation);
    let running = Running::start(command, &machine.path("log"));
    let command = format!("sleep\0{seconds}\0");
    eventually("both processes of the step run", || with_command(&command).len() == 2);
    running
}

/// The next build of the same context works and leaves a clean store.
#[track_caller]
fn goes_on(machine: &Machine) {
    machine.write("context/seconds", "0");
    machine.build("context", &["-t", "result:1"]);
    machine.assert_nothing_runs();
    machine.assert_store_is_clean();
}

#[test]
fn killed_while_a_process_runs() {
    for (isolation, seconds, needs) in [("native", "60501", "sh"), ("oci", "60502", "runc")] {
        if !have(&[needs]) {
            continue;
        }
        let Some(machine) = machine() else { return };
        let mut running = sleeping(&machine, seconds, isolation);
        running.kill();
        let command = format!("sleep\0{seconds}\0");
        eventually("the processes of the step end", || with_command(&command).is_empty());
        machine.assert_nothing_runs();
        goes_on(&machine);
    }
}

#[test]
fn interrupted_while_a_process_runs() {
    for (signal, seconds) in [(Signal::INT, "60511"), (Signal::TERM, "60512")] {
        let Some(machine) = machine() else { return };
        let mut running = sleeping(&machine, seconds, "native");
        running.signal(signal);
        assert_eq!(running.wait(), Some(130), "{}", machine.read("log"));
        assert!(with_command(&format!("sleep\0{seconds}\0")).is_empty());
        machine.assert_nothing_runs();
        machine.fails(&["image", "inspect", "result:1"], 2);
        goes_on(&machine);
    }
}

#[test]
fn a_flow_that_is_interrupted_still_tidies_up() {
    let Some(machine) = machine() else { return };
    machine.write(
        "cooperage.yaml",
        "
version: 1
flow:
  long: { uses: script, with: { image: 'base:1', run: 'sleep 60521' } }
  after: { uses: script, needs: [long], with: { image: 'base:1', run: 'echo this must not run' } }
  tidy: { uses: script, finally: true, with: { image: 'base:1', run: 'echo tidied up' } }
",
    );
    let mut running = Running::start(machine.coop(&["run", "--progress", "plain"]), &machine.path("log"));
    eventually("the step runs", || !with_command("sleep\x0060521\0").is_empty());
    running.signal(Signal::INT);
    assert_eq!(running.wait(), Some(130), "{}", machine.read("log"));
    let log = machine.read("log");
    assert!(log.contains("tidied up") && !log.contains("this must not run\n#"), "{log}");
    machine.assert_nothing_runs();
}

#[test]
fn killed_while_a_large_file_is_copied() {
    let Some(machine) = machine() else { return };
    machine.write("context/big", noise(96 << 20, 4));
    machine.dockerfile("context", "FROM base:1\nCOPY big /big\nRUN head -c 8 /big > /start\n");
    // First while it is read, then while the layer is written.
    let store = machine.store().to_owned();
    type Moment<'a> = (&'a str, &'a dyn Fn(&std::path::Path) -> bool);
    let moments: [Moment<'_>; 2] =
        [("read", &|path| path.ends_with("big")), ("written", &|path| path.starts_with(store.join("blobs")))];
    for (moment, fits) in moments {
        let command = machine.coop(&["build", "context", "--no-cache", "-t", "result:1", "--progress", "plain"]);
        let mut running = Running::start(command, &machine.path("log"));
        eventually(&format!("the file is {moment}"), || {
            assert!(running.0.try_wait().unwrap().is_none(), "too late: {}", machine.read("log"));
            running.has_open(fits)
        });
        running.kill();
        machine.assert_nothing_runs();
        machine.fails(&["image", "inspect", "result:1"], 2);
        machine.ok(&["image", "ls"]);
    }
    machine.build("context", &["-t", "result:1"]);
    machine.assert_nothing_runs();
    machine.assert_store_is_clean();
}

/// Passes connections on to a registry, and stops doing so after some bytes until it is told to go on.
struct Stalling {
    port: u16,
    passed: Arc<AtomicUsize>,
    open: Arc<AtomicBool>,
}

impl Stalling {
    fn start(registry: &Registry, after: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = registry.host.replace("localhost", "127.0.0.1");
        let (passed, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let stalling = Self { port, passed: passed.clone(), open: open.clone() };
        // The thread ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(&target).unwrap();
                let (back_from, back_to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || pass(back_from, back_to, |_| {}));
                let (passed, open) = (passed.clone(), open.clone());
                let count = move |bytes| {
                    passed.fetch_add(bytes, Ordering::SeqCst);
                    while passed.load(Ordering::SeqCst) > after && !open.load(Ordering::SeqCst) {
                        thread::sleep(std::time::Duration::from_millis(5));
                    }
                };
                thread::spawn(move || pass(client, server, count));
            }
        });
        stalling
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, count: impl Fn(usize)) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        count(length);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // One side may be gone already.
    let _ = to.shutdown(Shutdown::Write);
}

#[test]
fn killed_while_it_pushes() {
    if !have(&["docker-registry", "skopeo"]) {
        return;
    }
    let Some(machine) = machine() else { return };
    let registry = Registry::start(&machine);
    let proxy = Stalling::start(&registry, 2 << 20);
    let name = format!("localhost:{}/app:1", proxy.port);
    machine.write("context/big", noise(8 << 20, 5));
    machine.dockerfile("context", "FROM base:1\nCOPY big /big\n");
    let digest = machine.build("context", &["-t", &name]);
    let push = ["image", "push", &name, "--progress", "plain"];
    let mut running = Running::start(machine.coop(&push), &machine.path("log"));
    eventually("half of it is sent", || proxy.passed.load(Ordering::SeqCst) > 2 << 20);
    running.kill();
    machine.assert_nothing_runs();
    proxy.open.store(true, Ordering::SeqCst);
    machine.ok(&push);
    assert_eq!(registry.digest("app:1"), digest);
    machine.assert_store_is_clean();
}

#[test]
fn interrupted_while_it_pushes() {
    if !have(&["docker-registry"]) {
        return;
    }
    let Some(machine) = machine() else { return };
    let registry = Registry::start(&machine);
    let proxy = Stalling::start(&registry, 1 << 20);
    let name = format!("localhost:{}/app:1", proxy.port);
    machine.write("context/big", noise(8 << 20, 6));
    machine.dockerfile("context", "FROM base:1\nCOPY big /big\n");
    let args = ["build", "context", "-t", &name, "--push", "--progress", "plain"];
    let mut running = Running::start(machine.coop(&args), &machine.path("log"));
    eventually("a part is sent", || proxy.passed.load(Ordering::SeqCst) > 1 << 20);
    running.signal(Signal::INT);
    assert_eq!(running.wait(), Some(130), "{}", machine.read("log"));
    machine.assert_nothing_runs();
}
