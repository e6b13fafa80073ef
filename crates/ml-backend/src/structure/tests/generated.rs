//! Schemas drawn at random, and answers under them.

use serde_json::{Map, Value, json};

use super::answers::validator;
use super::*;

/// A schema of at most so many levels, of all that is supported, in which texts and lists are bounded.
fn schema(random: &mut Rng, levels: usize) -> Value {
    let kinds = if levels == 0 { 6 } else { 11 };
    match random.below(kinds) {
        0 => {
            json!({ "type": "string", "minLength": random.below(3), "maxLength": 3 + random.below(12) })
        }
        1 => {
            let low = random.below(2000) as i64 - 1000;
            let high = low + random.below(500) as i64;
            json!({ "type": "integer", "minimum": low, "maximum": high })
        }
        2 => {
            let low = random.below(4000) as f64 / 8.0 - 250.0;
            json!({ "type": "number", "exclusiveMinimum": low, "maximum": low + 1.5 + random.below(100) as f64 })
        }
        3 => json!({ "type": ["boolean", "null"] }),
        4 => {
            let words = ["north", "south", "east", "west", "up"];
            let from = random.below(words.len());
            json!({ "enum": words[from..] })
        }
        5 => {
            let formats = [
                "date",
                "date-time",
                "time",
                "ipv4",
                "ipv6",
                "uuid",
                "duration",
                "hostname",
                "email",
                "uri",
            ];
            json!({ "type": "string", "format": formats[random.below(formats.len())], "maxLength": 48 })
        }
        6 | 7 => object(random, levels),
        8 => {
            let least = random.below(3);
            json!({
                "type": "array",
                "items": schema(random, levels - 1),
                "minItems": least,
                "maxItems": least + 1 + random.below(3),
            })
        }
        9 => {
            let parts: Vec<_> = (0..2 + random.below(2))
                .map(|_| schema(random, levels - 1))
                .collect();
            json!({ "anyOf": parts })
        }
        _ => {
            let parts = (0..2 + random.below(2)).map(|i| {
                let mut part = object(random, levels);
                part["properties"]["kind"] = json!({ "const": format!("k{i}") });
                if let Some(required) = part["required"].as_array_mut() {
                    required.push(json!("kind"));
                }
                part
            });
            json!({ "oneOf": parts.collect::<Vec<_>>() })
        }
    }
}

pub(super) fn object(random: &mut Rng, levels: usize) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for i in 0..1 + random.below(4) {
        let name = ["id", "näme", "a \"b\"", "list", "x\ty"][(i + random.below(2)) % 5];
        properties.insert(name.to_owned(), schema(random, levels - 1));
        if random.below(2) == 0 && !required.contains(&name) {
            required.push(name);
        }
    }
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

#[test]
fn answers_under_schemas_drawn_at_random_are_valid() {
    let mut random = Rng::new(18);
    let (mut ended, mut all) = (0, 0);
    let models = models();
    for i in 0..200 {
        let schema = schema(&mut random, 3);
        let structure = Structure::JsonSchema(schema.clone());
        let answer = models[i % 2].answer(&structure, i as u64);
        all += 1;
        if answer.ended {
            ended += 1;
            let text = &answer.text;
            let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
            assert!(validator(&schema).is_valid(&value), "{schema} {text}");
        }
    }
    assert!(ended * 10 >= all * 9, "{ended} of {all} ended");
}
