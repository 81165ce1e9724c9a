//! A plugin that does what no plugin should; `do` says what.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod floods;
mod manners;
mod reach;

use cooperage_sdk::bindings::imports::cooperage::plugin::events;
use cooperage_sdk::prelude::*;

/// What to do.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Parameters {
    /// The behaviour.
    r#do: String,
    /// How often or how much.
    #[serde(default)]
    n: u64,
    /// Where.
    #[serde(default)]
    at: String,
}

struct Adversary;

impl Plugin for Adversary {
    fn describe() -> Description {
        Description::new("adversary", env!("CARGO_PKG_VERSION"), "Does what no plugin should")
            .asks(Capability::new(
                "http",
                json!(["http://granted.example", { "from": "parameters" }]),
                "to be refused elsewhere",
            ))
            .asks(Capability::new(
                "tcp",
                json!(["127.0.0.1:*", "[::1]:*", "localhost:*", { "from": "parameters" }]),
                "to be refused elsewhere",
            ))
            .asks(Capability::new("secrets", json!(["GRANTED", { "from": "parameters" }]), "to print it"))
            .asks(Capability::new("fs", json!([{ "mount": "/data", "access": "write" }]), "to escape from it"))
            .asks(Capability::new("registries", json!(["push", "pull"]), "to push"))
            .asks(Capability::sources(["**"], "to fetch"))
            .asks(Capability::run("to run"))
            .asks(Capability::state("to keep"))
    }
}

impl Task for Adversary {
    type Parameters = Parameters;

    fn run(request: TaskRequest<Parameters>) -> Result<Outputs> {
        let Parameters { r#do, n, at } = &request.parameters;
        match r#do.as_str() {
            "nothing" => Ok(Outputs::new()),
            "peace" => manners::peace(*n),
            "listen-to" => manners::listen_to(at, *n),
            "crash-with-full-hands" => manners::crash_with_full_hands(),
            "insist" => manners::insist(*n),
            "deaf" => manners::deaf(),
            "other-state" => manners::other_state(at, *n),
            "escapes" => manners::escapes(),
            "spin" => spin(),
            "spin-in-poll" => loop {
                std::thread::sleep(std::time::Duration::ZERO);
            },
            "sleep" => loop {
                std::thread::sleep(std::time::Duration::from_secs(3600));
            },
            "polite" => loop {
                if events::cancelled() {
                    return Err(Error::new(ErrorKind::Cancelled, "as you wish"));
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            },
            "memory" => floods::memory(),
            "memory-fill" => floods::memory_fill(),
            "memory-politely" => floods::memory_politely(),
            "recursion" => Ok(Outputs::new().value("depth", recursion(*n))),
            "panic" => deep(*n),
            "exit" => std::process::exit(3),
            "error" => Err(Error::new(ErrorKind::Conflict, "what happened").hint("what to do")),
            "fs" => reach::files(at),
            "tcp" => reach::tcp(at),
            "connection" => reach::connection(at),
            "fetch" => reach::fetch(at, "{}"),
            "fetch-with-secret" => reach::fetch(at, r#"{"deep":[{"password":{"secret":"OTHER"}}]}"#),
            "save" => registries::save(at, "oci", None).map(|_| Outputs::new()),
            "udp" => reach::udp(at),
            "listen" => reach::listen(at),
            "resolve" => reach::resolve(at),
            "environment" => Ok(reach::environment()),
            "secret" => reach::secret(at),
            "print-secret" => reach::print_secret(at),
            "push" => registries::push("app", at, &[]).map(|pushed| Outputs::new().value("digest", pushed.digest)),
            "keep" => reach::keep(*n),
            "run" => reach::run(),
            "odd-mount" => reach::odd_mount(),
            other => floods::named(other, *n),
        }
    }
}

fn spin() -> ! {
    let mut n = 0u64;
    loop {
        n = std::hint::black_box(n.wrapping_add(1));
    }
}

#[inline(never)]
fn recursion(n: u64) -> u64 {
    let frame = std::hint::black_box([n; 64]);
    if n == 0 { 0 } else { 1 + recursion(n - 1) + frame[0] - n }
}

#[inline(never)]
fn deep(n: u64) -> Result<Outputs> {
    let list: &[u64] = std::hint::black_box(&[]);
    let value = list[usize::try_from(n).unwrap_or(0)];
    Ok(Outputs::new().value("n", value))
}

cooperage_sdk::plugin!(Adversary: task);
