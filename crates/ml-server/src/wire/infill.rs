//! A completion in the form of llama.cpp's own endpoints, whole and in parts.

use serde::Serialize;

use super::chat::raw;
use crate::errors::{ApiError, Style};
use crate::json;
use crate::run::{End, Event, Finish, Whole};
use crate::sse::{Writer, data};

#[derive(Serialize)]
struct Part<'a> {
    index: usize,
    content: &'a str,
    stop: bool,
}

#[derive(Serialize)]
struct Last<'a> {
    #[serde(flatten)]
    part: Part<'a>,
    model: &'a str,
    tokens_predicted: usize,
    tokens_evaluated: usize,
    tokens_cached: usize,
    truncated: bool,
    stop_type: &'static str,
}

/// Writes what was filled in.
pub(crate) struct Infill {
    model: String,
}

impl Infill {
    pub(crate) fn new(model: String) -> Self {
        Self { model }
    }

    fn last<'a>(&'a self, content: &'a str, end: End) -> Last<'a> {
        Last {
            part: Part {
                index: 0,
                content,
                stop: true,
            },
            model: &self.model,
            tokens_predicted: end.usage.generated,
            tokens_evaluated: end.usage.prompt,
            tokens_cached: end.usage.cached,
            truncated: false,
            stop_type: match end.finish {
                Finish::Stop | Finish::ToolCalls => "eos",
                Finish::StopText => "word",
                Finish::Length => "limit",
            },
        }
    }

    /// The whole of it.
    pub(crate) fn response(&self, answer: &Whole) -> axum::http::Response<axum::body::Body> {
        json::response(&self.last(&answer.text, answer.end))
    }
}

impl Writer for Infill {
    fn begin(&mut self, _out: &mut String) {}

    fn event(&mut self, index: usize, event: Event, out: &mut String) {
        match event {
            Event::Text(text) if !text.is_empty() => {
                let part = Part {
                    index,
                    content: &text,
                    stop: false,
                };
                data(out, &part);
            }
            Event::End(end) => data(out, &self.last("", end)),
            _ => {}
        }
    }

    fn end(&mut self, _out: &mut String) {}

    fn error(&mut self, error: &ApiError, out: &mut String) {
        raw(out, &error.body(Style::OpenAi));
    }
}
