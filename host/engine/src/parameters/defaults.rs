//! The defaults of a JSON Schema, found once and put in where parameters leave something out. What is given always
//! stays. The schema is a stranger's: one whose defaults lead to themselves or grow without end is refused.

use std::collections::{BTreeMap, HashMap};

use jsonschema::{ValidationError, Validator};
use serde_json::{Map, Value};

/// How deep parameters are completed.
const DEEPEST: usize = 256;
/// Bytes of defaults and schemas applied to one document of parameters.
const MOST_WORK: usize = 1 << 20;
/// Alternatives with checks of their own; defaults in further ones are left out.
const MOST_CHOICES: usize = 200;

/// What a schema gives to values that leave something out.
#[derive(Debug)]
pub(super) struct Defaults {
    /// The first is the schema itself; empty if it has no defaults.
    places: Vec<Place>,
}

/// One schema within the schema. It knows others by their number, so that it can lead back to itself.
#[derive(Debug, Default)]
struct Place {
    default: Option<Value>,
    properties: BTreeMap<String, usize>,
    /// Of properties that have no schema of their own.
    others: Option<usize>,
    items: Option<usize>,
    /// All of these count.
    all: Vec<usize>,
    /// Of each of these the first counts that the value fits.
    choices: Vec<Vec<(Validator, usize)>>,
}

impl Defaults {
    pub(super) fn new(document: &Value) -> Result<Self, ValidationError<'static>> {
        let mut reader = Reader { document, found: Vec::new(), numbers: HashMap::new(), choices: 0 };
        let mut places = Vec::new();
        reader.number(String::new());
        while let Some(pointer) = reader.found.get(places.len()).cloned() {
            places.push(reader.read(&pointer)?);
        }
        let any = places.iter().any(|place| place.default.is_some());
        Ok(Self { places: if any { places } else { Vec::new() } })
    }

    /// Puts in what is missing and tells whether anything was.
    ///
    /// # Errors
    /// In words, when the defaults have no end.
    pub(super) fn fill(&self, value: &mut Value) -> Result<bool, String> {
        if self.places.is_empty() {
            return Ok(false);
        }
        let mut filler = Filler { places: &self.places, work: MOST_WORK, filled: false };
        match filler.fill(0, value, 0) {
            Some(()) => Ok(filler.filled),
            None => Err("the defaults in its schema have no end".to_owned()),
        }
    }
}

/// One document being completed; None is too much work.
struct Filler<'a> {
    places: &'a [Place],
    work: usize,
    filled: bool,
}

impl<'a> Filler<'a> {
    fn fill(&mut self, place: usize, value: &mut Value, depth: usize) -> Option<()> {
        self.work = self.work.checked_sub(1).filter(|_| depth < DEEPEST)?;
        let place = &self.places[place];
        // What a value is taken for is decided by what the user wrote, before anything is put in.
        let chosen = place.choices.iter().filter_map(|choices| choices.iter().find(|(fits, _)| fits.is_valid(value)));
        let more: Vec<usize> = chosen.map(|(_, place)| *place).chain(place.all.iter().copied()).collect();
        match value {
            Value::Object(map) => self.object(place, map, depth)?,
            Value::Array(items) => {
                for (place, item) in place.items.into_iter().cycle().zip(items) {
                    self.fill(place, item, depth + 1)?;
                }
            }
            _ => {}
        }
        more.into_iter().try_for_each(|place| self.fill(place, value, depth + 1))
    }

    fn object(&mut self, place: &Place, map: &mut Map<String, Value>, depth: usize) -> Option<()> {
        for (name, property) in &place.properties {
            if !map.contains_key(name)
                && let Some(default) = self.default_of(*property)
            {
                self.work = self.work.checked_sub(default.to_string().len())?;
                map.insert(name.clone(), default.clone());
                self.filled = true;
            }
        }
        for (name, value) in map {
            if let Some(property) = place.properties.get(name).copied().or(place.others) {
                self.fill(property, value, depth + 1)?;
            }
        }
        Some(())
    }

    /// The default of a place, or else of the one that it refers to.
    fn default_of(&self, place: usize) -> Option<&'a Value> {
        let own = self.places[place].default.as_ref();
        own.or_else(|| self.places[place].all.iter().find_map(|place| self.places[*place].default.as_ref()))
    }
}

struct Reader<'a> {
    document: &'a Value,
    /// JSON pointers to the places, by number.
    found: Vec<String>,
    numbers: HashMap<String, usize>,
    choices: usize,
}

impl Reader<'_> {
    /// The number of the place at a pointer, which will be read if it is a new one.
    fn number(&mut self, pointer: String) -> usize {
        let next = self.found.len();
        let number = *self.numbers.entry(pointer.clone()).or_insert(next);
        if number == next {
            self.found.push(pointer);
        }
        number
    }

    fn read(&mut self, pointer: &str) -> Result<Place, ValidationError<'static>> {
        let Some(Value::Object(schema)) = self.document.pointer(pointer) else { return Ok(Place::default()) };
        let at = |keyword: &str| format!("{pointer}/{keyword}");
        // A default of null is what absent means.
        let default = schema.get("default").filter(|default| !default.is_null()).cloned();
        let mut place = Place { default, ..Place::default() };
        for name in schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys) {
            let token = name.replace('~', "~0").replace('/', "~1");
            place.properties.insert(name.clone(), self.number(format!("{pointer}/properties/{token}")));
        }
        let mut below = |keyword: &str| {
            schema.get(keyword).is_some_and(Value::is_object).then(|| self.number(format!("{pointer}/{keyword}")))
        };
        (place.others, place.items) = (below("additionalProperties"), below("items"));
        // Only places in the same document: nothing is fetched for a schema.
        if let Some(target) = schema.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#')) {
            place.all.push(self.number(target.to_owned()));
        }
        place.all.extend((0..length(schema, "allOf")).map(|n| self.number(format!("{}/{n}", at("allOf")))));
        for keyword in ["anyOf", "oneOf"] {
            let choices = (0..length(schema, keyword)).map(|n| self.choice(format!("{}/{n}", at(keyword))));
            place.choices.push(choices.filter_map(Result::transpose).collect::<Result<_, _>>()?);
        }
        Ok(place)
    }

    /// An alternative, with what tells whether a value fits it.
    fn choice(&mut self, pointer: String) -> Result<Option<(Validator, usize)>, ValidationError<'static>> {
        self.choices += 1;
        let Some(Value::Object(mut schema)) = self.document.pointer(&pointer).cloned() else { return Ok(None) };
        if self.choices > MOST_CHOICES {
            return Ok(None);
        }
        for shared in ["$schema", "$defs", "definitions"] {
            if let Some(known) = self.document.get(shared) {
                schema.entry(shared).or_insert_with(|| known.clone());
            }
        }
        Ok(Some((jsonschema::validator_for(&Value::Object(schema))?, self.number(pointer))))
    }
}

fn length(schema: &Map<String, Value>, keyword: &str) -> usize {
    schema.get(keyword).and_then(Value::as_array).map_or(0, Vec::len)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use schemars::JsonSchema;
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(schema: &Value, mut given: Value, complete: Value) {
        let before = given.clone();
        let filled = Defaults::new(schema).unwrap().fill(&mut given).unwrap();
        assert_eq!(given, complete);
        assert_eq!(filled, before != complete);
    }

    #[test]
    fn what_is_left_out_gets_its_default_and_what_is_given_stays() {
        let schema = json!({
            "properties": {
                "text": { "default": "a" },
                "none": { "default": null },
                "list": { "items": { "properties": { "n": { "default": 1 } } } },
                "made": { "default": {}, "properties": { "deep": { "default": [2] } } },
                "kept": { "properties": { "deep": { "$ref": "#/$defs/deep" } } },
                "map": { "additionalProperties": { "properties": { "n": { "default": 4 } } } },
                "tree": { "$ref": "#/$defs/tree" },
            },
            "$defs": {
                "deep": { "default": 3 },
                "tree": { "properties": { "below": { "$ref": "#/$defs/tree" }, "n": { "default": 5 } } },
            },
        });
        check(&schema, json!({}), json!({ "text": "a", "made": { "deep": [2] } }));
        check(
            &schema,
            json!({ "text": null, "list": [{}, { "n": 0 }, 7], "made": { "deep": [] }, "kept": {}, "map": { "x": {} },
                "tree": { "below": { "n": 0, "below": {} } } }),
            json!({ "text": null, "list": [{ "n": 1 }, { "n": 0 }, 7], "made": { "deep": [] }, "kept": { "deep": 3 },
                "map": { "x": { "n": 4 } }, "tree": { "n": 5, "below": { "n": 0, "below": { "n": 5 } } } }),
        );
        check(&json!({ "properties": { "n": { "type": "integer" } } }), json!({}), json!({}));
        check(&json!(true), json!({}), json!({}));
    }

    #[test]
    fn an_alternative_gives_its_defaults_to_what_it_fits() {
        let schema = json!({ "oneOf": [
            { "properties": { "kind": { "const": "a" }, "n": { "default": 1 } }, "required": ["kind"] },
            { "properties": { "kind": { "const": "b" }, "m": { "$ref": "#/$defs/m" } }, "required": ["kind"] },
        ], "$defs": { "m": { "default": 2, "type": "integer" } } });
        check(&schema, json!({ "kind": "a" }), json!({ "kind": "a", "n": 1 }));
        check(&schema, json!({ "kind": "b" }), json!({ "kind": "b", "m": 2 }));
        check(&schema, json!({ "kind": "b", "m": "x" }), json!({ "kind": "b", "m": "x" }));
    }

    #[test]
    fn defaults_without_end_are_refused() {
        for schema in [
            json!({ "properties": { "again": { "$ref": "#", "default": {} } } }),
            json!({ "properties": { "a": { "$ref": "#", "default": {} }, "b": { "$ref": "#", "default": {} } } }),
            json!({ "default": 1, "allOf": [{ "$ref": "#" }, { "$ref": "#" }] }),
        ] {
            let defaults = Defaults::new(&schema).unwrap();
            assert!(defaults.fill(&mut json!({})).is_err(), "{schema}");
        }
    }

    /// As plugins declare parameters with the SDK.
    #[derive(Debug, Deserialize, JsonSchema, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Parameters {
        name: String,
        #[serde(default = "greeting")]
        greeting: String,
        #[serde(default)]
        nested: Nested,
        many: Option<BTreeMap<String, Nested>>,
        #[serde(default)]
        how: How,
        after: Option<String>,
    }

    #[derive(Debug, Deserialize, JsonSchema, PartialEq, serde::Serialize)]
    #[serde(default, deny_unknown_fields)]
    struct Nested {
        times: u32,
        quiet: bool,
    }

    #[derive(Debug, Default, Deserialize, JsonSchema, PartialEq, serde::Serialize)]
    #[serde(rename_all = "kebab-case")]
    enum How {
        #[default]
        Plain,
        Loud,
    }

    impl Default for Nested {
        fn default() -> Self {
            Self { times: 3, quiet: false }
        }
    }

    fn greeting() -> String {
        "hello".to_owned()
    }

    #[test]
    fn the_schema_of_a_type_gives_what_reading_it_gives() {
        let schema = schemars::schema_for!(Parameters).to_value();
        let given = json!({ "name": "n", "many": { "x": { "quiet": true } } });
        let full = json!({ "name": "n", "greeting": "hello", "nested": { "times": 3, "quiet": false },
            "many": { "x": { "times": 3, "quiet": true } }, "how": "plain" });
        check(&schema, given.clone(), full.clone());
        let read = |value| serde_json::from_value::<Parameters>(value).unwrap();
        assert_eq!(read(given), read(full));
    }
}
