//! What a process cannot do or see.

mod support;

use std::path::Path;

use cooperage_sandbox::{Exit, Isolation, Mount, Network};
use support::World;

/// What Docker's default set holds, as in /proc/self/status.
const CAPS: &str = "00000000a80425fb";

fn each(check: impl Fn(&World)) {
    for isolation in [Isolation::Native, Isolation::Oci] {
        let Some(world) = World::with(isolation) else { return };
        check(&world);
    }
}

#[test]
fn capabilities_and_filter() {
    each(|world| {
        let status =
            world.out("grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|Seccomp|NoNewPrivs):' /proc/self/status | tr -d '\\t'");
        let zero = "0".repeat(16);
        assert_eq!(
            status,
            format!(
                "CapInh:{zero}\nCapPrm:{CAPS}\nCapEff:{CAPS}\nCapBnd:{CAPS}\nCapAmb:{zero}\nNoNewPrivs:0\nSeccomp:2"
            )
        );
        let mut spec = world.sh("grep -E '^(Cap(Prm|Eff|Bnd)|NoNewPrivs)' /proc/self/status | tr -d '\\t'");
        spec.process.uid = 1000;
        spec.process.no_new_privileges = true;
        assert_eq!(world.ok(&spec), format!("CapPrm:{zero}\nCapEff:{zero}\nCapBnd:{CAPS}\nNoNewPrivs:1"));
    });
}

#[test]
fn set_user_id_programs_work_as_in_docker() {
    let Some(world) = World::new() else { return };
    world.add_program("/usr/bin/id");
    std::fs::set_permissions(world.base("usr/bin/id"), std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    let mut spec = world.spec(&["/usr/bin/id"]);
    spec.process.uid = 1000;
    spec.process.gid = 1000;
    assert_eq!(world.ok(&spec), "uid=1000 gid=1000 euid=0 groups=1000");
    spec.process.no_new_privileges = true;
    assert_eq!(world.ok(&spec), "uid=1000 gid=1000 groups=1000");
}

#[test]
fn dangerous_calls_fail() {
    each(|world| {
        std::fs::create_dir(world.base("m")).unwrap();
        for script in [
            "mount -t tmpfs none /m",
            "mount -o bind /bin /m",
            "mount -o remount,rw /sys",
            "umount /proc",
            "unshare -U true",
            "unshare -m true",
            "hostname other",
            "echo 1 > /proc/sys/vm/drop_caches",
            "echo b > /proc/sysrq-trigger",
            "mkdir /sys/fs/cgroup/x",
            "kill -9 1",
        ] {
            let (exit, output) = world.run(&world.sh(&format!("{script} 2>/dev/null && echo DONE; true"))).unwrap();
            let alive = script.starts_with("kill") || !output.contains("DONE");
            assert_eq!((exit, alive), (Exit::Code(0), true), "{script}: {output}");
        }
    });
}

#[test]
fn masked_files_are_empty() {
    each(|world| {
        for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts"] {
            if Path::new(path).exists() {
                assert_eq!(world.out(&format!("head -c 10 {path} | wc -c")), "0", "{path}");
            }
        }
        for path in ["/sys/firmware", "/proc/acpi", "/proc/scsi"] {
            if Path::new(path).exists() {
                assert_eq!(world.out(&format!("ls -A {path} | wc -l")), "0", "{path}");
            }
        }
    });
}

#[test]
fn devices_can_be_made_but_not_opened() {
    let Some(world) = World::new() else { return };
    let disk = std::fs::read_to_string("/proc/partitions").unwrap();
    let fields: Vec<&str> = disk.lines().nth(2).unwrap_or("").split_ascii_whitespace().collect();
    let [major, minor, ..] = fields[..] else { return support::skip("no block device") };
    for directory in ["/", "/dev", "/dev/shm", "/tmpfs"] {
        let mut spec = world.sh(&format!(
            "mknod {directory}/disk b {major} {minor} && ls {directory}/disk; dd if={directory}/disk of=/dev/null count=1"
        ));
        spec.mounts = vec![Mount::Tmpfs { target: "/tmpfs".to_owned(), size: None, mode: 0o755 }];
        let (exit, output) = world.run(&spec).unwrap();
        assert!(exit != Exit::Code(0) && output.contains("ermission denied"), "{directory}: {output}");
    }
    assert_eq!(
        world.out("echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; ls /dev"),
        "3\n3\ncore\nfd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero"
    );
}

#[test]
fn no_host_process_mount_or_descriptor_is_seen() {
    each(|world| {
        let leak = std::fs::File::open("/etc/passwd").unwrap();
        // As a careless host would have it: no close-on-exec flag.
        rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
        let fds = world.ok(&world.spec(&["ls", "/proc/self/fd"]));
        // The fourth is the directory that ls reads.
        assert_eq!(fds, "0\n1\n2\n3");
        let names =
            world.out("for p in /proc/[0-9]*; do readlink $p/exe; done; cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
        assert!(!names.contains("cargo") && !names.contains("/basic"), "{names}");
        let mounts = world.out("cat /proc/self/mountinfo");
        assert!(!mounts.contains("/var") && !mounts.contains("/sys/fs/cgroup/memory"), "{mounts}");
        let roots: Vec<&str> = mounts.lines().filter(|line| line.split(' ').nth(4) == Some("/")).collect();
        assert_eq!(roots.len(), 1, "{mounts}");
    });
}

#[test]
fn the_first_process_is_out_of_reach() {
    let Some(world) = World::new() else { return };
    for path in ["exe", "root", "cwd", "fd", "environ", "mem", "map_files"] {
        let (exit, output) = world.run(&world.sh(&format!("ls -l /proc/1/{path} && cat /proc/1/{path}"))).unwrap();
        assert_ne!(exit, Exit::Code(0), "{path}: {output}");
    }
    // Nor can its file, the host's own binary, be run from inside by a link to it.
    world.write("x", "");
    std::os::unix::fs::symlink("/proc/1/exe", world.base("bin/again")).unwrap();
    assert_eq!(world.run(&world.spec(&["again"])).unwrap().0, Exit::Code(126));
}

#[test]
fn no_network_but_loopback() {
    each(|world| {
        let links = world.out("ip -o link | grep -v 'lo:' | grep -c 'state UP' ; ip -o addr show lo; cat /etc/hosts");
        assert!(links.starts_with("0\n") && links.contains("127.0.0.1/8"), "{links}");
        assert!(links.contains("localhost coop"), "{links}");
        let routes = world.out("wc -l < /proc/net/route");
        assert!(routes.parse::<u32>().unwrap() <= 1, "{routes}");
    });
}

#[test]
fn the_hosts_network_with_its_names() {
    each(|world| {
        world.write("etc/resolv.conf", "of the image");
        let mut spec = world.sh("cat /etc/resolv.conf /etc/hosts; readlink /proc/self/ns/net; echo x >> /etc/hosts");
        spec.network = Network::Host;
        let (exit, output) = world.run(&spec).unwrap();
        let expected = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        assert!(output.contains(&expected) && !output.contains("of the image"), "{output}");
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        assert!(output.contains(own.to_str().unwrap()), "{output}");
        assert_ne!(exit, Exit::Code(0));
        assert_eq!(world.changes(), [""; 0]);
    });
}

#[test]
fn weaker_isolations_are_what_they_say() {
    let Some(world) = World::with(Isolation::Chroot) else { return };
    let script =
        "grep -E '^(CapEff|Seccomp):' /proc/self/status | tr -d '\\t'; ls /bin/sh; ls /proc | grep -c '^[0-9]'";
    let output = world.out(script);
    assert!(output.starts_with(&format!("CapEff:{CAPS}\nSeccomp:2\n/bin/sh\n")), "{output}");
    assert_eq!(world.changes(), [""; 0]);
    let Some(world) = World::with(Isolation::None) else { return };
    let output = world.out(script);
    assert!(output.contains("Seccomp:0") && !output.contains(CAPS), "{output}");
    assert_eq!(world.changes(), [""; 0]);
}
