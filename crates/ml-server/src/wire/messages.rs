//! Anthropic's `message` and the events of its stream.

use serde::Serialize;
use serde_json::json;

use crate::errors::{ApiError, Style};
use crate::run::{self, End, Event, Finish, Whole};
use crate::sse::{Writer, named};
use crate::{ids, json};

#[derive(Serialize)]
struct Message<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    model: &'a str,
    content: Vec<Block>,
    stop_reason: Option<&'static str>,
    stop_sequence: Option<&'a str>,
    usage: Usage,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block {
    Text { text: String },
}

#[derive(Serialize)]
struct Usage {
    input_tokens: usize,
    cache_creation_input_tokens: usize,
    cache_read_input_tokens: usize,
    output_tokens: usize,
}

impl From<run::Usage> for Usage {
    /// Tokens that were known are not among the input's, as Anthropic counts.
    fn from(usage: run::Usage) -> Self {
        Self {
            input_tokens: usage.prompt - usage.cached,
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: usage.cached,
            output_tokens: usage.generated,
        }
    }
}

fn stop_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::StopText => "stop_sequence",
        Finish::Length => "max_tokens",
    }
}

/// The stop text that was reached, where there is one only that it can be.
fn stop_sequence(finish: Finish, stops: &[String]) -> Option<&str> {
    match stops {
        [only] if finish == Finish::StopText => Some(only),
        _ => None,
    }
}

/// The whole answer.
pub(crate) fn response(
    model: &str,
    stops: &[String],
    answer: Whole,
) -> axum::http::Response<axum::body::Body> {
    let text = (!answer.text.is_empty()).then_some(Block::Text { text: answer.text });
    json::response(&Message {
        id: ids::new("msg_"),
        kind: "message",
        role: "assistant",
        model,
        content: text.into_iter().collect(),
        stop_reason: Some(stop_reason(answer.end.finish)),
        stop_sequence: stop_sequence(answer.end.finish, stops),
        usage: answer.end.usage.into(),
    })
}

/// Writes the events of a stream: a message of blocks, one after the other.
pub(crate) struct Events {
    model: String,
    stops: Vec<String>,
    prompt_tokens: usize,
    /// The block that is open, and how many there have been.
    open: bool,
    blocks: usize,
}

impl Events {
    pub(crate) fn new(model: String, stops: Vec<String>, prompt_tokens: usize) -> Self {
        Self {
            model,
            stops,
            prompt_tokens,
            open: false,
            blocks: 0,
        }
    }

    fn open(&mut self, block: &Block, out: &mut String) {
        if !std::mem::replace(&mut self.open, true) {
            let start = json!({"type": "content_block_start", "index": self.blocks, "content_block": block});
            named(out, "content_block_start", &start);
        }
    }

    fn close(&mut self, out: &mut String) {
        if std::mem::take(&mut self.open) {
            let stop = json!({"type": "content_block_stop", "index": self.blocks});
            named(out, "content_block_stop", &stop);
            self.blocks += 1;
        }
    }

    fn finish(&mut self, end: End, out: &mut String) {
        self.close(out);
        let delta = json!({
            "type": "message_delta",
            "delta": {
                "stop_reason": stop_reason(end.finish),
                "stop_sequence": stop_sequence(end.finish, &self.stops),
            },
            "usage": Usage::from(end.usage),
        });
        named(out, "message_delta", &delta);
    }
}

impl Writer for Events {
    fn begin(&mut self, out: &mut String) {
        let usage = run::Usage {
            prompt: self.prompt_tokens,
            ..run::Usage::default()
        };
        let message = Message {
            id: ids::new("msg_"),
            kind: "message",
            role: "assistant",
            model: &self.model,
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            usage: usage.into(),
        };
        named(
            out,
            "message_start",
            &json!({"type": "message_start", "message": message}),
        );
    }

    fn event(&mut self, _index: usize, event: Event, out: &mut String) {
        match event {
            Event::Text(text) => {
                self.open(
                    &Block::Text {
                        text: String::new(),
                    },
                    out,
                );
                let delta = json!({
                    "type": "content_block_delta",
                    "index": self.blocks,
                    "delta": {"type": "text_delta", "text": text},
                });
                named(out, "content_block_delta", &delta);
            }
            Event::End(end) => self.finish(end, out),
        }
    }

    fn end(&mut self, out: &mut String) {
        named(out, "message_stop", &json!({"type": "message_stop"}));
    }

    fn error(&mut self, error: &ApiError, out: &mut String) {
        out.push_str("event: error\n");
        super::chat::raw(out, &error.body(Style::Anthropic));
    }

    fn ping(&self) -> &'static str {
        "event: ping\ndata: {\"type\":\"ping\"}\n\n"
    }
}
