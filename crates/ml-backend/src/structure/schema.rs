//! A JSON schema as llguidance takes it: formats as patterns, `oneOf` of parts that exclude each other as
//! `anyOf`, what says nothing left out.

use serde_json::{Map, Value, json};

use super::disjoint::all_disjoint;
use super::formats::{Format, format};

/// Schemas of more levels are refused.
const DEEPEST: usize = 200;

/// Between the parts of a JSON text: a space, or a line break and an indentation.
const WHITE_SPACE: &str = r"\x20|\n[\x20\t]{0,32}";

/// Keywords whose value is a schema.
const ONE: [&str; 3] = ["items", "additionalItems", "additionalProperties"];
/// Those whose value is a list of schemas.
const LISTS: [&str; 5] = ["items", "prefixItems", "allOf", "anyOf", "oneOf"];
/// Those whose value has schemas by name.
const MAPS: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];

/// The schema under which llguidance's texts are valid under this one.
///
/// # Errors
/// What cannot be held to, in one line.
pub(crate) fn prepare(schema: &Value) -> Result<Value, String> {
    let mut prepared = match schema {
        Value::Object(_) => schema.clone(),
        Value::Bool(true) => json!({}),
        Value::Bool(false) => return Err("no value is valid under the schema `false`".to_owned()),
        other => {
            return Err(format!(
                "a schema is an object or a boolean, and this is {other}"
            ));
        }
    };
    if is_deeper(schema, DEEPEST) {
        return Err(format!("it has more than {DEEPEST} levels"));
    }
    walk(&mut prepared, schema, "#")?;
    let settings = json!({
        "whitespace_flexible": true,
        "whitespace_pattern": WHITE_SPACE,
        // `\u0061` would be a second spelling of a key.
        "json_allowed_escapes": "nrbtf\\\"",
    });
    if let Value::Object(object) = &mut prepared {
        object.insert("x-guidance".to_owned(), settings);
    }
    Ok(prepared)
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    let below = |value: &Value| levels == 0 || is_deeper(value, levels - 1);
    match value {
        Value::Array(values) => values.iter().any(below),
        Value::Object(values) => values.values().any(below),
        _ => false,
    }
}

/// Rewrites a schema at `path` of the whole one, and those in it.
fn walk(schema: &mut Value, whole: &Value, path: &str) -> Result<(), String> {
    let Value::Object(object) = schema else {
        return Ok(());
    };
    leave_out(object);
    bound_integers(object);
    clamp_bounds(object);
    keep_whole(object);
    count_properties(object, path)?;
    if let Some(Value::Array(parts)) = object.get("oneOf")
        && all_disjoint(parts, whole)
        && !object.contains_key("anyOf")
        && let Some(parts) = object.remove("oneOf")
    {
        object.insert("anyOf".to_owned(), parts);
    }
    for (key, value) in object.iter_mut() {
        let key = key.as_str();
        let path = format!("{path}/{key}");
        match value {
            Value::Array(schemas) if LISTS.contains(&key) => {
                for (i, schema) in schemas.iter_mut().enumerate() {
                    walk(schema, whole, &format!("{path}/{i}"))?;
                }
            }
            Value::Object(schemas) if MAPS.contains(&key) => {
                for (name, schema) in schemas.iter_mut() {
                    walk(schema, whole, &format!("{path}/{name}"))?;
                }
            }
            value if ONE.contains(&key) => walk(value, whole, &path)?,
            _ => {}
        }
    }
    apply_format(object);
    Ok(())
}

/// Leaves out keywords that say nothing as they stand, which llguidance would refuse.
fn leave_out(object: &mut Map<String, Value>) {
    let says_nothing = |value: &Value| match value {
        Value::Bool(says) => *says,
        Value::Object(object) => object.is_empty(),
        _ => false,
    };
    let has = |object: &Map<String, Value>, key| object.contains_key(key);
    let mut idle: Vec<&str> = Vec::new();
    if object.get("uniqueItems") == Some(&Value::Bool(false)) {
        idle.push("uniqueItems");
    }
    if object.get("not") == Some(&Value::Bool(false)) {
        idle.push("not");
    }
    if !has(object, "contains") {
        idle.extend(["minContains", "maxContains"]);
    }
    if !has(object, "if") {
        idle.extend(["then", "else"]);
    } else if !has(object, "then") && !has(object, "else") {
        idle.push("if");
    }
    // Names of places, for references that are refused.
    idle.extend(["$dynamicAnchor", "$recursiveAnchor"]);
    let empty = [
        "propertyNames",
        "unevaluatedProperties",
        "unevaluatedItems",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
    ];
    let empty = empty.into_iter();
    idle.extend(empty.filter(|&key| object.get(key).is_some_and(says_nothing)));
    object.retain(|key, _| !idle.contains(&key.as_str()));
}

/// Bounds whole numbers by the formats that programs give them. Those of 64 bits have as many digits as any.
fn bound_integers(object: &mut Map<String, Value>) {
    let (least, most) = match object.get("format").and_then(Value::as_str) {
        Some("int8") => (i64::from(i8::MIN), i64::from(i8::MAX)),
        Some("int16") => (i64::from(i16::MIN), i64::from(i16::MAX)),
        Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
        Some("uint8") => (0, i64::from(u8::MAX)),
        Some("uint16") => (0, i64::from(u16::MAX)),
        Some("uint32") => (0, i64::from(u32::MAX)),
        _ => return,
    };
    let has = |key: &str| object.contains_key(key);
    let (low, high) = (
        has("minimum") || has("exclusiveMinimum"),
        has("maximum") || has("exclusiveMaximum"),
    );
    if !low {
        object.insert("minimum".to_owned(), least.into());
    }
    if !high {
        object.insert("maximum".to_owned(), most.into());
    }
}

/// Brings bounds of 64 bits and more down to what numbers have digits for; llguidance reads none above them.
fn clamp_bounds(object: &mut Map<String, Value>) {
    const MOST: f64 = 1e18;
    for key in ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"] {
        if let Some(bound) = object.get(key).and_then(Value::as_f64)
            && bound.abs() > MOST
            && (bound > 0.0) == key.ends_with("aximum")
        {
            object.insert(key.to_owned(), (bound.signum() as i64 * MOST as i64).into());
        }
    }
}

/// Bounds whole numbers that have no least one: `-0` is one to the grammar, and a fraction to readers. Multiples
/// stay where a double, by which others check them, is exact.
fn keep_whole(object: &mut Map<String, Value>) {
    let named = |name: &str| match object.get("type") {
        Some(Value::String(kind)) => kind == name,
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == name),
        _ => false,
    };
    let has = |key: &str| object.contains_key(key);
    let multiples = has("multipleOf");
    let whole = named("integer") && !named("number");
    let most = match multiples {
        true => 999_999_999_999_999_i64,
        false => 1_000_000_000_000_000_000,
    };
    let no_least = !has("minimum") && !has("exclusiveMinimum");
    let no_most = !has("maximum") && !has("exclusiveMaximum");
    if no_least && (whole || multiples) {
        object.insert("minimum".to_owned(), (-most).into());
    }
    if no_most && multiples {
        object.insert("maximum".to_owned(), most.into());
    }
}

/// Refuses a number of properties that one key written twice could pretend to reach.
fn count_properties(object: &Map<String, Value>, path: &str) -> Result<(), String> {
    let least = object
        .get("minProperties")
        .and_then(Value::as_u64)
        .unwrap_or(0);
    let required = object.get("required").and_then(Value::as_array);
    let required = required.map_or(0, Vec::len) as u64;
    match least > required + 1 {
        true => Err(format!(
            "`minProperties` (at {path}) is supported up to one more than are `required`; name those that must be there"
        )),
        false => Ok(()),
    }
}

/// Puts a pattern in the place of a format.
fn apply_format(object: &mut Map<String, Value>) {
    let Some(name) = object.get("format").and_then(Value::as_str) else {
        return;
    };
    let pattern = match format(name) {
        Format::Pattern(pattern) => Value::String(format!("^(?:{pattern})$")),
        Format::Unsupported => return,
        Format::Note => {
            object.remove("format");
            return;
        }
    };
    object.remove("format");
    if !object.contains_key("pattern") {
        object.insert("pattern".to_owned(), pattern);
        return;
    }
    let all = object.entry("allOf").or_insert_with(|| json!([]));
    if let Value::Array(all) = all {
        all.push(json!({ "pattern": pattern }));
    }
}

/// Where a keyword first stands in a schema, as a JSON pointer.
pub(super) fn place_of(schema: &Value, keyword: &str) -> Option<String> {
    fn find(schema: &Value, keyword: &str, path: &str) -> Option<String> {
        let object = schema.as_object()?;
        if object.contains_key(keyword) {
            return Some(path.to_owned());
        }
        object.iter().find_map(|(key, value)| {
            let key = key.as_str();
            let path = format!("{path}/{key}");
            match value {
                Value::Array(schemas) if LISTS.contains(&key) => {
                    let mut schemas = schemas.iter().enumerate();
                    schemas.find_map(|(i, schema)| find(schema, keyword, &format!("{path}/{i}")))
                }
                Value::Object(schemas) if MAPS.contains(&key) => {
                    let mut schemas = schemas.iter();
                    schemas.find_map(|(name, one)| find(one, keyword, &format!("{path}/{name}")))
                }
                value if ONE.contains(&key) => find(value, keyword, &path),
                _ => None,
            }
        })
    }
    find(schema, keyword, "#")
}
