//! What this machine allows, each item with what to install or change; changes nothing.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountAttrFlags;
use rustix::thread::UnshareFlags;

use crate::error::Error;
use crate::overlay::{self, Branches};
use crate::userns::{self, Ranges};
use crate::{cgroup, oci, sys};

/// What this machine allows.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// In the order in which they should be shown.
    pub items: Vec<Item>,
}

/// One ability of the machine.
#[derive(Debug, Clone)]
pub struct Item {
    /// Short name, such as `overlayfs`.
    pub name: String,
    /// Whether it is there.
    pub ok: bool,
    /// What was found, such as a version.
    pub detail: String,
    /// What to install or change when it is missing; empty when it is there.
    pub hint: String,
}

/// Looks at this machine. Takes some milliseconds for each OCI runtime, whose version is asked for.
pub fn probe() -> Report {
    let (release, version) = kernel();
    // mount_setattr is the newest call that there is no way around.
    let new_enough = item("kernel", version >= (5, 12), release, "Linux 5.12 or newer");
    let mut items = vec![new_enough, privileges(), overlayfs(), user_namespaces()];
    items.extend(id_mapping());
    items.push(seccomp());
    items.extend(cgroups());
    items.extend(runtimes());
    Report { items }
}

/// Whether this process can mount at all, which every isolation needs.
pub(crate) fn can_mount() -> Result<(), Error> {
    if userns::is_privileged() {
        return Ok(());
    }
    let container = rustix::process::geteuid().is_root();
    Err(Error::Unsupported {
        what: "this process may not mount (no CAP_SYS_ADMIN), which every isolation needs".to_owned(),
        hint: if container {
            "give this container CAP_SYS_ADMIN, or a seccomp and AppArmor profile that allows user namespaces"
        } else {
            "run as root, or enter a user namespace first (apt-get install uidmap)"
        }
        .to_owned(),
    })
}

fn item(name: &str, ok: bool, detail: impl Into<String>, hint: &str) -> Item {
    let hint = if ok { String::new() } else { hint.to_owned() };
    Item { name: name.to_owned(), ok, detail: detail.into(), hint }
}

fn text(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn kernel() -> (String, (u32, u32)) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|char: char| !char.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    (release, version)
}

fn privileges() -> Item {
    let uid = rustix::process::geteuid().as_raw();
    let hint = "run as root, or let a user namespace be entered (see below)";
    item("privileges", userns::is_privileged(), format!("uid {uid}"), hint)
}

fn overlayfs() -> Item {
    let known = text("/proc/filesystems").is_some_and(|list| list.lines().any(|line| line.ends_with("overlay")));
    let hint = "modprobe overlay; in a user namespace Linux 5.11 or newer is needed";
    if !userns::is_privileged() {
        return item("overlayfs", known && kernel().1 >= (5, 11), "not tried", hint);
    }
    // Mount namespaces are per thread: what this one mounts is seen by nobody and ends with it.
    match std::thread::spawn(try_overlay).join() {
        Ok(Ok(())) => item("overlayfs", true, "mounted one", ""),
        Ok(Err(error)) => item("overlayfs", false, error, hint),
        Err(_) => item("overlayfs", false, "the trial failed", hint),
    }
}

fn try_overlay() -> Result<(), String> {
    let say = |error: &dyn std::fmt::Display| error.to_string();
    sys::unshare(UnshareFlags::NEWNS | UnshareFlags::FS).map_err(|error| say(&error))?;
    crate::rootfs::make_private().map_err(|failure| format!("{failure:?}"))?;
    let memory = overlay::tmpfs(None, 0o700, MountAttrFlags::empty()).map_err(|error| say(&error))?;
    let place = rustix::fs::open("/dev", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|error| say(&error))?;
    let directory = |name: &str| {
        rustix::fs::mkdirat(&memory, name, Mode::from_raw_mode(0o755))?;
        rustix::fs::openat(&memory, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
    };
    overlay::attach(memory.as_fd(), place.as_fd()).map_err(|error| say(&error))?;
    let dirs = ["lower", "upper", "work"].map(directory);
    let [Ok(lower), Ok(upper), Ok(work)] = &dirs else { return Err("cannot make directories".to_owned()) };
    let branches = Branches {
        lowers: vec![lower.as_fd()],
        upper_and_work: Some((upper.as_fd(), work.as_fd())),
        userxattr: !crate::rootfs::all_ids(),
    };
    overlay::overlay(&branches, MountAttrFlags::empty()).map(drop).map_err(|failure| format!("{failure:?}"))
}

fn user_namespaces() -> Item {
    let name = "user namespaces";
    let is = |path: &str, value: &str| text(path).is_some_and(|found| found == value);
    if is("/proc/sys/user/max_user_namespaces", "0") || !Path::new("/proc/self/ns/user").exists() {
        return item(name, false, "none allowed", "sysctl user.max_user_namespaces=100000");
    }
    if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        return item(name, false, "only for root", "sysctl kernel.unprivileged_userns_clone=1");
    }
    if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") && !userns::is_privileged() {
        let hint = "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for coop";
        return item(name, false, "restricted by AppArmor", hint);
    }
    // In a container the seccomp profile decides; only a trial tells.
    let Some(unshare) = userns::find_program("unshare") else { return item(name, true, "by its settings", "") };
    let tried = Command::new(unshare)
        .args(["--user", "--map-root-user", "--mount", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let ok = tried.is_ok_and(|status| status.success());
    let hint = "a seccomp profile of this container that allows unshare and mount";
    item(name, ok, if ok { "made one" } else { "refused" }, hint)
}

fn id_mapping() -> Vec<Item> {
    let missing: Vec<_> =
        ["newuidmap", "newgidmap"].into_iter().filter(|name| userns::find_program(name).is_none()).collect();
    let tools = if missing.is_empty() { "newuidmap, newgidmap".to_owned() } else { missing.join(", ") };
    let mut items = vec![item("id mapping tools", missing.is_empty(), tools, "apt-get install uidmap")];
    let uid = rustix::process::getuid();
    if uid.is_root() {
        return items;
    }
    let ranges = Ranges::of(uid.as_raw());
    let ok = !ranges.uids.is_empty() && !ranges.gids.is_empty();
    let detail = format!("{} of user ids, {} of group ids", ranges.uids.len(), ranges.gids.len());
    let hint = "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER";
    items.push(item("id ranges", ok, detail, hint));
    items
}

fn seccomp() -> Item {
    let actions = text("/proc/sys/kernel/seccomp/actions_avail");
    let ok = actions.as_deref().is_some_and(|actions| actions.contains("errno"));
    item("seccomp", ok, actions.unwrap_or_default(), "a kernel with CONFIG_SECCOMP_FILTER")
}

fn cgroups() -> Vec<Item> {
    let one = |(controller, ok): (&str, bool)| {
        let hint = "run as root, or under `systemd-run --user --scope -p Delegate=yes`; limits are approximated \
                    otherwise";
        item(&format!("cgroup {controller}"), ok, if ok { "writable" } else { "not writable" }, hint)
    };
    cgroup::writable().into_iter().map(one).collect()
}

fn runtimes() -> Vec<Item> {
    let found = oci::runtimes();
    if found.is_empty() {
        return vec![item("OCI runtime", false, "none found", "only for the oci isolation: apt-get install runc")];
    }
    let version = |path: &Path| {
        let said = Command::new(path).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output();
        let said = said.map(|done| String::from_utf8_lossy(&done.stdout).into_owned()).unwrap_or_default();
        said.lines().next().unwrap_or_default().to_owned()
    };
    let one = |path: &std::path::PathBuf| {
        let version = version(path);
        item("OCI runtime", !version.is_empty(), format!("{} ({version})", path.display()), "it does not start")
    };
    found.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_item_has_a_hint() {
        let report = probe();
        for name in ["overlayfs", "user namespaces", "seccomp", "cgroup memory", "OCI runtime"] {
            assert!(report.items.iter().any(|item| item.name == name), "{name} in {report:?}");
        }
        for item in &report.items {
            assert_eq!(item.ok, item.hint.is_empty(), "{item:?}");
        }
    }
}
