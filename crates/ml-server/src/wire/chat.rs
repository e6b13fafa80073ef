//! `chat.completion` and its chunks.

use serde::Serialize;

use super::{Total, Usage, finish_reason, logprobs};
use crate::errors::{ApiError, Style};
use crate::run::{Event, Probable, Whole};
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
    logprobs: Option<logprobs::Chat>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Said {
    role: &'static str,
    /// `null` where there are calls of tools alone.
    content: Option<String>,
    refusal: Option<()>,
    #[serde(flatten)]
    reasoning: Option<Reasoning>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall>,
}

/// What the model thought, by both of the names that clients look for.
#[derive(Serialize)]
struct Reasoning {
    reasoning_content: String,
    reasoning: String,
}

impl Reasoning {
    fn new(text: String) -> Self {
        Self {
            reasoning_content: text.clone(),
            reasoning: text,
        }
    }
}

/// A call, or in a stream a part of one: what begins it has id, type and name.
#[derive(Serialize)]
struct ToolCall {
    /// Clients of a stream need it in every part.
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: Function,
}

#[derive(Serialize)]
struct Function {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    arguments: String,
}

impl ToolCall {
    fn begun(index: usize, id: String, name: String, arguments: String) -> Self {
        Self {
            index,
            id: Some(id),
            kind: Some("function"),
            function: Function {
                name: Some(name),
                arguments,
            },
        }
    }

    fn part(index: usize, arguments: String) -> Self {
        Self {
            index,
            id: None,
            kind: None,
            function: Function {
                name: None,
                arguments,
            },
        }
    }
}

impl From<Whole> for Said {
    fn from(answer: Whole) -> Self {
        let calls = answer.calls.into_iter().enumerate();
        let calls =
            calls.map(|(index, call)| ToolCall::begun(index, call.id, call.name, call.arguments));
        let tool_calls: Vec<_> = calls.collect();
        let silent = answer.text.is_empty() && !tool_calls.is_empty();
        Self {
            role: "assistant",
            content: (!silent).then_some(answer.text),
            refusal: None,
            reasoning: answer.reasoning.map(Reasoning::new),
            tool_calls,
        }
    }
}

impl<'a> Completion<'a> {
    pub(crate) fn new(model: &'a str, answers: Vec<Whole>) -> Self {
        let mut total = Total::new(answers.len());
        let choice = |(index, mut answer): (usize, Whole)| {
            total.add(index, answer.end.usage);
            let probable = std::mem::take(&mut answer.probable);
            Choice {
                index,
                logprobs: (!probable.is_empty()).then(|| logprobs::Chat::new(probable)),
                finish_reason: finish_reason(answer.end.finish),
                message: answer.into(),
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
    logprobs: Option<logprobs::Chat>,
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(flatten)]
    reasoning: Option<Reasoning>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[ToolCall; 1]>,
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
    /// How probable the tokens of the next chunk of each answer were.
    probable: Vec<Vec<Probable>>,
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
            probable: vec![Vec::new(); answers],
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
            if delta.reasoning.is_none() && delta.tool_calls.is_none() {
                delta.content.get_or_insert_default();
            }
        }
        let probable = self.probable.get_mut(index).map(std::mem::take);
        let probable = probable.filter(|probable| !probable.is_empty());
        let choice = ChunkChoice {
            index,
            delta,
            logprobs: probable.map(logprobs::Chat::new),
            finish_reason,
        };
        self.chunk(&[choice], None, out);
    }
}

impl Writer for Chunks {
    fn begin(&mut self, _out: &mut String) {}

    fn event(&mut self, index: usize, event: Event, out: &mut String) {
        let mut delta = Delta::default();
        let mut reason = None;
        match event {
            // A client has seen the call begin; its arguments stay half an object.
            Event::Text(text) | Event::Undone { text, .. } => delta.content = Some(text),
            Event::Reasoning(text) => delta.reasoning = Some(Reasoning::new(text)),
            Event::Call { call, id, name } => {
                delta.tool_calls = Some([ToolCall::begun(call, id, name, String::new())]);
            }
            Event::Arguments { call, json } => {
                delta.tool_calls = Some([ToolCall::part(call, json)]);
            }
            Event::Probable(more) => {
                if let Some(slot) = self.probable.get_mut(index) {
                    slot.extend(more);
                }
                return;
            }
            Event::Prompt { .. } => return,
            Event::End(end) => {
                self.total.add(index, end.usage);
                reason = Some(finish_reason(end.finish));
            }
        }
        self.delta(index, delta, reason, out);
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::run::{Call, End, Finish, Usage};

    #[test]
    fn calls_and_thoughts_have_the_names_that_clients_look_for() {
        let end = End {
            finish: Finish::ToolCalls,
            usage: Usage::default(),
        };
        let mut chunks = Chunks::new("m".into(), 1, false);
        let mut out = String::new();
        let call = Event::Call {
            call: 0,
            id: "c0".into(),
            name: "add".into(),
        };
        let part = Event::Arguments {
            call: 0,
            json: "{}".into(),
        };
        for event in [Event::Reasoning("hm".into()), call, part, Event::End(end)] {
            chunks.event(0, event, &mut out);
        }
        let data = out.lines().filter_map(|line| line.strip_prefix("data: "));
        let choices =
            data.map(|json| serde_json::from_str::<Value>(json).unwrap()["choices"][0].clone());
        let choices: Vec<_> = choices.collect();
        let deltas: Vec<_> = choices
            .iter()
            .map(|choice| choice["delta"].clone())
            .collect();
        let function = json!({"name": "add", "arguments": ""});
        let expected = [
            json!({"role": "assistant", "reasoning_content": "hm", "reasoning": "hm"}),
            json!({"tool_calls": [{"index": 0, "id": "c0", "type": "function", "function": function}]}),
            json!({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
            json!({}),
        ];
        assert_eq!(deltas, expected);
        assert_eq!(choices[3]["finish_reason"], "tool_calls");

        let whole = Whole {
            text: String::new(),
            reasoning: None,
            calls: vec![Call {
                id: "c0".into(),
                name: "add".into(),
                arguments: "{}".into(),
            }],
            probable: Vec::new(),
            prompt: None,
            end,
        };
        let whole = serde_json::to_value(Said::from(whole)).unwrap();
        assert!(whole["content"].is_null());
        assert_eq!(whole["tool_calls"][0]["function"]["arguments"], "{}");
    }
}
