//! The committed JSON Schema is the one that the code describes.
//!
//! After a change of the format, `UPDATE_SCHEMA=1 cargo test -p cooperage-flow --test schema` writes it anew.

#[test]
#[allow(clippy::disallowed_methods, reason = "a test may read the environment")]
fn the_committed_schema_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/cooperage.schema.json");
    let current = format!("{:#}\n", cooperage_flow::json_schema());
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(path, &current).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == current,
        "schema/cooperage.schema.json is out of date; the head of this file says how to renew it"
    );
}
