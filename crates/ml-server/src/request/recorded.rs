//! What clients of others sent: each kind of request that was answered is taken today, and read as what it is.
//!
//! The files are made by `tools/clients/recorder.py`, which keeps the form of a request and none of its texts.

use std::path::Path;

use serde_json::{Map, Value};

use super::chat::Chat;
use super::completions::Completions;
use super::embeddings::Embeddings;
use super::messages::Messages;
use super::responses::Responses;
use crate::errors::Result;
use crate::fields::Fields;
use crate::run::{Job, Prompt};

struct Recorded {
    client: String,
    path: String,
    body: Map<String, Value>,
}

fn recorded() -> Vec<Recorded> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/requests");
    let mut all = Vec::new();
    for file in dir.read_dir().unwrap() {
        let file = file.unwrap().path();
        let client = file.file_stem().unwrap().to_str().unwrap().to_owned();
        for line in std::fs::read_to_string(&file).unwrap().lines() {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let Value::Object(body) = line["body"].take() else {
                panic!("{client}: a body is no object");
            };
            all.push(Recorded {
                client: client.clone(),
                path: line["path"].as_str().unwrap().to_owned(),
                body,
            });
        }
    }
    all
}

/// What the request asks of the engine; nothing for those that ask for no text.
fn read(path: &str, body: Map<String, Value>) -> Result<Vec<Job>> {
    let fields = Fields::new(body);
    match path {
        "/v1/chat/completions" => Chat::read(fields).map(|chat| vec![chat.job()]),
        "/v1/completions" => Completions::read(fields).map(|completions| completions.jobs()),
        "/v1/messages" => Messages::read(fields).map(|messages| vec![messages.job()]),
        "/v1/messages/count_tokens" => Messages::read_prompt(fields).map(|_| Vec::new()),
        "/v1/responses" => {
            Responses::read(fields).map(|responses| vec![responses.job(&responses.input)])
        }
        "/v1/embeddings" => Embeddings::read(fields).map(|_| Vec::new()),
        other => panic!("{other} is no path of a client"),
    }
}

#[test]
fn what_clients_sent_is_taken() {
    let all = recorded();
    for Recorded { client, path, body } in &all {
        let read = read(path, body.clone());
        assert!(read.is_ok(), "{client}: {path}: {read:?}: {body:?}");
    }
    assert!(all.len() > 20, "{} requests", all.len());
}

/// Functions that a request announces, less the kinds that no model here can have.
fn announced(path: &str, body: &Map<String, Value>) -> usize {
    let tools = body.get("tools").and_then(Value::as_array);
    let function = |tool: &&Value| match path {
        "/v1/responses" => tool["type"] == "function",
        _ => true,
    };
    tools.into_iter().flatten().filter(function).count()
}

#[test]
fn a_model_is_told_of_every_tool_and_every_turn() {
    let mut calls = 0;
    for Recorded { client, path, body } in recorded() {
        let (tools, sent) = (announced(&path, &body), body.clone());
        for job in read(&path, body).unwrap() {
            let told = format!("{client}: {path}: {sent:?}");
            assert_eq!(job.options.tools.len(), tools, "{told}");
            let Prompt::Chat(messages) = &job.prompt else {
                continue;
            };
            assert!(!messages.is_empty(), "{told}");
            // A result of a tool names the call that it answers.
            for message in messages {
                calls += message.tool_calls.len();
                assert_eq!(
                    message.role == ml_backend::Role::Tool,
                    message.tool_call_id.is_some(),
                    "{told}"
                );
            }
        }
    }
    assert!(calls > 0, "no calls in all of them");
}
