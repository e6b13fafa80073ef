//! What the demo model answers, in each form that can be asked for.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::{demo, failure, feed, ml, output, stdout, text, with_demo, without_tokenizer};

#[test]
fn the_demo_model_answers_on_standard_output_and_reports_on_standard_error() {
    let output =
        output(with_demo("generate").args(["--prompt", "What is 17 + 25?", "--temp", "0"]));
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    let answer = text(&output.stdout);
    assert!(
        answer.contains("42") && answer.ends_with('\n'),
        "{answer:?}"
    );
    let first = stderr.lines().next().unwrap_or_default();
    assert!(
        first.starts_with("device cpu") && first.contains("MLX 0."),
        "{first}"
    );
    assert!(stderr.contains("tokens at"), "{stderr}");
}

#[test]
fn a_prompt_comes_from_standard_input_too() {
    let args = ["--prompt", "-", "--temp", "0"];
    for input in [
        &b"What is 17 + 25?"[..],
        b"What is 17 + 25?\n",
        b"What is 17 + 25?\r\n",
    ] {
        let output = feed(with_demo("generate").args(args), input);
        assert!(text(&output.stdout).contains("42"), "{output:?}");
    }
    let line = String::from_utf8(feed(with_demo("generate").args(args), b"caf\xe9").stderr);
    assert!(line.unwrap().contains("not UTF-8 text (byte 3)"));
    let empty = feed(with_demo("generate").args(args), b"\n");
    assert_eq!(empty.status.code(), Some(1));
    assert!(text(&empty.stderr).starts_with("ml: the prompt is empty"));
}

#[test]
fn json_is_one_object_with_text_ids_and_figures() {
    let prompt = ["--prompt", "What is 17 + 25?", "--temp", "0"];
    let plain = stdout(with_demo("generate").args(prompt));
    let json = stdout(with_demo("generate").args(prompt).arg("--json"));
    assert_eq!(json.lines().count(), 1);
    let object: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(object["text"].as_str(), Some(plain.trim_end()));
    assert_eq!(object["finish_reason"], "stop");
    assert_eq!(object["device"], "cpu");
    let ids = object["token_ids"].as_array().unwrap();
    assert_eq!(object["metrics"]["generated_tokens"], ids.len());
    for figure in [
        "prompt_tokens",
        "time_to_first_token_s",
        "peak_memory_bytes",
        "total_time_s",
    ] {
        assert!(
            object["metrics"][figure].as_f64().unwrap() > 0.0,
            "{figure}: {json}"
        );
    }
}

#[test]
fn ids_in_and_ids_out_need_no_tokenizer() {
    let dir = without_tokenizer();
    let mut ml = ml();
    ml.args([
        "generate", "--device", "cpu", "--temp", "0", "--tokens", "5,6,7",
    ]);
    ml.args(["--max-tokens", "4", "--ignore-eos", "--model"])
        .arg(dir.path());
    let line = failure(&mut ml);
    assert!(line.contains("--print-ids"), "{line}");

    let ids = stdout(ml.arg("--print-ids"));
    assert_eq!(ids.lines().count(), 1);
    assert_eq!(
        ids.trim_end()
            .split(',')
            .filter(|id| id.parse::<u32>().is_ok())
            .count(),
        4
    );
    let mut same = with_demo("generate");
    same.args([
        "--temp",
        "0",
        "--tokens",
        "5,6,7",
        "--max-tokens",
        "4",
        "--ignore-eos",
    ]);
    assert_eq!(stdout(same.arg("--print-ids")), ids);
}

#[test]
fn a_token_id_outside_the_vocabulary_is_refused() {
    let line = failure(with_demo("generate").args(["--tokens", "4000000000", "--print-ids"]));
    assert!(line.contains("4000000000"), "{line}");
}

#[test]
fn the_largest_of_the_written_logits_is_the_greedy_token() {
    let dir = without_tokenizer();
    let file = dir.path().join("logits.safetensors");
    let mut ml = ml();
    ml.args(["logits", "--device", "cpu", "--tokens", "5,6,7", "--model"])
        .arg(dir.path());
    stdout(ml.arg("--out").arg(&file));

    let bytes = fs::read(&file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let logits = tensors.tensor("logits").unwrap();
    assert_eq!(logits.dtype(), safetensors::Dtype::F32);
    let [3, vocabulary] = logits.shape()[..] else {
        panic!("{:?}", logits.shape())
    };
    let last = logits.data()[2 * vocabulary * 4..].chunks_exact(4);
    let last: Vec<f32> = last
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    let best = (0..vocabulary)
        .max_by(|&a, &b| last[a].total_cmp(&last[b]))
        .unwrap();

    let mut greedy = with_demo("generate");
    greedy.args(["--tokens", "5,6,7", "--print-ids", "--ignore-eos"]);
    let id = stdout(greedy.args(["--temp", "0", "--max-tokens", "1"]));
    assert_eq!(id.trim_end(), best.to_string());
}

#[test]
fn a_seed_makes_an_answer_repeatable() {
    let answer = |seed: &str| {
        let mut ml = with_demo("generate");
        ml.args([
            "--prompt",
            "hello",
            "--raw",
            "--temp",
            "2",
            "--max-tokens",
            "12",
        ]);
        stdout(ml.args(["--ignore-eos", "--print-ids", "--seed", seed]))
    };
    assert_eq!(answer("1"), answer("1"));
    assert_ne!(answer("1"), answer("2"));
}

#[test]
fn info_names_what_there_is() {
    let object: Value = serde_json::from_str(&stdout(with_demo("info").arg("--json"))).unwrap();
    assert_eq!(object["model_type"], "qwen3");
    for figure in [
        "layers",
        "parameters",
        "weight_bytes",
        "cache_bytes_per_token",
        "vocab_size",
    ] {
        assert!(object[figure].as_u64().unwrap() > 0, "{figure}: {object}");
    }
    assert_eq!(object["device"]["kind"], "cpu");
    let text = stdout(&mut with_demo("info"));
    for name in [
        "architecture",
        "parameters",
        "quantization",
        "weights",
        "cache",
        "device",
        "MLX",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(name)),
            "{name}: {text}"
        );
    }
}

#[test]
fn info_shows_a_model_where_the_native_library_is_missing() {
    let nowhere = TempDir::new().unwrap();
    let mut ml = ml();
    ml.args(["info", "--model"])
        .arg(demo())
        .env("MLX_NATIVE_DIR", nowhere.path());
    let text = stdout(&mut ml);
    assert!(
        text.contains("Qwen3") && text.contains("not loaded"),
        "{text}"
    );
}

/// The demo model with this `generation_config.json`.
fn advised(advice: &str) -> TempDir {
    let dir = without_tokenizer();
    fs::write(dir.path().join("generation_config.json"), advice)
        .expect("the folder can be written");
    dir
}

fn ids(dir: &TempDir, args: &[&str]) -> String {
    let mut ml = ml();
    ml.args([
        "generate", "--device", "cpu", "--tokens", "5,6,7", "--seed", "3",
    ]);
    ml.args(["--max-tokens", "24", "--ignore-eos", "--print-ids"]);
    stdout(ml.args(args).arg("--model").arg(dir.path()))
}

#[test]
fn what_the_model_advises_is_the_default_and_can_be_left_out() {
    let silent = advised("{}");
    let dir =
        advised(r#"{"temperature": 2.5, "top_k": 40, "top_p": 0.98, "repetition_penalty": 1.3}"#);
    let asked = [
        "--temp",
        "2.5",
        "--top-k",
        "40",
        "--top-p",
        "0.98",
        "--repetition-penalty",
        "1.3",
    ];
    let all = ids(&silent, &asked);
    assert_eq!(ids(&dir, &[]), all);
    assert_ne!(ids(&silent, &[]), all);
    assert_eq!(
        ids(&dir, &["--no-advice"]),
        ids(&silent, &["--temp", "0.1"])
    );
    let other = [
        "--temp",
        "2.5",
        "--top-k",
        "2",
        "--top-p",
        "0.98",
        "--repetition-penalty",
        "1.3",
    ];
    assert_eq!(ids(&dir, &["--top-k", "2"]), ids(&silent, &other));
    let greedy = advised(r#"{"do_sample": false, "temperature": 2.5}"#);
    assert_eq!(ids(&greedy, &[]), ids(&silent, &["--temp", "0"]));
}

#[test]
fn info_shows_the_advice_and_what_was_left_out() {
    let dir = advised(r#"{"do_sample": true, "temperature": 0.6, "top_k": -1, "top_p": 0.95}"#);
    let mut ml = ml();
    let output = output(ml.args(["info", "--model"]).arg(dir.path()));
    let row = text(&output.stdout)
        .lines()
        .find(|line| line.starts_with("advice"));
    assert!(
        row.unwrap().contains("temperature 0.6, top_p 0.95"),
        "{row:?}"
    );
    let warning = text(&output.stderr)
        .lines()
        .find(|line| line.starts_with("warning: "));
    assert!(warning.is_some_and(|line| line.contains("top_k") && line.contains("left out")));
    let object: Value = serde_json::from_str(&stdout(ml.arg("--json"))).unwrap();
    assert_eq!(object["advice"]["top_p"], 0.95);
    assert_eq!(object["advice"]["top_k"], Value::Null);
    assert_eq!(object["context"], 1024);
}

#[test]
fn embeddings_of_texts_are_rows_of_one_tensor() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("embedding.safetensors");
    let mut ml = with_demo("embed");
    ml.args([
        "--text",
        "a garden",
        "--text",
        "17 + 25",
        "--dimensions",
        "64",
    ]);
    ml.arg("--out").arg(&file);
    stdout(&mut ml);
    let bytes = std::fs::read(&file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let embedding = tensors.tensor("embedding").unwrap();
    assert_eq!(embedding.dtype(), safetensors::Dtype::F32);
    assert_eq!(embedding.shape(), [2, 64]);
    let floats = embedding.data().chunks_exact(4);
    let floats: Vec<f32> = floats
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    for row in floats.chunks(64) {
        let length: f32 = row.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
    assert_ne!(floats[..64], floats[64..]);
}

/// EmbeddingGemma, small: ids are embedded, and asked for text it says what it is for.
#[test]
fn a_bidirectional_model_embeds_and_writes_nothing() {
    let model =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../ml-backend/tests/fixtures/encoder/model");
    let on_model = |command: &str| {
        let mut ml = ml();
        ml.arg(command).arg("--model").arg(&model);
        ml
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("embedding.safetensors");
    let mut ml = on_model("embed");
    ml.args(["--device", "cpu", "--tokens", "1,2,3", "--json", "--out"])
        .arg(&file);
    let object: Value = serde_json::from_str(&stdout(&mut ml)).unwrap();
    assert_eq!(object["shape"], serde_json::json!([1, 16]));
    assert!(file.is_file());
    let line =
        failure(on_model("generate").args(["--device", "cpu", "--tokens", "1,2,3", "--print-ids"]));
    assert!(line.contains("embeds texts and writes none"), "{line}");
    let info = stdout(&mut on_model("info"));
    assert!(info.contains("embeddings"), "{info}");
}

#[test]
fn a_model_that_has_no_yes_is_no_reranker() {
    let mut ml = with_demo("rerank");
    ml.args(["--query", "q", "--document", "d"]);
    let error = crate::failure(&mut ml);
    assert!(error.contains("no token \"yes\""), "{error}");
}

#[test]
fn several_answers_are_those_of_the_seeds_that_follow() {
    let prompt = [
        "--prompt",
        "Tell me something.",
        "--temp",
        "1.3",
        "--max-tokens",
        "12",
        "--json",
    ];
    let text_of = |line: &str| -> String {
        let object: Value = serde_json::from_str(line).unwrap();
        object["text"].as_str().unwrap().to_owned()
    };
    let all = stdout(
        with_demo("generate")
            .args(prompt)
            .args(["--n", "3", "--seed", "5"]),
    );
    let lines: Vec<String> = all.lines().map(text_of).collect();
    for (line, seed) in lines.iter().zip(["5", "6", "7"]) {
        let alone = stdout(with_demo("generate").args(prompt).args(["--seed", seed]));
        assert_eq!(*line, text_of(alone.trim_end()));
    }
    assert_eq!(lines.len(), 3);
}

#[test]
fn probabilities_are_told_of_prompt_and_answer() {
    let args = [
        "--prompt",
        "What is 17 + 25?",
        "--temp",
        "0",
        "--logprobs",
        "2",
        "--prompt-logprobs",
        "1",
    ];
    let json = stdout(with_demo("generate").args(args).arg("--json"));
    let object: Value = serde_json::from_str(&json).unwrap();
    let (ids, told) = (&object["token_ids"], object["logprobs"].as_array().unwrap());
    assert_eq!(told.len(), ids.as_array().unwrap().len());
    for (id, token) in ids.as_array().unwrap().iter().zip(told) {
        assert_eq!(token["id"], *id);
        // Greedy: it is the first of its place.
        assert_eq!(token["top"][0]["logprob"], token["logprob"]);
        assert_eq!(token["top"].as_array().unwrap().len(), 2);
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
    }
    let text: String = told
        .iter()
        .map(|token| token["text"].as_str().unwrap())
        .collect();
    assert_eq!(text, object["text"].as_str().unwrap());
    let prompt = object["prompt_logprobs"].as_array().unwrap();
    assert_eq!(object["metrics"]["prompt_tokens"], prompt.len() + 1);
    let output = output(with_demo("generate").args(args));
    assert!(output.status.success());
    assert!(
        text_lines(&output.stderr) >= told.len() + prompt.len(),
        "{output:?}"
    );
}

fn text_lines(bytes: &[u8]) -> usize {
    text(bytes).lines().count()
}

#[test]
fn stages_change_what_is_drawn_and_bad_values_are_refused() {
    let prompt = [
        "--prompt",
        "What is 17 + 25?",
        "--temp",
        "0",
        "--max-tokens",
        "8",
        "--print-ids",
    ];
    let ids = stdout(with_demo("generate").args(prompt));
    let first = ids.split(',').next().unwrap().trim().to_owned();
    let banned = stdout(
        with_demo("generate")
            .args(prompt)
            .args(["--logit-bias", &format!("{first}=-inf")]),
    );
    assert!(!banned.split(',').any(|id| id.trim() == first), "{banned}");
    let stopped = stdout(
        with_demo("generate")
            .args(prompt)
            .args(["--stop-id", &first]),
    );
    assert_eq!(stopped, "\n");
    for (name, value, reason) in [
        ("--logit-bias", "x", "a token id and a number"),
        ("--typical-p", "0", "above 0 and at most 1"),
        ("--logprobs", "21", "from 0 to 20"),
        ("--dry-base", "1.5", "--dry-multiplier"),
        ("--n", "0", "1 or more"),
    ] {
        let refused = output(with_demo("generate").args(prompt).args([name, value]));
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        assert!(text(&refused.stderr).contains(reason), "{refused:?}");
    }
    let help = stdout(crate::ml().args(["generate", "--help"]));
    for heading in ["Model and device:", "Prompt:", "Output:", "Sampling:"] {
        assert!(help.contains(heading), "{help}");
    }
}
