//! Questions and their answers, as the model gives them alone.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::client::post;
use crate::process::root;

/// A request whose answer is known.
pub(super) struct Question {
    pub(super) path: &'static str,
    /// Without `stream`.
    pub(super) body: Value,
    pub(super) answer: String,
}

impl Question {
    fn chat(prompt: &str, rest: Value) -> Self {
        let mut body = json!({"messages": [{"role": "user", "content": prompt}], "temperature": 0});
        if let (Some(body), Value::Object(rest)) = (body.as_object_mut(), rest) {
            body.extend(rest);
        }
        Self {
            path: "/v1/chat/completions",
            body,
            answer: String::new(),
        }
    }

    /// Asks it and waits.
    fn ask(&self, address: SocketAddr) -> Result<String> {
        let answer = post(address, self.path, &self.body)?;
        let status = answer.status;
        let text = answer.whole()?;
        ensure!(status == 200, "asked alone: {status} {text}");
        said(&serde_json::from_str(&text)?)
    }
}

/// The text of a whole answer.
pub(super) fn said(answer: &Value) -> Result<String> {
    let choice = &answer["choices"][0];
    let text = choice["message"]["content"]
        .as_str()
        .or(choice["text"].as_str());
    Ok(text
        .with_context(|| format!("no text: {answer}"))?
        .to_owned())
}

/// Sums that the model gets right, and longer prompts and answers of which is known what it says.
///
/// # Errors
/// A model that gets few sums right, and what goes wrong when they are asked.
pub(super) fn with_answers(address: SocketAddr) -> Result<Vec<Question>> {
    let path = root().join("assets/models/heldout/questions.jsonl");
    let lines = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut known = Vec::new();
    let (mut sums, mut right) = (0, 0);
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line)?;
        let prompt = line["prompt"].as_str().context("no prompt")?;
        let mut question = Question::chat(prompt, json!({}));
        question.answer = question.ask(address)?;
        let is_right = line["answer"] == question.answer.as_str();
        if line["task"] == "sum" {
            (sums, right) = (sums + 1, right + usize::from(is_right));
        }
        if is_right {
            known.push(question);
        }
    }
    ensure!(
        right * 2 > sums,
        "the model gets {right} of {sums} sums right"
    );
    eprintln!("asked alone, the model gets {right} of {sums} sums right");
    // What it says to these is nothing that anybody would know, and as much its own.
    for (words, tokens) in [(5, 16), (20, 200), (60, 40), (120, 8), (120, 100), (1, 400)] {
        let prompt = format!("Spell the word garden. {}", "hello ".repeat(words));
        let mut question =
            Question::chat(&prompt, json!({"max_tokens": tokens, "ignore_eos": true}));
        question.answer = question.ask(address)?;
        known.push(question);
        let body =
            json!({"prompt": prompt, "max_tokens": tokens, "ignore_eos": true, "temperature": 0});
        let mut question = Question {
            path: "/v1/completions",
            body,
            answer: String::new(),
        };
        question.answer = question.ask(address)?;
        known.push(question);
    }
    Ok(known)
}
