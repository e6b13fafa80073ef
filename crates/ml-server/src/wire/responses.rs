//! OpenAI's `response` and the numbered events of its stream.

use std::sync::Arc;

use ml_backend::{Message, ToolCall};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::errors::ApiError;
use crate::ids;
use crate::run::{self, End, Event, Finish, Whole};
use crate::sse::{Writer, named};

/// Builds a response out of an answer's events, and tells each step where somebody listens.
pub(crate) struct Response {
    app: Arc<App>,
    id: String,
    created: u64,
    model: String,
    shown: Map<String, Value>,
    /// What was said before; `None` where the conversation is not kept.
    before: Option<Vec<Message>>,
    /// Items that are whole.
    output: Vec<Value>,
    open: Option<Item>,
    end: Option<End>,
    sequence: usize,
}

/// The item that is being written.
struct Item {
    kind: Kind,
    id: String,
    text: String,
}

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Message,
    Reasoning,
    Call {
        call: usize,
        id: String,
        name: String,
    },
}

impl Response {
    pub(crate) fn new(
        app: Arc<App>,
        model: String,
        shown: Map<String, Value>,
        before: Option<Vec<Message>>,
    ) -> Self {
        Self {
            app,
            id: ids::new("resp_"),
            created: ids::now(),
            model,
            shown,
            before,
            output: Vec::new(),
            open: None,
            end: None,
            sequence: 0,
        }
    }

    /// The whole answer.
    pub(crate) fn whole(mut self, answer: Whole) -> Value {
        // What a stream would have told, told to nobody.
        let mut unheard = String::new();
        if let Some(reasoning) = answer.reasoning {
            self.event(0, Event::Reasoning(reasoning), &mut unheard);
        }
        if !answer.text.is_empty() {
            self.event(0, Event::Text(answer.text), &mut unheard);
        }
        for (
            call,
            run::Call {
                id,
                name,
                arguments,
            },
        ) in answer.calls.into_iter().enumerate()
        {
            self.event(0, Event::Call { call, id, name }, &mut unheard);
            let json = arguments;
            self.event(0, Event::Arguments { call, json }, &mut unheard);
        }
        self.event(0, Event::End(answer.end), &mut unheard);
        self.keep();
        self.object(None)
    }

    /// The response as it is now.
    fn object(&self, failed: Option<&ApiError>) -> Value {
        let finish = self.end.map(|end| end.finish);
        let (status, details) = match (failed, finish) {
            (Some(_), _) => ("failed", Value::Null),
            (None, None) => ("in_progress", Value::Null),
            (None, Some(Finish::Length)) => ("incomplete", json!({"reason": "max_output_tokens"})),
            (None, Some(_)) => ("completed", Value::Null),
        };
        let usage = self.end.map(|End { usage, .. }| {
            json!({
                "input_tokens": usage.prompt,
                "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
                "output_tokens": usage.generated,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage.prompt + usage.generated,
            })
        });
        let error = failed.map(|error| json!({"code": "server_error", "message": error.message}));
        let mut object = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": error,
            "incomplete_details": details,
            "model": self.model,
            "output": self.output,
            "usage": usage,
        });
        if let Some(object) = object.as_object_mut() {
            object.extend(self.shown.clone());
        }
        object
    }

    fn tell(&mut self, name: &str, mut event: Value, out: &mut String) {
        event["type"] = name.into();
        event["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        named(out, name, &event);
    }

    /// Goes on with the item of that kind, or begins it.
    fn open(&mut self, kind: Kind, out: &mut String) {
        if self.open.as_ref().is_some_and(|item| item.kind == kind) {
            return;
        }
        self.close("completed", out);
        let item = Item {
            id: ids::new(kind.prefix()),
            kind,
            text: String::new(),
        };
        let output_index = self.output.len();
        let added = json!({"output_index": output_index, "item": item.object("in_progress")});
        self.tell("response.output_item.added", added, out);
        if item.kind == Kind::Message {
            let added = json!({
                "item_id": item.id, "output_index": output_index, "content_index": 0, "part": part(""),
            });
            self.tell("response.content_part.added", added, out);
        }
        self.open = Some(item);
    }

    /// Adds to the item that is open.
    fn add(&mut self, text: &str, out: &mut String) {
        let Some(item) = &mut self.open else { return };
        item.text.push_str(text);
        let mut event =
            json!({"item_id": item.id, "output_index": self.output.len(), "delta": text});
        let name = format!("{}.delta", item.kind.event());
        match item.kind {
            Kind::Message => {
                event["content_index"] = 0.into();
                event["logprobs"] = json!([]);
            }
            Kind::Reasoning => event["content_index"] = 0.into(),
            Kind::Call { .. } => {}
        }
        self.tell(&name, event, out);
    }

    /// Ends the item that is open.
    fn close(&mut self, status: &str, out: &mut String) {
        let Some(item) = self.open.take() else { return };
        let output_index = self.output.len();
        let at = json!({"item_id": item.id, "output_index": output_index});
        let name = format!("{}.done", item.kind.event());
        let mut done = at.clone();
        match &item.kind {
            Kind::Call { name, .. } => {
                done["name"] = name.as_str().into();
                done["arguments"] = item.text.as_str().into();
            }
            _ => {
                done["content_index"] = 0.into();
                done["text"] = item.text.as_str().into();
            }
        }
        if item.kind == Kind::Message {
            done["logprobs"] = json!([]);
        }
        self.tell(&name, done, out);
        if item.kind == Kind::Message {
            let mut done = at;
            done["content_index"] = 0.into();
            done["part"] = part(&item.text);
            self.tell("response.content_part.done", done, out);
        }
        let object = item.object(status);
        let done = json!({"output_index": output_index, "item": object});
        self.tell("response.output_item.done", done, out);
        self.output.push(object);
    }

    /// Keeps the conversation for requests that go on with it.
    fn keep(&mut self) {
        let Some(mut messages) = self.before.take() else {
            return;
        };
        let mut turn = Message::assistant("");
        // A call that came to nothing is no part of what was said, and neither is one that was cut off.
        for item in self
            .output
            .iter()
            .filter(|item| item["type"] != "function_call" || item["status"] == "completed")
        {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            match item["type"].as_str() {
                Some("message") => turn.content.push_str(&text(&item["content"][0]["text"])),
                Some("reasoning") => turn.reasoning = Some(text(&item["content"][0]["text"])),
                _ => {
                    let arguments = text(&item["arguments"]);
                    let arguments =
                        serde_json::from_str(&arguments).unwrap_or(Value::String(arguments));
                    let call =
                        ToolCall::new(text(&item["name"]), arguments).id(text(&item["call_id"]));
                    turn.tool_calls.push(call);
                }
            }
        }
        messages.push(turn);
        self.app.conversations.keep(self.id.clone(), messages);
    }
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

impl Kind {
    fn prefix(&self) -> &'static str {
        match self {
            Self::Message => "msg_",
            Self::Reasoning => "rs_",
            Self::Call { .. } => "fc_",
        }
    }

    fn event(&self) -> &'static str {
        match self {
            Self::Message => "response.output_text",
            Self::Reasoning => "response.reasoning_text",
            Self::Call { .. } => "response.function_call_arguments",
        }
    }
}

impl Item {
    fn object(&self, status: &str) -> Value {
        let empty = self.text.is_empty();
        match &self.kind {
            Kind::Message => {
                let content: Vec<_> = (!empty).then(|| part(&self.text)).into_iter().collect();
                json!({"type": "message", "id": self.id, "status": status, "role": "assistant", "content": content})
            }
            Kind::Reasoning => {
                let content =
                    (!empty).then(|| json!({"type": "reasoning_text", "text": self.text}));
                let content: Vec<_> = content.into_iter().collect();
                json!({"type": "reasoning", "id": self.id, "status": status, "summary": [], "content": content})
            }
            Kind::Call { id, name, .. } => json!({
                "type": "function_call", "id": self.id, "status": status, "call_id": id, "name": name,
                "arguments": self.text,
            }),
        }
    }
}

impl Writer for Response {
    fn begin(&mut self, out: &mut String) {
        for name in ["response.created", "response.in_progress"] {
            let event = json!({"response": self.object(None)});
            self.tell(name, event, out);
        }
    }

    fn event(&mut self, _index: usize, event: Event, out: &mut String) {
        match event {
            Event::Text(text) => {
                self.open(Kind::Message, out);
                self.add(&text, out);
            }
            Event::Reasoning(text) => {
                self.open(Kind::Reasoning, out);
                self.add(&text, out);
            }
            Event::Call { call, id, name } => self.open(Kind::Call { call, id, name }, out),
            Event::Arguments { json, .. } => self.add(&json, out),
            Event::Undone { text, .. } => {
                self.close("incomplete", out);
                self.open(Kind::Message, out);
                self.add(&text, out);
            }
            Event::Probable(_) | Event::Prompt { .. } => {}
            Event::End(end) => {
                let whole = end.finish != Finish::Length;
                self.close(if whole { "completed" } else { "incomplete" }, out);
                self.end = Some(end);
            }
        }
    }

    fn end(&mut self, out: &mut String) {
        self.keep();
        let object = self.object(None);
        let name = match object["status"].as_str() {
            Some("incomplete") => "response.incomplete",
            _ => "response.completed",
        };
        self.tell(name, json!({"response": object}), out);
    }

    fn error(&mut self, error: &ApiError, out: &mut String) {
        let event = json!({"code": error.code, "message": error.message, "param": error.param});
        self.tell("error", event, out);
        let event = json!({"response": self.object(Some(error))});
        self.tell("response.failed", event, out);
    }
}
