//! `/tokenize` and `/detokenize`.

use serde_json::json;

use crate::client::post;
use crate::{direct, shared};

#[test]
fn a_text_becomes_ids_and_comes_back() {
    let text = "<|im_start|>What is 17 + 25?";
    let ids = direct().encode(text).unwrap();
    for field in ["content", "prompt"] {
        let answer = post(shared(), "/tokenize", &json!({field: text})).ok();
        assert_eq!(answer["tokens"], json!(ids));
        assert_eq!(answer["count"], ids.len());
        assert_eq!(answer["max_model_len"], 1024);
    }
    let back = post(shared(), "/detokenize", &json!({"tokens": ids})).ok();
    assert_eq!(
        (&back["content"], &back["prompt"]),
        (&text.into(), &text.into())
    );
}

#[test]
fn an_id_of_no_token_is_refused() {
    let refused = post(shared(), "/detokenize", &json!({"tokens": [1, 99_999_999]}));
    assert_eq!(refused.status, 400);
    let error = &refused.json()["error"];
    assert_eq!(error["param"], "tokens[1]", "{error}");
}

#[test]
fn what_a_tokenizer_puts_in_front_is_asked_for() {
    // Gemma's has `<bos>`, id 2.
    let count = |field: &str, special: serde_json::Value| {
        let request =
            json!({"model": "gemma3-demo", field: "hello", "add_special_tokens": special});
        post(shared(), "/tokenize", &request).ok()["count"]
            .as_u64()
            .unwrap()
    };
    let none = serde_json::Value::Null;
    assert_eq!(count("prompt", none.clone()), count("content", none) + 1);
    assert_eq!(
        count("prompt", false.into()) + 1,
        count("content", true.into())
    );
}
