//! What a request can ask of sampling, of an answer's form, and to be told of probabilities.

use serde_json::{Value, json};

use crate::client::{data, open, post};
use crate::{direct, shared};

fn ask(question: &str, more: Value) -> Value {
    let mut request =
        json!({"temperature": 0, "messages": [{"role": "user", "content": question}]});
    request
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    request
}

fn said(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

/// The logarithms of the probabilities of each next token, in float64, from the model's logits.
fn log_softmax(ids: &[u32]) -> Vec<Vec<f64>> {
    let logits = direct().logits(ids).unwrap();
    let rows = logits.chunks(logits.len() / ids.len());
    let row = |row: &[f32]| {
        let most = f64::from(row.iter().copied().fold(f32::MIN, f32::max));
        let sum: f64 = row.iter().map(|x| (f64::from(*x) - most).exp()).sum();
        row.iter()
            .map(|x| f64::from(*x) - most - sum.ln())
            .collect()
    };
    rows.map(row).collect()
}

/// Rows are computed one by one here and together there, in bfloat16.
const TOLERANCE: f64 = 0.02;

#[test]
fn a_chat_tells_how_probable_its_tokens_were() {
    let request = ask(
        "What is 17 + 25?",
        json!({"logprobs": true, "top_logprobs": 3}),
    );
    let answer = post(shared(), "/v1/chat/completions", &request).ok();
    let told = answer["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap();
    let texts: String = told
        .iter()
        .map(|one| one["token"].as_str().unwrap())
        .collect();
    assert_eq!((texts.as_str(), said(&answer)), ("42", "42"));
    let messages = json!({"messages": request["messages"]});
    let prompt = post(shared(), "/tokenize", &messages).ok();
    let mut ids: Vec<u32> = serde_json::from_value(prompt["tokens"].clone()).unwrap();
    let start = ids.len() - 1;
    ids.extend(direct().encode("42").unwrap());
    let expected = log_softmax(&ids);
    for (at, one) in told.iter().enumerate() {
        let row = &expected[start + at];
        let id = ids[start + at + 1] as usize;
        assert!(
            (one["logprob"].as_f64().unwrap() - row[id]).abs() < TOLERANCE,
            "{one}"
        );
        assert_eq!(
            one["bytes"],
            json!(one["token"].as_str().unwrap().as_bytes())
        );
        let top = one["top_logprobs"].as_array().unwrap();
        assert_eq!((top.len(), &top[0]["token"]), (3, &one["token"]));
        let mut sorted = row.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        for (other, expected) in top.iter().zip(sorted) {
            let told = other["logprob"].as_f64().unwrap();
            assert!(
                (told - expected).abs() < TOLERANCE.max(-0.02 * expected),
                "{other}: {expected}"
            );
        }
    }
    // A stream tells the same.
    let mut request = request;
    request["stream"] = true.into();
    let mut events = open(shared(), "/v1/chat/completions", &request).events();
    events.pop();
    let chunks = events
        .iter()
        .map(|event| data(event)["choices"][0]["logprobs"]["content"].clone());
    let all: Vec<Value> = chunks
        .filter_map(|content| content.as_array().cloned())
        .flatten()
        .collect();
    assert_eq!(&all, told);
}

#[test]
fn a_completion_tells_of_its_prompt_too() {
    let prompt = "<|im_start|>user\nWhat is 17 + 25?<|im_end|>\n<|im_start|>assistant\n";
    let request =
        json!({"prompt": prompt, "temperature": 0, "max_tokens": 1, "echo": true, "logprobs": 1});
    let answer = post(shared(), "/v1/completions", &request).ok();
    let choice = &answer["choices"][0];
    let told = &choice["logprobs"];
    let ids = direct().encode(prompt).unwrap();
    let expected = log_softmax(&ids);
    let logprobs = told["token_logprobs"].as_array().unwrap();
    assert_eq!(logprobs.len(), ids.len() + 1);
    assert!(logprobs[0].is_null() && told["top_logprobs"][0].is_null());
    for (at, id) in ids.iter().enumerate().skip(1) {
        let (told, expected) = (
            logprobs[at].as_f64().unwrap(),
            expected[at - 1][*id as usize],
        );
        assert!(
            (told - expected).abs() < TOLERANCE.max(-0.02 * expected),
            "{at}: {told} {expected}"
        );
    }
    let tokens: Vec<String> = serde_json::from_value(told["tokens"].clone()).unwrap();
    assert_eq!(tokens.concat(), choice["text"].as_str().unwrap());
    let offsets: Vec<usize> = serde_json::from_value(told["text_offset"].clone()).unwrap();
    for (at, offset) in offsets.iter().enumerate() {
        assert_eq!(*offset, tokens[..at].concat().chars().count());
    }
}

#[test]
fn harnesses_find_a_number_for_each_token_that_was_drawn_and_the_best_one_among_the_best() {
    let prompt = "<|im_start|>user\nWhat is 17 + 25?<|im_end|>\n<|im_start|>assistant\n4";
    for (more, drawn, text) in [("", "2", "2"), ("2", "<|im_end|>", "")] {
        let prompt = format!("{prompt}{more}");
        let request = json!({"prompt": prompt, "temperature": 0, "max_tokens": 1, "echo": true, "logprobs": 1});
        let answer = post(shared(), "/v1/completions", &request).ok();
        let choice = &answer["choices"][0];
        assert_eq!(choice["text"], format!("{prompt}{text}"));
        let told = &choice["logprobs"];
        let tokens = told["tokens"].as_array().unwrap();
        assert_eq!(tokens.last().unwrap(), drawn);
        // The token that was drawn is the most probable one, and has one number in both places.
        let last = tokens.len() - 1;
        assert_eq!(
            told["token_logprobs"][last],
            told["top_logprobs"][last][drawn]
        );
        let ids = direct().encode(&prompt).unwrap();
        assert_eq!(
            told["token_logprobs"].as_array().unwrap().len(),
            ids.len() + 1
        );
    }
}

/// The demo model has a token for each byte of what it has seldom seen.
#[test]
fn tokens_that_are_no_whole_characters_have_names_and_places_of_their_own() {
    let prompt = "a😀สb";
    let request =
        json!({"prompt": prompt, "echo": true, "logprobs": 5, "max_tokens": 1, "temperature": 0});
    let answer = post(shared(), "/v1/completions", &request).ok();
    let told = &answer["choices"][0]["logprobs"];
    let tokens: Vec<String> = serde_json::from_value(told["tokens"].clone()).unwrap();
    let offsets: Vec<usize> = serde_json::from_value(told["text_offset"].clone()).unwrap();
    assert!(tokens[1].starts_with("bytes:\\xf0"), "{tokens:?}");
    let behind = tokens.iter().position(|token| token == "b").unwrap();
    assert_eq!((offsets[1], offsets[2], offsets[behind]), (1, 2, 3));
    for (at, top) in told["top_logprobs"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
        .skip(1)
    {
        let top = top.as_object().unwrap();
        assert!((5..=6).contains(&top.len()), "{top:?}");
        assert_eq!(top[&tokens[at]], told["token_logprobs"][at]);
    }
}

#[test]
fn biases_and_penalties_change_what_is_drawn() {
    let four = direct().encode("4").unwrap()[0].to_string();
    let banned = ask("What is 17 + 25?", json!({"logit_bias": {four: -100}}));
    let banned = post(shared(), "/v1/chat/completions", &banned).ok();
    assert!(!said(&banned).contains('4'), "{banned}");
    let many = json!({"ignore_eos": true, "max_tokens": 40});
    let plain = post(
        shared(),
        "/v1/chat/completions",
        &ask("hello", many.clone()),
    )
    .ok();
    let mut more = many;
    more["frequency_penalty"] = 2.0.into();
    more["presence_penalty"] = 2.0.into();
    let penalised = post(shared(), "/v1/chat/completions", &ask("hello", more)).ok();
    assert_ne!(said(&plain), said(&penalised));
}

#[test]
fn an_answer_has_the_form_that_was_asked_for() {
    let schema = json!({
        "type": "object", "additionalProperties": false, "required": ["sum", "sure"],
        "properties": {"sum": {"type": "integer", "minimum": 0, "maximum": 99}, "sure": {"type": "boolean"}},
    });
    let check = |text: &str| {
        let read: Value =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(
            read["sum"].as_u64().is_some_and(|sum| sum <= 99) && read["sure"].is_boolean(),
            "{read}"
        );
        assert_eq!(read.as_object().unwrap().len(), 2);
    };
    let format = json!({"type": "json_schema", "json_schema": {"name": "sum", "strict": true, "schema": schema}});
    let chat = ask("What is 17 + 25?", json!({"response_format": format}));
    check(said(&post(shared(), "/v1/chat/completions", &chat).ok()));
    let flat = json!({"type": "json_schema", "name": "sum", "schema": schema});
    let response = json!({"input": "What is 17 + 25?", "temperature": 0, "text": {"format": flat}});
    let response = post(shared(), "/v1/responses", &response).ok();
    check(
        response["output"][0]["content"][0]["text"]
            .as_str()
            .unwrap(),
    );
    let message = ask(
        "What is 17 + 25?",
        json!({"max_tokens": 100, "output_config": {"format": flat}}),
    );
    let mut message = message;
    message["output_config"]["format"]
        .as_object_mut()
        .unwrap()
        .remove("name");
    let message = post(shared(), "/v1/messages", &message).ok();
    check(message["content"][0]["text"].as_str().unwrap());
}

#[test]
fn a_form_that_cannot_be_held_to_is_refused() {
    let schema = json!({"type": "object", "not": {"required": ["a"]}});
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let reply = post(
        shared(),
        "/v1/chat/completions",
        &ask("hello", json!({"response_format": format})),
    );
    let error = &reply.json()["error"];
    assert_eq!(
        (reply.status, &error["param"]),
        (400, &"response_format".into())
    );
    assert!(
        error["message"].as_str().unwrap().contains("not"),
        "{error}"
    );
    let cases = [
        (
            json!({"response_format": {"type": "xml"}}),
            "response_format.type",
        ),
        (json!({"top_logprobs": 3}), "top_logprobs"),
        (
            json!({"logprobs": true, "top_logprobs": 21}),
            "top_logprobs",
        ),
        (json!({"logit_bias": {"x": 1}}), "logit_bias.x"),
        (json!({"logit_bias": {"5": 101}}), "logit_bias.5"),
    ];
    for (more, param) in cases {
        let reply = post(shared(), "/v1/chat/completions", &ask("hello", more));
        assert_eq!(
            (reply.status, &reply.json()["error"]["param"]),
            (400, &param.into())
        );
    }
}
