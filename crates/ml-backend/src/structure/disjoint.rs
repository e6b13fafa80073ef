//! Whether the parts of a `oneOf` exclude each other, so that holding to any of them is holding to one.
//!
//! Unions that programs write are told apart by the type of a value, or by a key that is a constant in each part
//! or in one part only. What cannot be told is not disjoint.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// References that are followed one after the other, and levels of parts.
const FAR: usize = 16;

/// Whether no value is valid under two of these schemas of a `whole`.
pub(super) fn all_disjoint(parts: &[Value], whole: &Value) -> bool {
    let pairs = parts.iter().enumerate();
    let pairs = pairs.flat_map(|(i, a)| parts[i + 1..].iter().map(move |b| (a, b)));
    pairs.into_iter().all(|(a, b)| disjoint(a, b, whole, FAR))
}

fn disjoint(a: &Value, b: &Value, whole: &Value, far: usize) -> bool {
    let (Some(a), Some(b)) = (resolve(a, whole), resolve(b, whole)) else {
        return false;
    };
    if far == 0 {
        return false;
    }
    match (a, b) {
        (Value::Bool(false), _) | (_, Value::Bool(false)) => true,
        (Value::Object(a), Value::Object(b)) => {
            any_of(a, b, whole, far)
                || any_of(b, a, whole, far)
                || types(a).is_disjoint(&types(b))
                || constants(a)
                    .zip(constants(b))
                    .is_some_and(|(a, b)| !a.iter().any(|a| b.iter().any(|b| equal(a, b))))
                || (types(a)
                    .intersection(&types(b))
                    .all(|&kind| kind == "object")
                    && by_key(a, b, whole, far))
        }
        _ => false,
    }
}

/// Whether `a` is a choice of which no part has anything in common with `b`.
fn any_of(a: &Map<String, Value>, b: &Map<String, Value>, whole: &Value, far: usize) -> bool {
    let b = Value::Object(b.clone());
    ["anyOf", "oneOf"].iter().any(|key| {
        let parts = a.get(*key).and_then(Value::as_array);
        parts.is_some_and(|parts| parts.iter().all(|part| disjoint(part, &b, whole, far - 1)))
    })
}

/// Whether a key tells two objects apart: one that both must have with values that exclude each other, or one that
/// one must have and the other may not.
fn by_key(a: &Map<String, Value>, b: &Map<String, Value>, whole: &Value, far: usize) -> bool {
    let both = |key: &str| match (property(a, key), property(b, key)) {
        (Some(a), Some(b)) => disjoint(a, b, whole, far - 1),
        _ => false,
    };
    let forbidden = |object: &Map<String, Value>, key: &str| {
        object.get("additionalProperties") == Some(&Value::Bool(false))
            && !object.contains_key("patternProperties")
            && property(object, key).is_none()
    };
    required(a).any(|key| forbidden(b, key) || (required(b).any(|other| other == key) && both(key)))
        || required(b).any(|key| forbidden(a, key))
}

fn required(object: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let keys = object.get("required").and_then(Value::as_array);
    keys.into_iter().flatten().filter_map(Value::as_str)
}

fn property<'s>(object: &'s Map<String, Value>, key: &str) -> Option<&'s Value> {
    object.get("properties")?.get(key)
}

/// The values that there are, where they are counted.
fn constants(object: &Map<String, Value>) -> Option<Vec<&Value>> {
    match (object.get("const"), object.get("enum")) {
        (Some(one), _) => Some(vec![one]),
        (None, Some(Value::Array(some))) => Some(some.iter().collect()),
        _ => None,
    }
}

/// `1` and `1.0` are one value.
fn equal(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// The types that a value may have, whole numbers being numbers.
fn types(object: &Map<String, Value>) -> BTreeSet<&'static str> {
    let all = ["array", "boolean", "null", "number", "object", "string"];
    let known = |name: &str| {
        let name = if name == "integer" { "number" } else { name };
        all.into_iter().find(|&kind| kind == name)
    };
    if let Some(values) = constants(object) {
        let kind = |value: &&Value| match value {
            Value::Array(_) => "array",
            Value::Bool(_) => "boolean",
            Value::Null => "null",
            Value::Number(_) => "number",
            Value::Object(_) => "object",
            Value::String(_) => "string",
        };
        return values.iter().map(kind).collect();
    }
    match object.get("type") {
        Some(Value::String(name)) => known(name).into_iter().collect(),
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(|name| known(name.as_str()?))
            .collect(),
        _ => all.into_iter().collect(),
    }
}

/// What a schema that is a reference into the same document stands for.
fn resolve<'s>(mut schema: &'s Value, whole: &'s Value) -> Option<&'s Value> {
    for _ in 0..FAR {
        let Some(reference) = schema.get("$ref").and_then(Value::as_str) else {
            return Some(schema);
        };
        schema = match reference.strip_prefix('#')? {
            "" => whole,
            // An escaped name would have to be read first.
            pointer if !pointer.contains('%') => whole.pointer(pointer)?,
            _ => return None,
        };
    }
    None
}
