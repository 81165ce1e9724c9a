//! What a process sees and how its end is told, the same natively and through an OCI runtime.

mod support;

use cooperage_sandbox::{Exit, Isolation};
use support::World;

fn both(check: impl Fn(&World)) {
    for isolation in [Isolation::Native, Isolation::Oci] {
        let Some(world) = World::with(isolation) else { return };
        check(&world);
    }
}

#[test]
fn exit_codes_and_signals() {
    both(|world| {
        for code in [0, 1, 42, 126, 127, 255] {
            assert_eq!(world.run(&world.sh(&format!("exit {code}"))).unwrap().0, Exit::Code(code));
        }
        // The first process of a container is immune against its own signals; a child is not.
        let killed = world.run(&world.sh("sh -c 'kill -9 $$'; exit $?")).unwrap().0;
        assert_eq!(killed, Exit::Code(137));
    });
    let Some(world) = World::new() else { return };
    assert_eq!(world.run(&world.sh("kill -9 $$")).unwrap().0, Exit::Signal(9));
    assert_eq!(world.run(&world.sh("kill -TERM $$")).unwrap().0, Exit::Signal(15));
}

#[test]
fn both_streams_in_the_order_written() {
    both(|world| {
        let output = world.out("for i in 1 2 3 4 5; do echo out$i; echo err$i >&2; done");
        assert_eq!(
            output.split('\n').collect::<Vec<_>>(),
            (1..=5).flat_map(|i| [format!("out{i}"), format!("err{i}")]).collect::<Vec<_>>()
        );
        let long = world.out("seq 1 200000");
        assert_eq!(long.lines().count(), 200_000);
        assert!(long.ends_with("\n200000"));
    });
}

#[test]
fn identity_environment_directory_and_input() {
    both(|world| {
        let mut spec = world.sh("env | sort; pwd; id -u; id -g; id -G; cat; hostname");
        spec.process.env =
            [("PATH", "/bin"), ("A", "b c"), ("EMPTY", ""), ("PWD", "/new/dir"), ("SHLVL", "0"), ("HOME", "/")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec();
        spec.process.cwd = "/new/dir".to_owned();
        spec.process.uid = 1234;
        spec.process.gid = 77;
        spec.process.groups = vec![77, 88, 99];
        spec.process.stdin = b"some input\n".to_vec();
        spec.process.hostname = "cask".to_owned();
        let output = world.ok(&spec);
        assert_eq!(
            output,
            "A=b c\nEMPTY=\nHOME=/\nPATH=/bin\nPWD=/new/dir\nSHLVL=1\n/new/dir\n1234\n77\n77 88 99\nsome input\ncask"
        );
        assert_eq!(world.changes(), ["new/", "new/dir/"]);
    });
}

#[test]
fn the_environment_is_exactly_that_given() {
    both(|world| {
        let mut spec = world.spec(&["cat", "/proc/self/environ"]);
        spec.process.env = vec![("ONLY".to_owned(), "this".to_owned()), ("PATH".to_owned(), "/bin".to_owned())];
        // runc alone adds HOME when there is none, as the runtime specification lets it.
        let output = world.ok(&spec).replace("HOME=/\0", "");
        assert_eq!(output, "ONLY=this\0PATH=/bin\0");
    });
}

#[test]
fn another_user_can_write_to_its_streams_by_name() {
    both(|world| {
        let mut spec = world.sh("echo one > /dev/stdout; echo two > /dev/stderr; cat /dev/stdin");
        spec.process.uid = 1000;
        spec.process.stdin = b"three".to_vec();
        assert_eq!(world.ok(&spec), "one\ntwo\nthree");
    });
}

#[test]
fn only_real_changes_are_left() {
    both(|world| {
        world.write("old/file", "old");
        world.write("old/gone", "gone");
        std::fs::set_permissions(world.base("old/file"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(world.out("true"), "");
        assert_eq!(world.changes(), [""; 0]);
        world.reset();
        world.out("echo new > /old/file; rm /old/gone; mkdir /made; ls / /etc /dev /proc /sys > /dev/null");
        assert_eq!(world.changes(), ["-old/gone", "made/", "old/", "old/file"]);
        assert_eq!(std::fs::read_to_string(world.upper().join("old/file")).unwrap(), "new\n");
    });
}

#[test]
fn programs_that_cannot_be_started_say_why() {
    both(|world| {
        world.write("bin/plain", "#!/bin/sh\n");
        let check = |args: &[&str], code: i32, message: &str| {
            let (exit, output) = world.run(&world.spec(args)).unwrap();
            assert_eq!((exit, output.contains(message)), (Exit::Code(code), true), "{output}");
        };
        check(&["nope"], 127, "nope: not found in PATH");
        check(&["/no/such"], 127, "/no/such: not found in the image");
        check(&["plain"], 126, "cannot run /bin/plain: Permission denied");
    });
    let Some(world) = World::new() else { return };
    for (name, text) in [("script", "#!/bin/nope -x\n"), ("crlf", "#!/bin/sh\r\n"), ("text", "no program")] {
        world.write(&format!("bin/{name}"), text);
        std::fs::set_permissions(
            world.base(&format!("bin/{name}")),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
    }
    let check = |args: &[&str], code: i32, message: &str| {
        let (exit, output) = world.run(&world.spec(args)).unwrap();
        assert_eq!((exit, output.contains(message)), (Exit::Code(code), true), "{output}");
    };
    check(&["script"], 127, "its interpreter /bin/nope is not in the image");
    check(&["crlf"], 127, "its interpreter /bin/sh\\r is not in the image");
    check(&["text"], 126, "neither a program for this machine nor a script");
    check(&["/bin"], 126, "cannot run /bin: it is a directory");
}

#[test]
fn a_wrong_specification_is_an_error() {
    let Some(world) = World::new() else { return };
    let mut spec = world.sh("true");
    spec.process.args.clear();
    assert!(world.run(&spec).unwrap_err().to_string().contains("no program"));
    let mut spec = world.sh("true");
    spec.process.cwd = "relative".to_owned();
    assert!(world.run(&spec).unwrap_err().to_string().contains("not absolute"));
    let mut spec = world.sh("true");
    spec.root.lowers = vec!["/no/such/layer".into()];
    assert!(world.run(&spec).unwrap_err().to_string().contains("/no/such/layer"));
}

#[test]
fn other_runtimes() {
    let Some(world) = World::with(Isolation::Oci) else { return };
    let run = |runtime: &str, spec: &cooperage_sandbox::Spec| {
        let mut output = Vec::new();
        let sandbox = world.sandbox_with(Some(runtime.into()));
        let exit =
            sandbox.run(spec, &mut |bytes| output.extend_from_slice(bytes), &cooperage_sandbox::Cancel::new().unwrap());
        (exit, String::from_utf8_lossy(&output).into_owned())
    };
    let (exit, _) = run("/bin/false", &world.sh("true"));
    let error = exit.unwrap_err().to_string();
    assert!(error.starts_with("/bin/false failed: it ended with Code(1)"), "{error}");
    if !std::path::Path::new("/usr/bin/crun").exists() {
        return support::skip("no crun");
    }
    // crun 1.8 refuses hybrid cgroups; they are hidden from it.
    let (exit, output) = run("/usr/bin/crun", &world.sh("echo hi; id -u; touch /made; kill -9 $$; exit 3"));
    assert_eq!((exit.unwrap(), output.as_str()), (Exit::Code(3), "hi\n0\n"));
    assert_eq!(world.changes(), ["made"]);
}
