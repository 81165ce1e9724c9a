//! What a plugin imports and exports against what this host has: before anything runs, everything that does not fit
//! is listed with what to do about it. Also finds the roles.

use crate::contract::ContractVersion;
use crate::grants::Request;
use crate::outside::{Import, Outside};

/// A version that plugins are built against.
const CONTRACT: &str = "cooperage:plugin";
const CONTRACT_VERSION: [u64; 3] = [0, 1, 0];
/// WASI as this host offers it: 0.2.0 up to this patch level.
const WASI_PATCH: u64 = 12;

/// The functions of each interface of the contract that a plugin may import, as `wit/` has them (a test compares).
const INTERFACES: &[(&str, &[&str])] = &[
    ("types", &[]),
    (
        "events",
        &[
            "log",
            "cancelled",
            "[constructor]step",
            "[method]step.child",
            "[method]step.progress",
            "[method]step.output",
            "[method]step.cached",
            "[method]step.fail",
        ],
    ),
    ("secrets", &["reveal"]),
    (
        "content",
        &[
            "[constructor]writer",
            "[method]writer.write",
            "[method]writer.size",
            "[static]writer.commit",
            "[method]reader.size",
            "[method]reader.read",
            "[method]reader.seek",
            "[method]archive.read",
            "open",
            "stat",
        ],
    ),
    (
        "images",
        &["[method]base.reference", "[method]base.manifest", "[method]base.config", "[method]base.platform", "resolve"],
    ),
    (
        "trees",
        &[
            "[static]tree.scratch",
            "[static]tree.image",
            "[static]tree.context",
            "[static]tree.fetch",
            "[static]tree.layers",
            "[method]tree.copy",
            "[method]tree.run",
            "[method]tree.make-directory",
            "[method]tree.write-file",
            "[method]tree.remove",
            "[method]tree.digest",
            "[method]tree.read-file",
            "[method]tree.open",
            "[method]tree.pack",
            "[method]tree.entries",
            "[method]tree.walk",
            "[method]tree.stat",
        ],
    ),
    ("registries", &["push", "pull", "save", "resolve"]),
    ("sources", &["resolve"]),
    (
        "connections",
        &[
            "[static]connection.open",
            "[static]connection.upgrade",
            "[method]connection.start-tls",
            "[method]connection.read",
            "[method]connection.subscribe",
            "[method]connection.write",
            "[method]connection.finish",
            "[method]connection.peer",
        ],
    ),
    ("state", &["get", "set"]),
];

/// Packages of WASI 0.2 that the host links.
const WASI: &[&str] =
    &["wasi:io", "wasi:clocks", "wasi:random", "wasi:cli", "wasi:filesystem", "wasi:sockets", "wasi:http"];

/// Something that does not fit between a plugin and this host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {fix}")]
pub struct Misfit {
    /// What the plugin wants and the host has.
    pub what: String,
    /// What to do.
    pub fix: String,
}

/// What a plugin can be asked to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Roles {
    /// Builds images.
    pub builder: bool,
    /// Does steps of flows.
    pub task: bool,
    /// Brings files from elsewhere.
    pub source: bool,
    /// Keeps images.
    pub registry: bool,
}

impl Roles {
    /// The names of the roles, as in descriptions.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let all =
            [("builder", self.builder), ("task", self.task), ("source", self.source), ("registry", self.registry)];
        all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name)
    }
}

/// What keeps a host from running a component that offers a version of the contract and the older ones.
pub fn misfits_with(outside: &Outside, version: ContractVersion) -> Vec<Misfit> {
    fits(outside, !version.is_released()).err().unwrap_or_default()
}

/// Interface and version of a name of the contract, of any version.
pub(crate) fn interface(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(CONTRACT)?.strip_prefix('/')?.split_once('@')
}

/// The roles that a component exports, of whatever version of the contract.
pub(crate) fn exported_roles(outside: &Outside) -> Roles {
    let has = |role: &str| outside.exports.iter().any(|name| interface(name).is_some_and(|(found, _)| found == role));
    Roles { builder: has("builder"), task: has("task"), source: has("source"), registry: has("registry") }
}

/// The roles of a component that this host can run; else everything that stands in the way. Versions of the contract
/// that are not released are offered only where that is wanted.
pub(crate) fn fits(outside: &Outside, unreleased: bool) -> Result<Roles, Vec<Misfit>> {
    let mut misfits = imports(outside);
    match roles(outside, unreleased) {
        Ok(roles) if misfits.is_empty() => Ok(roles),
        Ok(_) => Err(misfits),
        Err(more) => {
            misfits.extend(more);
            Err(misfits)
        }
    }
}

/// Finds the roles by what is exported; lists what stands in the way. A version of the contract that is not released
/// fits only where `unreleased` ones are offered.
fn roles(outside: &Outside, unreleased: bool) -> Result<Roles, Vec<Misfit>> {
    let (mut roles, mut described, mut misfits) = (Roles::default(), false, Vec::new());
    for name in &outside.exports {
        let Some((CONTRACT, interface, version)) = split(name) else { continue };
        let known = ContractVersion::of_export(name);
        if known.is_some_and(|version| !version.is_released()) && !unreleased {
            misfits.push(draft(name));
            continue;
        }
        let role = match interface {
            "plugin" => &mut described,
            "builder" => &mut roles.builder,
            "task" => &mut roles.task,
            "source" => &mut roles.source,
            "registry" => &mut roles.registry,
            _ => {
                misfits.push(newer(name, "exports", "no such role"));
                continue;
            }
        };
        if known.is_some() || serves(version, CONTRACT_VERSION) {
            *role = true;
        } else {
            misfits.push(newer(name, "exports", &format!("{CONTRACT}/{interface}@{}", text(CONTRACT_VERSION))));
        }
    }
    if misfits.is_empty() && !described {
        let what = format!("the component does not export {CONTRACT}/plugin");
        let fix = "it is no Cooperage plugin; build it against one of the worlds in wit/".to_owned();
        misfits.push(Misfit { what, fix });
    } else if misfits.is_empty() && roles == Roles::default() {
        let what = "the component exports no role".to_owned();
        misfits.push(Misfit { what, fix: format!("export one of {CONTRACT}/builder, task, source, registry") });
    }
    if misfits.is_empty() { Ok(roles) } else { Err(misfits) }
}

/// Lists every import that this host cannot serve, by name and by function.
pub(crate) fn imports(outside: &Outside) -> Vec<Misfit> {
    let mut misfits = Vec::new();
    for Import { name, functions: wanted } in &outside.imports {
        match split(name) {
            Some((CONTRACT, interface, version)) => {
                let Some((_, functions)) = INTERFACES.iter().find(|(known, _)| *known == interface) else {
                    misfits.push(newer(name, "imports", "no such interface"));
                    continue;
                };
                if version[..2] != CONTRACT_VERSION[..2] {
                    misfits.push(newer(name, "imports", &format!("{CONTRACT}/{interface}@{}", text(CONTRACT_VERSION))));
                } else {
                    let missing = wanted.iter().filter(|function| !functions.contains(&function.as_str()));
                    let misfit =
                        |function| newer(&format!("{name} function {function}"), "imports", "no such function");
                    misfits.extend(missing.map(misfit));
                }
            }
            Some((package, _, version)) if WASI.contains(&package) => {
                if version[..2] != [0, 2] || version[2] > WASI_PATCH {
                    misfits.push(Misfit {
                        what: format!("plugin imports {name}, host offers WASI 0.2.0 to 0.2.{WASI_PATCH}"),
                        fix: "build it for WASI 0.2, or use a newer coop".to_owned(),
                    });
                }
            }
            _ => misfits.push(unknown(name)),
        }
    }
    misfits
}

/// A hint, not a fault: what is imported and cannot work because it is not even asked for.
pub(crate) fn advice(outside: &Outside, requests: &[Request]) -> Vec<String> {
    let table = [("wasi:sockets/tcp@", "tcp", "connections"), ("wasi:http/outgoing-handler@", "http", "requests")];
    let asks = |class: &str| {
        requests.iter().any(|request| request.class == class || (class == "http" && request.class == "service"))
    };
    let imports = |prefix: &str| outside.imports.iter().any(|import| import.name.starts_with(prefix));
    let silent = |(prefix, class, _): &&(&str, &str, &str)| imports(prefix) && !asks(class);
    table
        .iter()
        .filter(silent)
        .map(|(prefix, class, what)| {
            format!(
                "imports {} and asks for no `{class}` capability: its {what} will be refused",
                prefix.trim_end_matches('@')
            )
        })
        .collect()
}

fn unknown(name: &str) -> Misfit {
    let fix = if name.starts_with("wasi:") {
        "this part of WASI is not offered; a plugin can use io, clocks, random, cli, filesystem, sockets and http"
            .to_owned()
    } else {
        "compose the component with one that exports it (for instance with `wac plug`)".to_owned()
    };
    Misfit { what: format!("plugin imports {name}, which this host does not know"), fix }
}

fn newer(name: &str, verb: &str, offered: &str) -> Misfit {
    Misfit {
        what: format!("plugin {verb} {name}, host offers {offered}"),
        fix: format!("use a newer coop, or build the plugin against {CONTRACT}@{}", text(CONTRACT_VERSION)),
    }
}

fn draft(name: &str) -> Misfit {
    Misfit {
        what: format!("plugin exports {name}, which is not released and may change"),
        fix: format!(
            "build it against {CONTRACT}@{}, or try it with `unreleased-contract: true` in config.yaml",
            text(CONTRACT_VERSION)
        ),
    }
}

/// `namespace:package/interface@1.2.3` in parts.
fn split(name: &str) -> Option<(&str, &str, [u64; 3])> {
    let (path, version) = name.split_once('@')?;
    let (package, interface) = path.split_once('/')?;
    let mut numbers = version.split(['-', '+']).next()?.splitn(3, '.').map(str::parse);
    let version = [numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?];
    Some((package, interface, version))
}

fn serves(version: [u64; 3], offered: [u64; 3]) -> bool {
    version[..2] == offered[..2] && version[2] <= offered[2]
}

fn text(version: [u64; 3]) -> String {
    version.map(|number| number.to_string()).join(".")
}

#[cfg(test)]
mod tests;
