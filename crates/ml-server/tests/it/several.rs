//! Several answers to one prompt.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::client::{data, get, open, post};
use crate::{config, serve};

/// Tokens of prompts that were read, and that were known.
fn read(address: SocketAddr) -> (u64, u64) {
    let figures = get(address, "/metrics").body;
    let figure = |name: &str| {
        let lines = figures.lines().filter_map(|line| line.strip_prefix(name));
        let mut numbers = lines.filter_map(|rest| rest.strip_prefix(' '));
        numbers.next().unwrap().parse().unwrap()
    };
    (
        figure("vllm:prompt_tokens_total"),
        figure("vllm:prompt_tokens_cached_total"),
    )
}

/// The texts of a stream by index, and its usage.
fn streamed(address: SocketAddr, path: &str, mut request: Value, n: usize) -> (Vec<String>, Value) {
    request["stream"] = true.into();
    request["stream_options"] = json!({"include_usage": true});
    let mut events = open(address, path, &request).events();
    assert_eq!(events.pop().as_deref(), Some("data: [DONE]\n\n"));
    let usage = data(&events.pop().unwrap())["usage"].clone();
    let mut texts = vec![String::new(); n];
    for choice in events.iter().map(|event| data(event)["choices"][0].clone()) {
        let text = choice["delta"]["content"]
            .as_str()
            .or(choice["text"].as_str());
        texts[choice["index"].as_u64().unwrap() as usize] += text.unwrap_or_default();
    }
    (texts, usage)
}

#[test]
fn their_prompt_is_read_once() {
    let address = serve(config()).address;
    let chat = |text: &str| json!({"messages": [{"role": "user", "content": text}]});
    let plain = |text: &str| json!({"prompt": text});
    let (chats, texts) = ("/v1/chat/completions", "/v1/completions");
    // Questions that nobody has asked before.
    for (path, mut request, stream) in [
        (chats, chat(&"What is 17 + 25? ".repeat(20)), false),
        (chats, chat(&"Spell the word garden. ".repeat(20)), true),
        (texts, plain(&"17 + 25 is ".repeat(20)), false),
        (texts, plain(&"hello, said ".repeat(20)), true),
    ] {
        request["temperature"] = 3.into();
        request["seed"] = 7.into();
        request["max_tokens"] = 8.into();
        request["ignore_eos"] = true.into();
        let said = |choice: &Value| {
            let text = choice["message"]["content"]
                .as_str()
                .or(choice["text"].as_str());
            text.unwrap().to_owned()
        };
        request["n"] = 4.into();
        let before = read(address);
        let (texts, usage) = match stream {
            true => streamed(address, path, request.clone(), 4),
            false => {
                let answer = post(address, path, &request).ok();
                let choices = answer["choices"].as_array().unwrap();
                (choices.iter().map(said).collect(), answer["usage"].clone())
            }
        };
        let after = read(address);
        let prompt = usage["prompt_tokens"].as_u64().unwrap();
        assert_eq!(after.0 - before.0, prompt, "{path}: read");
        assert_eq!(after.1 - before.1, 3 * prompt, "{path}: shared");
        // To its client nothing of it was known before.
        assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 0);
        assert_eq!(usage["completion_tokens"], 32);
        request["n"] = 1.into();
        let alone: Vec<String> = (7..11)
            .map(|seed| {
                request["seed"] = seed.into();
                said(&post(address, path, &request).ok()["choices"][0])
            })
            .collect();
        assert_eq!(texts, alone, "{path}");
    }
    // Of two prompts each is read once.
    let before = read(address);
    let request =
        json!({"prompt": ["a b c d", "e f g h"], "n": 2, "max_tokens": 2, "ignore_eos": true});
    let usage = post(address, "/v1/completions", &request).ok()["usage"].clone();
    assert_eq!(
        read(address).0 - before.0,
        usage["prompt_tokens"].as_u64().unwrap()
    );
}

#[test]
fn what_all_of_them_cannot_be_given_none_is() {
    let address = serve(config()).address;
    let long = json!({"n": 3, "prompt": "hello ".repeat(3000)});
    let refused = post(address, "/v1/completions", &long);
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (400, &"context_length_exceeded".into())
    );
    let mut few = config();
    few.max_requests = 2;
    let address = serve(few).address;
    let request = json!({"n": 3, "prompt": "hello", "max_tokens": 2});
    assert_eq!(post(address, "/v1/completions", &request).status, 429);
    let request = json!({"n": 2, "prompt": "hello", "max_tokens": 2});
    for _ in 0..2 {
        // Their places are free again.
        let answer = post(address, "/v1/completions", &request).ok();
        assert_eq!(answer["choices"].as_array().unwrap().len(), 2);
    }
}
