//! Makes the build context of a case from its files and from `context.txt`, which says what no version control keeps.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

/// Lays out `files/`, then the lines of `context.txt`, then the Dockerfile:
/// `dir PATH MODE`, `file PATH MODE TEXT`, `fifo PATH MODE`, `host PATH MODE FILE`, `link PATH TARGET`, `hard PATH NAME`.
pub fn lay_out(case: &Path, into: &Path) {
    make_directory(into);
    let files = case.join("files");
    if files.exists() {
        copy(&files, into);
    }
    let listing = fs::read_to_string(case.join("context.txt")).unwrap_or_default();
    let mut modes = Vec::new();
    for line in listing.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut parts = line.splitn(3, ' ');
        let mut part = || parts.next().unwrap_or_default();
        let (kind, path, rest) = (part(), part(), part());
        let target = into.join(path);
        make_parents(&target, into);
        match kind {
            "link" => symlink(rest, &target).unwrap(),
            "hard" => fs::hard_link(into.join(rest), &target).unwrap(),
            _ => {
                let (mode, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                match kind {
                    "dir" if target.is_dir() => {}
                    "dir" => make_directory(&target),
                    "file" => fs::write(&target, rest.replace("\\n", "\n")).unwrap(),
                    "fifo" => {
                        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
                        rustix::fs::mknodat(rustix::fs::CWD, &target, kind, mode, 0).unwrap();
                    }
                    "host" => drop(fs::copy(rest, &target).unwrap()),
                    other => panic!("{}: what is {other:?}?", case.display()),
                }
                modes.push((target, u32::from_str_radix(mode, 8).unwrap()));
            }
        }
    }
    for (target, mode) in modes {
        set_mode(&target, mode);
    }
    fs::copy(case.join("Dockerfile"), into.join("Dockerfile")).unwrap();
    set_mode(&into.join("Dockerfile"), 0o644);
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            make_directory(&target);
            copy(&entry.path(), &target);
        } else {
            let executable = entry.metadata().unwrap().permissions().mode() & 0o100 != 0;
            fs::copy(entry.path(), &target).unwrap();
            set_mode(&target, if executable { 0o755 } else { 0o644 });
        }
    }
}

fn make_parents(path: &Path, stop: &Path) {
    let parent = path.parent().unwrap();
    if parent != stop && !parent.exists() {
        make_parents(parent, stop);
        make_directory(parent);
    }
}

fn make_directory(path: &Path) {
    fs::create_dir(path).unwrap();
    set_mode(path, 0o755);
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
