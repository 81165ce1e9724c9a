//! What a run costs, and that many at once do not disturb each other.

mod support;

use std::time::{Duration, Instant};

use cooperage_sandbox::{Cancel, Exit, Isolation};
use support::{World, mounts};

/// The median and the best.
fn time(world: &World, runs: u32) -> (Duration, Duration) {
    let (sandbox, spec, cancel) = (world.sandbox(), world.spec(&["true"]), Cancel::new().unwrap());
    let mut times: Vec<_> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(sandbox.run(&spec, &mut |_| {}, &cancel).unwrap(), Exit::Code(0));
            start.elapsed()
        })
        .collect();
    times.sort();
    (times[times.len() / 2], times[0])
}

#[test]
#[allow(clippy::print_stdout)]
fn a_run_costs_a_few_milliseconds() {
    let Some(world) = World::new() else { return };
    let (native, best) = time(&world, 100);
    println!("native: {native:?} a run, at best {best:?} (100 runs)");
    // The aim is 5 ms; the best shows the cost even on a busy machine, and the bound leaves room for a slow one.
    assert!(best < Duration::from_millis(25), "{best:?}");
    let Some(world) = World::with(Isolation::Oci) else { return };
    let (oci, best) = time(&world, 20);
    println!("oci: {oci:?} a run, at best {best:?} (20 runs)");
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
