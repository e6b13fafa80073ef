//! What cannot be held to is refused in one line that names it.

use serde_json::json;

use super::*;

#[track_caller]
fn refused(structure: Structure, names: &[&str]) {
    let [model, _] = models();
    let error = match model.matcher(&structure) {
        Ok(_) => panic!("{structure:?} was taken"),
        Err(error) => error.to_string(),
    };
    assert!(!error.contains('\n'), "{error}");
    for name in names {
        assert!(error.contains(name), "{name}: {error}");
    }
}

#[test]
fn a_keyword_that_is_not_supported_is_named_with_its_place() {
    let below = |key: &str, value| {
        let mut part = json!({ "type": "array" });
        part[key] = value;
        Structure::JsonSchema(json!({ "type": "object", "properties": { "list": part } }))
    };
    for (key, value) in [
        ("uniqueItems", json!(true)),
        ("not", json!({ "type": "string" })),
        ("contains", json!({ "type": "string" })),
        ("unevaluatedItems", json!(false)),
        ("dependentRequired", json!({ "a": ["b"] })),
        ("propertyNames", json!({ "maxLength": 3 })),
        ("$dynamicRef", json!("#x")),
    ] {
        let key_named = format!("`{key}`");
        refused(
            below(key, value),
            &["JSON schema", &key_named, "#/properties/list"],
        );
    }
    let condition = json!({ "if": { "type": "string" }, "then": { "maxLength": 1 } });
    refused(Structure::JsonSchema(condition), &["`if`", "`then`"]);
    let format = json!({ "type": "string", "format": "regex" });
    refused(Structure::JsonSchema(format), &["`format`", "regex"]);
    let overlap = json!({ "oneOf": [{ "type": "integer" }, { "type": "number" }] });
    refused(Structure::JsonSchema(overlap), &["`oneOf`", "(at #)"]);
    let few = json!({ "type": "object", "minProperties": 3 });
    refused(Structure::JsonSchema(few), &["`minProperties`"]);
    let some = json!({ "properties": { "a": {}, "b": {} }, "maxProperties": 1 });
    refused(Structure::JsonSchema(some), &["`maxProperties`"]);
}

#[test]
fn a_schema_that_is_none_or_that_nothing_satisfies_is_refused() {
    for schema in [
        json!(3),
        json!("string"),
        json!(false),
        json!({ "type": "text" }),
        json!({ "type": "object", "properties": 1 }),
        json!({ "type": "string", "minLength": -1 }),
        json!({ "type": "string", "pattern": "(" }),
        json!({ "type": "string", "pattern": "a(?=b)" }),
        json!({ "type": "integer", "minimum": 4, "maximum": 3 }),
        json!({ "allOf": [{ "type": "string" }, { "type": "integer" }] }),
        json!({ "type": "object", "required": ["a"], "properties": { "a": false } }),
        json!({ "$ref": "#/$defs/missing" }),
        json!({ "$ref": "https://example.com/elsewhere.json" }),
        json!({ "$ref": "#" }),
        json!({ "enum": [] }),
    ] {
        refused(Structure::JsonSchema(schema), &["JSON schema"]);
    }
    let ahead = json!({ "type": "string", "pattern": "a(?=b)" });
    refused(Structure::JsonSchema(ahead), &["`pattern`", "look-around"]);
    let mut deep = json!({ "type": "integer" });
    for _ in 0..300 {
        deep = json!({ "type": "array", "items": deep });
    }
    refused(Structure::JsonSchema(deep), &["levels"]);
}

#[test]
fn expressions_and_grammars_that_are_none_are_refused() {
    refused(Structure::Regex("(".to_owned()), &["regular expression"]);
    refused(
        Structure::Regex("a\\".to_owned()),
        &["regular expression", "backslash"],
    );
    refused(
        Structure::Regex("[^\\s\\S]".to_owned()),
        &["regular expression"],
    );
    refused(
        Structure::Lark("  \n".to_owned()),
        &["Lark grammar", "start"],
    );
    refused(
        Structure::Lark("begin: \"a\"".to_owned()),
        &["Lark grammar", "start"],
    );
    refused(
        Structure::Lark("start: other".to_owned()),
        &["Lark grammar", "other"],
    );
    refused(Structure::OneOf(Vec::new()), &["list of texts"]);
}

#[test]
fn a_vocabulary_of_unknown_bytes_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let words = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null, "decoder": null,
        "model": { "type": "WordLevel", "vocab": { "a": 0, "b": 1, "?": 2 }, "unk_token": "?" }
    });
    std::fs::write(dir.path().join("tokenizer.json"), words.to_string()).unwrap();
    let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
    let structure = Structure::Regex("ab".to_owned());
    let refused = Structures::default().grammar(&structure.into(), &tokenizer, 3, &[]);
    let error = refused
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    assert!(error.contains("decoder in tokenizer.json"), "{error}");
}

#[test]
fn a_token_that_may_not_come_is_an_error() {
    let [model, _] = models();
    let mut matcher = model
        .matcher(&Structure::OneOf(vec!["yes".to_owned()]))
        .unwrap();
    let id = model.tokenizer.encode("no", false).unwrap()[0];
    let error = matcher.accept(id).unwrap_err().to_string();
    assert!(
        error.contains("cannot go on") && !error.contains('\n'),
        "{error}"
    );
}
