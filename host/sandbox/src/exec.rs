//! Turns a forked child into the process that was asked for: streams, ids, capabilities, filter, program.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{Gid, MemfdFlags, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::spec::Process;
use crate::sys;
use crate::wire::{Failure, Result, Step};

/// What Docker's default set keeps.
pub(crate) const KEPT: &[(&str, CapabilitySet)] = &[
    ("CAP_CHOWN", CapabilitySet::CHOWN),
    ("CAP_DAC_OVERRIDE", CapabilitySet::DAC_OVERRIDE),
    ("CAP_FSETID", CapabilitySet::FSETID),
    ("CAP_FOWNER", CapabilitySet::FOWNER),
    ("CAP_MKNOD", CapabilitySet::MKNOD),
    ("CAP_NET_RAW", CapabilitySet::NET_RAW),
    ("CAP_SETGID", CapabilitySet::SETGID),
    ("CAP_SETUID", CapabilitySet::SETUID),
    ("CAP_SETFCAP", CapabilitySet::SETFCAP),
    ("CAP_SETPCAP", CapabilitySet::SETPCAP),
    ("CAP_NET_BIND_SERVICE", CapabilitySet::NET_BIND_SERVICE),
    ("CAP_SYS_CHROOT", CapabilitySet::SYS_CHROOT),
    ("CAP_KILL", CapabilitySet::KILL),
    ("CAP_AUDIT_WRITE", CapabilitySet::AUDIT_WRITE),
];

/// Where programs are looked up when the environment has no PATH.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Standard input with these contents; nothing if empty. A memory file has room for any amount without a writer.
pub(crate) fn stdin(process: &Process) -> Result<OwnedFd> {
    let step = || "prepare standard input".to_owned();
    if process.stdin.is_empty() {
        return rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).step(step);
    }
    let file = rustix::fs::memfd_create("stdin", MemfdFlags::CLOEXEC).step(step)?;
    std::fs::File::from(file.try_clone().step(step)?).write_all_at(&process.stdin, 0).step(step)?;
    Ok(file)
}

/// Becomes the process. Returns only when the program could not be started, with the exit code for that, after
/// saying why on standard error. `confine` drops capabilities and installs the filter.
pub(crate) fn become_process(process: &Process, stdin: BorrowedFd<'_>, confine: bool) -> Result<i32> {
    prepare_directory(&process.cwd)?;
    streams(process, stdin)?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).step(|| "set no_new_privs".to_owned())?;
    }
    if confine {
        drop_bounding_set()?;
        // Needs CAP_SYS_ADMIN, which is about to go; the filter allows all that follows.
        sys::seccomp(&crate::seccomp::filter()).step(|| "install the seccomp filter".to_owned())?;
    }
    set_ids(process)?;
    if confine {
        reduce_capabilities()?;
    }
    let _ = rustix::process::setsid();
    sys::reset_signals();
    sys::close_others_on_exec().step(|| "close file descriptors".to_owned())?;
    Ok(start(process))
}

/// Goes to the working directory, making what is missing; as root, for other users may not be able to.
fn prepare_directory(cwd: &str) -> Result<()> {
    if !cwd.starts_with('/') {
        return Err(Failure::Invalid(format!("the working directory {cwd:?} is not absolute")));
    }
    let step = || format!("go to the working directory {cwd}");
    match rustix::process::chdir(cwd) {
        Err(Errno::NOENT) => {
            std::fs::create_dir_all(cwd).step(|| format!("make the working directory {cwd}"))?;
            rustix::process::chdir(cwd).step(step)
        }
        done => done.step(step),
    }
}

fn streams(process: &Process, stdin: BorrowedFd<'_>) -> Result<()> {
    let step = || "connect the standard streams".to_owned();
    sys::dup_to(stdin, 0).step(step)?;
    sys::dup_to(rustix::stdio::stdout(), 2).step(step)?;
    // So that another user can open /dev/stdout and /dev/stdin by name. Without the right to (one id only), names
    // do not work, the descriptors still do.
    let (uid, gid) = (Uid::from_raw(process.uid), Gid::from_raw(process.gid));
    let _ = rustix::fs::fchown(rustix::stdio::stdout(), Some(uid), Some(gid));
    if !process.stdin.is_empty() {
        let _ = rustix::fs::fchown(rustix::stdio::stdin(), Some(uid), Some(gid));
    }
    Ok(())
}

fn set_ids(process: &Process) -> Result<()> {
    let groups: Vec<Gid> = process.groups.iter().copied().map(Gid::from_raw).collect();
    match rustix::thread::set_thread_groups(&groups) {
        // A user namespace with one id only does not allow it; there is nothing to set either.
        Err(Errno::PERM) if groups.is_empty() => {}
        done => done.map_err(|error| no_such_id(error, "supplementary groups", process.gid))?,
    }
    let (uid, gid) = (Uid::from_raw(process.uid), Gid::from_raw(process.gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(|error| no_such_id(error, "group", process.gid))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(|error| no_such_id(error, "user", process.uid))
}

fn no_such_id(error: Errno, what: &str, id: u32) -> Failure {
    if matches!(error, Errno::INVAL | Errno::PERM) {
        return Failure::Unsupported {
            what: format!("{what} id {id} does not exist in this user namespace ({error})"),
            hint: "install uidmap and give this user ranges in /etc/subuid and /etc/subgid".to_owned(),
        };
    }
    Failure::Setup(format!("become {what} {id}: {error}"))
}

fn drop_bounding_set() -> Result<()> {
    let kept = KEPT.iter().fold(CapabilitySet::empty(), |all, (_, one)| all | *one);
    for number in 0..63 {
        let one = sys::capability(number);
        if kept.contains(one) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // Past the last one that this kernel knows.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error).step(|| format!("drop capability {number}")),
        }
    }
    Ok(())
}

fn reduce_capabilities() -> Result<()> {
    let step = || "drop capabilities".to_owned();
    let kept = KEPT.iter().fold(CapabilitySet::empty(), |all, (_, one)| all | *one);
    let have = rustix::thread::capabilities(None).step(step)?;
    let permitted = have.permitted & kept;
    let sets = CapabilitySets { effective: have.effective & permitted, permitted, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).step(step)?;
    match rustix::thread::clear_ambient_capability_set() {
        Err(Errno::INVAL) | Ok(()) => Ok(()),
        Err(error) => Err(error).step(step),
    }
}

/// Starts the program; returns the exit code for why it could not.
fn start(process: &Process) -> i32 {
    let strings = |all: &mut dyn Iterator<Item = String>| all.map(CString::new).collect::<std::result::Result<_, _>>();
    let args: std::result::Result<Vec<CString>, _> = strings(&mut process.args.iter().cloned());
    let env = strings(&mut process.env.iter().map(|(name, value)| format!("{name}={value}")));
    let (Ok(args), Ok(env), Some(program)) = (args, env, process.args.first()) else {
        return say("the command or its environment holds a NUL byte", 126);
    };
    let mut refused = None;
    for path in candidates(program, &process.env) {
        let Ok(name) = CString::new(path.as_bytes()) else { continue };
        let error = sys::execve(&name, &args, &env);
        match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NOTDIR) => {
                if let Some(interpreter) = missing_interpreter(&path) {
                    return say(&format!("cannot run {path}: its interpreter {interpreter} is not in the image"), 127);
                }
            }
            Some(Errno::ACCESS | Errno::PERM) => refused = Some((path, error)),
            Some(Errno::NOEXEC) => {
                let what = "is neither a program for this machine nor a script that starts with #!";
                return say(&format!("cannot run {path}: it {what}"), 126);
            }
            Some(Errno::TOOBIG) => {
                return say(&format!("cannot run {path}: arguments and environment are too long"), 126);
            }
            _ => return say(&format!("cannot run {path}: {error}"), 126),
        }
    }
    match refused {
        Some((path, _)) if std::path::Path::new(&path).is_dir() => {
            say(&format!("cannot run {path}: it is a directory"), 126)
        }
        Some((path, error)) => say(&format!("cannot run {path}: {error}"), 126),
        None if program.contains('/') => say(&format!("{program}: not found in the image"), 127),
        None => say(&format!("{program}: not found in PATH ({})", search_path(&process.env)), 127),
    }
}

fn search_path(env: &[(String, String)]) -> &str {
    // The C library takes the first of several.
    env.iter().find(|(name, _)| name == "PATH").map_or(DEFAULT_PATH, |(_, value)| value)
}

/// The paths to try for a program, in order.
pub(crate) fn candidates(program: &str, env: &[(String, String)]) -> Vec<String> {
    if program.is_empty() || program.contains('/') {
        return vec![program.to_owned()];
    }
    let within = |directory: &str| match directory {
        "" => program.to_owned(),
        directory => format!("{directory}/{program}"),
    };
    search_path(env).split(':').map(within).collect()
}

/// When the file exists although execve said that it does not: what it wants to be run by.
fn missing_interpreter(path: &str) -> Option<String> {
    let file = std::fs::File::open(path).ok();
    if file.is_none() && !std::path::Path::new(path).exists() {
        return None;
    }
    let mut head = vec![0; 4096];
    let length = file.and_then(|file| file.read_at(&mut head, 0).ok()).unwrap_or(0);
    head.truncate(length);
    Some(interpreter(&head).unwrap_or_else(|| "(unknown)".to_owned()))
}

/// The interpreter named by the head of a script or of a 64-bit little-endian ELF file.
fn interpreter(head: &[u8]) -> Option<String> {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next()?;
        let shown = String::from_utf8_lossy(line);
        // A trailing carriage return is the usual reason, and invisible.
        return shown.trim_matches([' ', '\t']).split([' ', '\t']).next().map(|name| name.escape_debug().to_string());
    }
    let field = |at: usize, size: usize| -> Option<usize> {
        let bytes = head.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte)))
    };
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (field(32, 8)?, field(54, 2)?, field(56, 2)?);
    let entries = (0..count).filter_map(|index| table.checked_add(index * size));
    // PT_INTERP
    let entry = entries.into_iter().find(|at| field(*at, 4) == Some(3))?;
    let (offset, length) = (field(entry + 8, 8)?, field(entry + 32, 8)?);
    let name = head.get(offset..offset.checked_add(length)?)?;
    Some(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned())
}

/// Says why on the process's standard error and returns the exit code.
fn say(message: &str, code: i32) -> i32 {
    let _ = rustix::io::write(rustix::stdio::stderr().as_fd(), format!("coop: {message}\n").as_bytes());
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_programs_up_as_execvp_does() {
        let env = |path: &str| vec![("A".to_owned(), "b".to_owned()), ("PATH".to_owned(), path.to_owned())];
        assert_eq!(candidates("sh", &env("/a:/b")), ["/a/sh", "/b/sh"]);
        assert_eq!(candidates("./sh", &env("/a")), ["./sh"]);
        assert_eq!(candidates("sh", &env("/a:")), ["/a/sh", "sh"]);
        assert_eq!(candidates("sh", &[])[0], "/usr/local/sbin/sh");
    }

    #[test]
    fn names_the_interpreter() {
        assert_eq!(interpreter(b"#! /bin/bash -e\nls").unwrap(), "/bin/bash");
        assert_eq!(interpreter(b"#!/bin/sh\r\nls").unwrap(), "/bin/sh\\r");
        assert_eq!(interpreter(b"\x7fELF\x02\x01"), None);
        let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(interpreter(&this[..4096]).unwrap().contains("/ld-linux"));
    }
}
