//! Reranking with a model that was trained to answer yes or no, as Qwen3-Reranker was.

use crate::embedding::check_cancel;
use crate::language_model::Reading;
use crate::{CancelToken, Error, MlxBackend, Result};

/// What documents are looked for, if nobody says so.
const INSTRUCTION: &str =
    "Given a web search query, retrieve relevant passages that answer the query";

const BEFORE: &str = "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and \
    the Instruct provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n";

const BEHIND: &str = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";

/// How to rerank.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RerankOptions {
    /// What makes a document fit a query, in words; `None` is to be a passage that answers a web search.
    pub instruction: Option<String>,
    /// Looked at before each document is read.
    pub cancel: CancelToken,
}

impl RerankOptions {
    /// For a web search.
    pub fn new() -> Self {
        Self::default()
    }

    /// See [`RerankOptions::instruction`].
    pub fn instruction(mut self, instruction: impl Into<String>) -> Self {
        self.instruction = Some(instruction.into());
        self
    }

    /// See [`RerankOptions::cancel`].
    pub fn cancel(mut self, token: CancelToken) -> Self {
        self.cancel = token;
        self
    }
}

impl MlxBackend {
    /// How well each document fits the query, from 0 to 1, in their order: the share of yes in the softmax over the
    /// logits of yes and no, in the template of Qwen3-Reranker. Other models give numbers that mean nothing.
    ///
    /// # Errors
    /// A tokenizer in which yes or no is no token, and a text that is longer than the context.
    pub fn rerank(
        &self,
        query: &str,
        documents: &[&str],
        options: &RerankOptions,
    ) -> Result<Vec<f32>> {
        self.check_generates()?;
        let tokenizer = self.tokenizer()?;
        let answer = |token| {
            tokenizer.token_id(token).ok_or_else(|| Error::Embedding {
                path: self.loaded.info.dir.clone(),
                problem: format!(
                    "its tokenizer has no token {token:?}, so it is no reranker that answers yes or no; \
                     take one such as Qwen3-Reranker"
                ),
            })
        };
        let answers = vec![answer("yes")?, answer("no")?];
        let instruction = options.instruction.as_deref().unwrap_or(INSTRUCTION);
        let (before, behind) = (
            tokenizer.encode(BEFORE, false)?,
            tokenizer.encode(BEHIND, false)?,
        );
        let mut texts = Vec::new();
        for document in documents {
            check_cancel(&options.cancel, 0, documents.len())?;
            let text =
                format!("<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}");
            self.check_length(&text)?;
            // Each by itself, as the model's card has it: no token reaches from one into the next.
            texts.push([&before[..], &tokenizer.encode(&text, false)?, &behind].concat());
        }
        let mut scores = Vec::new();
        for logits in self.read(texts, Reading::Next(answers), &options.cancel)? {
            let [yes, no] = logits[..] else {
                return Err(Error::EngineEnded);
            };
            let score = 1.0 / (1.0 + f64::from(no - yes).exp());
            if !score.is_finite() {
                let dtype = self.loaded.info.model.dtype;
                return Err(Error::NotNumbers { dtype });
            }
            scores.push(score as f32);
        }
        Ok(scores)
    }
}
