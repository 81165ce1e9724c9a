//! Too much of everything.

use std::io::Write;

use cooperage_sdk::bindings::imports::cooperage::plugin::content::Writer;
use cooperage_sdk::bindings::imports::cooperage::plugin::events::{self, Level, Unit};
use cooperage_sdk::bindings::imports::cooperage::plugin::trees as wit;
use cooperage_sdk::prelude::*;

pub(crate) fn memory() -> Result<Outputs> {
    let mut all = Vec::new();
    loop {
        all.push(std::hint::black_box(vec![1u8; 1 << 20]));
    }
}

/// One long instruction after the other.
pub(crate) fn memory_fill() -> Result<Outputs> {
    let mut block = vec![0u8; 32 << 20];
    let mut n = 0u8;
    loop {
        n = n.wrapping_add(1);
        std::hint::black_box(&mut block).fill(n);
    }
}

/// Asks, and goes on with less when refused.
pub(crate) fn memory_politely() -> Result<Outputs> {
    let mut block: Vec<u8> = Vec::new();
    let refused = block.try_reserve_exact(1 << 30).is_err();
    Ok(Outputs::new().value("refused", refused))
}

pub(crate) fn origin() -> wit::Origin {
    wit::Origin { name: "flood".into(), created_by: String::new(), location: None }
}

pub(crate) fn named(what: &str, n: u64) -> Result<Outputs> {
    match what {
        "log" => (0..n).for_each(|n| events::log(Level::Info, &format!("line {n}"))),
        "log-escapes" => events::log(Level::Info, "\u{1b}[2J\u{1b}]0;owned\u{7}\nfake line"),
        "huge-line" => events::log(Level::Info, &"x".repeat(usize::try_from(n).unwrap_or(0))),
        "stdout" => (0..n).for_each(|n| println!("line {n}")),
        "stderr-without-end" => (0..n).for_each(|_| eprint!("{}", "x".repeat(4096))),
        "empty-writes" => {
            let mut out = std::io::stdout();
            (0..n).for_each(|_| out.write_all(b"").and_then(|()| out.flush()).unwrap_or(()));
        }
        "steps" => (0..n).for_each(|n| drop(events::Step::new(&format!("step {n}")))),
        "steps-held" => drop((0..n).map(|n| events::Step::new(&format!("step {n}"))).collect::<Vec<_>>()),
        "progress" => {
            let step = events::Step::new("counting");
            (0..n).for_each(|done| step.progress(done, Some(n), Unit::Items));
        }
        "output" => {
            let step = events::Step::new("talking");
            (0..n).for_each(|_| step.output(&[b'x'; 65536]));
        }
        "trees-held" => drop((0..n).map(|_| wit::Tree::scratch()).collect::<Vec<_>>()),
        "trees-chained" => {
            let mut tree = wit::Tree::scratch();
            for n in 0..n {
                tree = tree.make_directory(&format!("/{n}"), 0o755, None, &origin());
            }
        }
        "trees-evaluated" => {
            let mut tree = wit::Tree::scratch();
            for n in 0..n {
                tree = tree.make_directory(&format!("/{n}"), 0o755, None, &origin());
            }
            tree.stat("/0", true)?;
        }
        "trees-broad" => {
            // Each operation names the one before twice: 2^n paths through a tree of n operations.
            let mut tree = wit::Tree::scratch().make_directory("/d", 0o755, None, &origin());
            for _ in 0..n {
                tree = tree.copy(&tree, &["/d".to_owned()], "/d", &plain(), &origin());
            }
            tree.stat("/d", true)?;
        }
        "trees-nested" => {
            let mut tree = wit::Tree::scratch().make_directory("/d", 0o755, None, &origin());
            for _ in 0..n {
                tree = wit::Tree::scratch().copy(&tree, &["/d".to_owned()], "/d", &plain(), &origin());
            }
            tree.stat("/d", true)?;
        }
        "files" => {
            let bytes = vec![1u8; 1 << 20];
            let mut tree = wit::Tree::scratch();
            for n in 0..n {
                tree = tree.write_file(&format!("/{n}"), &bytes, 0o644, None, &origin());
            }
        }
        "writers" => return writers(n),
        "archives" => return archives(n),
        "blob" => return blob(n),
        "headers" => return headers(n),
        "random" => {
            wasip2::random::random::get_random_bytes(n);
        }
        "requests" => return requests(n),
        other => return Err(Error::invalid_input(format!("`{other}` is no behaviour"))),
    }
    Ok(Outputs::new())
}

/// A copy with nothing special about it.
fn plain() -> wit::CopyOptions {
    wit::CopyOptions {
        owner: None,
        mode: None,
        exclude: Vec::new(),
        parents: false,
        link: false,
        unpack: false,
        options: Vec::new(),
    }
}

fn writers(n: u64) -> Result<Outputs> {
    let mut all = Vec::new();
    for _ in 0..n {
        let writer = Writer::new();
        writer.write(b"x")?;
        all.push(writer);
    }
    Ok(Outputs::new())
}

fn archives(n: u64) -> Result<Outputs> {
    let tree = wit::Tree::scratch().write_file("/file", &[7; 1 << 20], 0o644, None, &origin());
    let mut all = Vec::new();
    for _ in 0..n {
        all.push(tree.pack(&[])?);
    }
    Ok(Outputs::new())
}

fn blob(n: u64) -> Result<Outputs> {
    let writer = Writer::new();
    for _ in 0..n {
        writer.write(&[0; 1 << 20])?;
    }
    Ok(Outputs::new().value("size", writer.size()))
}

fn headers(n: u64) -> Result<Outputs> {
    let fields = wasip2::http::types::Fields::new();
    for n in 0..n {
        if let Err(error) = fields.append(&format!("x-{n}"), &[b'v'; 1000]) {
            return Ok(Outputs::new().value("refused", format!("{error:?}")));
        }
    }
    Ok(Outputs::new())
}

fn requests(n: u64) -> Result<Outputs> {
    let make = |_| wasip2::http::types::OutgoingRequest::new(wasip2::http::types::Fields::new());
    drop((0..n).map(make).collect::<Vec<_>>());
    Ok(Outputs::new())
}
