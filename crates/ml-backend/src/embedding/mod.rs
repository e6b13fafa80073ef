//! Embeddings: a vector of each text.

mod pooling;
mod recipe;

pub(crate) use pooling::{Pool, Pooling};
pub(crate) use recipe::Recipe;

use crate::language_model::Reading;
use crate::{CancelToken, Error, MlxBackend, Result};

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
    /// Looked at before each text.
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
    /// after its `modules.json`. Without that file it is the last token's hidden state, with length 1.
    ///
    /// Texts are read one by one, so that what one gives does not depend on the others; answers that are under way
    /// take their steps between two of them.
    ///
    /// # Errors
    /// Files for embeddings that cannot be used, an unknown prompt, more dimensions than the model has, and a text
    /// that is longer than the context.
    pub fn embed(&self, texts: &[&str], options: &EmbedOptions) -> Result<Vec<Vec<f32>>> {
        let recipe = self.recipe()?;
        let prompt = prompt(recipe, options)?;
        let tokenizer = self.tokenizer()?;
        let mut embeddings = Vec::new();
        for text in texts {
            check_cancel(&options.cancel, embeddings.len(), texts.len())?;
            let text = format!("{prompt}{text}");
            self.check_length(&text)?;
            let ids = tokenizer.encode(&text, true)?;
            embeddings.push(self.embed_one(recipe, ids, options)?);
        }
        Ok(embeddings)
    }

    /// The embedding of token ids as they are, without a prompt and without what the tokenizer adds. Needs no
    /// tokenizer.
    ///
    /// # Errors
    /// As [`embed`](Self::embed); a prompt that is named.
    pub fn embed_ids(&self, ids: &[u32], options: &EmbedOptions) -> Result<Vec<f32>> {
        let recipe = self.recipe()?;
        if let Some(name) = &options.prompt_name {
            return Err(Error::InvalidOption {
                name: "prompt_name",
                value: format!("{name:?}"),
                expected: "unset where token ids are embedded, which have no prompt",
            });
        }
        check_cancel(&options.cancel, 0, 1)?;
        self.embed_one(recipe, ids.to_vec(), options)
    }

    fn embed_one(
        &self,
        recipe: &Recipe,
        ids: Vec<u32>,
        options: &EmbedOptions,
    ) -> Result<Vec<f32>> {
        if options.dimensions == Some(0) {
            return Err(dimensions(0, "1 or more"));
        }
        let mut embedding = self.read(ids, Reading::Pooled(recipe.pooling))?;
        if embedding.iter().any(|x| !x.is_finite()) {
            let dtype = self.loaded.info.model.dtype;
            return Err(Error::NotNumbers { dtype });
        }
        match options.dimensions {
            Some(wanted) if wanted > embedding.len() => {
                return Err(dimensions(wanted, "no more than the model's hidden size"));
            }
            Some(wanted) => embedding.truncate(wanted),
            None => {}
        }
        if recipe.normalised {
            normalise(&mut embedding);
        }
        Ok(embedding)
    }

    fn recipe(&self) -> Result<&Recipe> {
        if let Some(recipe) = self.loaded.recipe.get() {
            return Ok(recipe);
        }
        let recipe = Recipe::read(&self.loaded.info.dir)?;
        Ok(self.loaded.recipe.get_or_init(|| recipe))
    }
}

fn dimensions(value: usize, expected: &'static str) -> Error {
    Error::InvalidOption {
        name: "dimensions",
        value: value.to_string(),
        expected,
    }
}

/// What stands before each text.
fn prompt<'a>(recipe: &'a Recipe, options: &EmbedOptions) -> Result<&'a str> {
    let name = options.prompt_name.as_ref();
    let Some(name) = name.or(recipe.default_prompt.as_ref()) else {
        return Ok("");
    };
    let found = recipe.prompts.get(name).map(String::as_str);
    found.ok_or_else(|| Error::InvalidOption {
        name: "prompt_name",
        value: format!("{name:?}"),
        expected: "a name of 'prompts' in the directory's config_sentence_transformers.json",
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
