use std::os::unix::fs::PermissionsExt;

use super::outline::{NotAComponent, OutlineError, outline};
use super::*;

const LIMIT: u64 = 1 << 20;

#[test]
fn what_is_no_component_is_told_apart() {
    let error = |bytes: &[u8]| outline(bytes, LIMIT).unwrap_err();
    assert_eq!(
        error(b"\x7fELF\x02\x01\x01\0").to_string(),
        r#"this is not a WebAssembly component: it begins with "\x7fELF\x02\x01\x01\x00""#
    );
    assert_eq!(error(b""), NotAComponent::Empty.into());
    assert_eq!(error(b"  (component)"), NotAComponent::Text.into());
    assert_eq!(error(b"\0asm\x01\0\0\0"), NotAComponent::CoreModule.into());
    assert_eq!(error(b"\0asm\x0e\0\x01\0"), OutlineError::Format { version: 14 });
    assert!(matches!(error(b"\0asm\x0d\0\x01\0\x01"), OutlineError::Damaged { .. }));
    let component = wat::parse_str("(component)").unwrap();
    assert!(outline(&component, LIMIT).is_ok());
    assert!(matches!(outline(&component, 4), Err(OutlineError::TooLarge { .. })));
}

#[test]
fn nesting_is_bounded() {
    let deep = format!("{}{}", "(component ".repeat(40), ")".repeat(40));
    assert!(matches!(
        outline(&wat::parse_str(deep).unwrap(), LIMIT),
        Err(OutlineError::TooMany { what: "levels", .. })
    ));
    let wide = format!("(component {})", "(core module)".repeat(1001));
    assert!(matches!(outline(&wat::parse_str(wide).unwrap(), LIMIT), Err(OutlineError::TooMany { .. })));
}

#[test]
fn a_cut_component_is_damaged_wherever_it_is_cut() {
    let whole = wat::parse_str(r#"(component (core module (func)) (component (import "a" (func))))"#).unwrap();
    for end in 8..whole.len() {
        let _ = outline(&whole[..end], LIMIT);
    }
    assert!(outline(&whole, LIMIT).is_ok());
}

#[test]
fn code_is_kept_once_and_only_ours_is_loaded() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("code");
    let engine = wasmtime::Engine::new(&crate::engine::settings()).unwrap();
    let cache = CodeCache::open(&directory, &engine).unwrap();
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    let wasm = wat::parse_str("(component)").unwrap();
    let digest = Digest::of(&wasm);
    assert!(cache.load(&digest, &engine).is_none());
    let code = child::precompile(&engine, &wasm).unwrap();
    cache.keep(&digest, &code).unwrap();
    assert!(cache.load(&digest, &engine).is_some());
    let path = cache.path(&digest, "cwasm");
    let inode = fs::metadata(&path).unwrap().ino();
    cache.keep(&digest, &code).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode, "what may be mapped is not replaced");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "no temporary file is left");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(cache.load(&digest, &engine).is_none(), "others could have written it");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let moved = directory.join("elsewhere");
    fs::rename(&path, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &path).unwrap();
    assert!(cache.load(&digest, &engine).is_none(), "a link may lead anywhere");
    fs::remove_file(&path).unwrap();

    cache.keep(&digest, &wasm).unwrap();
    assert!(cache.load(&digest, &engine).is_none() && !path.exists(), "what is no code is dropped");
}

#[test]
fn a_directory_of_others_is_refused() {
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = private_directory(root.path()).unwrap_err();
    assert!(error.to_string().contains("0700"), "{error}");
}

#[test]
fn only_its_own_argument_makes_a_compiler() {
    let run = |arguments: &[&str]| child::compile_child(arguments.iter().map(Into::into));
    assert_eq!(run(&["coop"]), None);
    assert_eq!(run(&["coop", "build", "__compile"]), None);
    assert_eq!(run(&["coop", "__compile", "a"]), Some(2));
    assert_eq!(run(&["coop", "__compile", "a", "b", "many", "1"]), Some(2));
}
