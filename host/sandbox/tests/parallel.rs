//! Many runs at once do not disturb each other.

mod support;

use support::{World, mounts};

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
