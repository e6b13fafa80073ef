//! Anthropic's `message` and the events of its stream.

use serde::Serialize;
use serde_json::{Value, json};

use crate::errors::{ApiError, Style};
use crate::run::{self, Call, End, Event, Finish, Whole};
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
    Text {
        text: String,
    },
    Thinking {
        thinking: String,
        /// Proves to Anthropic that it was theirs; clients send it back.
        signature: &'static str,
    },
    ToolUse {
        id: String,
        name: String,
        input: Value,
    },
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
        Finish::ToolCalls => "tool_use",
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
    let mut content = Vec::new();
    if let Some(thinking) = answer.reasoning {
        let signature = "";
        content.push(Block::Thinking {
            thinking,
            signature,
        });
    }
    if !answer.text.is_empty() {
        content.push(Block::Text { text: answer.text });
    }
    for Call {
        id,
        name,
        arguments,
    } in answer.calls
    {
        let input = serde_json::from_str(&arguments).unwrap_or(Value::String(arguments));
        content.push(Block::ToolUse { id, name, input });
    }
    json::response(&Message {
        id: ids::new("msg_"),
        kind: "message",
        role: "assistant",
        model,
        content,
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
    /// What the block is that is open.
    open: Option<Open>,
    /// Blocks that were closed.
    blocks: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    Call(usize),
}

impl Events {
    pub(crate) fn new(model: String, stops: Vec<String>, prompt_tokens: usize) -> Self {
        Self {
            model,
            stops,
            prompt_tokens,
            open: None,
            blocks: 0,
        }
    }

    /// Appends `delta` to the block `kind`, which `block` begins where it is not open yet.
    fn delta(
        &mut self,
        kind: Open,
        block: impl FnOnce() -> Block,
        delta: Option<Value>,
        out: &mut String,
    ) {
        if self.open != Some(kind) {
            self.close(out);
            self.open = Some(kind);
            let start = json!({
                "type": "content_block_start", "index": self.blocks, "content_block": block(),
            });
            named(out, "content_block_start", &start);
        }
        if let Some(delta) = delta {
            let event =
                json!({"type": "content_block_delta", "index": self.blocks, "delta": delta});
            named(out, "content_block_delta", &event);
        }
    }

    fn close(&mut self, out: &mut String) {
        if self.open.take().is_some() {
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
            Event::Text(text) | Event::Undone { text, .. } => {
                let block = || Block::Text {
                    text: String::new(),
                };
                let delta = json!({"type": "text_delta", "text": text});
                self.delta(Open::Text, block, Some(delta), out);
            }
            Event::Reasoning(text) => {
                let block = || Block::Thinking {
                    thinking: String::new(),
                    signature: "",
                };
                let delta = json!({"type": "thinking_delta", "thinking": text});
                self.delta(Open::Thinking, block, Some(delta), out);
            }
            Event::Call { call, id, name } => {
                let input = json!({});
                self.delta(
                    Open::Call(call),
                    || Block::ToolUse { id, name, input },
                    None,
                    out,
                );
            }
            Event::Arguments { call, json } if self.open == Some(Open::Call(call)) => {
                let delta = json!({"type": "input_json_delta", "partial_json": json});
                let event =
                    json!({"type": "content_block_delta", "index": self.blocks, "delta": delta});
                named(out, "content_block_delta", &event);
            }
            Event::Arguments { .. } | Event::Probable(_) | Event::Prompt { .. } => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    fn written(events: Vec<Event>) -> Vec<Value> {
        let mut writer = Events::new("m".into(), Vec::new(), 7);
        let mut out = String::new();
        writer.begin(&mut out);
        events
            .into_iter()
            .for_each(|event| writer.event(0, event, &mut out));
        writer.end(&mut out);
        let data = out.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|json| serde_json::from_str(json).unwrap())
            .collect()
    }

    #[test]
    fn thoughts_texts_and_calls_are_blocks_one_after_the_other() {
        let end = End {
            finish: Finish::ToolCalls,
            usage: run::Usage::default(),
        };
        let call = |call| Event::Call {
            call,
            id: format!("t{call}"),
            name: "add".into(),
        };
        let arguments = |call, json: &str| Event::Arguments {
            call,
            json: json.into(),
        };
        let events = written(vec![
            Event::Reasoning("h".into()),
            Event::Reasoning("m".into()),
            Event::Text("so".into()),
            call(0),
            arguments(0, "{\"a\":"),
            arguments(0, "1}"),
            call(1),
            arguments(1, "{}"),
            Event::End(end),
        ]);
        let told: Vec<_> = events
            .iter()
            .map(|event| {
                let kind = event["type"]
                    .as_str()
                    .unwrap()
                    .trim_start_matches("content_block_");
                let block = event["content_block"]["type"].as_str().unwrap_or_default();
                let delta = &event["delta"];
                let texts = ["text", "thinking", "partial_json", "stop_reason"];
                let text = texts.iter().find_map(|name| delta[*name].as_str());
                format!(
                    "{kind} {} {block}{}",
                    event["index"],
                    text.unwrap_or_default()
                )
            })
            .collect();
        let expected = [
            "message_start null ",
            "start 0 thinking",
            "delta 0 h",
            "delta 0 m",
            "stop 0 ",
            "start 1 text",
            "delta 1 so",
            "stop 1 ",
            "start 2 tool_use",
            "delta 2 {\"a\":",
            "delta 2 1}",
            "stop 2 ",
            "start 3 tool_use",
            "delta 3 {}",
            "stop 3 ",
            "message_delta null tool_use",
            "message_stop null ",
        ];
        assert_eq!(told, expected);
        assert_eq!(
            events[8]["content_block"],
            json!({"type": "tool_use", "id": "t0", "name": "add", "input": {}})
        );
    }
}
