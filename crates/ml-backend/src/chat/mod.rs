//! How a conversation becomes the one text that a model continues.
//!
//! A checkpoint that brings a Jinja template of its own gets exactly that one
//! (`template::JinjaTemplate`), rendered as transformers renders it: the model was trained on
//! its output, and a space more or less is heard. The two built-in formats serve checkpoints
//! without a template.

pub(crate) mod answer;
mod built_in;
mod error;
mod message;
pub mod template;

use models::tokenizer::Tokenizer;

pub use answer::{AnswerEvent, AnswerParser, CallSyntax, ReasoningSyntax, Syntax};
pub use error::ChatError;
pub use message::{Message, Role, ToolCall};
pub use template::{JinjaTemplate, Variables};

/// The way in which a model wants its conversations written down.
#[derive(Debug)]
#[non_exhaustive]
pub enum ChatFormat {
    /// `<|im_start|>role`, a line each, `<|im_end|>`: Qwen's.
    ChatMl,
    /// `<start_of_turn>role`, a line each, `<end_of_turn>`: Gemma's. It knows no system role, so
    /// a system message is a turn of the user that reads `[System: ...]`.
    Gemma,
    /// `<|turn>role`, a line each, `<turn|>`: Gemma 4's, with turns of the system.
    Gemma4,
    /// The checkpoint's own template.
    Template(Box<JinjaTemplate>),
}

impl ChatFormat {
    /// The format for a checkpoint: its own template if it brings one, else the built-in format
    /// of its family.
    ///
    /// # Errors
    /// A template that does not parse (with file and line), several templates of which none is
    /// the default, or no template and a `model_type` without a built-in format.
    pub fn for_model(model_type: &str, tokenizer: &Tokenizer) -> Result<Self, ChatError> {
        match tokenizer.chat_template()? {
            Some(template) => {
                let template = JinjaTemplate::new(&template.path, &template.source)?;
                let template = template.with_variables(tokenizer.special_tokens());
                Ok(Self::Template(Box::new(template)))
            }
            None => Self::built_in(model_type),
        }
    }

    /// The built-in format of a family, named by the `model_type` of its `config.json`.
    ///
    /// # Errors
    /// [`ChatError::NoFormat`] for a family that has none.
    pub fn built_in(model_type: &str) -> Result<Self, ChatError> {
        match model_type {
            _ if model_type.starts_with("qwen") => Ok(Self::ChatMl),
            _ if model_type.starts_with("gemma4") => Ok(Self::Gemma4),
            _ if model_type.starts_with("gemma") => Ok(Self::Gemma),
            _ => Err(ChatError::NoFormat {
                model_type: model_type.to_owned(),
            }),
        }
    }

    /// Writes a conversation down.
    ///
    /// With `add_generation_prompt` the text ends where the model's answer begins. `variables`
    /// are what else the template can be told, such as `enable_thinking`; the built-in formats
    /// have no such choices.
    ///
    /// # Errors
    /// An empty conversation, and a template that refuses this one or fails on it.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        variables: &Variables,
    ) -> Result<String, ChatError> {
        if messages.is_empty() {
            return Err(ChatError::Empty);
        }
        let calls =
            |message: &Message| message.role == Role::Tool || !message.tool_calls.is_empty();
        let tools = variables.get("tools").is_some_and(|tools| !tools.is_null());
        if !self.knows_tools() && (tools || messages.iter().any(calls)) {
            return Err(ChatError::NoTools);
        }
        match self {
            Self::ChatMl => Ok(built_in::chat_ml(messages, add_generation_prompt)),
            Self::Gemma => Ok(built_in::gemma(messages, add_generation_prompt)),
            Self::Gemma4 => Ok(built_in::gemma4(messages, add_generation_prompt)),
            Self::Template(template) => template.render(messages, add_generation_prompt, variables),
        }
    }

    /// Whether a model can be told of tools: its template mentions them.
    #[must_use]
    pub fn knows_tools(&self) -> bool {
        matches!(self, Self::Template(template) if template.knows_tools())
    }

    /// Whether a rendered conversation is to be encoded with the special tokens that the
    /// tokenizer puts around a text. A template writes them itself; the built-in formats leave
    /// them, such as Gemma's `<bos>`, to the tokenizer.
    #[must_use]
    pub fn encode_with_special_tokens(&self) -> bool {
        !matches!(self, Self::Template(_))
    }

    /// The token with which a built-in format ends a turn, at which an answer ends too. What ends
    /// the turns of a template, the tokenizer knows ([`Tokenizer::eos_ids`]).
    #[must_use]
    pub fn end_of_turn(&self) -> Option<&'static str> {
        match self {
            Self::ChatMl => Some(built_in::IM_END),
            Self::Gemma => Some(built_in::END_OF_TURN),
            Self::Gemma4 => Some(built_in::TURN_END),
            Self::Template(_) => None,
        }
    }
}

/// The bytes of a JSON value, about.
fn weight_of(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::String(text) => text.len() + 16,
        serde_json::Value::Array(items) => 16 + items.iter().map(weight_of).sum::<usize>(),
        serde_json::Value::Object(entries) => {
            let entries = entries
                .iter()
                .map(|(key, value)| key.len() + 64 + weight_of(value));
            16 + entries.sum::<usize>()
        }
        _ => 16,
    }
}
