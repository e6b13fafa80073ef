//! The demo models answer questions that they were not trained on.
//!
//! This is the test of everything between a question and its answer: a rotary offset, a mask, a
//! cache or a chat template that is wrong by a little makes wrong sums.

use std::path::{Path, PathBuf};

use ml_backend::{Backend, Message, MlxBackend, Options};
use serde_json::Value;

/// The least share of the questions that has to be answered exactly.
const REQUIRED: f64 = 0.97;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/models")
}

/// Questions and answers, held out of training.
fn held_out() -> Vec<(String, String)> {
    let file = models().join("heldout/questions.jsonl");
    let text = std::fs::read_to_string(&file).expect("the held-out questions are there");
    let question = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("each line is JSON");
        let field = |name: &str| line[name].as_str().expect("it has the field").to_owned();
        (field("prompt"), field("answer"))
    };
    text.lines().map(question).collect()
}

fn answers_held_out_questions(model: &str) {
    let backend = MlxBackend::builder()
        .device(crate::common::device())
        .load(models().join(model))
        .expect("the model loads");
    let options = Options::new().temperature(0.0).max_tokens(64);
    let questions = held_out();
    assert!(
        questions.len() >= 300,
        "{} questions tell too little",
        questions.len()
    );
    let mut wrong = Vec::new();
    for (prompt, answer) in &questions {
        let messages = [Message::user(prompt)];
        let given = backend
            .chat(&messages, &options)
            .expect("the model answers")
            .text;
        if given != *answer {
            wrong.push(format!("{prompt:?}: {given:?}, not {answer:?}"));
        }
    }
    let accuracy = 1.0 - wrong.len() as f64 / questions.len() as f64;
    println!(
        "{model}: {:.1}% of {} questions",
        100.0 * accuracy,
        questions.len()
    );
    assert!(
        accuracy >= REQUIRED,
        "{model}: {:.1}%\n{}",
        100.0 * accuracy,
        wrong.join("\n")
    );
}

#[test]
fn qwen3_demo_answers_held_out_questions() {
    answers_held_out_questions("qwen3-demo");
}

#[test]
fn gemma3_demo_answers_held_out_questions() {
    answers_held_out_questions("gemma3-demo");
}
