//! Requests that nobody would send: none panics, and each refusal is one line that names a field.

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
use crate::fields::Fields;

/// A reader of requests and one that it takes.
type Reader = (fn(Fields) -> Result<()>, Value);

fn readers() -> Vec<Reader> {
    let function = json!({"name": "now", "description": "d", "parameters": {"type": "object"}});
    let call =
        json!({"id": "a", "type": "function", "function": {"name": "now", "arguments": "{}"}});
    vec![
        (
            |fields| Chat::read(fields).map(|chat| drop(chat.job())),
            json!({
                "model": "m", "stream": true, "stream_options": {"include_usage": true}, "n": 2, "seed": -1,
                "temperature": 0.5, "top_p": 0.5, "top_k": -1, "stop": ["a", "b"], "max_tokens": 5,
                "reasoning_effort": "low", "reasoning": {"effort": "low", "enabled": true},
                "chat_template_kwargs": {"a": 1}, "documents": [{"text": "x"}],
                "tools": [{"type": "function", "function": function}], "tool_choice": "auto",
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "x"}]},
                    {"role": "assistant", "content": null, "tool_calls": [call]},
                    {"role": "tool", "tool_call_id": "a", "content": "1"},
                ],
            }),
        ),
        (
            |fields| Completions::read(fields).map(|completions| drop(completions.jobs())),
            json!({"prompt": [[1, 2], [3]], "n": 2, "best_of": 2, "echo": true, "logit_bias": {}, "logprobs": null}),
        ),
        (
            |fields| Messages::read(fields).map(|messages| drop(messages.job())),
            json!({
                "model": "m", "max_tokens": 5, "system": [{"type": "text", "text": "x"}], "stop_sequences": ["x"],
                "thinking": {"type": "enabled", "budget_tokens": 5}, "output_config": {"effort": "low"},
                "tools": [{"name": "now", "description": "d", "input_schema": {}}], "tool_choice": {"type": "auto"},
                "messages": [
                    {"role": "user", "content": "x"},
                    {"role": "assistant", "content": [
                        {"type": "thinking", "thinking": "x"},
                        {"type": "tool_use", "id": "a", "name": "now", "input": {}},
                    ]},
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "x"}]},
                ],
            }),
        ),
        (
            |fields| Responses::read(fields).map(|responses| drop(responses.job(&responses.input))),
            json!({
                "model": "m", "instructions": "x", "previous_response_id": "r", "reasoning": {"effort": "low"},
                "text": {"format": {"type": "text"}}, "tools": [{"type": "function", "name": "now"}],
                "input": [
                    {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
                    {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "x"}]},
                    {"type": "function_call", "call_id": "a", "name": "now", "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "a", "output": "x"},
                ],
            }),
        ),
        (
            |fields| Infill::read(fields).map(|infill| drop(infill.job())),
            json!({
                "input_prefix": "a", "input_suffix": "b", "input_extra": [{"filename": "f", "text": "x"}], "prompt": "c",
                "n_predict": 5, "stream": true, "id_slot": 0, "samplers": ["top_k"], "t_max_predict_ms": 9,
            }),
        ),
        (
            |fields| Embeddings::read(fields).map(drop),
            json!({"input": ["a", "b"], "encoding_format": "base64", "dimensions": 5, "prompt_name": "x"}),
        ),
        (
            |fields| Rerank::read(fields).map(drop),
            json!({"query": "a", "documents": ["a", {"text": "b"}], "top_n": 1, "return_documents": true}),
        ),
        (
            |fields| Tokenize::read(fields).map(drop),
            json!({"messages": [{"role": "user", "content": "x"}], "tools": [], "chat_template_kwargs": {}}),
        ),
        (
            |fields| Detokenize::read(fields).map(drop),
            json!({"tokens": [1, 2]}),
        ),
    ]
}

fn read(reader: fn(Fields) -> Result<()>, sent: &Value) -> Result<()> {
    let map: Map<String, Value> = sent.as_object().cloned().unwrap_or_default();
    reader(Fields::new(map))
}

/// SplitMix64, <https://doi.org/10.1145/2714064.2660195>.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut state = self.0;
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((state ^ (state >> 31)) % bound.max(1) as u64) as usize
    }
}

/// Changes one place somewhere inside.
fn change(value: &mut Value, random: &mut Random) {
    let deeper = random.below(4) > 0;
    match value {
        Value::Array(items) if deeper && !items.is_empty() => {
            let at = random.below(items.len());
            change(&mut items[at], random);
        }
        Value::Object(entries) if deeper && !entries.is_empty() => {
            let at = random.below(entries.len());
            let Some(name) = entries.keys().nth(at).cloned() else {
                return;
            };
            match random.below(8) {
                0 => drop(entries.shift_remove(&name)),
                1 => drop(entries.insert(format!("{name}x"), Value::Null)),
                2 => drop(entries.insert(format!("{name}x"), 1.into())),
                _ => change(&mut entries[&name], random),
            }
        }
        _ => *value = odd(random),
    }
}

fn odd(random: &mut Random) -> Value {
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1e308),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(0.5),
        json!(""),
        json!("x"),
        json!("\u{0}\n"),
        json!([]),
        json!([null]),
        json!([[]]),
        json!({}),
        json!({"type": 1}),
        json!({"type": "text"}),
        json!([{"type": "image"}]),
        json!(["x", 1]),
        json!({"role": "system", "content": []}),
    ];
    values[random.below(values.len())].clone()
}

#[test]
fn no_request_panics_and_every_refusal_is_one_line() {
    let mut random = Random(20261130);
    let (mut refused, mut taken) = (0, 0);
    for (reader, good) in readers() {
        let read_whole = read(reader, &good);
        assert!(read_whole.is_ok(), "{good}: {read_whole:?}");
        for _ in 0..4000 {
            let mut sent = good.clone();
            for _ in 0..=random.below(3) {
                change(&mut sent, &mut random);
            }
            match read(reader, &sent) {
                Ok(()) => taken += 1,
                Err(error) => {
                    refused += 1;
                    assert!(error.param.is_some(), "{sent}: {error:?}");
                    assert!(!error.message.contains('\n'), "{sent}: {error:?}");
                }
            }
        }
    }
    assert!(
        refused > 5000 && taken > 1000,
        "{refused} refused, {taken} taken"
    );
}
