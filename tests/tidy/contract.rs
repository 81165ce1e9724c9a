//! The plugin contract: every item of it says what it is and since when it is there.

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
