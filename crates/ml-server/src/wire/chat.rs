//! `chat.completion` and its chunks.

use serde::Serialize;

use super::{Total, Usage, finish_reason};
use crate::errors::{ApiError, Style};
use crate::run::{Event, Whole};
use crate::sse::{Writer, data};
use crate::{ids, json};

#[derive(Serialize)]
pub(crate) struct Completion<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<Choice>,
    usage: Usage,
}

#[derive(Serialize)]
struct Choice {
    index: usize,
    message: Said,
    logprobs: Option<()>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Said {
    role: &'static str,
    content: String,
    refusal: Option<()>,
}

impl<'a> Completion<'a> {
    pub(crate) fn new(model: &'a str, answers: Vec<Whole>) -> Self {
        let mut total = Total::new(answers.len());
        let choice = |(index, answer): (usize, Whole)| {
            total.add(index, answer.end.usage);
            Choice {
                index,
                message: Said {
                    role: "assistant",
                    content: answer.text,
                    refusal: None,
                },
                logprobs: None,
                finish_reason: finish_reason(answer.end.finish),
            }
        };
        let choices = answers.into_iter().enumerate().map(choice).collect();
        Self {
            id: ids::new("chatcmpl-"),
            object: "chat.completion",
            created: ids::now(),
            model,
            choices,
            usage: total.usage(),
        }
    }
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [ChunkChoice],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct ChunkChoice {
    index: usize,
    delta: Delta,
    logprobs: Option<()>,
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

/// Writes chunks, all with one id. The first one of each answer has the role.
pub(crate) struct Chunks {
    id: String,
    created: u64,
    model: String,
    /// Whether a last chunk tells the tokens; it has no choices, on which some clients fail, so only who asks gets it.
    usage: bool,
    total: Total,
    begun: Vec<bool>,
}

impl Chunks {
    pub(crate) fn new(model: String, answers: usize, usage: bool) -> Self {
        Self {
            id: ids::new("chatcmpl-"),
            created: ids::now(),
            model,
            usage,
            total: Total::new(answers),
            begun: vec![false; answers],
        }
    }

    fn chunk(&self, choices: &[ChunkChoice], usage: Option<Usage>, out: &mut String) {
        let chunk = Chunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.created,
            model: &self.model,
            choices,
            usage,
        };
        data(out, &chunk);
    }

    fn delta(
        &mut self,
        index: usize,
        mut delta: Delta,
        finish_reason: Option<&'static str>,
        out: &mut String,
    ) {
        if let Some(begun) = self.begun.get_mut(index)
            && !std::mem::replace(begun, true)
        {
            delta.role = Some("assistant");
            delta.content.get_or_insert_default();
        }
        let choice = ChunkChoice {
            index,
            delta,
            logprobs: None,
            finish_reason,
        };
        self.chunk(&[choice], None, out);
    }
}

impl Writer for Chunks {
    fn begin(&mut self, _out: &mut String) {}

    fn event(&mut self, index: usize, event: Event, out: &mut String) {
        match event {
            Event::Text(text) => {
                let delta = Delta {
                    content: Some(text),
                    ..Delta::default()
                };
                self.delta(index, delta, None, out);
            }
            Event::End(end) => {
                self.total.add(index, end.usage);
                self.delta(
                    index,
                    Delta::default(),
                    Some(finish_reason(end.finish)),
                    out,
                );
            }
        }
    }

    fn end(&mut self, out: &mut String) {
        if self.usage {
            self.chunk(&[], Some(self.total.usage()), out);
        }
        out.push_str("data: [DONE]\n\n");
    }

    fn error(&mut self, error: &ApiError, out: &mut String) {
        raw(out, &error.body(Style::OpenAi));
        out.push_str("data: [DONE]\n\n");
    }
}

/// Appends an event whose JSON is written already.
pub(super) fn raw(out: &mut String, json: &str) {
    out.push_str("data: ");
    out.push_str(json);
    out.push_str("\n\n");
}

/// The whole answer as a response's body.
pub(crate) fn response(model: &str, answers: Vec<Whole>) -> axum::http::Response<axum::body::Body> {
    json::response(&Completion::new(model, answers))
}
