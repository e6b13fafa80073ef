//! What a tool's arguments may be: its schema, made ready to be held to.
//!
//! An object that names its properties has no others here, though JSON Schema would let it: a tool knows none but
//! those, and a model that makes up more has misunderstood it.

use serde_json::{Map, Value, json};

/// Levels of a schema that are looked at.
const DEEP: usize = 64;

/// A tool by its name, and what its arguments may be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tool {
    pub(super) name: String,
    pub(super) schema: Value,
}

impl Tool {
    /// Of a tool as chat APIs write it.
    ///
    /// # Errors
    /// A tool without a name, and one whose arguments are no object.
    pub(super) fn new(tool: &Value) -> Result<Self, String> {
        let function = tool.get("function").unwrap_or(tool);
        let name = function.get("name").and_then(Value::as_str);
        let name = name.ok_or("a tool has no name")?.to_owned();
        let given = function.get("parameters").or(function.get("input_schema"));
        let schema = match given {
            // No word of parameters is none of them.
            None | Some(Value::Null) => json!({"type": "object", "additionalProperties": false}),
            Some(Value::Bool(true)) => json!({"type": "object"}),
            Some(Value::Object(schema)) => object(schema, &name)?,
            Some(other) => {
                return Err(format!(
                    "the parameters of {name} are no schema but {other}"
                ));
            }
        };
        Ok(Self { name, schema })
    }
}

/// The schema of an object.
fn object(schema: &Map<String, Value>, name: &str) -> Result<Value, String> {
    let mut schema = schema.clone();
    match schema.get("type") {
        None => {
            schema.insert("type".to_owned(), "object".into());
        }
        Some(Value::String(kind)) if kind == "object" => {}
        Some(Value::Array(kinds)) if kinds.iter().any(|kind| kind == "object") => {
            schema.insert("type".to_owned(), "object".into());
        }
        Some(other) => {
            return Err(format!(
                "the parameters of {name} have the type {other}; arguments are an object"
            ));
        }
    }
    let mut schema = schema.into();
    close(&mut schema, DEEP);
    Ok(schema)
}

/// Lets an object have no properties but those that it names.
fn close(schema: &mut Value, deep: usize) {
    let Value::Object(object) = schema else {
        return;
    };
    let open = [
        "additionalProperties",
        "patternProperties",
        "unevaluatedProperties",
        "minProperties",
        "allOf",
        "anyOf",
        "oneOf",
        "$ref",
    ];
    if object.contains_key("properties") && !open.iter().any(|key| object.contains_key(*key)) {
        object.insert("additionalProperties".to_owned(), false.into());
    }
    if deep == 0 {
        return;
    }
    for key in ["items", "additionalProperties"] {
        if let Some(below) = object.get_mut(key) {
            close(below, deep - 1);
        }
    }
    for key in ["properties", "$defs", "definitions"] {
        let below = object.get_mut(key).and_then(Value::as_object_mut);
        for (_, below) in below.into_iter().flatten() {
            close(below, deep - 1);
        }
    }
}

/// A part of a schema as one of its own: references into the `whole` go on.
pub(super) fn part(schema: &Value, whole: &Value) -> Value {
    let mut part = schema.clone();
    if !refers(&part) {
        return part;
    }
    let mut whole = whole.clone();
    for schema in [&mut part, &mut whole] {
        point(schema);
    }
    match part {
        Value::Object(mut part) => {
            part.insert("$defs".to_owned(), json!({ WHOLE: whole }));
            part.into()
        }
        part => part,
    }
}

const WHOLE: &str = "whole";

fn refers(value: &Value) -> bool {
    match value {
        Value::Object(object) => object.contains_key("$ref") || object.values().any(refers),
        Value::Array(values) => values.iter().any(refers),
        _ => false,
    }
}

/// Points the references of a schema to where the whole one is.
fn point(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(reference) if key == "$ref" => {
                        if let Some(path) = reference.strip_prefix('#') {
                            *reference = format!("#/$defs/{WHOLE}{path}");
                        }
                    }
                    value => point(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(point),
        _ => {}
    }
}

/// Bounds numbers where nobody counts digits, so that each is one of a double.
pub(super) fn bound_numbers(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            let number = match object.get("type") {
                Some(Value::String(kind)) => kind == "number" || kind == "integer",
                Some(Value::Array(kinds)) => {
                    kinds.iter().any(|it| it == "number" || it == "integer")
                }
                _ => false,
            };
            let has = |keys: [&str; 2]| keys.iter().any(|key| object.contains_key(*key));
            const MOST: i64 = 999_999_999_999_999;
            let (low, high) = (
                has(["minimum", "exclusiveMinimum"]),
                has(["maximum", "exclusiveMaximum"]),
            );
            if number && !low {
                object.insert("minimum".to_owned(), (-MOST).into());
            }
            if number && !high {
                object.insert("maximum".to_owned(), MOST.into());
            }
            object.values_mut().for_each(bound_numbers);
        }
        Value::Array(values) => values.iter_mut().for_each(bound_numbers),
        _ => {}
    }
}

/// What a reference into the `whole` schema stands for.
pub(super) fn resolve<'s>(reference: &str, whole: &'s Value) -> Result<&'s Value, String> {
    let path = reference.strip_prefix('#');
    let found = path.and_then(|path| match path {
        "" => Some(whole),
        path => whole.pointer(path),
    });
    found.ok_or_else(|| format!("`$ref` to {reference} leads nowhere in it"))
}
