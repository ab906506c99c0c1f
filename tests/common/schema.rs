//! What the published schemas use of JSON Schema: enough to check outputs against them.

use std::path::Path;

use serde_json::{Map, Value};

/// A schema of docs/schema/.
pub struct Schema {
    root: Value,
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        "array" => value.is_array(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        other => panic!("type {other} is not known here"),
    }
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.len().is_multiple_of(2) && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

impl Schema {
    /// Reads one by its name.
    pub fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema").join(name);
        let text = std::fs::read_to_string(&path).expect("a schema");
        Self { root: serde_json::from_str(&text).expect("JSON") }
    }

    /// What is wrong with a value; nothing for one that fits.
    pub fn faults(&self, value: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        check(&self.root, value, "", &mut faults);
        faults
    }
}

fn check(schema: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
    for (key, rule) in schema.as_object().expect("a schema is an object") {
        let fits = match key.as_str() {
            "$schema" | "title" | "description" | "required" => true,
            // Keys may be added for readers; here each has to be written down.
            "properties" => value.as_object().is_none_or(|o| o.keys().all(|k| rule.get(k).is_some())),
            "$ref" => {
                let (file, pointer) = rule.as_str().and_then(|r| r.split_once('#')).expect("a file and a pointer");
                let other = Schema::read(file);
                check(other.root.pointer(pointer).expect("it leads somewhere"), value, at, faults);
                true
            }
            "type" => match rule {
                Value::String(kind) => is(value, kind),
                kinds => kinds.as_array().expect("types").iter().any(|k| is(value, k.as_str().expect("a type"))),
            },
            "enum" => rule.as_array().expect("values").contains(value),
            "minimum" => value.as_f64() >= rule.as_f64(),
            "maximum" => value.as_f64() <= rule.as_f64(),
            "pattern" => value.as_str().is_some_and(is_hex), // the one pattern there is
            "oneOf" => {
                let wrong = |s: &&Value| {
                    let mut own = Vec::new();
                    check(s, value, at, &mut own);
                    own.is_empty()
                };
                rule.as_array().expect("schemas").iter().filter(wrong).count() == 1
            }
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(rule, item, &format!("{at}/{i}"), faults);
                }
                true
            }
            other => panic!("{other} is not known here"),
        };
        if !fits {
            faults.push(format!("{at}: {key} {rule} does not hold for {value}"));
        }
    }
    if let Some(object) = value.as_object() {
        check_keys(schema, object, at, faults);
    }
}

fn check_keys(schema: &Value, object: &Map<String, Value>, at: &str, faults: &mut Vec<String>) {
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(key) {
            faults.push(format!("{at}: {key} is missing"));
        }
    }
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = object.get(key) {
            check(inner, value, &format!("{at}/{key}"), faults);
        }
    }
}
