//! Embeddings: a vector of each text.

mod dense;
mod files;
mod pooling;
mod recipe;

use std::path::Path;

use dense::Dense;
use files::refused;
pub(crate) use pooling::{Mode, Pool};
use recipe::PROMPTS;
pub(crate) use recipe::{Encoder, Recipe};

use crate::language_model::Reading;
use crate::{CancelToken, Error, MlxBackend, Result};

/// Bytes of a text that is made into tokens although it cannot fit: they take many times its memory.
const LONG_TEXT: usize = 1 << 20;

/// How to embed. What is not set is as the model's directory says.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct EmbedOptions {
    /// Which of the prompts of `config_sentence_transformers.json` stands before each text; `None` is the
    /// directory's default, mostly none.
    pub prompt_name: Option<String>,
    /// Features that are kept, the first ones, of models that were trained for it; the vector then has length 1
    /// again, where the model says so.
    pub dimensions: Option<usize>,
    /// Looked at before each pass.
    pub cancel: CancelToken,
}

impl EmbedOptions {
    /// As the directory says.
    pub fn new() -> Self {
        Self::default()
    }

    /// See [`EmbedOptions::prompt_name`].
    pub fn prompt_name(mut self, name: impl Into<String>) -> Self {
        self.prompt_name = Some(name.into());
        self
    }

    /// See [`EmbedOptions::dimensions`].
    pub fn dimensions(mut self, dimensions: usize) -> Self {
        self.dimensions = Some(dimensions);
        self
    }

    /// See [`EmbedOptions::cancel`].
    pub fn cancel(mut self, token: CancelToken) -> Self {
        self.cancel = token;
        self
    }
}

impl MlxBackend {
    /// The embedding of each text, float32, in their order: what sentence-transformers gives for the same directory,
    /// after its `modules.json`. Without that file it is a vector of length 1: the mean of the hidden states of a
    /// bidirectional model, the last token's of a causal one. Of a text that is longer than `max_seq_length`, or
    /// else the model's context, the end is left out, as there.
    ///
    /// On a processor texts of about one length are rows of one pass, elsewhere each is one; what one gives does
    /// not depend on the others, not by a bit. Answers that are under way take their steps between two passes, and
    /// other calls for texts their turns. A call has one place in the queue until its first pass.
    ///
    /// # Errors
    /// Files for embeddings that cannot be used, an unknown prompt, more dimensions than the model has, a text of more
    /// than a MiB that cannot fit the context, and a queue that is full.
    pub fn embed(&self, texts: &[&str], options: &EmbedOptions) -> Result<Vec<Vec<f32>>> {
        let recipe = self.recipe()?;
        let prompt = prompt(recipe, options, &self.loaded.info.dir)?;
        check_dimensions(recipe, options)?;
        let tokenizer = self.tokenizer()?;
        let most = recipe.most_tokens.unwrap_or(usize::MAX);
        let mut all = Vec::with_capacity(texts.len());
        for text in texts {
            check_cancel(&options.cancel, 0, texts.len())?;
            let text = format!("{prompt}{text}");
            if text.len() > LONG_TEXT {
                self.check_length(&text)?;
            }
            all.push(tokenizer.encode_at_most(&text, most)?);
        }
        let mut skip = 0;
        if !recipe.pooling.includes_prompt && !prompt.is_empty() {
            let ids = tokenizer.encode_at_most(prompt, most)?;
            // What the tokenizer puts behind a text is not the prompt's.
            let ends = ids.last().is_some_and(|id| tokenizer.is_special(*id));
            skip = ids.len() - usize::from(ends);
        }
        self.embed_all(recipe, all, skip, options)
    }

    /// How many tokens of a text [`embed`](Self::embed) reads, what the tokenizer adds included; `None` where nothing
    /// bounds them.
    ///
    /// # Errors
    /// Files for embeddings that cannot be used.
    pub fn embedding_tokens(&self) -> Result<Option<usize>> {
        Ok(self.recipe()?.most_tokens)
    }

    /// The embedding of token ids as they are, without a prompt and without what the tokenizer adds, and never cut.
    /// Needs no tokenizer.
    ///
    /// # Errors
    /// As [`embed`](Self::embed); a prompt that is named; more ids than the context holds.
    pub fn embed_ids(&self, ids: &[u32], options: &EmbedOptions) -> Result<Vec<f32>> {
        let mut embeddings = self.embed_many_ids(vec![ids.to_vec()], options)?;
        embeddings.pop().ok_or(Error::EngineEnded)
    }

    /// [`embed_ids`](Self::embed_ids) of several texts, a row for each: those that take the same way go as one pass.
    ///
    /// # Errors
    /// As [`embed_ids`](Self::embed_ids).
    pub fn embed_many_ids(
        &self,
        texts: Vec<Vec<u32>>,
        options: &EmbedOptions,
    ) -> Result<Vec<Vec<f32>>> {
        let recipe = self.recipe()?;
        if let Some(name) = &options.prompt_name {
            return Err(Error::InvalidOption {
                name: "prompt_name",
                value: format!("{name:?}"),
                expected: "unset where token ids are embedded, which have no prompt",
            });
        }
        check_dimensions(recipe, options)?;
        self.embed_all(recipe, texts, 0, options)
    }

    fn embed_all(
        &self,
        recipe: &Recipe,
        texts: Vec<Vec<u32>>,
        skip: usize,
        options: &EmbedOptions,
    ) -> Result<Vec<Vec<f32>>> {
        let modes = recipe.pooling.modes.clone();
        let mut embeddings = self.read(texts, Reading::Pooled { modes, skip }, &options.cancel)?;
        recipe.finish(&mut embeddings, options.dimensions);
        if embeddings.iter().flatten().any(|x| !x.is_finite()) {
            let dtype = self.loaded.info.model.dtype;
            return Err(Error::NotNumbers { dtype });
        }
        Ok(embeddings)
    }

    fn recipe(&self) -> Result<&Recipe> {
        if let Some(recipe) = self.loaded.recipe.get() {
            return Ok(recipe);
        }
        let model = &self.loaded.info.model;
        let encoder = Encoder {
            bidirectional: model.bidirectional,
            hidden: model.hidden_size,
            positions: model.max_position_embeddings,
        };
        let recipe = Recipe::read(&self.loaded.info.dir, &encoder)?;
        Ok(self.loaded.recipe.get_or_init(|| recipe))
    }
}

/// Reads the files of `dir` that say how texts become embeddings, of a model with so many features. For this
/// repository's own tests; no part of the API.
///
/// # Errors
/// Files that cannot be used.
#[doc(hidden)]
pub fn check_embedding_files(dir: &Path, hidden: usize) -> Result<()> {
    let encoder = Encoder {
        bidirectional: true,
        hidden,
        positions: None,
    };
    Recipe::read(dir, &encoder).map(drop)
}

fn check_dimensions(recipe: &Recipe, options: &EmbedOptions) -> Result<()> {
    match options.dimensions {
        Some(wanted) if !(1..=recipe.width).contains(&wanted) => Err(Error::InvalidOption {
            name: "dimensions",
            value: wanted.to_string(),
            expected: "from 1 to the number of features of the model's embeddings",
        }),
        _ => Ok(()),
    }
}

/// What stands before each text.
fn prompt<'a>(recipe: &'a Recipe, options: &EmbedOptions, dir: &Path) -> Result<&'a str> {
    let name = options.prompt_name.as_ref();
    let Some(name) = name.or(recipe.default_prompt.as_ref()) else {
        return Ok("");
    };
    let found = recipe.prompts.get(name).map(String::as_str);
    found.ok_or_else(|| {
        let names: Vec<String> = recipe
            .prompts
            .keys()
            .map(|name| format!("{name:?}"))
            .collect();
        let there = match names.is_empty() {
            true => "this model has none".to_owned(),
            false => format!("there are {}", names.join(", ")),
        };
        refused(
            &dir.join(PROMPTS),
            format!("has no prompt {name:?}; {there}"),
        )
    })
}

pub(crate) fn check_cancel(token: &CancelToken, done: usize, of: usize) -> Result<()> {
    match token.is_cancelled() {
        true => Err(Error::CancelledTexts { done, of }),
        false => Ok(()),
    }
}

/// Divides by the length, which is 1e-12 at the least, as torch has it.
fn normalise(vector: &mut [f32]) {
    let squares = vector.iter().map(|x| f64::from(*x).powi(2));
    let length = squares.sum::<f64>().sqrt().max(1e-12);
    for x in vector {
        *x = (f64::from(*x) / length) as f32;
    }
}
