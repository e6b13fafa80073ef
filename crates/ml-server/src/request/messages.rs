//! `/v1/messages` and `/v1/messages/count_tokens`.

use ml_backend::{Message, Options, Role};
use serde::Deserialize;
use serde_json::{Value, json};

use super::sampling::max_tokens;
use super::{chat, form, is_empty, sampling, tools};
use crate::errors::{ApiError, Result};
use crate::fields::Fields;
use crate::run::{Job, Prompt};

#[derive(Debug)]
pub(crate) struct Messages {
    pub(crate) model: Option<String>,
    pub(crate) stream: bool,
    pub(crate) messages: Vec<Message>,
    pub(crate) options: Options,
}

/// What clients send for Anthropic's accounts, caches and context management, and what changes no answer here.
const IGNORED: [&str; 5] = [
    "metadata",
    "service_tier",
    "cache_control",
    "context_management",
    "inference_geo",
];

impl Messages {
    /// The request for an answer, which says how long that may be.
    pub(crate) fn read(mut fields: Fields) -> Result<Self> {
        let limit = max_tokens(&mut fields, &["max_tokens"])?;
        let missing =
            || ApiError::field("max_tokens", "missing").code("missing_required_parameter");
        let limit = limit.ok_or_else(missing)?;
        let mut messages = Self::read_prompt(fields)?;
        messages.options.max_tokens = Some(limit);
        Ok(messages)
    }

    /// The request to count.
    pub(crate) fn read_prompt(mut fields: Fields) -> Result<Self> {
        let mut options = Options::new();
        options.temperature = fields.take("temperature")?;
        options.top_p = fields.take("top_p")?;
        options.top_k = sampling::top_k(&mut fields)?;
        options.stop = fields.take("stop_sequences")?.unwrap_or_default();
        thinking(&mut fields, &mut options)?;
        tools::messages(&mut fields, &mut options)?;
        form::check(&options, "output_config.format")?;
        fields.refuse_unless("mcp_servers", is_empty, "there are none here")?;
        fields.refuse("container", "there is none here")?;
        fields.ignore(&IGNORED);
        let messages = Self {
            model: fields.take("model")?,
            stream: fields.take("stream")?.unwrap_or(false),
            messages: conversation(&mut fields)?,
            options,
        };
        fields.end()?;
        Ok(messages)
    }

    pub(crate) fn job(self) -> Job {
        Job {
            prompt: Prompt::Chat(self.messages),
            options: self.options,
            n: 1,
        }
    }
}

fn thinking(fields: &mut Fields, options: &mut Options) -> Result<()> {
    if let Some(mut thinking) = fields.object("thinking")? {
        let kind: String = thinking.need("type")?;
        options.enable_thinking = match kind.as_str() {
            "enabled" => Some(true),
            "disabled" => Some(false),
            "adaptive" => None,
            other => {
                let message = format!("is {other:?}; it must be enabled, disabled or adaptive");
                return Err(ApiError::field("thinking.type", message));
            }
        };
        options.reasoning_budget = thinking.take("budget_tokens")?;
        thinking.ignore(&["display"]);
        thinking.end()?;
    }
    if let Some(mut output) = fields.object("output_config")? {
        chat::apply_effort(options, output.take("effort")?);
        form::format(&mut output, options)?;
        output.end()?;
    }
    Ok(())
}

/// A text, or a list of blocks.
#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Blocks(Vec<Block>),
}

/// A block of content. What else it has, such as `cache_control` and `citations`, says nothing to a model.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block {
    Text {
        text: String,
    },
    Thinking {
        thinking: String,
    },
    RedactedThinking {},
    ToolUse {
        id: String,
        name: String,
        input: Value,
    },
    ToolResult {
        tool_use_id: String,
        content: Option<Value>,
        #[serde(default)]
        is_error: Option<bool>,
    },
    /// What a search for tools found; its definition is among the tools, whether loading it was deferred or not.
    ToolReference {
        tool_name: String,
    },
}

#[derive(Deserialize)]
struct Turn {
    role: Role,
    content: Content,
}

/// The system prompt and the turns. A system role among the turns is folded: at their beginning into the system
/// prompt, later into the user's turn, since templates know one system message, in front.
fn conversation(fields: &mut Fields) -> Result<Vec<Message>> {
    let mut system = match fields.value("system") {
        None => Vec::new(),
        Some(content) => texts("system", content)?,
    };
    let sent: Vec<Value> = fields.need("messages")?;
    if sent.is_empty() {
        return Err(ApiError::field(
            "messages",
            "is empty; send at least one message",
        ));
    }
    let mut messages = Vec::new();
    // Texts of the user's turn that is not ended yet.
    let mut user: Vec<String> = Vec::new();
    for (at, turn) in sent.into_iter().enumerate() {
        let path = format!("messages[{at}]");
        let turn: Turn = parse(&path, turn)?;
        let blocks = turn.content.blocks();
        match turn.role {
            Role::System | Role::Developer if messages.is_empty() && user.is_empty() => {
                system.extend(only_text(&path, blocks)?);
            }
            Role::System | Role::Developer => user.extend(only_text(&path, blocks)?),
            Role::User if blocks.is_empty() => {
                return Err(ApiError::field(format!("{path}.content"), "is empty"));
            }
            Role::User => user_turn(&path, blocks, &mut user, &mut messages)?,
            Role::Assistant => {
                flush(&mut user, &mut messages)?;
                messages.push(assistant_turn(&path, blocks)?);
            }
            _ => {
                return Err(ApiError::field(
                    format!("{path}.role"),
                    "it must be user, assistant or system",
                ));
            }
        }
    }
    flush(&mut user, &mut messages)?;
    if messages
        .last()
        .is_none_or(|last| last.role == Role::Assistant)
    {
        let why = "the last message is to be the user's: an answer that was begun is not continued";
        return Err(ApiError::unsupported("messages", why));
    }
    if !system.is_empty() {
        messages.insert(
            0,
            message(
                "system",
                json!({"role": "system", "content": parts(&system)}),
            )?,
        );
    }
    Ok(messages)
}

/// A user's turn: answers of tools by themselves, texts together with those before them.
fn user_turn(
    path: &str,
    blocks: Vec<Block>,
    user: &mut Vec<String>,
    messages: &mut Vec<Message>,
) -> Result<()> {
    for block in blocks {
        match block {
            Block::Text { text } => user.push(text),
            Block::ToolResult {
                tool_use_id,
                content,
                is_error,
            } => {
                flush(user, messages)?;
                let mut content = match content {
                    None => Vec::new(),
                    Some(content) => texts(&format!("{path}.content"), content)?,
                };
                // Templates have no other way to say so.
                if is_error == Some(true) {
                    content.insert(0, "Error:".to_owned());
                }
                let mut calls = messages.iter().flat_map(|message| &message.tool_calls);
                let called = calls.rfind(|call| call.id.as_ref() == Some(&tool_use_id));
                let name = called.map(|call| call.name.clone());
                let answer = json!({
                    "role": "tool", "tool_call_id": tool_use_id, "name": name, "content": parts(&content),
                });
                messages.push(message(path, answer)?);
            }
            _ => {
                return Err(ApiError::field(
                    path,
                    "a user's turn has text and tool_result blocks",
                ));
            }
        }
    }
    Ok(())
}

fn assistant_turn(path: &str, blocks: Vec<Block>) -> Result<Message> {
    let (mut said, mut thought, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for block in blocks {
        match block {
            Block::Text { text } => said.push(text),
            Block::Thinking { thinking } => thought.push(thinking),
            Block::RedactedThinking {} => {}
            Block::ToolUse { id, name, input } => {
                let function = json!({"name": name, "arguments": input});
                calls.push(json!({"id": id, "type": "function", "function": function}));
            }
            Block::ToolResult { .. } | Block::ToolReference { .. } => {
                return Err(ApiError::field(
                    path,
                    "the assistant's turn has no results of tools",
                ));
            }
        }
    }
    let thought = (!thought.is_empty()).then(|| thought.join("\n"));
    let content = match said.is_empty() {
        true => Value::Null,
        false => parts(&said),
    };
    message(
        path,
        json!({
            "role": "assistant", "content": content, "reasoning_content": thought, "tool_calls": calls,
        }),
    )
}

/// Ends the user's turn.
fn flush(user: &mut Vec<String>, messages: &mut Vec<Message>) -> Result<()> {
    if !user.is_empty() {
        let turn = json!({"role": "user", "content": parts(&std::mem::take(user))});
        messages.push(message("messages", turn)?);
    }
    Ok(())
}

/// Texts as the parts of a message; one alone is a plain text.
fn parts(texts: &[String]) -> Value {
    match texts {
        [] => "".into(),
        [text] => text.as_str().into(),
        texts => texts
            .iter()
            .map(|text| json!({"type": "text", "text": text}))
            .collect(),
    }
}

fn message(path: &str, value: Value) -> Result<Message> {
    serde_json::from_value(value).map_err(|error| ApiError::field(path, error))
}

fn texts(path: &str, content: Value) -> Result<Vec<String>> {
    only_text(path, parse::<Content>(path, content)?.blocks())
}

fn only_text(path: &str, blocks: Vec<Block>) -> Result<Vec<String>> {
    let text = |block| match block {
        Block::Text { text } => Ok(text),
        Block::ToolReference { tool_name } => Ok(format!("The tool {tool_name} can be called.")),
        _ => Err(ApiError::field(path, "only text blocks are possible here")),
    };
    blocks.into_iter().map(text).collect()
}

impl Content {
    fn blocks(self) -> Vec<Block> {
        match self {
            Self::Text(text) => vec![Block::Text { text }],
            Self::Blocks(blocks) => blocks,
        }
    }
}

fn parse<T: serde::de::DeserializeOwned>(path: &str, value: Value) -> Result<T> {
    let kinds = [
        "text",
        "thinking",
        "redacted_thinking",
        "tool_use",
        "tool_result",
        "tool_reference",
    ];
    let content = value.get("content").unwrap_or(&value);
    let blocks = content.as_array().into_iter().flatten();
    for block in blocks {
        match block["type"].as_str() {
            Some(kind) if kinds.contains(&kind) => {}
            Some(kind) => {
                let why =
                    format!("a block of type {kind:?}; only text, thinking and calls of tools are");
                return Err(ApiError::unsupported(format!("{path}.content"), why));
            }
            None => {
                return Err(ApiError::field(
                    format!("{path}.content"),
                    "a block has no type",
                ));
            }
        }
    }
    serde_json::from_value(value).map_err(|_| {
        ApiError::field(
            path,
            "its role, or a field of one of its blocks, is missing or of another type",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sent: Value) -> Result<Messages> {
        let Value::Object(map) = sent else { panic!() };
        Messages::read(Fields::new(map))
    }

    fn said(messages: &Messages) -> Vec<(Role, &str)> {
        let messages = messages.messages.iter();
        messages
            .map(|message| (message.role, message.content.as_str()))
            .collect()
    }

    #[test]
    fn a_system_role_among_the_turns_is_folded() {
        let read = read(json!({
            "max_tokens": 5,
            "system": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {"role": "system", "content": "b"},
                {"role": "user", "content": "c"},
                {"role": "system", "content": "d"},
                {"role": "assistant", "content": "e"},
                {"role": "system", "content": "f"},
                {"role": "user", "content": [{"type": "text", "text": "g"}]},
            ],
        }));
        let expected = [
            (Role::System, "a\nb"),
            (Role::User, "c\nd"),
            (Role::Assistant, "e"),
            (Role::User, "f\ng"),
        ];
        assert_eq!(said(&read.unwrap()), expected);
    }

    #[test]
    fn an_answer_of_a_tool_is_a_message_with_the_name_of_what_was_called() {
        let read = read(json!({
            "max_tokens": 5,
            "messages": [
                {"role": "user", "content": "c"},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "x"},
                    {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}},
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": [
                        {"type": "text", "text": "2"},
                        {"type": "tool_reference", "tool_name": "sub"},
                    ]},
                    {"type": "text", "text": "go on"},
                ]},
            ],
        }));
        let messages = read.unwrap();
        let expected = [
            (Role::User, "c"),
            (Role::Assistant, ""),
            (Role::Tool, "2\nThe tool sub can be called."),
            (Role::User, "go on"),
        ];
        assert_eq!(said(&messages), expected);
        assert_eq!(messages.messages[1].reasoning.as_deref(), Some("hm"));
        assert_eq!(
            messages.messages[1].tool_calls[0].arguments,
            json!({"a": 1})
        );
        assert_eq!(messages.messages[2].name.as_deref(), Some("add"));
    }

    #[test]
    fn what_a_model_of_text_cannot_have_is_refused_by_name() {
        let block = json!([{"type": "image", "source": {}}]);
        let error =
            read(json!({"max_tokens": 5, "messages": [{"role": "user", "content": block}]}));
        let error = error.unwrap_err();
        assert_eq!(error.param.as_deref(), Some("messages[0].content"));
        assert!(error.message.contains("image"), "{}", error.message);
        let error = read(json!({"messages": [{"role": "user", "content": "x"}]})).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("max_tokens"));
    }
}
