//! The system calls that rustix does not offer, each behind a safe function; decides nothing.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::process::Pid;

/// Which process `fork` returned in.
pub(crate) enum Fork {
    Parent(Pid),
    Child,
}

/// Forks. Only for processes with one thread: the child would inherit other threads' locks.
#[allow(unsafe_code)]
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: the helper is single-threaded (its entry runs before anything could start a thread), so no lock can
    // be held by a thread that does not exist in the child; both sides may go on with ordinary code.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Pid::from_raw(pid).map(Fork::Parent).ok_or_else(|| io::ErrorKind::InvalidData.into()),
    }
}

/// Ends this process at once, without running destructors or flushing anything.
#[allow(unsafe_code)]
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Adds mount attributes (`MOUNT_ATTR_*`) to the mount behind `tree`.
#[allow(unsafe_code)]
pub(crate) fn mount_setattr(tree: BorrowedFd<'_>, set: u64, recursive: bool) -> io::Result<()> {
    let attr = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a valid empty C string, `attr` is live and its true size is given.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of_val(&attr),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Marks every descriptor above standard error to be closed on `execve`.
#[allow(unsafe_code)]
pub(crate) fn close_others_on_exec() -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: only sets a flag of descriptors; no memory is passed.
    if unsafe { libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) } == 0 {
        return Ok(());
    }
    // Before Linux 5.11.
    // SAFETY: `getdtablesize` has no preconditions.
    let limit = unsafe { libc::getdtablesize() };
    for fd in 3..limit {
        // SAFETY: setting the flag of a number that is not open fails harmlessly with EBADF.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// Replaces the standard stream `number` (0, 1 or 2) by a copy of `fd`, which survives `execve`.
#[allow(unsafe_code)]
pub(crate) fn dup_to(fd: impl AsFd, number: i32) -> io::Result<()> {
    // SAFETY: the helper owns its standard streams; no `OwnedFd` exists for them.
    if unsafe { libc::dup2(fd.as_fd().as_raw_fd(), number) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[allow(unsafe_code)]
fn signal_set(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: an all-zero `sigset_t` is valid storage, and `sigemptyset` initialises it.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for &signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    }
}

/// Keeps these signals pending for `wait_signal`.
#[allow(unsafe_code)]
pub(crate) fn block_signals(signals: &[i32]) {
    let set = signal_set(signals);
    // SAFETY: `set` is initialised; the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

/// Waits for one of these blocked signals and returns it.
#[allow(unsafe_code)]
pub(crate) fn wait_signal(signals: &[i32]) -> io::Result<i32> {
    let set = signal_set(signals);
    // SAFETY: `set` is initialised; no details are asked for.
    let signal = unsafe { libc::sigwaitinfo(&raw const set, std::ptr::null_mut()) };
    if signal < 0 { Err(io::Error::last_os_error()) } else { Ok(signal) }
}

/// Gives every signal its default action and blocks none, as a fresh process expects.
#[allow(unsafe_code)]
pub(crate) fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: resets to the default action; numbers that cannot be changed fail harmlessly.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let set = signal_set(&[]);
    // SAFETY: `set` is initialised; the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) };
}

/// Replaces this process; returns only the reason why it could not.
#[allow(unsafe_code)]
pub(crate) fn execve(path: &std::ffi::CStr, args: &[std::ffi::CString], env: &[std::ffi::CString]) -> io::Error {
    let pointers = |strings: &[std::ffi::CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: all three are live, NUL-terminated strings, the arrays end with a null pointer.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Brings the loopback interface of this network namespace up.
#[allow(unsafe_code)]
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which is live.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Installs a seccomp filter on this (only) thread. Needs CAP_SYS_ADMIN or no_new_privs.
#[allow(unsafe_code)]
pub(crate) fn seccomp(filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: `program` points at `len` live instructions, which the kernel copies and does not write.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lowers a resource limit; never raises it.
#[allow(unsafe_code)]
pub(crate) fn lower_limit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is live and of the right type for both calls.
    let done = unsafe {
        libc::getrlimit(resource, &raw mut limit);
        limit.rlim_cur = limit.rlim_cur.min(value);
        limit.rlim_max = limit.rlim_max.min(value);
        libc::setrlimit(resource, &raw const limit)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The index of the capability's bit; also true for those newer than this code.
pub(crate) fn capability(number: u32) -> rustix::thread::CapabilitySet {
    rustix::thread::CapabilitySet::from_bits_retain(1 << number)
}

/// Moves this process into new namespaces (for `NEWPID`: its next child).
#[allow(unsafe_code)]
pub(crate) fn unshare(flags: rustix::thread::UnshareFlags) -> io::Result<()> {
    // SAFETY: unsound only with `FILES` in a process with several threads; it is never asked for.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// Sends a signal to every process of this PID namespace but the first. Only for that first process: elsewhere it
/// would hit whatever this user may signal.
#[allow(unsafe_code)]
pub(crate) fn signal_all_others(signal: i32) {
    if rustix::process::getpid() == Pid::INIT {
        // SAFETY: `kill` has no memory preconditions; the caller is process 1, which `-1` leaves out.
        unsafe { libc::kill(-1, signal) };
    }
}
