//! `/v1/embeddings`.

use ml_backend::EmbedOptions;
use serde::Deserialize;

use super::completions::Texts;
use crate::errors::Result;
use crate::fields::Fields;
use crate::run::Prompt;

pub(crate) struct Embeddings {
    pub(crate) model: Option<String>,
    pub(crate) input: Vec<Prompt>,
    pub(crate) format: Format,
    pub(crate) options: EmbedOptions,
}

/// How vectors are written. OpenAI's clients ask for base64 unless their user names another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    #[default]
    Float,
    Base64,
}

impl Embeddings {
    pub(crate) fn read(mut fields: Fields) -> Result<Self> {
        let mut options = EmbedOptions::new();
        options.dimensions = fields.take("dimensions")?;
        options.prompt_name = fields.take("prompt_name")?;
        fields.ignore(&["user"]);
        let embeddings = Self {
            model: fields.take("model")?,
            input: Texts::take(&mut fields, "input")?,
            format: fields.take("encoding_format")?.unwrap_or_default(),
            options,
        };
        fields.end()?;
        Ok(embeddings)
    }
}
