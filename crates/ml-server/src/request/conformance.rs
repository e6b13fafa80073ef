//! The tables of `docs/server.md` have each field that a request may have, and no other.
//!
//! A reader asks for every field that it knows ([`crate::fields`]), so what it knows is seen by letting it read: whole
//! requests for what stands in objects, and one without any for the rest.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::chat::Chat;
use super::completions::Completions;
use super::embeddings::Embeddings;
use super::infill::Infill;
use super::messages::Messages;
use super::rerank::Rerank;
use super::responses::Responses;
use super::tokens::{Detokenize, Tokenize};
use crate::errors::Result;
use crate::fields::{Fields, known};

/// An endpoint's reader, requests that are taken, and the headings under which its fields stand: the first one is its
/// own, all of whose fields it has to know.
struct Endpoint {
    read: fn(Fields) -> Result<()>,
    requests: Vec<Value>,
    headings: &'static [&'static str],
}

const SAMPLING: &str = "Sampling: chat completions, completions and infill";

fn endpoints() -> Vec<Endpoint> {
    let schema =
        json!({"name": "x", "description": "x", "strict": true, "schema": {"type": "object"}});
    let form = json!({"type": "json_schema", "json_schema": schema});
    let mut flat = schema;
    flat["type"] = "json_schema".into();
    let turn = json!([{"role": "user", "content": "x"}]);
    let named = |kind: &str| json!({"type": kind, "name": "now"});
    let function = json!([{"type": "function", "function": {"name": "now"}}]);
    let allowed = json!({"type": "allowed_tools", "mode": "auto", "tools": [named("function")]});
    vec![
        Endpoint {
            read: |fields| Chat::read(fields).map(drop),
            requests: vec![
                json!({"messages": turn, "stream_options": {}, "response_format": form, "reasoning": {}}),
                json!({"messages": turn, "tools": function, "tool_choice": allowed}),
                json!({"messages": turn, "tools": function, "tool_choice": named("function")}),
            ],
            headings: &["`/v1/chat/completions`", SAMPLING],
        },
        Endpoint {
            read: |fields| Completions::read(fields).map(drop),
            requests: vec![json!({"prompt": "x", "stream_options": {}, "response_format": form})],
            headings: &["`/v1/completions`", SAMPLING],
        },
        Endpoint {
            read: |fields| Infill::read(fields).map(drop),
            requests: vec![json!({"input_prefix": "x", "input_suffix": "x", "stream_options": {}})],
            headings: &["`/infill`", SAMPLING],
        },
        Endpoint {
            read: |fields| Responses::read(fields).map(drop),
            requests: vec![
                json!({"input": "x", "reasoning": {}, "text": {"format": flat}}),
                json!({"input": "x", "tools": [named("function")], "tool_choice": allowed}),
            ],
            headings: &["`/v1/responses`"],
        },
        Endpoint {
            read: |fields| Messages::read(fields).map(drop),
            requests: vec![
                json!({
                    "max_tokens": 1, "messages": turn, "thinking": {"type": "adaptive"}, "output_config": {"format": flat},
                }),
                json!({
                    "max_tokens": 1, "messages": turn, "tools": [{"name": "now"}], "tool_choice": named("tool"),
                }),
            ],
            headings: &["`/v1/messages`"],
        },
        Endpoint {
            read: |fields| Embeddings::read(fields).map(drop),
            requests: vec![json!({"input": "x"})],
            headings: &["`/v1/embeddings`"],
        },
        Endpoint {
            read: |fields| Rerank::read(fields).map(drop),
            requests: vec![json!({"query": "x", "documents": ["x"]})],
            headings: &["`/rerank`"],
        },
        Endpoint {
            read: |fields| Tokenize::read(fields).map(drop),
            requests: vec![json!({"messages": turn}), json!({"content": "x"})],
            headings: &["`/tokenize`"],
        },
        Endpoint {
            read: |fields| Detokenize::read(fields).map(drop),
            requests: vec![json!({"tokens": [1]})],
            headings: &["`/detokenize`"],
        },
    ]
}

/// What stands in backticks and is a field's name, or a path of names.
fn names(text: &str) -> impl Iterator<Item = String> {
    let spans = text.split('`').skip(1).step_by(2);
    let is_name = |span: &&str| {
        span.chars()
            .next()
            .is_some_and(|first| first.is_ascii_lowercase())
            && span
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_.".contains(c))
    };
    spans.filter(is_name).map(str::to_owned)
}

/// A row: the names of its first cell, and those of all of it.
type Row = (BTreeSet<String>, BTreeSet<String>);

/// The rows under each heading.
fn tables() -> BTreeMap<String, Vec<Row>> {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/server.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let mut tables = BTreeMap::<String, Vec<Row>>::new();
    let mut heading = String::new();
    for line in docs.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            heading = title.to_owned();
        } else if let Some(row) = line.strip_prefix("| ") {
            let (first, _) = row.split_once(" | ").unwrap_or((row, ""));
            let rows = tables.entry(heading.clone()).or_default();
            rows.push((names(first).collect(), names(row).collect()));
        }
    }
    tables
}

/// Whether a row is about a field. One inside of an object may stand behind, in the row that has the object.
fn tells((first, all): &Row, field: &str) -> bool {
    let object = field.split_once('.').map_or(field, |(object, _)| object);
    let last = field.rsplit_once('.').map_or(field, |(_, last)| last);
    let has = |name: &String| name == object || name.starts_with(&format!("{object}."));
    match field == object {
        true => first.iter().any(has),
        false => first.contains(field) || first.iter().any(has) && all.contains(last),
    }
}

fn known_to(endpoint: &Endpoint) -> BTreeSet<String> {
    drop(known::take());
    for request in &endpoint.requests {
        let map: Map<String, Value> = request.as_object().cloned().unwrap();
        let read = (endpoint.read)(Fields::new(map));
        assert!(read.is_ok(), "{request}: {read:?}");
    }
    known::take()
}

#[test]
fn every_field_of_a_request_stands_in_the_tables() {
    let tables = tables();
    for endpoint in endpoints() {
        let (own, known) = (endpoint.headings[0], known_to(&endpoint));
        let rows = endpoint
            .headings
            .iter()
            .flat_map(|heading| &tables[*heading]);
        let rows: Vec<&Row> = rows.collect();
        // `model` is said once for all.
        for name in known.iter().filter(|name| *name != "model") {
            assert!(
                rows.iter().any(|row| tells(row, name)),
                "{own}: docs/server.md says nothing of {name}"
            );
        }
        for name in tables[own].iter().flat_map(|(first, _)| first) {
            assert!(
                known.contains(name),
                "{own}: docs/server.md has {name}, which is refused as unknown"
            );
        }
    }
}

#[test]
fn every_field_of_sampling_is_one_of_each_of_its_endpoints() {
    let tables = tables();
    let all = endpoints().into_iter();
    let all: Vec<_> = all
        .filter(|endpoint| endpoint.headings.contains(&SAMPLING))
        .collect();
    assert_eq!(all.len(), 3);
    for endpoint in all {
        let known = known_to(&endpoint);
        for name in tables[SAMPLING].iter().flat_map(|(first, _)| first) {
            let own = endpoint.headings[0];
            assert!(known.contains(name), "{own}: {name} is refused as unknown");
        }
    }
}
