//! What a run costs, and that many at once do not disturb each other.

mod support;

use std::time::{Duration, Instant};

use cooperage_sandbox::{Cancel, Exit, Isolation};
use support::{World, mounts};

fn median(world: &World, runs: u32) -> Duration {
    let (sandbox, spec, cancel) = (world.sandbox(), world.spec(&["true"]), Cancel::new().unwrap());
    let mut times: Vec<_> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(sandbox.run(&spec, &mut |_| {}, &cancel).unwrap(), Exit::Code(0));
            start.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

#[test]
#[allow(clippy::print_stdout)]
fn a_run_costs_a_few_milliseconds() {
    let Some(world) = World::new() else { return };
    let native = median(&world, 100);
    println!("native: {native:?} a run (median of 100)");
    // The aim is 5 ms; the bound leaves room for a busy machine.
    assert!(native < Duration::from_millis(50), "{native:?}");
    let Some(world) = World::with(Isolation::Oci) else { return };
    if let Ok(sandbox) = std::panic::catch_unwind(|| world.sandbox()) {
        drop(sandbox);
        println!("oci: {:?} a run (median of 20)", median(&world, 20));
    }
}

#[test]
fn many_at_once() {
    let worlds: Vec<_> = (0..32).filter_map(|_| World::new()).collect();
    if worlds.len() < 32 {
        return;
    }
    let before = mounts();
    std::thread::scope(|scope| {
        for (index, world) in worlds.iter().enumerate() {
            scope.spawn(move || {
                for round in 0..3 {
                    world.reset();
                    let output =
                        world.out(&format!("echo {index}.{round} > /file; cat /file; ls /proc | grep -c '^[0-9]'"));
                    let (text, count) = output.split_once('\n').unwrap();
                    assert_eq!(text, format!("{index}.{round}"));
                    // Its first process, the shell, the two of the pipe at most.
                    assert!(count.parse::<u32>().unwrap() <= 4, "{count}");
                    assert_eq!(world.changes(), ["file"]);
                }
            });
        }
    });
    assert_eq!(mounts(), before);
}
