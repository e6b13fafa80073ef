//! A tokenizer as what makes text of ids.

use std::sync::Arc;

use models::tokenizer::{StreamDecoder, Tokenizer};

use crate::Result;
use crate::text::{Decoder, Vocabulary};

impl Vocabulary for Tokenizer {
    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(self.stream(true))
    }
}

impl Decoder for StreamDecoder {
    fn push(&mut self, id: u32) -> Result<String> {
        Ok(StreamDecoder::push(self, id)?.unwrap_or_default())
    }

    fn finish(self: Box<Self>) -> Result<String> {
        Ok(StreamDecoder::finish(*self)?.unwrap_or_default())
    }
}

/// A tokenizer whose texts have these special tokens in them.
struct Keeping {
    tokenizer: Tokenizer,
    kept: Vec<u32>,
}

impl Vocabulary for Keeping {
    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(self.tokenizer.stream(true).keeping(&self.kept))
    }
}

/// [`vocabulary`] whose texts have these special tokens in them, and no others.
pub(crate) fn keeping(tokenizer: &Tokenizer, kept: Vec<u32>) -> Arc<dyn Vocabulary> {
    let tokenizer = tokenizer.clone();
    Arc::new(Keeping { tokenizer, kept })
}

/// Shares a tokenizer with the engine thread.
pub(crate) fn vocabulary(tokenizer: &Tokenizer) -> Arc<dyn Vocabulary> {
    Arc::new(tokenizer.clone())
}
