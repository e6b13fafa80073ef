//! Two models in one process, used at the same time.

use std::path::PathBuf;
use std::sync::mpsc::{TryRecvError, channel};
use std::thread;

use ml_backend::{Backend, Message, MlxBackend, Options};

fn model(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../assets/models")
        .join(name)
}

const QUESTIONS: [(&str, &str); 2] = [("What is 17 + 25?", "42"), ("What is 30 + 4?", "34")];

fn load(name: &str) -> MlxBackend {
    MlxBackend::builder()
        .device(crate::common::device())
        .load(model(name))
        .unwrap()
}

fn ask(backend: &MlxBackend, (question, answer): (&str, &str)) {
    let options = Options::new().temperature(0.0).max_tokens(16);
    let said = backend.chat(&[Message::user(question)], &options);
    let text = said.unwrap().text;
    assert!(text.contains(answer), "{question} {text}");
}

/// On a GPU each model's decode kernel takes every multiprocessor and its blocks wait for each other:
/// two at a time would wait for ever if their threads did not take turns.
#[test]
fn two_models_answer_at_the_same_time() {
    let threads: Vec<_> = ["qwen3-demo", "gemma3-demo"]
        .map(|name| {
            thread::spawn(move || {
                let backend = load(name);
                for question in QUESTIONS {
                    for _ in 0..8 {
                        ask(&backend, question);
                    }
                }
            })
        })
        .into();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// With the last handle of a model goes what MLX has for it; its thread waits for the next one.
#[test]
fn a_model_goes_while_another_one_answers() {
    let (stop, stopped) = channel::<()>();
    let (answered, first_answer) = channel();
    let answering = thread::spawn(move || {
        let backend = load("qwen3-demo");
        ask(&backend, QUESTIONS[0]);
        answered.send(()).unwrap();
        while stopped.try_recv() == Err(TryRecvError::Empty) {
            ask(&backend, QUESTIONS[0]);
        }
    });
    first_answer.recv().unwrap();
    for _ in 0..8 {
        ask(&load("gemma3-demo"), QUESTIONS[1]);
    }
    drop(stop);
    answering.join().unwrap();
}
