//! `/v1/completions` with a suffix, and `/infill`.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::OnceLock;

use ml_backend::{MlxBackend, Options};
use ml_server::{Config, NamedModel};
use serde_json::{Value, json};

use crate::client::{data, open, post};
use crate::{dir, load, serve, shared};

const PREFIX: &str = "fn add(a: i32, b: i32) -> i32 {\n    ";
const SUFFIX: &str = "\n}\n";

/// The demo model with Qwen's tokens for filling in, behind a server and by itself.
fn filler() -> &'static (SocketAddr, MlxBackend) {
    static FILLER: OnceLock<(SocketAddr, MlxBackend)> = OnceLock::new();
    FILLER.get_or_init(|| {
        let copy = tempfile::tempdir().unwrap().keep();
        for entry in fs::read_dir(dir("qwen3-demo")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
        }
        add_tokens(copy.join("tokenizer.json"));
        let direct = load(&copy, &mut |_| ()).unwrap();
        let model = NamedModel {
            name: "filler".to_owned(),
            dir: copy.clone(),
        };
        let server = serve(Config::new(vec![model], load));
        // Both have it, and read nothing of it any more.
        post(
            server.address,
            "/v1/completions",
            &json!({"prompt": "a", "max_tokens": 1}),
        )
        .ok();
        fs::remove_dir_all(copy).unwrap();
        (server.address, direct)
    })
}

fn add_tokens(file: PathBuf) {
    let mut tokenizer: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let added = tokenizer["added_tokens"].as_array_mut().unwrap();
    let first = added.iter().filter_map(|token| token["id"].as_u64()).max();
    for (id, text) in
        (first.unwrap() + 1..).zip(["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"])
    {
        let mut token = added[0].clone();
        (token["id"], token["content"]) = (id.into(), text.into());
        added.push(token);
    }
    fs::write(file, tokenizer.to_string()).unwrap();
}

#[test]
fn what_stands_between_two_texts_is_filled_in() {
    let (address, direct) = filler();
    let options = Options::new()
        .temperature(0.0)
        .max_tokens(12)
        .ignore_eos(true);
    let expected = direct.fill_in_the_middle(PREFIX, SUFFIX, &options).unwrap();
    let mut request = json!({"prompt": PREFIX, "suffix": SUFFIX, "temperature": 0, "max_tokens": 12, "n": 2, "ignore_eos": true});
    let answer = post(*address, "/v1/completions", &request).ok();
    for choice in answer["choices"].as_array().unwrap() {
        assert_eq!(choice["text"], expected.text);
    }
    let tokens = direct
        .encode_fill_in_the_middle(PREFIX, SUFFIX)
        .unwrap()
        .len();
    assert_eq!(answer["usage"]["prompt_tokens"], tokens);
    // It is not what stands behind the prompt alone.
    let mut plain = request.clone();
    plain["suffix"] = "".into();
    let plain = post(*address, "/v1/completions", &plain).ok();
    assert_ne!(plain["usage"]["prompt_tokens"], tokens);

    request["stream"] = true.into();
    let mut texts = [String::new(), String::new()];
    let events = open(*address, "/v1/completions", &request).events();
    for event in events.iter().filter(|event| !event.contains("[DONE]")) {
        let choice = &data(event)["choices"][0];
        texts[choice["index"].as_u64().unwrap() as usize] += choice["text"].as_str().unwrap();
    }
    assert_eq!(texts, [expected.text.clone(), expected.text]);
}

#[test]
fn a_suffix_that_cannot_be_heeded_is_refused_by_name() {
    let (address, _) = filler();
    for (at, more, param, code) in [
        (shared(), json!({}), "suffix", "unsupported_parameter"),
        (
            *address,
            json!({"prompt": [1, 2]}),
            "suffix",
            "invalid_value",
        ),
        (
            *address,
            json!({"echo": true}),
            "echo",
            "unsupported_parameter",
        ),
        (*address, json!({"suffix": 3}), "suffix", "invalid_value"),
    ] {
        let mut request = json!({"prompt": PREFIX, "suffix": SUFFIX});
        let fields = request.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        let refused = post(at, "/v1/completions", &request);
        let error = &refused.json()["error"];
        assert_eq!(
            (refused.status, &error["param"], &error["code"]),
            (400, &param.into(), &code.into()),
            "{error}"
        );
    }
}

#[test]
fn an_editors_plugin_gets_what_it_asks_of_llama_cpp() {
    let (address, direct) = filler();
    let options = Options::new()
        .temperature(0.0)
        .max_tokens(9)
        .ignore_eos(true);
    let expected = direct.fill_in_the_middle(PREFIX, SUFFIX, &options).unwrap();
    // The line that is being typed comes by itself; the rest is what plugins send.
    let (before, line) = PREFIX.split_at(20);
    let mut request = json!({
        "input_prefix": before, "prompt": line, "input_suffix": SUFFIX, "input_extra": [], "n_predict": 9,
        "ignore_eos": true, "temperature": 0, "stream": false, "n_indent": 4, "id_slot": 0, "cache_prompt": true,
        "samplers": ["top_k", "top_p", "infill"], "t_max_prompt_ms": 500, "t_max_predict_ms": 3000,
    });
    let answer = post(*address, "/infill", &request).ok();
    assert_eq!(
        (&answer["content"], &answer["stop"]),
        (&json!(expected.text), &json!(true))
    );
    assert_eq!(answer["tokens_predicted"], 9);
    assert_eq!(answer["stop_type"], "limit");
    let tokens = direct
        .encode_fill_in_the_middle(PREFIX, SUFFIX)
        .unwrap()
        .len();
    assert_eq!(answer["tokens_evaluated"], tokens);

    request["stream"] = true.into();
    let events = open(*address, "/infill", &request).events();
    let (last, parts) = events.split_last().unwrap();
    let text: String = parts
        .iter()
        .map(|part| data(part)["content"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(text, expected.text);
    assert_eq!(
        (&data(last)["stop"], &data(last)["content"]),
        (&json!(true), &json!(""))
    );

    // Parts of other files come before it.
    request["stream"] = false.into();
    request["input_extra"] = json!([{"filename": "a.rs", "text": "fn one() {}"}]);
    let more = post(*address, "/infill", &request).ok();
    assert!(more["tokens_evaluated"].as_u64().unwrap() > tokens as u64);
    let refused = post(shared(), "/infill", &request);
    assert_eq!(
        (refused.status, &refused.json()["error"]["param"]),
        (400, &"input_suffix".into())
    );
}
