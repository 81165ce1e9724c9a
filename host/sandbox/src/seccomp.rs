//! The system calls that a sandboxed process may not make, as a BPF program and as an OCI profile.
//!
//! A deny list in the spirit of Docker's default profile: what changes the host or widens the kernel's attack
//! surface, most of which the dropped capabilities forbid already. It must hold against 32-bit calls as well, so
//! every architecture that the kernel accepts has a table; calls of an architecture without one fail with ENOSYS.

use libc::{c_long, sock_filter};
use serde::Serialize;

/// Flags of `clone` that make a namespace (all but CLONE_NEWTIME, which clone cannot take).
const CLONE_NAMESPACES: u32 = 0x7E02_0000;

/// Name, number on this machine.
macro_rules! calls {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), libc::$name)),*] };
}

/// Fail with EPERM.
const DENIED: &[(&str, c_long)] = calls![
    SYS_acct,
    SYS_add_key,
    SYS_adjtimex,
    SYS_bpf,
    SYS_clock_adjtime,
    SYS_clock_settime,
    SYS_delete_module,
    SYS_finit_module,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fsopen,
    SYS_fspick,
    SYS_init_module,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_io_uring_setup,
    SYS_kcmp,
    SYS_kexec_file_load,
    SYS_kexec_load,
    SYS_keyctl,
    SYS_lookup_dcookie,
    SYS_mbind,
    SYS_migrate_pages,
    SYS_mount,
    SYS_mount_setattr,
    SYS_move_mount,
    SYS_move_pages,
    SYS_nfsservctl,
    SYS_open_by_handle_at,
    SYS_open_tree,
    SYS_perf_event_open,
    SYS_pivot_root,
    SYS_quotactl,
    SYS_quotactl_fd,
    SYS_reboot,
    SYS_request_key,
    SYS_set_mempolicy,
    SYS_setdomainname,
    SYS_sethostname,
    SYS_setns,
    SYS_settimeofday,
    SYS_swapoff,
    SYS_swapon,
    SYS_syslog,
    SYS_umount2,
    SYS_unshare,
    SYS_userfaultfd,
    SYS_vhangup,
];

#[cfg(target_arch = "x86_64")]
const DENIED_HERE: &[(&str, c_long)] = calls![SYS_ioperm, SYS_iopl, SYS_sysfs, SYS__sysctl, SYS_uselib, SYS_ustat,];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_HERE: &[(&str, c_long)] = &[];

/// The same for 32-bit programs on this machine, by the numbers of their own table
/// (`arch/x86/entry/syscalls/syscall_32.tbl`, `arch/arm/tools/syscall.tbl`), with the number of `clone`.
struct Compat {
    arch: u32,
    clone: u32,
    denied: &'static [u32],
}

/// Numbers that are the same on every architecture since Linux 5.1: open_tree to fspick, io_uring, mount_setattr,
/// quotactl_fd, and the 64-bit time calls clock_settime64 and clock_adjtime64 of 32-bit machines.
const UNIFIED: &[u32] = &[428, 429, 430, 431, 432, 433, 425, 426, 427, 442, 443, 404, 405];
const CLONE3: u32 = 435;

#[cfg(target_arch = "x86_64")]
const NATIVE_ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "x86_64")]
const COMPAT: &[Compat] = &[Compat {
    arch: 0x4000_0003,
    clone: 120,
    denied: &[
        21, 22, 25, 51, 52, 62, 74, 79, 86, 87, 88, 101, 103, 110, 111, 113, 115, 121, 124, 127, 128, 129, 130, 131,
        135, 149, 166, 167, 169, 217, 253, 264, 274, 276, 283, 286, 287, 288, 294, 310, 317, 336, 342, 343, 346, 349,
        350, 357, 374,
    ],
}];
#[cfg(target_arch = "aarch64")]
const NATIVE_ARCH: u32 = 0xC000_00B7;
#[cfg(target_arch = "aarch64")]
const COMPAT: &[Compat] = &[Compat {
    arch: 0x4000_0028,
    clone: 120,
    denied: &[
        21, 51, 52, 62, 74, 79, 86, 87, 88, 103, 111, 115, 121, 124, 128, 129, 131, 135, 149, 169, 218, 249, 262, 309,
        310, 311, 319, 321, 337, 344, 347, 364, 371, 372, 375, 378, 379, 386, 388, 400, 401,
    ],
}];
#[cfg(target_arch = "riscv64")]
const NATIVE_ARCH: u32 = 0xC000_00F3;
#[cfg(target_arch = "riscv64")]
const COMPAT: &[Compat] = &[];

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_GREATER_EQUAL: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const JUMP_ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const ALLOW: u32 = 0x7FFF_0000;
const ERRNO: u32 = 0x0005_0000;
// Offsets in `struct seccomp_data`; the low half of the first argument on a little-endian machine.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARG0: u32 = 16;

fn op(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn fail(errno: i32) -> sock_filter {
    op(RETURN, 0, 0, ERRNO | errno as u32)
}

/// The instructions for one architecture; every path returns.
fn table(denied: &[u32], clone: u32, x32: bool) -> Vec<sock_filter> {
    let mut ops = vec![op(LOAD, 0, 0, NR)];
    if x32 {
        // The x32 numbers start at bit 30; no distribution uses them any more.
        ops.extend([op(JUMP_GREATER_EQUAL, 0, 1, 0x4000_0000), fail(libc::ENOSYS)]);
    }
    for &number in denied {
        ops.extend([op(JUMP_EQUAL, 0, 1, number), fail(libc::EPERM)]);
    }
    // The flags of clone3 are behind a pointer, where a filter cannot look: with ENOSYS the C libraries fall back
    // to clone, whose flags are its first argument.
    ops.extend([op(JUMP_EQUAL, 0, 1, CLONE3), fail(libc::ENOSYS)]);
    ops.extend([
        op(JUMP_EQUAL, 0, 3, clone),
        op(LOAD, 0, 0, ARG0),
        op(JUMP_ANY_BIT, 0, 1, CLONE_NAMESPACES),
        fail(libc::EPERM),
        op(RETURN, 0, 0, ALLOW),
    ]);
    ops
}

/// The filter for this machine.
pub(crate) fn filter() -> Vec<sock_filter> {
    let native: Vec<u32> =
        DENIED.iter().chain(DENIED_HERE).filter_map(|(_, number)| u32::try_from(*number).ok()).collect();
    let mut ops = vec![op(LOAD, 0, 0, ARCH)];
    let mut add = |arch, body: Vec<sock_filter>| {
        // The body is longer than a conditional jump reaches.
        ops.extend([op(JUMP_EQUAL, 1, 0, arch), op(JUMP, 0, 0, body.len() as u32)]);
        ops.extend(body);
    };
    add(NATIVE_ARCH, table(&native, libc::SYS_clone as u32, cfg!(target_arch = "x86_64")));
    for compat in COMPAT {
        let denied: Vec<u32> = compat.denied.iter().chain(UNIFIED).copied().collect();
        add(compat.arch, table(&denied, compat.clone, false));
    }
    ops.push(fail(libc::ENOSYS));
    ops
}

/// The same as the `linux.seccomp` section of an OCI configuration.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Profile {
    default_action: &'static str,
    architectures: &'static [&'static str],
    syscalls: Vec<Rule>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Vec<&'static str>,
    action: &'static str,
    errno_ret: i32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Argument>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    value_two: u64,
    op: &'static str,
}

/// The profile for an OCI runtime.
pub(crate) fn profile() -> Profile {
    let name = |(name, _): &(&'static str, c_long)| name.trim_start_matches("SYS_");
    let deny = |names, errno_ret, args| Rule { names, action: "SCMP_ACT_ERRNO", errno_ret, args };
    let mut names: Vec<_> = DENIED.iter().chain(DENIED_HERE).map(name).collect();
    names.extend(["umount", "stime", "vm86", "vm86old", "clock_settime64", "clock_adjtime64"]);
    let mut syscalls = vec![deny(names, libc::EPERM, Vec::new()), deny(vec!["clone3"], libc::ENOSYS, Vec::new())];
    // libseccomp compares masked values for equality only, so each namespace flag is a rule of its own.
    for bit in (0..32).map(|bit| 1u64 << bit).filter(|bit| u64::from(CLONE_NAMESPACES) & bit != 0) {
        let argument = Argument { index: 0, value: bit, value_two: bit, op: "SCMP_CMP_MASKED_EQ" };
        syscalls.push(deny(vec!["clone"], libc::EPERM, vec![argument]));
    }
    let architectures: &[&str] = match std::env::consts::ARCH {
        "x86_64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        _ => &[],
    };
    Profile { default_action: "SCMP_ACT_ALLOW", architectures, syscalls }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interprets the program as the kernel would.
    fn verdict(arch: u32, nr: u32, arg0: u32) -> u32 {
        let ops = filter();
        let (mut at, mut acc) = (0, 0);
        loop {
            let op = ops[at];
            at += 1;
            match op.code {
                LOAD => acc = [(NR, nr), (ARCH, arch), (ARG0, arg0)].iter().find(|(at, _)| *at == op.k).unwrap().1,
                JUMP => at += op.k as usize,
                RETURN => return op.k,
                JUMP_EQUAL => at += usize::from(if acc == op.k { op.jt } else { op.jf }),
                JUMP_GREATER_EQUAL => at += usize::from(if acc >= op.k { op.jt } else { op.jf }),
                JUMP_ANY_BIT => at += usize::from(if acc & op.k != 0 { op.jt } else { op.jf }),
                other => panic!("unknown instruction {other}"),
            }
        }
    }

    #[test]
    fn denies_what_changes_the_host_and_allows_the_rest() {
        let eperm = ERRNO | libc::EPERM as u32;
        let enosys = ERRNO | libc::ENOSYS as u32;
        let native = |nr: c_long, arg0| verdict(NATIVE_ARCH, nr as u32, arg0);
        assert_eq!(native(libc::SYS_mount, 0), eperm);
        assert_eq!(native(libc::SYS_unshare, 0), eperm);
        assert_eq!(native(libc::SYS_clone3, 0), enosys);
        assert_eq!(native(libc::SYS_clone, libc::CLONE_NEWUSER as u32), eperm);
        assert_eq!(native(libc::SYS_clone, (libc::CLONE_VM | libc::SIGCHLD) as u32), ALLOW);
        assert_eq!(native(libc::SYS_read, 0), ALLOW);
        assert_eq!(native(libc::SYS_execve, 0), ALLOW);
        for compat in COMPAT {
            assert_eq!(verdict(compat.arch, 21, 0), eperm, "32-bit mount");
            assert_eq!(verdict(compat.arch, compat.clone, libc::CLONE_NEWUSER as u32), eperm);
            assert_eq!(verdict(compat.arch, 3, 0), ALLOW, "32-bit read");
            assert_eq!(verdict(compat.arch, CLONE3, 0), enosys);
        }
        assert_eq!(verdict(0xdead_beef, 0, 0), enosys);
        assert!(filter().len() < 4096);
    }
}
