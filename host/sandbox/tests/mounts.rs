//! Mounts appear where they should, leave nothing in the layer, and cannot be made to lead out of the root.

mod support;

use std::os::unix::fs::symlink;

use cooperage_sandbox::{Exit, Isolation, Mount};
use support::World;

fn each(check: impl Fn(&World)) {
    for isolation in [Isolation::Native, Isolation::Oci] {
        let Some(world) = World::with(isolation) else { return };
        check(&world);
    }
}

fn secret(target: &str) -> Mount {
    Mount::File { bytes: b"sesame".to_vec(), target: target.to_owned(), mode: 0o400, uid: 0, gid: 0 }
}

fn bind(source: &std::path::Path, target: &str, read_only: bool) -> Mount {
    Mount::Bind { source: source.to_owned(), target: target.to_owned(), read_only }
}

#[test]
fn every_kind_works_and_leaves_no_trace() {
    each(|world| {
        let dir = |name: &str| {
            let path = world.dir.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let (cache, context, top, bottom) = (dir("cache"), dir("context"), dir("top/sub"), dir("bottom/sub"));
        std::fs::write(context.join("file"), "context").unwrap();
        std::fs::write(top.join("a"), "top").unwrap();
        std::fs::write(bottom.join("a"), "hidden").unwrap();
        std::fs::write(bottom.join("b"), "bottom").unwrap();
        std::fs::write(bottom.join("gone"), "gone").unwrap();
        let whiteout = std::process::Command::new("mknod").arg(top.join("gone")).args(["c", "0", "0"]).status();
        assert!(whiteout.unwrap().success());
        let layers = vec![world.dir.path().join("top"), world.dir.path().join("bottom")];
        let overlay = |target: &str, read_only| Mount::Overlay {
            lowers: layers.clone(),
            sub_path: "sub".to_owned(),
            target: target.to_owned(),
            read_only,
        };
        let mut spec = world.sh(
            "set -e; echo kept > /var/cache/apt/new; cat /src/file /run/secrets/token; echo; stat -c %a /run/secrets/token
             ls /ro; cat /ro/a /rw/b; echo changed > /rw/b; cat /rw/b; echo t > /scratch/x; stat -c %a /scratch
             cat /dev/pipes/EOF; echo; cat /src/inner/x; echo
             ! echo x > /src/file; ! echo x > /ro/a; ! echo x > /run/secrets/token",
        );
        spec.mounts = vec![
            // Below a later one: order of the paths, not of the list, counts.
            bind(&context, "/src/inner", true),
            bind(&cache, "/var/cache/apt", false),
            bind(&context, "/src", true),
            secret("/run/secrets/token"),
            secret("/dev/pipes/EOF"),
            overlay("/ro", true),
            overlay("/rw", false),
            Mount::Tmpfs { target: "/scratch".to_owned(), size: Some(1 << 20), mode: 0o1777 },
        ];
        std::fs::create_dir(context.join("inner")).unwrap();
        std::fs::write(context.join("x"), "inner").unwrap();
        let (exit, output) = world.run(&spec).unwrap();
        let lines: Vec<&str> = output.lines().filter(|line| !line.contains("sh: ")).collect();
        assert_eq!(exit, Exit::Code(0), "{output}");
        assert_eq!(
            lines,
            ["contextsesame", "400", "a", "b", "topbottomchanged", "1777", "sesame", "inner"],
            "{output}"
        );
        assert_eq!(std::fs::read_to_string(cache.join("new")).unwrap(), "kept\n");
        assert_eq!(std::fs::read_to_string(bottom.join("b")).unwrap(), "bottom");
        assert_eq!(world.changes(), [""; 0]);
    });
}

#[test]
fn targets_go_through_the_links_of_the_image_but_not_out_of_it() {
    each(|world| {
        std::fs::create_dir_all(world.base("run")).unwrap();
        std::fs::create_dir_all(world.base("etc")).unwrap();
        std::fs::write(world.base("etc/passwd"), "image").unwrap();
        symlink("/run", world.base("var")).unwrap();
        symlink("/etc/passwd", world.base("absolute")).unwrap();
        symlink("../../../../../../../../etc/passwd", world.base("relative")).unwrap();
        symlink("/proc/self/root/etc/shadow-new", world.base("magic")).unwrap();
        symlink("/gone/far/away", world.base("dangling")).unwrap();
        let host = std::fs::read_to_string("/etc/passwd").unwrap();
        for (target, seen) in [
            ("/var/run/token", "/run/run/token"),
            ("/absolute", "/etc/passwd"),
            ("/relative", "/etc/passwd"),
            ("/dangling", "/gone/far/away"),
            ("/dangling/deeper", "/gone/far/away/deeper"),
        ] {
            let mut spec = world.sh(&format!("cat {seen}"));
            spec.mounts = vec![secret(target)];
            assert_eq!(world.ok(&spec), "sesame", "{target}");
            assert_eq!(world.changes(), [""; 0], "{target}");
        }
        let mut spec = world.sh("true");
        spec.mounts = vec![secret("/magic")];
        let _ = world.run(&spec);
        assert!(!std::path::Path::new("/etc/shadow-new").exists());
        assert_eq!(std::fs::read_to_string("/etc/passwd").unwrap(), host);
        assert_eq!(world.changes(), [""; 0]);
    });
}

#[test]
fn the_name_files_follow_links_inside_only() {
    each(|world| {
        std::fs::create_dir_all(world.base("etc")).unwrap();
        symlink("../run/systemd/resolve/stub-resolv.conf", world.base("etc/resolv.conf")).unwrap();
        symlink("/", world.base("loop")).unwrap();
        symlink("/loop/../../etc/other", world.base("etc/hosts")).unwrap();
        let mut spec =
            world.sh("cat /etc/other > /dev/null; cat /etc/resolv.conf > /dev/null; ls /run/systemd/resolve");
        spec.network = cooperage_sandbox::Network::Host;
        assert_eq!(world.ok(&spec), "stub-resolv.conf");
        assert_eq!(world.changes(), [""; 0]);
    });
}

#[test]
fn roots_of_links_are_refused() {
    for name in ["proc", "sys", "dev"] {
        let Some(world) = World::new() else { return };
        symlink("/", world.base(name)).unwrap();
        let error = world.run(&world.sh("true")).unwrap_err().to_string();
        assert!(error.contains("is a symbolic link"), "{error}");
    }
    // /etc -> / is odd but leads nowhere else.
    let Some(world) = World::new() else { return };
    symlink("/", world.base("etc")).unwrap();
    assert!(world.out("cat /hosts").contains("localhost"));
    assert_eq!(world.changes(), [""; 0]);
}

#[test]
fn wrong_targets_are_refused() {
    let Some(world) = World::new() else { return };
    symlink("/", world.base("slash")).unwrap();
    symlink("/proc/sys", world.base("sysctl")).unwrap();
    for target in [
        "relative",
        "/",
        "/a/../b",
        "",
        "/slash",
        "/proc/sys/kernel",
        "/sysctl/kernel",
        "/proc/self/attr",
        "/sys/x",
        "/bin",
    ] {
        let mut spec = world.sh("true");
        spec.mounts = vec![secret(target)];
        let result = world.run(&spec);
        assert!(result.is_err(), "{target}: {result:?}");
        assert_eq!(world.changes(), [""; 0], "{target}");
    }
}

#[test]
fn a_mount_point_that_the_image_hides_is_still_made() {
    let Some(world) = World::new() else { return };
    // An opaque directory and a whiteout above where the stub would be.
    let top = world.dir.path().join("top");
    std::fs::create_dir_all(top.join("opaque")).unwrap();
    std::fs::set_permissions(top.join("opaque"), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    std::fs::create_dir_all(world.base("opaque/old")).unwrap();
    let run = |program: &str, args: &[&str]| {
        assert!(std::process::Command::new(program).args(args).current_dir(&top).status().unwrap().success());
    };
    if !std::path::Path::new("/usr/bin/setfattr").exists() {
        return support::skip("no setfattr (apt-get install attr)");
    }
    run("setfattr", &["-n", "trusted.overlay.opaque", "-v", "y", "opaque"]);
    run("mknod", &["secret", "c", "0", "0"]);
    let mut spec = world.sh("cat /opaque/deep/token /secret; echo; ls /opaque; stat -c '%a %u %Y' /opaque");
    spec.root.lowers.insert(0, top.clone());
    spec.mounts = vec![secret("/opaque/deep/token"), secret("/secret")];
    let time = std::fs::metadata(top.join("opaque")).unwrap().modified().unwrap();
    let time = time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(world.ok(&spec), format!("sesamesesame\ndeep\n711 0 {time}"));
    assert_eq!(world.changes(), [""; 0]);
}

#[test]
fn many_layers() {
    let Some(world) = World::new() else { return };
    let mut spec = world.sh("ls /layers | wc -l; cat /layers/same");
    for index in 0..200 {
        let layer = world.dir.path().join(format!("a-rather-long-directory-name-for-layer-{index}"));
        std::fs::create_dir_all(layer.join("layers")).unwrap();
        std::fs::write(layer.join(format!("layers/{index}")), "").unwrap();
        std::fs::write(layer.join("layers/same"), index.to_string()).unwrap();
        spec.root.lowers.insert(0, layer);
    }
    assert_eq!(world.ok(&spec), "201\n199");
}

#[test]
fn names_with_the_characters_of_mount_options() {
    let Some(world) = World::new() else { return };
    let layer = world.dir.path().join("a:b,upperdir=c\\d e");
    std::fs::create_dir_all(layer.join("odd,dir:ro")).unwrap();
    std::fs::write(layer.join("odd,dir:ro/file"), "odd").unwrap();
    let mut spec = world.sh("cat '/odd,dir:ro/file' '/x,rw:y/file'");
    spec.root.lowers.insert(0, layer.clone());
    spec.mounts = vec![bind(&layer.join("odd,dir:ro"), "/x,rw:y", true)];
    assert_eq!(world.ok(&spec), "oddodd");
}
