//! Makes this process root of a user namespace of its own; knows nothing of what is done there.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::process::{Pid, WaitOptions, waitpid};
use rustix::thread::{CapabilitySet, UnshareFlags};

use crate::error::Error;
use crate::exec::DEFAULT_PATH;
use crate::sys::{self, Fork};

/// How many ids this process has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entered {
    /// It was privileged already; nothing was changed.
    Privileged,
    /// It is uid 0 of a new user namespace in which this many user and group ids exist.
    Ranges {
        /// Number of user ids, 0 included.
        uids: u32,
        /// Number of group ids, 0 included.
        gids: u32,
    },
    /// It is uid 0 of a new user namespace in which no other id exists: `chown` to another id fails.
    SingleId {
        /// Why there are no more, and what to install or change.
        hint: String,
    },
}

/// Makes the calling process root of a new user namespace: with the ranges that /etc/subuid and /etc/subgid give
/// this user, through newuidmap and newgidmap, or else with its own id only. Its pid stays the same. Must be called
/// before any thread is started; with threads the kernel refuses, and nothing is changed.
///
/// # Errors
/// `Unsupported` when the kernel or its settings forbid user namespaces.
pub fn enter_user_namespace() -> Result<Entered, Error> {
    if is_privileged() {
        return Ok(Entered::Privileged);
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let ranges = Ranges::of(uid);
    let mapper = Mapper::start(uid, gid, &ranges).map_err(|error| Error::Setup(format!("start a mapper: {error}")))?;
    sys::unshare(UnshareFlags::NEWUSER).map_err(forbidden)?;
    match mapper.map() {
        Ok(()) => Ok(Entered::Ranges { uids: 1 + count(&ranges.uids), gids: 1 + count(&ranges.gids) }),
        Err(hint) => {
            map_own_id(uid, gid).map_err(|error| Error::Setup(format!("map the own id: {error}")))?;
            Ok(Entered::SingleId { hint })
        }
    }
}

/// Whether this process may mount and make namespaces.
pub(crate) fn is_privileged() -> bool {
    rustix::process::geteuid().is_root()
        && rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

fn forbidden(error: io::Error) -> Error {
    let hint = match error.raw_os_error() {
        Some(libc::EINVAL) => "this is a defect: it was called after a thread had been started",
        Some(libc::ENOSPC) => "raise sysctl user.max_user_namespaces",
        _ => {
            "allow them: sysctl kernel.unprivileged_userns_clone=1 or \
             kernel.apparmor_restrict_unprivileged_userns=0; in a container, a seccomp profile that allows unshare"
        }
    };
    Error::Unsupported { what: format!("user namespaces are not allowed here ({error})"), hint: hint.to_owned() }
}

/// The ids that this user may use besides its own: first and number of each range.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    pub uids: Vec<(u32, u32)>,
    pub gids: Vec<(u32, u32)>,
}

impl Ranges {
    /// What /etc/subuid and /etc/subgid say of a user.
    pub fn of(uid: u32) -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let name = user_name(&read("/etc/passwd"), uid);
        let of = |path| parse_ranges(&read(path), name.as_deref(), uid);
        Self { uids: of("/etc/subuid"), gids: of("/etc/subgid") }
    }
}

fn user_name(passwd: &str, uid: u32) -> Option<String> {
    let mut entries = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let entry = entries.find(|fields| fields.get(2).and_then(|id| id.parse().ok()) == Some(uid))?;
    entry.first().map(|name| (*name).to_owned())
}

/// Lines of subuid(5): user name or id, first id, number of ids.
fn parse_ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<(u32, u32)> {
    let line = |line: &str| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let mine = Some(owner) == name || owner == uid.to_string();
        let (first, number) = (fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
        (mine && number > 0).then_some((first, number))
    };
    text.lines().filter_map(line).collect()
}

fn count(ranges: &[(u32, u32)]) -> u32 {
    ranges.iter().fold(0, |sum, (_, number)| sum.saturating_add(*number))
}

/// A child that stays outside of the new namespace, where newuidmap must be called from.
struct Mapper {
    child: Pid,
    go: OwnedFd,
    answer: OwnedFd,
}

impl Mapper {
    fn start(uid: u32, gid: u32, ranges: &Ranges) -> io::Result<Self> {
        let (wait, go) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let (answer, say) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let parent = rustix::process::getpid();
        match sys::fork()? {
            Fork::Parent(child) => Ok(Self { child, go, answer }),
            Fork::Child => {
                drop((go, answer));
                // Without the byte the parent has died or failed.
                if matches!(rustix::io::retry_on_intr(|| rustix::io::read(&wait, &mut [0; 1])), Ok(1)) {
                    let said = write_maps(parent, uid, gid, ranges).err().unwrap_or_default();
                    let _ = rustix::io::write(&say, format!("={said}").as_bytes());
                }
                sys::exit_now(0)
            }
        }
    }

    /// Lets the child map this process's ids; the error is what to install or change.
    fn map(self) -> Result<(), String> {
        let _ = rustix::io::write(&self.go, b"g");
        drop(self.go);
        let mut said = String::new();
        // The child holds the only other end, so this ends with it.
        let mut answer = std::fs::File::from(self.answer);
        let read = io::Read::read_to_string(&mut answer, &mut said);
        let _ = rustix::io::retry_on_intr(|| waitpid(Some(self.child), WaitOptions::empty()));
        match (read, said.strip_prefix('=')) {
            (Ok(_), Some("")) => Ok(()),
            (Ok(_), Some(hint)) => Err(hint.to_owned()),
            _ => Err("the id mapper died".to_owned()),
        }
    }
}

/// The path of a program in the usual directories.
pub(crate) fn find_program(name: &str) -> Option<String> {
    DEFAULT_PATH.split(':').map(|dir| format!("{dir}/{name}")).find(|path| std::path::Path::new(path).exists())
}

fn write_maps(process: Pid, uid: u32, gid: u32, ranges: &Ranges) -> Result<(), String> {
    for (program, own, ranges, file) in
        [("newuidmap", uid, &ranges.uids, "/etc/subuid"), ("newgidmap", gid, &ranges.gids, "/etc/subgid")]
    {
        if ranges.is_empty() {
            return Err(format!("add a range for this user to {file} (usermod --add-subuids, --add-subgids)"));
        }
        let path = find_program(program).ok_or_else(|| format!("{program} is missing: apt-get install uidmap"))?;
        let mut command = Command::new(path);
        command.args([process.as_raw_nonzero().to_string(), "0".to_owned(), own.to_string(), "1".to_owned()]);
        let mut next = 1u32;
        for (first, number) in ranges {
            command.args([next.to_string(), first.to_string(), number.to_string()]);
            next = next.saturating_add(*number);
        }
        let done = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output();
        match done {
            Ok(done) if done.status.success() => {}
            Ok(done) => return Err(format!("{program}: {}", String::from_utf8_lossy(&done.stderr).trim())),
            Err(error) => return Err(format!("{program}: {error}")),
        }
    }
    Ok(())
}

fn map_own_id(uid: u32, gid: u32) -> io::Result<()> {
    let write = |path: &str, text: String| match std::fs::write(path, text) {
        // newuidmap has done this one already, and newgidmap failed.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) && is_mapped(path) => Ok(()),
        done => done,
    };
    write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    // An unprivileged process may map its group only after giving up setgroups (user_namespaces(7)).
    std::fs::write("/proc/self/setgroups", "deny")?;
    write("/proc/self/gid_map", format!("0 {gid} 1"))
}

fn is_mapped(path: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| !text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_ranges_of_a_user_by_name_and_by_id() {
        let passwd = "root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000).as_deref(), Some("me"));
        assert_eq!(user_name(passwd, 7), None);
        let text = "me:100000:65536\nyou:5:5\n1000:300000:10\nbroken\nme:x:1\nme:9:0\n";
        assert_eq!(parse_ranges(text, Some("me"), 1000), [(100_000, 65536), (300_000, 10)]);
        assert_eq!(parse_ranges(text, None, 7), []);
        assert_eq!(count(&[(1, u32::MAX), (2, 2)]), u32::MAX);
    }
}
