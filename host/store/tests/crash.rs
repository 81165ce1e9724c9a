//! Processes that write to one store are killed at any moment; what they leave must be whole or nothing.
//!
//! The victims are this program itself with other arguments, so it has its own `main`.
#![allow(clippy::print_stdout, reason = "a test with its own main speaks the protocol of test runners")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cooperage_store::{Descriptor, Digest, Policy, Store, media_types};

const NAME: &str = "killed_writers_leave_whole_blobs_or_nothing";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    if let [victim, root, seed] = &arguments[..]
        && victim == "victim"
    {
        return write_for_ever(Path::new(root), seed.parse().unwrap());
    }
    if has("--list") {
        if !has("--ignored") {
            println!("{NAME}: test");
        }
        return;
    }
    // A value after `--skip` is no filter; the other options of test runners have none.
    let skips = |at: usize| at > 0 && arguments[at - 1] == "--skip";
    let mut filters = arguments.iter().enumerate().filter(|(at, it)| !it.starts_with('-') && !skips(*at)).peekable();
    if filters.peek().is_some() && !filters.any(|(_, filter)| NAME.contains(filter.as_str())) {
        return;
    }
    kill_writers();
    println!("test {NAME} ... ok");
}

fn content(seed: u64) -> Vec<u8> {
    let block = Digest::of(&seed.to_le_bytes());
    block.as_bytes().iter().copied().cycle().take(300_000).collect()
}

fn write_for_ever(root: &Path, seed: u64) {
    let store = Store::open(root).unwrap();
    let _lease = store.lease().unwrap();
    for number in 0.. {
        let work = store.work_dir().unwrap();
        std::fs::write(work.path().join("scratch"), "scratch").unwrap();
        // Neighbours write the same blobs.
        let bytes = content(seed / 2 + number);
        let mut writer = store.blobs().writer().unwrap();
        bytes.chunks(1000).for_each(|chunk| writer.write_all(chunk).unwrap());
        let (digest, size) = writer.commit(None).unwrap();
        store.images().tag(&format!("tag-{seed}"), &Descriptor::new(media_types::LAYER, digest, size)).unwrap();
    }
}

fn kill_writers() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let own = std::env::current_exe().unwrap();
    for round in 0..15_u64 {
        let mut victims: Vec<_> = (0..3)
            .map(|seed| {
                let mut command = Command::new(&own);
                command.arg("victim").arg(directory.path()).arg((round * 100 + seed).to_string());
                command.stdin(Stdio::null()).spawn().unwrap()
            })
            .collect();
        std::thread::sleep(Duration::from_millis(20 + 7 * round));
        for victim in &mut victims {
            assert!(victim.try_wait().unwrap().is_none(), "a writer failed by itself");
            victim.kill().unwrap();
            victim.wait().unwrap();
        }
        check(&store);
    }
    let blobs = store.blobs().list().unwrap();
    assert!(!blobs.is_empty(), "no writer got anywhere");
    assert!(!store.images().list().unwrap().is_empty(), "no writer got as far as a tag");
    for image in store.images().list().unwrap() {
        store.images().remove(&image.name).unwrap();
    }
    let collected = store.collect(Policy { cache: true, grace: Duration::from_secs(3600) }).unwrap();
    assert!(!collected.busy, "the dead hold no lease");
    assert_eq!(collected.blobs, blobs.len());
    assert_eq!(names(&store), [""; 0], "unfinished blobs of the dead go with a collection");
}

fn check(store: &Store) {
    for (digest, size) in store.blobs().list().unwrap() {
        assert_eq!(size, 300_000);
        store.blobs().read(&digest, size).unwrap();
    }
    for image in store.images().list().unwrap() {
        assert_eq!(store.blobs().size(&image.manifest.digest).unwrap(), Some(300_000), "a name without its blob");
    }
    let work = store.root().join("work");
    Store::open(store.root()).unwrap();
    assert_eq!(std::fs::read_dir(work).unwrap().count(), 0, "scratch of the dead stays");
    // Where the file system has no nameless files, unfinished ones have names that cannot be taken for a blob's.
    let strange = |name: &String| Digest::from_hex(name).is_err() && !name.starts_with(".new-");
    assert_eq!(names(store).into_iter().find(strange), None, "a half-written blob has a name");
}

fn names(store: &Store) -> Vec<String> {
    let entries = std::fs::read_dir(store.root().join("blobs/sha256")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
