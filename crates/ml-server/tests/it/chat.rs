//! `/v1/chat/completions` and `/v1/models`.

use serde_json::{Value, json};

use crate::client::{data, get, open, post};
use crate::shared;

fn ask(question: &str) -> Value {
    json!({
        "model": "qwen3-demo", "temperature": 0,
        "messages": [{"role": "user", "content": question}],
    })
}

fn with(mut request: Value, more: Value) -> Value {
    let (Some(request), Value::Object(more)) = (request.as_object_mut(), more) else {
        panic!()
    };
    request.extend(more);
    request.clone().into()
}

#[test]
fn an_answer_comes_with_its_usage() {
    let answer = post(shared(), "/v1/chat/completions", &ask("What is 17 + 25?")).ok();
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["model"], "qwen3-demo");
    let [choice] = &answer["choices"].as_array().unwrap()[..] else {
        panic!("{answer}")
    };
    assert_eq!(choice["message"]["role"], "assistant");
    assert_eq!(choice["message"]["content"], "42");
    assert_eq!(choice["finish_reason"], "stop");
    // `<|im_start|>user\n`, the question and so on: as many as the endpoint for that counts.
    let count = json!({"messages": [{"role": "user", "content": "What is 17 + 25?"}]});
    let count = post(shared(), "/tokenize", &count).ok();
    let usage = &answer["usage"];
    assert_eq!(usage["prompt_tokens"], count["count"]);
    assert_eq!(usage["completion_tokens"], 2);
    assert_eq!(usage["total_tokens"], count["count"].as_u64().unwrap() + 2);
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 0);
}

#[test]
fn a_stream_has_the_role_first_one_id_a_reason_and_an_end() {
    let request = with(ask("Spell the word garden."), json!({"stream": true}));
    let mut events = open(shared(), "/v1/chat/completions", &request).events();
    assert_eq!(events.pop().as_deref(), Some("data: [DONE]\n\n"));
    let chunks: Vec<Value> = events.iter().map(|event| data(event)).collect();
    let deltas: Vec<_> = chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["delta"])
        .collect();
    assert_eq!(deltas[0]["role"], "assistant");
    assert!(deltas[1..].iter().all(|delta| delta.get("role").is_none()));
    let text: String = deltas
        .iter()
        .filter_map(|delta| delta["content"].as_str())
        .collect();
    assert_eq!(text, "g-a-r-d-e-n");
    let (last, before) = chunks.split_last().unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    for chunk in before {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["id"], last["id"]);
        assert!(chunk["choices"][0]["finish_reason"].is_null());
        // An empty object, or one with nulls, breaks clients.
        assert!(chunk.get("usage").is_none());
    }
    assert!(before.len() > 3, "it comes in pieces: {chunks:?}");
}

#[test]
fn usage_is_in_a_stream_if_asked_for() {
    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let whole = post(shared(), "/v1/chat/completions", &ask("17+9")).ok();
    let mut events = open(shared(), "/v1/chat/completions", &with(ask("17+9"), more)).events();
    events.pop();
    let last = data(&events.pop().unwrap());
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"], whole["usage"]);
}

#[test]
fn stop_texts_lengths_and_seeds_do_what_they_say() {
    let ask_with = |more| {
        post(
            shared(),
            "/v1/chat/completions",
            &with(ask("Spell the word garden."), more),
        )
        .ok()
    };
    let choice = |answer: &Value| {
        let choice = &answer["choices"][0];
        (
            choice["message"]["content"].as_str().unwrap().to_owned(),
            choice["finish_reason"].clone(),
        )
    };
    assert_eq!(
        choice(&ask_with(json!({"stop": "-d"}))),
        ("g-a-r".into(), "stop".into())
    );
    assert_eq!(
        choice(&ask_with(json!({"stop": ["x", "-r"]}))),
        ("g-a".into(), "stop".into())
    );
    let short = ask_with(json!({"max_completion_tokens": 3, "max_tokens": 9}));
    assert_eq!(choice(&short).1, "length");
    assert_eq!(short["usage"]["completion_tokens"], 3);
    let hot = |seed: i64| {
        choice(&ask_with(
            json!({"temperature": 3.0, "seed": seed, "max_tokens": 20}),
        ))
        .0
    };
    assert_eq!(hot(-5), hot(-5));
    assert_ne!(hot(1), hot(2));
}

#[test]
fn several_answers_are_those_of_their_seeds() {
    let hot = |seed: u64, n: usize| {
        let more = json!({"temperature": 3.0, "seed": seed, "max_tokens": 8, "n": n});
        post(shared(), "/v1/chat/completions", &with(ask("hello"), more)).ok()
    };
    let three = hot(7, 3);
    for (at, choice) in three["choices"].as_array().unwrap().iter().enumerate() {
        assert_eq!(choice["index"], at);
        let alone = hot(7 + at as u64, 1);
        assert_eq!(choice["message"], alone["choices"][0]["message"]);
        // The prompt is one.
        assert_eq!(
            three["usage"]["prompt_tokens"],
            alone["usage"]["prompt_tokens"]
        );
    }
}

#[test]
fn without_a_limit_an_answer_may_fill_the_context() {
    let endless = with(ask("hello"), json!({"ignore_eos": true}));
    let answer = post(shared(), "/v1/chat/completions", &endless).ok();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["total_tokens"], 1024);
}

#[test]
fn what_clients_always_send_changes_nothing() {
    let plain = post(shared(), "/v1/chat/completions", &ask("51 + 806")).ok();
    let more = json!({
        "user": "u", "store": false, "metadata": {"a": "b"}, "service_tier": "auto", "n": 1, "logprobs": false,
        "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}, "tools": [], "tool_choice": "none",
        "parallel_tool_calls": true, "response_format": {"type": "text"}, "stop": null, "stream_options": null,
        "prompt_cache_key": "k", "safety_identifier": "s", "modalities": ["text"],
    });
    let full = post(
        shared(),
        "/v1/chat/completions",
        &with(ask("51 + 806"), more),
    )
    .ok();
    assert_eq!(full["choices"], plain["choices"]);
    assert_eq!(full["choices"][0]["message"]["content"], "857");
}

#[test]
fn parts_and_earlier_turns_are_read() {
    let request = json!({"temperature": 0, "messages": [
        {"role": "developer", "content": "Answer briefly."},
        {"role": "user", "content": [{"type": "text", "text": "hello"}]},
        {"role": "assistant", "content": "Hello!", "refusal": null, "reasoning_content": "greet", "tool_calls": null},
        {"role": "user", "content": [{"type": "text", "text": "973 + 45"}]},
    ]});
    let answer = post(shared(), "/v1/chat/completions", &request).ok();
    assert_eq!(answer["choices"][0]["message"]["content"], "1018");
}

#[test]
fn models_are_listed_and_found_by_name() {
    let list = get(shared(), "/v1/models").ok();
    let names: Vec<_> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| &model["id"])
        .collect();
    assert_eq!(names, ["qwen3-demo", "gemma3-demo"]);
    assert_eq!(
        get(shared(), "/v1/models/gemma3-demo").ok()["id"],
        "gemma3-demo"
    );
    assert_eq!(get(shared(), "/v1/models/..%2Fqwen3-demo").status, 404);
    let other = with(ask("What is 17 + 25?"), json!({"model": "gemma3-demo"}));
    let answer = post(shared(), "/v1/chat/completions", &other).ok();
    assert_eq!(answer["model"], "gemma3-demo");
    assert_eq!(answer["choices"][0]["message"]["content"], "42");
}

#[test]
fn what_others_have_read_is_cached_in_each_apis_words() {
    let instructions = "Answer with a number and nothing else. ".repeat(6);
    let ask = |number: usize| format!("{instructions} What is 17 + {number}?");
    let messages = |number| json!([{"role": "user", "content": ask(number)}]);
    let small = json!({"model": "qwen3-demo", "temperature": 0, "max_tokens": 8});
    let chat = |number| {
        let request = with(small.clone(), json!({"messages": messages(number)}));
        post(shared(), "/v1/chat/completions", &request).ok()["usage"].clone()
    };
    chat(25);
    let usage = chat(26);
    let cached = usage["prompt_tokens_details"]["cached_tokens"]
        .as_u64()
        .unwrap();
    let prompt = usage["prompt_tokens"].as_u64().unwrap();
    assert!(prompt > cached && cached > 64, "{usage}");

    let request = json!({"model": "qwen3-demo", "temperature": 0, "input": ask(27)});
    let usage = post(shared(), "/v1/responses", &request).ok()["usage"].clone();
    assert_eq!(
        usage["input_tokens_details"]["cached_tokens"], cached,
        "{usage}"
    );
    assert_eq!(usage["input_tokens"], prompt);

    let request = with(small.clone(), json!({"messages": messages(28)}));
    let usage = post(shared(), "/v1/messages", &request).ok()["usage"].clone();
    assert_eq!(usage["cache_read_input_tokens"], cached, "{usage}");
    assert_eq!(usage["input_tokens"], prompt - cached);
}
