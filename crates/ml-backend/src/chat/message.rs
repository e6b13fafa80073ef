//! What is said in a conversation, as every chat API writes it.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// Who speaks in a [`Message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Role {
    /// Instructions for the whole conversation.
    System,
    /// The same by its newer name. A template that does not know it is given `system`.
    Developer,
    /// The human.
    User,
    /// The model.
    Assistant,
    /// What a tool gave that the model called.
    Tool,
}

impl Role {
    /// The name that templates and the wire know, such as `system`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One turn of a conversation. Made by [`new`](Self::new), [`user`](Self::user) and their like, or from the JSON
/// that clients of chat APIs send.
///
/// In JSON, `content` is a text, `null` or a list of parts of type `text`, which are lines of one text to a
/// template that knows no parts. Earlier reasoning is `reasoning_content`, `thinking` or `reasoning`; arguments of tool calls
/// are an object, or the text of one. Other keys mean nothing to a template and are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said. May be empty.
    pub content: String,
    /// What the model thought before it said that.
    pub reasoning: Option<String>,
    /// The tools that the model calls.
    pub tool_calls: Vec<ToolCall>,
    /// Of a tool: which of the calls it answers.
    pub tool_call_id: Option<String>,
    /// Who of those who have the role, or which tool.
    pub name: Option<String>,
    form: Form,
}

/// How the content was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Text,
    /// Absent or `null`, of which transformers makes the same.
    Absent,
    Parts(Vec<String>),
}

/// A call of a tool that the model asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ToolCall {
    /// What its answer refers to.
    pub id: Option<String>,
    /// The tool.
    pub name: String,
    /// Its arguments: an object, or what a model wrote instead.
    pub arguments: Value,
}

impl ToolCall {
    /// A call of the tool `name`.
    pub fn new(name: impl Into<String>, arguments: Value) -> Self {
        Self {
            id: None,
            name: name.into(),
            arguments,
        }
    }

    /// The same with an id.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// As chat APIs write it, the arguments as the text of their JSON.
    fn to_wire(&self) -> Value {
        let arguments = match &self.arguments {
            Value::String(text) => text.clone(),
            arguments => arguments.to_string(),
        };
        self.to_json(arguments.into())
    }

    /// As chat APIs write it; `arguments` as they are.
    fn to_json(&self, arguments: Value) -> Value {
        let mut call = Map::new();
        if let Some(id) = &self.id {
            call.insert("id".to_owned(), id.as_str().into());
        }
        call.insert("type".to_owned(), "function".into());
        let mut function = Map::new();
        function.insert("name".to_owned(), self.name.as_str().into());
        function.insert("arguments".to_owned(), arguments);
        call.insert("function".to_owned(), function.into());
        call.into()
    }
}

impl Message {
    /// A turn of the given role.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
            reasoning: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            name: None,
            form: Form::Text,
        }
    }

    /// Instructions for the whole conversation.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new(Role::System, content)
    }

    /// A turn of the human.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(Role::User, content)
    }

    /// A turn of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new(Role::Assistant, content)
    }

    /// What the tool gave that `call` asked for.
    pub fn tool(call: &ToolCall, content: impl Into<String>) -> Self {
        Self {
            tool_call_id: call.id.clone(),
            name: Some(call.name.clone()),
            ..Self::new(Role::Tool, content)
        }
    }

    /// The same with what the model thought.
    #[must_use]
    pub fn reasoning(mut self, reasoning: impl Into<String>) -> Self {
        self.reasoning = Some(reasoning.into());
        self
    }

    /// The same with another call of a tool.
    #[must_use]
    pub fn tool_call(mut self, call: ToolCall) -> Self {
        self.tool_calls.push(call);
        self
    }

    /// Bytes of its text and calls, about.
    pub(super) fn weight(&self) -> usize {
        let calls = self.tool_calls.iter();
        let calls = calls.map(|call| call.name.len() + 256 + super::weight_of(&call.arguments));
        let reasoning = self.reasoning.as_ref().map_or(0, String::len);
        self.content.len() + reasoning + 128 + calls.sum::<usize>()
    }

    /// What a template sees. `developer` and `parts` say whether it knows that role, and content in parts.
    pub(super) fn to_template(&self, developer: bool, parts: bool) -> Map<String, Value> {
        let mut seen = Map::new();
        let role = match self.role {
            Role::Developer if !developer => Role::System,
            role => role,
        };
        seen.insert("role".to_owned(), role.as_str().into());
        let content = match &self.form {
            Form::Absent if self.content.is_empty() => None,
            Form::Parts(texts) if parts && texts.join("\n") == self.content => {
                Some(texts.iter().map(|text| text_part(text)).collect())
            }
            _ => Some(self.content.as_str().into()),
        };
        seen.extend(content.map(|content| ("content".to_owned(), content)));
        if let Some(reasoning) = &self.reasoning {
            // The names under which transformers shows it.
            for name in ["thinking", "reasoning_content"] {
                seen.insert(name.to_owned(), reasoning.as_str().into());
            }
        }
        if !self.tool_calls.is_empty() {
            let calls = self.tool_calls.iter();
            let calls = calls.map(|call| call.to_json(call.arguments.clone()));
            seen.insert("tool_calls".to_owned(), calls.collect());
        }
        for (name, value) in [("tool_call_id", &self.tool_call_id), ("name", &self.name)] {
            if let Some(value) = value {
                seen.insert(name.to_owned(), value.as_str().into());
            }
        }
        seen
    }
}

fn text_part(text: &str) -> Value {
    let mut part = Map::new();
    part.insert("type".to_owned(), "text".into());
    part.insert("text".to_owned(), text.into());
    part.into()
}

impl Serialize for ToolCall {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_wire().serialize(serializer)
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seen = self.to_template(true, true);
        seen.shift_remove("thinking");
        if !self.tool_calls.is_empty() {
            let calls = self.tool_calls.iter().map(ToolCall::to_wire);
            seen.insert("tool_calls".to_owned(), calls.collect());
        }
        seen.serialize(serializer)
    }
}

/// A message as clients send it.
#[derive(Deserialize)]
struct Sent {
    role: Role,
    content: Option<Value>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    thinking: Option<String>,
    tool_calls: Option<Vec<SentCall>>,
    tool_call_id: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct SentCall {
    id: Option<String>,
    function: SentFunction,
}

#[derive(Deserialize)]
struct SentFunction {
    name: String,
    #[serde(default)]
    arguments: Value,
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let sent = Sent::deserialize(deserializer)?;
        let (content, form) = content_of(sent.content).map_err(D::Error::custom)?;
        let calls = sent.tool_calls.unwrap_or_default().into_iter();
        Ok(Self {
            role: sent.role,
            content,
            reasoning: (sent.reasoning_content)
                .or(sent.thinking)
                .or(sent.reasoning),
            tool_calls: calls.map(SentCall::into_call).collect(),
            tool_call_id: sent.tool_call_id,
            name: sent.name,
            form,
        })
    }
}

impl SentCall {
    fn into_call(self) -> ToolCall {
        // Templates want the object that the text says.
        let arguments = match self.function.arguments {
            Value::String(text) => match serde_json::from_str(&text) {
                Ok(arguments @ Value::Object(_)) => arguments,
                _ => Value::String(text),
            },
            Value::Null => Value::Object(Map::new()),
            arguments => arguments,
        };
        ToolCall {
            id: self.id,
            name: self.function.name,
            arguments,
        }
    }
}

/// The text of a content, and how it was written.
fn content_of(content: Option<Value>) -> Result<(String, Form), String> {
    match content {
        None | Some(Value::Null) => Ok((String::new(), Form::Absent)),
        Some(Value::String(text)) => Ok((text, Form::Text)),
        Some(Value::Array(parts)) => {
            let texts = parts.into_iter().map(text_of);
            let texts = texts.collect::<Result<Vec<_>, _>>()?;
            Ok((texts.join("\n"), Form::Parts(texts)))
        }
        Some(_) => Err("content is a text, null or a list of parts".to_owned()),
    }
}

/// The names of parts that are text.
const TEXT_PARTS: [&str; 3] = ["text", "input_text", "output_text"];

fn text_of(part: Value) -> Result<String, String> {
    match part {
        Value::String(text) => Ok(text),
        Value::Object(mut part) => {
            let kind = part.get("type").and_then(Value::as_str).unwrap_or("text");
            if !TEXT_PARTS.contains(&kind) {
                return Err(format!(
                    "a part of content has the type '{kind}'; only text is supported"
                ));
            }
            match part.remove("text") {
                Some(Value::String(text)) => Ok(text),
                _ => Err("a part of content has no text".to_owned()),
            }
        }
        _ => Err("a part of content is an object".to_owned()),
    }
}
