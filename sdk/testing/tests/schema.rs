//! The committed schema of `case.yaml` is the one that is made from the reader.
//! After a change of the format, `coop plugin test --schema` prints it anew.

#[test]
fn the_committed_schema_is_current() {
    let committed = include_str!("../schema/case.schema.json");
    let current = format!("{:#}\n", cooperage_testing::schema());
    assert!(committed == current, "schema/case.schema.json is out of date; it should be:\n{current}");
}
