//! Upper directories as the kernel's overlayfs leaves them. Needs root; elsewhere it says so and, under CI, fails.

use std::fs;
use std::path::Path;
use std::process::Command;

use cooperage_store::Digest;
use cooperage_store::layer::{Compression, Kind};
use cooperage_store::layers::{LayerId, Seal, UnpackOptions};

use crate::common::{Tar, fixture, is_root, listing, tree};

/// Whether the test cannot run. CI is not let off.
fn skipped() -> bool {
    let can = is_root() && Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    #[expect(clippy::disallowed_methods, reason = "whether this is CI is known from nowhere else")]
    let ci = std::env::var_os("CI").is_some();
    assert!(can || !ci, "CI must be able to mount overlayfs");
    if !can {
        #[expect(clippy::print_stderr, reason = "whoever runs the tests is to know")]
        {
            eprintln!("skipped: mounting overlayfs needs root");
        }
    }
    !can
}

/// Mounts `lower` and `upper` in a mount namespace of its own and runs `script` in the merged directory.
fn in_overlay(base: &Path, lower: &Path, upper: &Path, script: &str) {
    let (merged, work) = (base.join("merged"), base.join("work"));
    for directory in [&merged, &work] {
        fs::create_dir_all(directory).unwrap();
    }
    let mount = format!(
        "mount -t overlay overlay -o lowerdir={},upperdir={},workdir={} {m} && cd {m} && set -e && {script}",
        lower.display(),
        upper.display(),
        work.display(),
        m = merged.display()
    );
    let done = Command::new("unshare").args(["-m", "sh", "-c", &mount]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

const OPTIONS: UnpackOptions = UnpackOptions { userxattr: false, privileged: true };

#[test]
fn an_upper_directory_becomes_a_layer_and_applies_again() {
    if skipped() {
        return;
    }
    let fixture = fixture();
    let tar =
        Tar::new().dir("d").file("d/a", "1").file("d/b", "2").dir("gone").file("gone/x", "3").file("f", "4").end();
    let (base, _) = fixture.ingest(&tar).unwrap();
    let lower = fixture.unpack(&base).unwrap();
    let upper = fixture.temp.path().join("upper");
    fs::create_dir(&upper).unwrap();
    let script = "rm d/a && rm -r gone && rm -r d && mkdir d && echo new > d/new && rm f && echo again > f \
        && ln f hard && mkfifo pipe && ln -s f soft && mkdir t && chmod 1777 t && touch .x && rm .x \
        && python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")' 2>/dev/null || true";
    in_overlay(fixture.temp.path(), &lower, &upper, script);
    let id = LayerId(Digest::of(b"run"));
    let toc = fixture.layers.adopt(&id, &upper, false).unwrap().unwrap();
    let expected = "/ dir\n/d opaque\n/d/new file 4\n/f file 6\n/gone gone\n/hard == f\n/pipe fifo\n/soft -> f\n/t dir";
    assert_eq!(listing(&toc), expected);
    assert!(toc.iter().all(|entry| entry.xattrs.is_empty()), "nothing of overlayfs's own");
    assert!(!upper.exists());
    assert!(!fixture.layers.path(&id).join("fs/sock").exists());
    let sealed = fixture.layers.seal(&id, Seal { compression: Compression::GZIP, clamp_mtime: None }).unwrap();
    let again = fixture.layers.ingest(&sealed.diff_id, &sealed.descriptor).unwrap();
    assert_eq!(listing(&again), expected);
    let directory = fixture.layers.unpack(&LayerId(sealed.diff_id), OPTIONS).unwrap();
    assert_eq!(tree(&directory), tree(&fixture.layers.unpack(&id, OPTIONS).unwrap()));
    // And the kernel takes what we made as it took its own.
    let (scratch, out) = (fixture.temp.path().join("scratch"), fixture.temp.path().join("out"));
    fs::create_dir(&scratch).unwrap();
    let both = format!("{}:{}", directory.display(), lower.display());
    let script = format!("test ! -e gone && test ! -e d/a && test -s d/new && ls -A > {}", out.display());
    in_overlay(&fixture.temp.path().join("second"), Path::new(&both), &scratch, &script);
    assert_eq!(fs::read_to_string(out).unwrap(), "d\nf\nhard\npipe\nsoft\nt\n");
}

#[test]
fn no_change_is_no_layer() {
    if skipped() {
        return;
    }
    let fixture = fixture();
    let (base, _) = fixture.ingest(&Tar::new().file("d/a", "1").end()).unwrap();
    let lower = fixture.unpack(&base).unwrap();
    let upper = fixture.temp.path().join("upper");
    fs::create_dir(&upper).unwrap();
    in_overlay(fixture.temp.path(), &lower, &upper, "cat d/a > /dev/null && touch x && mv x y && mknod z p && rm y z");
    let id = LayerId(Digest::of(b"run"));
    assert_eq!(fixture.layers.adopt(&id, &upper, false).unwrap(), None);
    assert!(upper.exists());
    assert_eq!(fixture.layers.get(&id).unwrap(), None);
}

#[test]
fn attributes_of_the_file_stay_and_those_of_the_machine_go() {
    if skipped() {
        return;
    }
    let fixture = fixture();
    let upper = fixture.temp.path().join("upper");
    fs::create_dir_all(upper.join("d")).unwrap();
    fs::write(upper.join("f"), "x").unwrap();
    let set = |path: &str, name: &str, value: &[u8]| {
        rustix::fs::setxattr(upper.join(path), name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    // Version 2, cap_net_raw permitted and effective.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set("f", "security.capability", &capability);
    set("f", "user.kept", b"v");
    set("f", "trusted.other", b"v");
    set("d", "trusted.overlay.origin", b"x");
    set("d", "user.overlay.opaque", b"y");
    let toc = fixture.layers.adopt(&LayerId(Digest::of(b"run")), &upper, false).unwrap().unwrap();
    let names: Vec<&[u8]> = toc.get(b"f").unwrap().xattrs.iter().map(|(name, _)| &name[..]).collect();
    assert_eq!(names, [&b"security.capability"[..], b"user.kept"]);
    assert_eq!(toc.get(b"d").unwrap().kind, Kind::Directory { opaque: false }, "a build may set user.* at will");
    assert!(toc.get(b"d").unwrap().xattrs.is_empty());
    let sealed = fixture.layers.seal(&LayerId(Digest::of(b"run")), Seal::default()).unwrap();
    fixture.layers.ingest(&sealed.diff_id, &sealed.descriptor).unwrap();
    let directory = fixture.layers.unpack(&LayerId(sealed.diff_id), OPTIONS).unwrap();
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(directory.join("f"), "security.capability", &mut value[..]).unwrap();
    assert_eq!(&value[..length], capability);
}

#[test]
fn content_that_is_elsewhere_is_refused() {
    if skipped() {
        return;
    }
    let fixture = fixture();
    let upper = fixture.temp.path().join("upper");
    fs::create_dir_all(upper.join("d")).unwrap();
    let name = "trusted.overlay.redirect";
    rustix::fs::setxattr(upper.join("d"), name, b"/x", rustix::fs::XattrFlags::empty()).unwrap();
    let error = fixture.layers.adopt(&LayerId(Digest::of(b"run")), &upper, false).unwrap_err();
    assert!(error.to_string().contains("redirect_dir"), "{error}");
}
