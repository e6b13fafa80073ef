//! `/tokenize` and `/detokenize`, as llama.cpp's server has them and as vLLM's has.

use ml_backend::{Message, Options};

use super::chat::messages;
use crate::errors::{ApiError, Result};
use crate::fields::Fields;

pub(crate) struct Tokenize {
    pub(crate) model: Option<String>,
    pub(crate) text: ToEncode,
}

pub(crate) enum ToEncode {
    Text {
        text: String,
        special: bool,
    },
    Chat {
        messages: Vec<Message>,
        options: Box<Options>,
    },
}

impl Tokenize {
    pub(crate) fn read(mut fields: Fields) -> Result<Self> {
        let model = fields.take("model")?;
        let (content, prompt) = (fields.take("content")?, fields.take("prompt")?);
        let special: Option<bool> = fields
            .take("add_special_tokens")?
            .or(fields.take("add_special")?);
        let text = match (content, prompt) {
            // Each of the two servers has a default of its own for what stands before a text.
            (Some(text), None) => ToEncode::Text {
                text,
                special: special.unwrap_or(false),
            },
            (None, Some(text)) => ToEncode::Text {
                text,
                special: special.unwrap_or(true),
            },
            (None, None) => chat(&mut fields)?,
            _ => {
                return Err(ApiError::field(
                    "content",
                    "send content, prompt or messages, not two of them",
                ));
            }
        };
        fields.end()?;
        Ok(Self { model, text })
    }
}

fn chat(fields: &mut Fields) -> Result<ToEncode> {
    let messages = messages(fields)?;
    let mut options = Options::new();
    options.tools = fields.take("tools")?.unwrap_or_default();
    options.template_variables = fields.take("chat_template_kwargs")?.unwrap_or_default();
    let options = Box::new(options);
    Ok(ToEncode::Chat { messages, options })
}

pub(crate) struct Detokenize {
    pub(crate) model: Option<String>,
    pub(crate) tokens: Vec<u32>,
}

impl Detokenize {
    pub(crate) fn read(mut fields: Fields) -> Result<Self> {
        let detokenize = Self {
            model: fields.take("model")?,
            tokens: fields.need("tokens")?,
        };
        fields.end()?;
        Ok(detokenize)
    }
}
