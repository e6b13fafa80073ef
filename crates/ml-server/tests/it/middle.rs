//! `/v1/completions` with a suffix.

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
        let direct = load(&copy).unwrap();
        let model = NamedModel {
            name: "filler".to_owned(),
            dir: copy.clone(),
        };
        let server = serve(Config::new(vec![model], load));
        // Both have it, and read nothing of it any more.
        post(server.address, "/v1/completions", &json!({"prompt": "a", "max_tokens": 1})).ok();
        fs::remove_dir_all(copy).unwrap();
        (server.address, direct)
    })
}

fn add_tokens(file: PathBuf) {
    let mut tokenizer: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let added = tokenizer["added_tokens"].as_array_mut().unwrap();
    let first = added.iter().filter_map(|token| token["id"].as_u64()).max();
    for (id, text) in (first.unwrap() + 1..).zip(["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]) {
        let mut token = added[0].clone();
        (token["id"], token["content"]) = (id.into(), text.into());
        added.push(token);
    }
    fs::write(file, tokenizer.to_string()).unwrap();
}

#[test]
fn what_stands_between_two_texts_is_filled_in() {
    let (address, direct) = filler();
    let options = Options::new().temperature(0.0).max_tokens(12);
    let expected = direct.fill_in_the_middle(PREFIX, SUFFIX, &options).unwrap();
    let mut request =
        json!({"prompt": PREFIX, "suffix": SUFFIX, "temperature": 0, "max_tokens": 12, "n": 2});
    let answer = post(*address, "/v1/completions", &request).ok();
    for choice in answer["choices"].as_array().unwrap() {
        assert_eq!(choice["text"], expected.text);
    }
    let tokens = direct.encode_fill_in_the_middle(PREFIX, SUFFIX).unwrap().len();
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
        (*address, json!({"prompt": [1, 2]}), "suffix", "invalid_value"),
        (*address, json!({"echo": true}), "echo", "unsupported_parameter"),
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
