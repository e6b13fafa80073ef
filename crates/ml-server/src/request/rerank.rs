//! `/rerank`, as Jina and Cohere have it.

use ml_backend::RerankOptions;
use serde::Deserialize;

use crate::errors::{ApiError, Result};
use crate::fields::Fields;

pub(crate) struct Rerank {
    pub(crate) model: Option<String>,
    pub(crate) query: String,
    pub(crate) documents: Vec<String>,
    /// As many of the best are given.
    pub(crate) top_n: usize,
    pub(crate) return_documents: bool,
    pub(crate) options: RerankOptions,
}

/// A document in the two ways in which it is sent.
#[derive(Deserialize)]
#[serde(untagged)]
enum Document {
    Text(String),
    Object { text: String },
}

impl Rerank {
    pub(crate) fn read(mut fields: Fields) -> Result<Self> {
        let documents: Vec<Document> = fields.need("documents")?;
        if documents.is_empty() {
            return Err(ApiError::field(
                "documents",
                "is empty; send at least one document",
            ));
        }
        let text = |document| match document {
            Document::Text(text) | Document::Object { text } => text,
        };
        let mut options = RerankOptions::new();
        options.instruction = fields.take("instruction")?;
        fields.ignore(&["user"]);
        let rerank = Self {
            model: fields.take("model")?,
            query: fields.need("query")?,
            top_n: fields.take("top_n")?.unwrap_or(documents.len()),
            documents: documents.into_iter().map(text).collect(),
            return_documents: fields.take("return_documents")?.unwrap_or(false),
            options,
        };
        fields.end()?;
        Ok(rerank)
    }
}
