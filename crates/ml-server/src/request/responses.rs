//! `/v1/responses`.

use ml_backend::{Message, Options, Role};
use serde_json::{Map, Value, json};

use super::sampling::max_tokens;
use super::{chat, form, is, is_false, tools};
use crate::errors::{ApiError, Result};
use crate::fields::Fields;
use crate::run::{Job, Prompt};

#[derive(Debug)]
pub(crate) struct Responses {
    pub(crate) model: Option<String>,
    pub(crate) stream: bool,
    /// The response whose conversation goes on.
    pub(crate) previous: Option<String>,
    /// Whether the conversation is kept, so that another request can go on with it.
    pub(crate) store: bool,
    pub(crate) instructions: Option<String>,
    /// What is new in the conversation.
    pub(crate) input: Vec<Message>,
    pub(crate) options: Options,
    /// What the response shows of the request.
    pub(crate) shown: Map<String, Value>,
}

/// What clients send for OpenAI's accounts, caches and what they are to be shown.
const IGNORED: [&str; 8] = [
    "user",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "include",
    "stream_options",
    "client_metadata",
];

impl Responses {
    pub(crate) fn read(mut fields: Fields) -> Result<Self> {
        let mut shown = Map::new();
        for (name, unset) in SHOWN {
            let value = fields.seen(name).cloned();
            shown.insert((*name).to_owned(), value.unwrap_or_else(unset));
        }
        let mut options = Options::new();
        options.temperature = fields.take("temperature")?;
        options.top_p = fields.take("top_p")?;
        options.max_tokens = max_tokens(&mut fields, &["max_output_tokens"])?;
        if let Some(mut reasoning) = fields.object("reasoning")? {
            chat::apply_effort(&mut options, reasoning.take("effort")?);
            // Thoughts are shown as they are.
            reasoning.ignore(&["summary", "generate_summary"]);
            reasoning.end()?;
        }
        if let Some(mut text) = fields.object("text")? {
            form::format(&mut text, &mut options)?;
            text.refuse_unless(
                "verbosity",
                is("medium"),
                "say in a message how long answers shall be",
            )?;
            text.end()?;
        }
        tools::responses(&mut fields, &mut options)?;
        form::check(&options, "text.format")?;
        fields.take::<usize>("max_tool_calls")?;
        fields.refuse_unless(
            "truncation",
            is("disabled"),
            "a conversation that is too long is an error here",
        )?;
        fields.refuse_unless("background", is_false, "answers are waited for")?;
        fields.refuse_unless(
            "top_logprobs",
            |value| value.as_f64() == Some(0.0),
            "leave it out",
        )?;
        fields.refuse(
            "conversation",
            "send previous_response_id, or the conversation itself",
        )?;
        fields.refuse("prompt", "send the instructions themselves")?;
        fields.ignore(&IGNORED);
        let responses = Self {
            model: fields.take("model")?,
            stream: fields.take("stream")?.unwrap_or(false),
            previous: fields.take("previous_response_id")?,
            store: fields.take("store")?.unwrap_or(true),
            instructions: fields.take("instructions")?,
            input: input(&mut fields)?,
            options,
            shown,
        };
        fields.ignore(&["metadata"]);
        fields.end()?;
        Ok(responses)
    }

    /// The answer to what was said before and now.
    pub(crate) fn job(&self, conversation: &[Message]) -> Job {
        let instructions = self.instructions.iter().map(Message::system);
        Job {
            prompt: Prompt::Chat(joined(instructions.chain(conversation.iter().cloned()))),
            options: self.options.clone(),
            n: 1,
        }
    }
}

/// One system message in front, and turns by turns: Codex sends several of the developer's and of the user's in a row,
/// and templates know of one, or refuse a second.
fn joined(messages: impl Iterator<Item = Message>) -> Vec<Message> {
    let leads = |role| matches!(role, Role::System | Role::Developer);
    let mut turns: Vec<Message> = Vec::new();
    for message in messages {
        let first = turns.len() == 1;
        match turns.last_mut() {
            Some(last) if first && leads(last.role) && leads(message.role) => {
                *last = Message::system(format!("{}\n\n{}", last.content, message.content));
            }
            Some(last) if last.role == Role::User && message.role == Role::User => {
                *last = Message::user(format!("{}\n\n{}", last.content, message.content));
            }
            _ => turns.push(message),
        }
    }
    turns
}

/// Fields that a response repeats, and what it has where they were not sent.
type Shown = (&'static str, fn() -> Value);
const SHOWN: &[Shown] = &[
    ("instructions", || Value::Null),
    ("max_output_tokens", || Value::Null),
    ("metadata", || json!({})),
    ("parallel_tool_calls", || true.into()),
    ("previous_response_id", || Value::Null),
    ("reasoning", || json!({"effort": null, "summary": null})),
    ("store", || true.into()),
    ("temperature", || Value::Null),
    ("text", || json!({"format": {"type": "text"}})),
    ("tool_choice", || "auto".into()),
    ("tools", || json!([])),
    ("top_p", || Value::Null),
    ("truncation", || "disabled".into()),
];

/// Takes the input: a text, or items.
fn input(fields: &mut Fields) -> Result<Vec<Message>> {
    let items = match fields.need("input")? {
        Value::String(text) => return Ok(vec![Message::user(text)]),
        Value::Array(items) => items,
        _ => {
            return Err(ApiError::field(
                "input",
                "it must be a text or a list of items",
            ));
        }
    };
    let mut turns = Turns::default();
    for (at, item) in items.into_iter().enumerate() {
        turns.add(&format!("input[{at}]"), item)?;
    }
    turns.end("input")?;
    Ok(turns.messages)
}

/// Items become turns: thoughts, what is said behind them and calls of tools are one turn of the assistant.
#[derive(Default)]
struct Turns {
    messages: Vec<Message>,
    thoughts: Vec<Value>,
    said: Vec<Value>,
    calls: Vec<Value>,
}

impl Turns {
    fn add(&mut self, path: &str, mut item: Value) -> Result<()> {
        if !item.is_object() {
            return Err(ApiError::field(path, "an item is an object"));
        }
        let kind = item["type"].as_str().unwrap_or("message").to_owned();
        match kind.as_str() {
            "message" if item["role"] == "assistant" => {
                if !self.calls.is_empty() {
                    self.end(path)?;
                }
                match item["content"].take() {
                    Value::Array(parts) => self.said.extend(parts),
                    text => self.said.push(text),
                }
                Ok(())
            }
            "message" => {
                self.end(path)?;
                let turn = json!({"role": item["role"].take(), "content": item["content"].take()});
                self.push(path, turn)
            }
            "reasoning" => {
                self.end_unless_thinking(path)?;
                let parts = [item["content"].take(), item["summary"].take()];
                let parts = parts.into_iter().filter_map(|parts| match parts {
                    Value::Array(parts) if !parts.is_empty() => Some(parts),
                    _ => None,
                });
                // The thoughts themselves where they are there, else what sums them up.
                for part in parts.take(1).flatten() {
                    self.thoughts.push(part["text"].clone());
                }
                Ok(())
            }
            "function_call" => {
                let function =
                    json!({"name": item["name"].take(), "arguments": item["arguments"].take()});
                self.calls.push(
                    json!({"id": item["call_id"].take(), "type": "function", "function": function}),
                );
                Ok(())
            }
            "function_call_output" => {
                self.end(path)?;
                let id = item["call_id"].take();
                let mut calls = self.messages.iter().flat_map(|message| &message.tool_calls);
                let called = calls.rfind(|call| call.id.as_deref() == id.as_str());
                let name = called.map(|call| call.name.clone());
                let answer = json!({
                    "role": "tool", "tool_call_id": id, "name": name, "content": item["output"].take(),
                });
                self.push(path, answer)
            }
            other => {
                let why = format!(
                    "an item of type {other:?}; send messages, reasoning and calls of functions"
                );
                Err(ApiError::unsupported(path, why))
            }
        }
    }

    fn end_unless_thinking(&mut self, path: &str) -> Result<()> {
        match self.said.is_empty() && self.calls.is_empty() {
            true => Ok(()),
            false => self.end(path),
        }
    }

    /// Ends the assistant's turn.
    fn end(&mut self, path: &str) -> Result<()> {
        let thoughts: Vec<String> = std::mem::take(&mut self.thoughts)
            .iter()
            .filter_map(|text| text.as_str().map(str::to_owned))
            .collect();
        let (said, calls) = (
            std::mem::take(&mut self.said),
            std::mem::take(&mut self.calls),
        );
        if said.is_empty() && calls.is_empty() {
            return Ok(());
        }
        let content = match &said[..] {
            [] => Value::Null,
            [Value::String(text)] => text.as_str().into(),
            _ => said.into(),
        };
        let thoughts = (!thoughts.is_empty()).then(|| thoughts.join("\n"));
        let turn = json!({
            "role": "assistant", "content": content, "reasoning_content": thoughts, "tool_calls": calls,
        });
        self.push(path, turn)
    }

    fn push(&mut self, path: &str, message: Value) -> Result<()> {
        let message =
            serde_json::from_value(message).map_err(|error| ApiError::field(path, error))?;
        self.messages.push(message);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_become_turns() {
        let sent = json!({"input": [
            {"role": "developer", "content": "a"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "b"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "c"}]},
            {"type": "function_call", "id": "fc_1", "call_id": "t1", "name": "add", "arguments": "{\"x\": 1}"},
            {"type": "function_call_output", "call_id": "t1", "output": "2"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "d"}]},
            {"role": "user", "content": "e"},
        ]});
        let Value::Object(map) = sent else { panic!() };
        let read = Responses::read(Fields::new(map)).unwrap();
        let turns: Vec<_> = read
            .input
            .iter()
            .map(|turn| (turn.role, turn.content.as_str()))
            .collect();
        let expected = [
            (Role::Developer, "a"),
            (Role::User, "b"),
            (Role::Assistant, ""),
            (Role::Tool, "2"),
            (Role::Assistant, "d"),
            (Role::User, "e"),
        ];
        assert_eq!(turns, expected);
        assert_eq!(read.input[2].reasoning.as_deref(), Some("c"));
        assert_eq!(read.input[2].tool_calls[0].arguments, json!({"x": 1}));
        assert_eq!(read.input[3].name.as_deref(), Some("add"));
    }

    #[test]
    fn several_messages_in_a_row_are_one_turn() {
        let sent = json!({"instructions": "a", "input": [
            {"role": "developer", "content": "b"},
            {"role": "developer", "content": [{"type": "input_text", "text": "c"}]},
            {"role": "user", "content": "d"},
            {"role": "user", "content": "e"},
            {"role": "assistant", "content": "f"},
            {"role": "developer", "content": "g"},
            {"role": "user", "content": "h"},
        ]});
        let Value::Object(map) = sent else { panic!() };
        let read = Responses::read(Fields::new(map)).unwrap();
        let Prompt::Chat(messages) = read.job(&read.input).prompt else {
            panic!()
        };
        let turns: Vec<_> = messages
            .iter()
            .map(|turn| (turn.role, turn.content.as_str()))
            .collect();
        let expected = [
            (Role::System, "a\n\nb\n\nc"),
            (Role::User, "d\n\ne"),
            (Role::Assistant, "f"),
            (Role::Developer, "g"),
            (Role::User, "h"),
        ];
        assert_eq!(turns, expected);
    }

    #[test]
    fn items_of_other_kinds_are_refused_by_their_place() {
        let Value::Object(map) = json!({"input": [{"type": "item_reference", "id": "x"}]}) else {
            panic!()
        };
        let error = Responses::read(Fields::new(map)).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("input[0]"));
    }
}
