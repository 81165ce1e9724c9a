//! The plugin contract: every item of it says what it is and since when it is there, and what was released never changes.

use crate::repository::{File, files, none};

/// What begins an item that needs a doc comment and `@since`.
const ITEMS: [&str; 10] =
    ["interface ", "world ", "record ", "variant ", "enum ", "flags ", "resource ", "type ", "export ", "import "];

/// Items of a file that lack something, by line.
fn lacking(file: &File) -> Vec<String> {
    let mut found = Vec::new();
    let (mut documented, mut since) = (false, false);
    // A function may take several lines; only the first is looked at.
    let mut within_signature = false;
    for (number, line) in file.text.lines().enumerate() {
        let code = line.trim();
        if code.starts_with("///") {
            documented = true;
        } else if code.starts_with("@since") {
            since = true;
        } else if code.starts_with("@") || code.starts_with("//") {
        } else if within_signature {
            within_signature = !code.ends_with(';');
        } else if !code.is_empty() {
            let function = code.split_once(':').is_some_and(|(_, rest)| {
                let rest = rest.trim_start();
                rest.starts_with("func(") || rest.starts_with("static func(")
            });
            let constructor = code.starts_with("constructor(");
            if function || constructor || ITEMS.iter().any(|item| code.starts_with(item)) {
                // What a world takes and gives is documented where it is defined.
                let mention = code.starts_with("export ") || code.starts_with("import ");
                for (missing, what) in [(!documented && !mention, "a doc comment"), (!since, "@since")] {
                    if missing {
                        found.push(format!("{}:{}: {code} lacks {what}", file.path, number + 1));
                    }
                }
                within_signature = (function || constructor) && !code.ends_with(';');
            }
            (documented, since) = (false, false);
        }
    }
    found
}

#[test]
fn every_item_says_what_it_is_and_since_when() {
    let ours = files(&[".wit"]).into_iter().filter(|file| !file.path.contains("/deps/"));
    none("the contract is read by people who have only it:", ours.flat_map(|file| lacking(&file)).collect());
}

#[test]
fn what_is_lacking_is_found() {
    let text = "/// Good.\n@since(version = 0.1.0)\ninterface a {\n  /// Doc.\n  record b { x: u8 }\n  @since(version = 0.1.0)\n  \
        c: func(\n    x: u8,\n  ) -> u8;\n  d: static func();\n}\n";
    let file = File { path: "x.wit".to_owned(), text: text.to_owned() };
    let expected = ["x.wit:5: record b { x: u8 } lacks @since", "x.wit:7: c: func( lacks a doc comment"];
    let found = lacking(&file);
    assert_eq!(found[..2], expected);
    assert_eq!(found.len(), 4, "{found:?}");
}

/// The files of released folders with their digests, as `sha256sum` writes and checks them.
const RELEASED: &str = "wit/released.sha256";

/// What differs between the folders of the contract and the list of what was released.
fn changed(list: &str, there: &[(String, String)]) -> Vec<String> {
    let released: Vec<(&str, &str)> =
        list.lines().filter_map(|line| line.split_once("  ")).map(|(digest, path)| (path, digest)).collect();
    let folder = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
    let frozen = |path: &str| released.iter().any(|(listed, _)| folder(listed) == folder(path));
    let mut found = Vec::new();
    for (path, digest) in &released {
        match there.iter().find(|(name, _)| name == path) {
            None => found.push(format!("wit/{path} was released and is gone")),
            Some((_, now)) if now != digest => found.push(format!("wit/{path} was released and is now another")),
            Some(_) => {}
        }
    }
    for (path, _) in there {
        let listed = released.iter().any(|(name, _)| name == path);
        if !listed && frozen(path) {
            found.push(format!("wit/{path} is new in a released folder"));
        } else if !listed && !folder(path).ends_with("-next") {
            found.push(format!("wit/{path} is neither released ({RELEASED}) nor in a folder that ends in `-next`"));
        }
    }
    found
}

#[test]
fn released_folders_never_change() {
    let digest = |file: &File| cooperage_store::Digest::of(file.text.as_bytes()).hex();
    let there: Vec<_> = files(&[".wit"])
        .iter()
        .filter_map(|file| Some((file.path.strip_prefix("wit/")?.to_owned(), digest(file))))
        .collect();
    let list = std::fs::read_to_string(crate::repository::root().join(RELEASED)).unwrap();
    let rule = "plugins that were built against a released folder are out there, and no host can take a change to it \
        back. Undo these changes (`git checkout main -- wit`), and make them in the next version's folder instead; \
        CONTRIBUTING.md says how a version is made:";
    none(rule, changed(&list, &there));
}

#[test]
fn a_change_of_a_released_folder_is_found() {
    let list = "aa  plugin-0.1.0/a.wit\nbb  plugin-0.1.0/deps/b.wit\n";
    let check = |there: &[(&str, &str)], expected: &[&str]| {
        let there: Vec<_> = there.iter().map(|(path, digest)| ((*path).to_owned(), (*digest).to_owned())).collect();
        let found = changed(list, &there);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found} lacks {expected}");
        }
    };
    let (a, b) = (("plugin-0.1.0/a.wit", "aa"), ("plugin-0.1.0/deps/b.wit", "bb"));
    check(&[a, b], &[]);
    check(&[a, b, ("plugin-next/a.wit", "cc")], &[]);
    check(&[a, ("plugin-0.1.0/deps/b.wit", "b0")], &["deps/b.wit was released and is now another"]);
    check(&[b], &["a.wit was released and is gone"]);
    check(&[a, b, ("plugin-0.1.0/c.wit", "cc")], &["c.wit is new in a released folder"]);
    check(&[a, b, ("plugin-0.2.0/a.wit", "cc")], &["neither released"]);
}
