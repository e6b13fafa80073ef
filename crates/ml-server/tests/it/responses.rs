//! `/v1/responses`.

use serde_json::{Value, json};

use crate::client::{data, open, post};
use crate::shared;

fn ask(more: Value) -> Value {
    let mut request = json!({"model": "qwen3-demo", "temperature": 0});
    request
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    request
}

fn said(response: &Value) -> &str {
    response["output"][0]["content"][0]["text"]
        .as_str()
        .unwrap()
}

#[test]
fn a_response_has_items_and_usage() {
    let input =
        json!([{"role": "user", "content": [{"type": "input_text", "text": "What is 17 + 25?"}]}]);
    let request = ask(
        json!({"input": input, "instructions": "Answer briefly.", "include": [], "store": false}),
    );
    let response = post(shared(), "/v1/responses", &request).ok();
    assert_eq!(
        (response["object"].as_str(), response["status"].as_str()),
        (Some("response"), Some("completed"))
    );
    assert_eq!(said(&response), "42");
    assert_eq!(response["output"][0]["role"], "assistant");
    assert_eq!(response["instructions"], "Answer briefly.");
    assert_eq!(response["usage"]["output_tokens"], 2);
    let short = ask(json!({"input": "Spell the word garden.", "max_output_tokens": 1}));
    let short = post(shared(), "/v1/responses", &short).ok();
    assert_eq!(short["status"], "incomplete");
    assert_eq!(short["output"][0]["status"], "incomplete");
    assert_eq!(short["incomplete_details"]["reason"], "max_output_tokens");
}

#[test]
fn a_conversation_goes_on_by_an_id() {
    let first = post(
        shared(),
        "/v1/responses",
        &ask(json!({"input": "What is 17 + 25?"})),
    )
    .ok();
    let more = json!({"input": "17+9", "previous_response_id": first["id"]});
    let second = post(shared(), "/v1/responses", &ask(more)).ok();
    assert_eq!(said(&second), "26");
    // As much as the whole conversation.
    let turns = json!([
        {"role": "user", "content": "What is 17 + 25?"}, {"role": "assistant", "content": "42"},
        {"role": "user", "content": "17+9"},
    ]);
    let count = post(shared(), "/tokenize", &json!({"messages": turns})).ok();
    assert_eq!(second["usage"]["input_tokens"], count["count"]);
    let unkept = ask(json!({"input": "17+9", "store": false}));
    let unkept = post(shared(), "/v1/responses", &unkept).ok();
    for id in [&unkept["id"], &json!("resp_none")] {
        let reply = post(
            shared(),
            "/v1/responses",
            &ask(json!({"input": "x", "previous_response_id": id})),
        );
        assert_eq!(
            (reply.status, &reply.json()["error"]["param"]),
            (404, &"previous_response_id".into())
        );
    }
}

#[test]
fn events_are_numbered_and_end_with_the_whole() {
    let request = ask(json!({"input": "Spell the word garden.", "stream": true}));
    let events = open(shared(), "/v1/responses", &request).events();
    let events: Vec<Value> = events.iter().map(|event| data(event)).collect();
    let mut names = Vec::new();
    for (at, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], at);
        names.push(event["type"].as_str().unwrap());
    }
    names.dedup();
    let expected = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(names, expected);
    let deltas: String = events
        .iter()
        .filter_map(|event| event["delta"].as_str())
        .collect();
    assert_eq!(deltas, "g-a-r-d-e-n");
    let whole = &events.last().unwrap()["response"];
    assert_eq!(
        (said(whole), &whole["id"]),
        ("g-a-r-d-e-n", &events[0]["response"]["id"])
    );
    let more = json!({"input": "17+9", "previous_response_id": whole["id"]});
    assert_eq!(
        said(&post(shared(), "/v1/responses", &ask(more)).ok()),
        "26"
    );
}
