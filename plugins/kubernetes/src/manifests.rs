//! Manifests: reading them from YAML and JSON as `kubectl` does, and writing them. It knows nothing of what they are for.

use cooperage_sdk::{Error, Result};
use serde_json::Value;

use crate::kinds::Identity;
use crate::value;

/// So many objects are one step's work; more is a mistake or an attack.
const MOST: usize = 5000;

/// An object of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Where it was found, for messages: `deploy/web.yaml, document 2`. Empty for what the plugin makes.
    pub origin: String,
    /// Which one it is.
    pub identity: Identity,
    /// The object.
    pub object: Value,
}

/// The text of a file.
#[derive(Debug, Clone)]
pub struct File {
    /// Its path, as the user knows it.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl Document {
    /// One that the plugin makes.
    ///
    /// # Errors
    /// `invalid-input` if it is no object of a cluster.
    pub fn made(object: Value) -> Result<Self> {
        Ok(Self { origin: String::new(), identity: Identity::of(&object)?, object })
    }

    /// Writes its namespace into it, if it names none.
    ///
    /// # Errors
    /// `invalid-input` if its metadata is no object.
    pub fn belong_to(&mut self, namespace: &str) -> Result<()> {
        if self.identity.namespace.is_none() {
            value::descend(&mut self.object, &["metadata"])?.insert("namespace".to_owned(), namespace.into());
            self.identity.namespace = Some(namespace.to_owned());
        }
        Ok(())
    }

    /// Whether it is a secret, which is for nobody's eyes.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.identity.kind == "Secret"
    }

    /// `deployment/web (deploy/web.yaml, document 2)`.
    #[must_use]
    pub fn title(&self) -> String {
        if self.origin.is_empty() { self.identity.to_string() } else { format!("{} ({})", self.identity, self.origin) }
    }
}

/// All objects of all files, in order; lists are their items.
///
/// # Errors
/// `invalid-input` with file and document.
pub fn read(files: &[File]) -> Result<Vec<Document>> {
    let mut all = Vec::new();
    for file in files {
        let values = if file.path.ends_with(".json") { from_json(file)? } else { from_yaml(file)? };
        let several = values.len() > 1;
        for (at, value) in values.into_iter().enumerate().filter(|(_, value)| !value.is_null()) {
            let origin = if several { format!("{}, document {}", file.path, at + 1) } else { file.path.clone() };
            expand(value, &origin, &mut all).map_err(|error| error.context(format!("{origin} cannot be applied")))?;
        }
    }
    match all.is_empty() {
        true if !files.is_empty() => {
            let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
            Err(Error::invalid_input(format!("there is no manifest in {}", paths.join(", "))))
        }
        _ => Ok(all),
    }
}

fn from_json(file: &File) -> Result<Vec<Value>> {
    serde_json::Deserializer::from_str(&file.text)
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(|error| Error::invalid_input(format!("{} is no JSON: {error}", file.path)))
}

/// What `kubectl` reads as octal (`defaultMode: 0644`) or as a truth value (`yes`) is one here too.
fn from_yaml(file: &File) -> Result<Vec<Value>> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    serde_saphyr::from_multiple_with_options(&file.text, options).map_err(|error| {
        let place = error.location().map(|at| format!(":{}:{}", at.line(), at.column())).unwrap_or_default();
        let reason = error.to_string().lines().next().unwrap_or_default().to_owned();
        let reason = crate::faults::clean(&reason);
        Error::invalid_input(format!("{}{place} is no proper YAML: {reason}", file.path))
    })
}

fn expand(value: Value, origin: &str, all: &mut Vec<Document>) -> Result<()> {
    let mut value = value;
    if all.len() >= MOST {
        return Err(Error::limit(format!("there are more than {MOST} manifests")));
    }
    if !value.is_object() {
        return Err(Error::invalid_input("it is no object"));
    }
    let kind = value::text(&value, "/kind").unwrap_or_default().to_owned();
    let Some(of) = kind.strip_suffix("List").filter(|_| value["items"].is_array()) else {
        all.push(Document { origin: origin.to_owned(), identity: Identity::of(&value)?, object: value });
        return Ok(());
    };
    let version = value["apiVersion"].clone();
    let items = value["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    for (at, mut item) in items.into_iter().enumerate() {
        let origin = format!("{origin}, item {}", at + 1);
        // The items of a list of one kind need not say which.
        if let (false, Some(item)) = (of.is_empty(), item.as_object_mut()) {
            item.entry("kind").or_insert_with(|| of.into());
            item.entry("apiVersion").or_insert_with(|| version.clone());
        }
        if value::text(&item, "/kind").is_some_and(|kind| kind.ends_with("List")) && item["items"].is_array() {
            return Err(Error::invalid_input(format!("{origin} is a list within a list")));
        }
        expand(item, &origin, all).map_err(|error| error.context(format!("item {} is wrong", at + 1)))?;
    }
    Ok(())
}

/// One object as a YAML document.
///
/// # Errors
/// `internal` if it cannot be written.
pub fn to_yaml(object: &Value) -> Result<String> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let text = serde_saphyr::to_string_with_options(object, options)
        .map_err(|error| Error::internal(format!("an object cannot be written as YAML: {error}")))?;
    Ok(if text.ends_with('\n') { text } else { text + "\n" })
}

/// Several objects as one YAML text.
///
/// # Errors
/// `internal` if one cannot be written.
pub fn to_stream<'d>(documents: impl IntoIterator<Item = &'d Document>) -> Result<String> {
    let texts: Vec<String> = documents.into_iter().map(|document| to_yaml(&document.object)).collect::<Result<_>>()?;
    Ok(texts.join("---\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.into(), text: text.into() }
    }

    fn titles(files: &[File]) -> Vec<String> {
        read(files).unwrap().iter().map(Document::title).collect()
    }

    #[test]
    fn documents_and_lists() {
        let yaml = "# nothing\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: { name: a }\n---\n\n---\n\
            apiVersion: v1\nkind: List\nitems:\n- { apiVersion: v1, kind: Secret, metadata: { name: b } }\n...\n";
        let json = r#"{ "apiVersion": "v1", "kind": "ConfigMapList", "metadata": {}, "items": [{ "metadata": { "name": "c" } }] }
            { "apiVersion": "v1", "kind": "Service", "metadata": { "name": "d" } }"#;
        let found = titles(&[file("a.yaml", yaml), file("b.json", json)]);
        let names: Vec<&str> = found.iter().map(|title| title.split(' ').next().unwrap()).collect();
        assert_eq!(names, ["configmap/a", "secret/b", "configmap/c", "service/d"]);
        assert!(found[1].contains("a.yaml, document") && found[1].ends_with("item 1)"), "{found:?}");
        let single = file("c.yml", "{ apiVersion: v1, kind: A, metadata: { name: e } }");
        assert_eq!(titles(&[single]), ["a/e (c.yml)"]);
    }

    #[test]
    fn scalars_are_what_kubectl_reads() {
        let text = "apiVersion: v1\nkind: A\nmetadata: { name: a }\nspec:\n  mode: 0644\n  new: 0o644\n  truth: yes\n  text: \"0644\"\n  \
            version: 1.10\n  big: 9007199254740993\n  time: 2020-01-01\n  none: ~\n  anchor: &x { a: 1 }\n  same: *x\n  merged: { <<: *x, b: 2 }\n";
        let found = read(&[file("a.yaml", text)]).unwrap().remove(0).object;
        assert_eq!(
            found["spec"],
            json!({ "mode": 420, "new": 420, "truth": true, "text": "0644", "version": 1.1, "big": 9_007_199_254_740_993_u64,
                "time": "2020-01-01", "none": null, "anchor": { "a": 1 }, "same": { "a": 1 }, "merged": { "a": 1, "b": 2 } })
        );
    }

    #[test]
    fn what_is_wrong_is_shown_with_its_place() {
        let head = "apiVersion: v1\nkind: A\nmetadata: { name: a }\n";
        for (path, text, says) in [
            ("a.yaml", "a: [".to_owned(), "a.yaml:1"),
            ("a.yaml", format!("{head}kind: B\n"), "a.yaml:4"),
            ("a.json", "{".to_owned(), "a.json"),
            ("a.yaml", "just text".to_owned(), "a.yaml"),
            ("a.yaml", format!("{head}---\nkind: B\n"), "a.yaml, document 2"),
            ("a.yaml", "# nothing\n".to_owned(), "no manifest in a.yaml"),
            ("a.yaml", String::new(), "no manifest in a.yaml"),
            ("a.yaml", "{ kind: List, items: [{ kind: List, items: [] }] }".to_owned(), "a.yaml"),
            ("a.yaml", "{ kind: List, items: [7] }".to_owned(), "a.yaml"),
            ("a.yaml", format!("{head}x: .nan\n"), "a.yaml"),
        ] {
            let error = read(&[file(path, &text)]).unwrap_err();
            assert_eq!(error.kind, cooperage_sdk::ErrorKind::InvalidInput, "{text}");
            assert!(error.message.contains(says), "{text}: {}", error.message);
        }
    }

    #[test]
    fn bombs_do_not_go_off() {
        let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for (this, last) in ('b'..='k').zip('a'..='j') {
            bomb += &format!("{this}: &{this} [{}]\n", vec![format!("*{last}"); 10].join(","));
        }
        assert!(read(&[file("a.yaml", &bomb)]).is_err());
        assert!(read(&[file("a.yaml", &"[".repeat(100_000))]).is_err());
        assert!(read(&[file("a.yaml", &"a: ".repeat(10_000))]).is_err());
        assert!(read(&[file("a.json", &"[".repeat(100_000))]).is_err());
        let many = format!(
            "{{ kind: List, items: [{}] }}",
            "{ apiVersion: v1, kind: A, metadata: { name: a } },".repeat(5001)
        );
        assert!(read(&[file("a.yaml", &many)]).is_err());
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a", "annotations": {} },
            "data": { "yes": "no", "number": "0644", "lines": "a\nb\n", "odd": " : #\t\u{1b}\"'", "empty": "", "time": "2020-01-01",
                "long": "word ".repeat(100), "tilde": "~", "exp": "1e3", "hex": "0x1F", "sexagesimal": "12:30:45" } });
        let document = Document::made(object.clone()).unwrap();
        let text = to_stream([&document, &document]).unwrap();
        let again = read(&[file("a.yaml", &text)]).unwrap();
        assert_eq!(again.len(), 2);
        assert_eq!(again[1].object, object, "{text}");
        assert!(text.starts_with("apiVersion: v1\n"), "{text}");
    }

    #[test]
    fn a_namespace_is_only_added() {
        let mut document =
            Document::made(json!({ "apiVersion": "v1", "kind": "A", "metadata": { "name": "a" } })).unwrap();
        document.belong_to("one").unwrap();
        document.belong_to("two").unwrap();
        assert_eq!(document.object["metadata"]["namespace"], "one");
    }
}
