//! Keeps a run within its limits by cgroups, v1, v2 or both at once; knows nothing of what runs in them.
//!
//! Each run that needs one has a group of its own, named after the host process, below the group this process is
//! in. Groups of host processes that are gone are removed by the next run that makes one (a runtime always does).

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::spec::Limits;

const PREFIX: &str = "cooperage-";
const PERIOD: u64 = 100_000;

/// One mounted hierarchy, seen from this process.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    /// Directory of the group this process is in.
    own: PathBuf,
    /// Where it is mounted.
    mount: PathBuf,
    v2: bool,
    controllers: Vec<String>,
}

impl Hierarchy {
    /// Where groups of runs may be: our own are in the first or the last, those of a runtime also beside us.
    fn parents(&self) -> impl Iterator<Item = &Path> {
        let beside = self.own.parent().filter(|parent| self.v2 && parent.starts_with(&self.mount));
        [Some(self.own.as_path()), beside, Some(self.mount.as_path())].into_iter().flatten()
    }
}

/// The groups of one run.
#[derive(Debug, Default)]
pub(crate) struct Group {
    directories: Vec<PathBuf>,
    /// Writing `0` to one puts the writer into that group.
    procs: Vec<OwnedFd>,
    /// The group's path in the v2 hierarchy, if it is in that.
    pub v2_path: Option<PathBuf>,
    /// Limits that no group keeps.
    pub without: Limits,
    /// A sentence for each of those.
    pub warnings: Vec<String>,
}

/// The name for the runs of a host process: `counter` tells them apart.
pub(crate) fn name(pid: u32, counter: u64) -> String {
    format!("{PREFIX}{pid}-{}-{counter}", start_time(pid).unwrap_or(0))
}

/// When a process started, in ticks since boot: with the pid it names a process for good (proc(5), field 22).
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the name, may hold spaces and parentheses.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn hierarchies() -> Vec<Hierarchy> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
}

fn parse(mountinfo: &str, cgroup: &str) -> Vec<Hierarchy> {
    let own_path = |v2: bool, options: &str| {
        cgroup.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let matches = if v2 {
                controllers.is_empty()
            } else {
                !controllers.is_empty()
                    && controllers.split(',').all(|one| options.split(',').any(|option| option == one))
            };
            matches.then_some(path)
        })
    };
    let hierarchy = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let before: Vec<_> = before.split(' ').collect();
        let after: Vec<_> = after.split(' ').collect();
        let v2 = match *after.first()? {
            "cgroup2" => true,
            "cgroup" => false,
            _ => return None,
        };
        let (root, mount, options) = (*before.get(3)?, *before.get(4)?, *after.get(2)?);
        let own = Path::new(own_path(v2, options)?);
        // In a container the mount shows only a part of the hierarchy, whose path is `root`.
        let below = own.strip_prefix(root).unwrap_or(own.strip_prefix("/").ok()?);
        let controllers = options.split(',').map(str::to_owned).collect();
        Some(Hierarchy { own: Path::new(mount).join(below), mount: mount.into(), v2, controllers })
    };
    mountinfo.lines().filter_map(hierarchy).collect()
}

/// Makes the group of a run. Never fails: a limit that no group can keep is in `without` and in the warnings.
pub(crate) fn create(name: &str, limits: &Limits) -> Group {
    let mut group = Group::default();
    if limits.memory.is_none() && limits.cpus.is_none() && limits.pids.is_none() {
        return group;
    }
    let hierarchies = hierarchies();
    if limits.memory.is_some() && !group.enter(&hierarchies, name, "memory", limits) {
        group.without.memory = limits.memory;
        group.warn("memory", "each process gets a limit on its data instead");
    }
    if limits.cpus.is_some() && !group.enter(&hierarchies, name, "cpu", limits) {
        group.without.cpus = limits.cpus;
        group.warn("CPU", "the number of CPUs is rounded up to whole ones");
    }
    if limits.pids.is_some() && !group.enter(&hierarchies, name, "pids", limits) {
        group.without.pids = limits.pids;
        group.warn("process", "the number of processes of the same user is limited instead, except for root");
    }
    group
}

impl Group {
    fn warn(&mut self, what: &str, instead: &str) {
        self.warnings.push(format!("the {what} limit is not exact: no cgroup can be written here; {instead}"));
    }

    fn enter(&mut self, hierarchies: &[Hierarchy], name: &str, controller: &str, limits: &Limits) -> bool {
        hierarchies.iter().any(|hierarchy| {
            candidates(hierarchy, controller).into_iter().any(|parent| {
                let directory = parent.join(name);
                let entered = self.enter_below(&directory, hierarchy.v2, controller, limits).is_ok();
                if entered && hierarchy.v2 {
                    self.v2_path = directory.strip_prefix(&hierarchy.mount).ok().map(|path| Path::new("/").join(path));
                }
                entered
            })
        })
    }

    fn enter_below(&mut self, directory: &Path, v2: bool, controller: &str, limits: &Limits) -> io::Result<()> {
        match fs::create_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            done => done?,
        }
        if self.directories.iter().any(|known| known == directory) {
            return settings(directory, v2, controller, limits);
        }
        let procs = settings(directory, v2, controller, limits)
            .and_then(|()| fs::OpenOptions::new().write(true).open(directory.join("cgroup.procs")));
        match procs {
            Ok(procs) => {
                self.directories.push(directory.to_owned());
                self.procs.push(procs.into());
                Ok(())
            }
            Err(error) => {
                let _ = fs::remove_dir(directory);
                Err(error)
            }
        }
    }

    /// Whether no group was made.
    pub fn is_empty(&self) -> bool {
        self.directories.is_empty()
    }

    /// Puts the calling process into the group.
    pub fn join(&self) -> io::Result<()> {
        for procs in &self.procs {
            rustix::io::write(procs.as_fd(), b"0")?;
        }
        Ok(())
    }

    /// Whether the kernel killed a process of the group, or of groups below it, for want of memory.
    pub fn out_of_memory(&self) -> bool {
        self.directories.iter().any(|directory| oom_kills(directory) > 0)
    }
}

/// Directories below which the group may be made so that it has the controller.
fn candidates(hierarchy: &Hierarchy, controller: &str) -> Vec<PathBuf> {
    let own = hierarchy.own.clone();
    if !hierarchy.v2 {
        let has = hierarchy.controllers.iter().any(|one| one == controller);
        return if has { vec![own] } else { Vec::new() };
    }
    // A v2 group with processes in it cannot pass controllers on, except for the real root.
    [own, hierarchy.mount.clone()].into_iter().filter(|parent| passes_on(parent, controller)).collect()
}

fn passes_on(parent: &Path, controller: &str) -> bool {
    let lists = |file: &str| {
        let text = fs::read_to_string(parent.join(file)).unwrap_or_default();
        text.split_ascii_whitespace().any(|one| one == controller)
    };
    lists("cgroup.controllers")
        && (lists("cgroup.subtree_control")
            || fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}")).is_ok())
}

fn settings(directory: &Path, v2: bool, controller: &str, limits: &Limits) -> io::Result<()> {
    let set = |file: &str, value: String| fs::write(directory.join(file), value);
    match (controller, v2) {
        ("memory", true) => {
            set("memory.max", limits.memory.unwrap_or(u64::MAX).to_string())?;
            // Absent without swap accounting.
            let _ = set("memory.swap.max", "0".to_owned());
            Ok(())
        }
        ("memory", false) => {
            let bytes = limits.memory.unwrap_or(u64::MAX).to_string();
            set("memory.limit_in_bytes", bytes.clone())?;
            let _ = set("memory.memsw.limit_in_bytes", bytes);
            Ok(())
        }
        ("cpu", v2) => {
            // 1 ms is the least that the kernel takes.
            let quota = ((limits.cpus.unwrap_or(1.0) * PERIOD as f64) as u64).max(1000);
            if v2 {
                return set("cpu.max", format!("{quota} {PERIOD}"));
            }
            set("cpu.cfs_period_us", PERIOD.to_string())?;
            set("cpu.cfs_quota_us", quota.to_string())
        }
        _ => set("pids.max", limits.pids.unwrap_or(u64::MAX).to_string()),
    }
}

fn oom_kills(directory: &Path) -> u64 {
    let count = |file: &str| -> u64 {
        let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
    };
    // v1 counts a kill only in the group of the victim, so the groups that an OCI runtime made are asked as well.
    let below: u64 = children(directory).iter().map(|child| oom_kills(child)).sum();
    count("memory.oom_control") + count("memory.events") + below
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// Removes whatever groups of this name there are, our own and those that an OCI runtime made.
pub(crate) fn remove(name: &str) {
    for hierarchy in hierarchies() {
        for parent in hierarchy.parents() {
            remove_tree(&parent.join(name));
        }
    }
}

fn remove_tree(directory: &Path) {
    if !directory.is_dir() {
        return;
    }
    for child in children(directory) {
        remove_tree(&child);
    }
    for _ in 0..50 {
        match fs::remove_dir(directory) {
            // The last process is gone but its accounting is not yet.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(2));
            }
            _ => return,
        }
    }
}

/// Removes groups of host processes that are gone.
pub(crate) fn sweep() {
    for hierarchy in hierarchies() {
        for parent in hierarchy.parents() {
            for child in children(parent) {
                if is_abandoned(&child) {
                    remove_tree(&child);
                }
            }
        }
    }
}

fn is_abandoned(directory: &Path) -> bool {
    let owner = || {
        let name = directory.file_name()?.to_str()?.strip_prefix(PREFIX)?;
        let mut parts = name.split('-');
        Some((parts.next()?.parse::<u32>().ok()?, parts.next()?.parse::<u64>().ok()?))
    };
    let Some((pid, started)) = owner() else { return false };
    // A host in another PID namespace is not seen here: what is in use cannot be removed anyway, and what was made
    // a moment ago may be about to be.
    let fresh = fs::metadata(directory)
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age < Duration::from_secs(10)));
    start_time(pid) != Some(started) && !fresh
}

/// For each controller that limits need, whether a group with it can be made here.
pub(crate) fn writable() -> Vec<(&'static str, bool)> {
    let hierarchies = hierarchies();
    let can = |controller: &str| {
        hierarchies.iter().any(|hierarchy| {
            candidates(hierarchy, controller)
                .iter()
                .any(|parent| rustix::fs::access(parent, rustix::fs::Access::WRITE_OK).is_ok())
        })
    };
    ["memory", "cpu", "pids"].into_iter().map(|controller| (controller, can(controller))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_hybrid_and_container_hierarchies() {
        let mountinfo = "\
30 20 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 30 0:28 /docker/abc /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let cgroup = "4:memory:/a/b\n2:cpu,cpuacct:/docker/abc/in\n1:name=systemd:/\n0::/\n";
        let found: Vec<_> = parse(mountinfo, cgroup).into_iter().map(|one| (one.own, one.v2)).collect();
        assert_eq!(
            found,
            [
                (PathBuf::from("/sys/fs/cgroup/memory/a/b"), false),
                ("/sys/fs/cgroup/cpu,cpuacct/in".into(), false),
                ("/sys/fs/cgroup/unified/".into(), true),
            ]
        );
    }

    #[test]
    fn writes_the_settings_of_version_two() {
        let dir = tempfile::tempdir().unwrap();
        let parent = dir.path();
        fs::write(parent.join("cgroup.controllers"), "cpu memory\n").unwrap();
        assert!(passes_on(parent, "memory"));
        assert_eq!(fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap(), "+memory");
        assert!(!passes_on(parent, "pids"));
        let limits = Limits { memory: Some(1 << 20), cpus: Some(1.5), pids: Some(9), timeout: None };
        for controller in ["memory", "cpu", "pids"] {
            settings(parent, true, controller, &limits).unwrap();
        }
        let read = |file: &str| fs::read_to_string(parent.join(file)).unwrap();
        assert_eq!(read("memory.max"), "1048576");
        assert_eq!(read("memory.swap.max"), "0");
        assert_eq!(read("cpu.max"), "150000 100000");
        assert_eq!(read("pids.max"), "9");
        fs::write(parent.join("memory.events"), "low 0\noom 3\noom_kill 2\noom_group_kill 0\n").unwrap();
        assert_eq!(oom_kills(parent), 2);
    }

    #[test]
    fn tells_abandoned_groups_by_their_owner() {
        let dir = tempfile::tempdir().unwrap();
        let old = |name: String| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            let file = fs::File::open(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
            path
        };
        assert!(!is_abandoned(&old(name(std::process::id(), 1))));
        assert!(is_abandoned(&old(format!("{PREFIX}{}-1-1", std::process::id()))));
        assert!(is_abandoned(&old(format!("{PREFIX}4194304000-5-1"))));
        assert!(!is_abandoned(&old("user.slice".to_owned())));
    }
}
