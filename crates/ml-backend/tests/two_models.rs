//! Two models in one process, used at the same time.

mod common;

use std::path::PathBuf;
use std::thread;

use ml_backend::{Backend, Message, MlxBackend, Options};

fn model(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../assets/models")
        .join(name)
}

/// On a GPU each model's decode kernel takes every multiprocessor and its blocks wait for each other:
/// two at a time would wait for ever if their threads did not take turns.
#[test]
fn two_models_answer_at_the_same_time() {
    let threads: Vec<_> = ["qwen3-demo", "gemma3-demo"]
        .map(|name| {
            thread::spawn(move || {
                let backend = MlxBackend::builder()
                    .device(common::device())
                    .load(model(name))
                    .unwrap();
                for (question, answer) in [("What is 17 + 25?", "42"), ("What is 30 + 4?", "34")] {
                    for _ in 0..8 {
                        let options = Options::new().temperature(0.0).max_tokens(16);
                        let said = backend
                            .chat(&[Message::user(question)], &options)
                            .unwrap()
                            .text;
                        assert!(said.contains(answer), "{name}: {question} {said}");
                    }
                }
            })
        })
        .into();
    for thread in threads {
        thread.join().unwrap();
    }
}
