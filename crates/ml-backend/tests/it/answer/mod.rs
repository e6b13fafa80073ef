//! Thoughts and calls are found in an answer while it comes.

mod round_trip;
mod split;
mod syntaxes;
mod table;

use ml_backend::AnswerEvent;
use ml_backend::chat::{AnswerParser, CallSyntax, ReasoningSyntax, Syntax};
use serde_json::{Value, json};

/// All of an answer.
#[derive(Debug, Default, PartialEq)]
struct Found {
    text: String,
    reasoning: String,
    calls: Vec<(String, Value)>,
    /// How many calls came to nothing.
    undone: usize,
}

fn syntax(
    calls: impl Into<Option<CallSyntax>>,
    reasoning: impl Into<Option<ReasoningSyntax>>,
) -> Syntax {
    let mut syntax = Syntax::default();
    (syntax.calls, syntax.reasoning) = (calls.into(), reasoning.into());
    syntax
}

/// Two tools: one with a parameter of each kind, one with none.
fn tools() -> Vec<Value> {
    vec![
        json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {
            "town": {"type": "string"},
            "days": {"type": "integer"},
            "exact": {"type": "boolean"},
            "limit": {"type": "number"},
            "unit": {"type": ["string", "null"]},
            "where": {"type": "object"},
            "hours": {"anyOf": [{"type": "array"}, {"type": "null"}]},
        }}}}),
        json!({"name": "now", "input_schema": {"type": "object", "properties": {}}}),
    ]
}

/// The events of an answer in these pieces, neighbours of one kind made one.
fn events<'a>(
    syntax: Syntax,
    in_reasoning: bool,
    pieces: impl IntoIterator<Item = &'a str>,
) -> Vec<AnswerEvent> {
    let mut parser = AnswerParser::new(syntax, &tools(), in_reasoning, 7);
    let mut all = Vec::new();
    for piece in pieces {
        all.extend(parser.push(piece));
    }
    all.extend(parser.finish());
    merged(all)
}

fn merged(events: Vec<AnswerEvent>) -> Vec<AnswerEvent> {
    let mut merged: Vec<AnswerEvent> = Vec::new();
    for event in events {
        match (merged.last_mut(), &event) {
            (Some(AnswerEvent::Text(last)), AnswerEvent::Text(more))
            | (Some(AnswerEvent::Reasoning(last)), AnswerEvent::Reasoning(more)) => {
                last.push_str(more)
            }
            (
                Some(AnswerEvent::ToolCallArguments { index, json }),
                AnswerEvent::ToolCallArguments {
                    index: same,
                    json: more,
                },
            ) if index == same => json.push_str(more),
            _ => merged.push(event),
        }
    }
    merged
}

fn found(events: &[AnswerEvent]) -> Found {
    let mut found = Found::default();
    let mut open: Option<(usize, String, String)> = None;
    for event in events {
        match event {
            AnswerEvent::Text(text) => found.text.push_str(text),
            AnswerEvent::Reasoning(text) => found.reasoning.push_str(text),
            AnswerEvent::ToolCallStart { index, name, id } => {
                assert!(id.len() == 9 || id == "model-s", "{id}");
                assert_eq!(*index, found.calls.len() + found.undone);
                assert!(
                    open.replace((*index, name.clone(), String::new()))
                        .is_none()
                );
            }
            AnswerEvent::ToolCallArguments { index, json } => {
                let (open, _, arguments) = open.as_mut().expect("a call is open");
                assert_eq!(index, open);
                arguments.push_str(json);
            }
            AnswerEvent::ToolCallEnd { index } => {
                let (open, name, arguments) = open.take().expect("a call is open");
                assert_eq!(*index, open);
                let arguments: Value = serde_json::from_str(&arguments).expect("JSON");
                assert!(arguments.is_object());
                found.calls.push((name, arguments));
            }
            AnswerEvent::ToolCallUndone { index, text } => {
                assert_eq!(Some(*index), open.take().map(|open| open.0));
                found.text.push_str(text);
                found.undone += 1;
            }
            _ => panic!("{event:?}"),
        }
    }
    assert!(open.is_none(), "a call neither ended nor was undone");
    found
}

fn parse(syntax: Syntax, answer: &str) -> Found {
    found(&events(syntax, false, [answer]))
}
