//! `/v1/completions`.

use serde_json::{Value, json};

use crate::client::{data, open, post};
use crate::{direct, shared};

const PROMPT: &str = "<|im_start|>user\nWhat is 17 + 25?<|im_end|>\n<|im_start|>assistant\n";

fn complete(more: Value) -> Value {
    let mut request = json!({"temperature": 0, "prompt": PROMPT});
    request
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    post(shared(), "/v1/completions", &request).ok()
}

#[test]
fn a_prompt_is_continued_as_it_is() {
    let answer = complete(json!({}));
    assert_eq!(answer["object"], "text_completion");
    assert_eq!(answer["choices"][0]["text"], "42");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let echoed = complete(json!({"echo": true}));
    assert_eq!(echoed["choices"][0]["text"], format!("{PROMPT}42"));
}

#[test]
fn prompts_come_as_texts_and_as_ids_one_or_many() {
    let ids = direct().encode(PROMPT).unwrap();
    let other = PROMPT.replace("17", "11");
    let texts = |answer: &Value| {
        let choices = answer["choices"].as_array().unwrap().iter();
        let texts = choices.enumerate().map(|(at, choice)| {
            assert_eq!(choice["index"], at);
            choice["text"].as_str().unwrap().to_owned()
        });
        texts.collect::<Vec<_>>()
    };
    assert_eq!(texts(&complete(json!({"prompt": ids}))), ["42"]);
    assert_eq!(
        texts(&complete(json!({"prompt": [ids, ids]}))),
        ["42", "42"]
    );
    let two = complete(json!({"prompt": [PROMPT, other], "n": 2}));
    assert_eq!(texts(&two), ["42", "42", "36", "36"]);
    assert_eq!(two["usage"]["prompt_tokens"], 2 * ids.len());
}

#[test]
fn a_stream_is_the_whole_in_pieces() {
    let request = json!({
        "temperature": 0, "prompt": [PROMPT, PROMPT], "echo": true, "stream": true,
        "stream_options": {"include_usage": true},
    });
    let mut events = open(shared(), "/v1/completions", &request).events();
    assert_eq!(events.pop().as_deref(), Some("data: [DONE]\n\n"));
    let usage = data(&events.pop().unwrap());
    assert_eq!(usage["usage"]["completion_tokens"], 4);
    let mut texts = [String::new(), String::new()];
    let mut reasons = 0;
    for choice in events.iter().map(|event| data(event)["choices"][0].clone()) {
        texts[choice["index"].as_u64().unwrap() as usize] += choice["text"].as_str().unwrap();
        reasons += usize::from(choice["finish_reason"] == "stop");
    }
    assert_eq!(texts, [format!("{PROMPT}42"), format!("{PROMPT}42")]);
    assert_eq!(reasons, 2);
}
