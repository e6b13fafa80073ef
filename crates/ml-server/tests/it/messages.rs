//! `/v1/messages`.

use serde_json::{Value, json};

use crate::client::{data, open, post};
use crate::shared;

/// As a coding agent sends it: a system prompt in blocks, marks for a cache, a system role among the turns, and a
/// name of Claude.
fn agent(question: &str) -> Value {
    json!({
        "model": "claude-sonnet-4-5", "max_tokens": 100, "temperature": 0,
        "system": [{"type": "text", "text": "Answer briefly.", "cache_control": {"type": "ephemeral"}}],
        "metadata": {"user_id": "u"},
        "messages": [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": [{"type": "text", "text": "Hello!"}]},
            {"role": "user", "content": [
                {"type": "text", "text": question, "cache_control": {"type": "ephemeral"}},
            ]},
        ],
    })
}

#[test]
fn an_answer_is_a_message_of_blocks() {
    let answer = post(shared(), "/v1/messages", &agent("What is 17 + 25?")).ok();
    assert_eq!(answer["type"], "message");
    assert_eq!(answer["role"], "assistant");
    assert_eq!(answer["content"], json!([{"type": "text", "text": "42"}]));
    assert_eq!(answer["stop_reason"], "end_turn");
    assert!(answer["stop_sequence"].is_null());
    let mut prompt = agent("What is 17 + 25?");
    prompt.as_object_mut().unwrap().remove("max_tokens");
    let count = post(shared(), "/v1/messages/count_tokens", &prompt).ok();
    // What others have read is counted by itself.
    let usage = ["input_tokens", "cache_read_input_tokens"].map(|of| answer["usage"][of].as_u64());
    let read: u64 = usage.iter().flatten().sum();
    assert_eq!(Some(read), count["input_tokens"].as_u64());
    assert_eq!(answer["usage"]["output_tokens"], 2);
}

#[test]
fn a_stream_opens_and_closes_what_it_has() {
    let mut request = agent("Spell the word garden.");
    request["stream"] = true.into();
    let events = open(shared(), "/v1/messages", &request).events();
    let mut names = Vec::new();
    let mut text = String::new();
    for event in &events {
        let data = data(event);
        // The name stands in both places.
        assert!(
            event.starts_with(&format!("event: {}\n", data["type"].as_str().unwrap())),
            "{event}"
        );
        text += data["delta"]["text"].as_str().unwrap_or_default();
        names.push(data["type"].as_str().unwrap().to_owned());
    }
    names.dedup();
    let expected = [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(names, expected);
    assert_eq!(text, "g-a-r-d-e-n");
    let first = data(&events[0]);
    assert!(first["message"]["usage"]["input_tokens"].as_u64().unwrap() > 10);
    let delta = data(&events[events.len() - 2]);
    assert_eq!(delta["delta"]["stop_reason"], "end_turn");
    assert!(delta["usage"]["output_tokens"].as_u64().unwrap() > 5);
}

#[test]
fn why_it_ended_has_anthropics_words() {
    let mut request = agent("Spell the word garden.");
    request["stop_sequences"] = json!(["-d"]);
    let answer = post(shared(), "/v1/messages", &request).ok();
    assert_eq!(answer["stop_reason"], "stop_sequence");
    assert_eq!(answer["stop_sequence"], "-d");
    assert_eq!(answer["content"][0]["text"], "g-a-r");
    let mut request = agent("Spell the word garden.");
    request["max_tokens"] = 2.into();
    assert_eq!(
        post(shared(), "/v1/messages", &request).ok()["stop_reason"],
        "max_tokens"
    );
}

#[test]
fn errors_have_anthropics_form() {
    let mut request = agent("hello");
    request["model"] = "gpt-4".into();
    let reply = post(shared(), "/v1/messages", &request);
    assert_eq!(reply.status, 404);
    let error = reply.json();
    assert_eq!(error["type"], "error");
    assert_eq!(error["error"]["type"], "not_found_error");
}
