//! `/infill`, as llama.cpp's server has it and as its plugins for editors ask.

use ml_backend::Options;
use serde::Deserialize;

use super::{sampling, streaming};
use crate::errors::Result;
use crate::fields::Fields;
use crate::run::{Job, Prompt};

pub(crate) struct Infill {
    pub(crate) model: Option<String>,
    pub(crate) stream: bool,
    prompt: Prompt,
    options: Options,
}

/// A part of another file, which stands before the text.
#[derive(Deserialize)]
struct Extra {
    text: String,
}

/// What parts of other files are parted by, where llama.cpp's server has no tokens for it.
const SNIPPET: &str = "\n\n--- snippet ---\n\n";

/// What plugins always send: slots, caches and limits of time of llama.cpp's own, and the order of its samplers.
const IGNORED: [&str; 8] = [
    "id_slot",
    "cache_prompt",
    "n_indent",
    "n_keep",
    "samplers",
    "t_max_prompt_ms",
    "t_max_predict_ms",
    "response_fields",
];

impl Infill {
    pub(crate) fn read(mut fields: Fields) -> Result<Self> {
        let mut prefix = String::new();
        for extra in fields
            .take::<Vec<Extra>>("input_extra")?
            .unwrap_or_default()
        {
            prefix.push_str(SNIPPET);
            prefix.push_str(&extra.text);
        }
        if !prefix.is_empty() {
            prefix.push_str(SNIPPET);
        }
        prefix += &fields.need::<String>("input_prefix")?;
        // What is typed of the line: the middle begins behind it.
        prefix += &fields.take::<String>("prompt")?.unwrap_or_default();
        let suffix = fields.need("input_suffix")?;
        // Fewer than none is no limit.
        let predict = fields.take::<i64>("n_predict")?;
        let mut options = sampling::options(&mut fields)?;
        let limit = predict.and_then(|n| usize::try_from(n).ok());
        options.max_tokens = limit.map(|n| n.max(1)).or(options.max_tokens);
        fields.ignore(&IGNORED);
        let infill = Self {
            model: fields.take("model")?,
            stream: streaming(&mut fields)?.stream,
            prompt: Prompt::Middle { prefix, suffix },
            options,
        };
        fields.end()?;
        Ok(infill)
    }

    pub(crate) fn job(self) -> Job {
        Job {
            prompt: self.prompt,
            options: self.options,
            n: 1,
        }
    }
}
