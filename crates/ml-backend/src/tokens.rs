//! Texts and conversations as token ids, without an answer: what a prompt costs before it is sent.

use crate::chat::Message;
use crate::{MlxBackend, Options, Result};

impl MlxBackend {
    /// The token ids of the prompt that [`chat`](crate::Backend::chat) makes of `messages`.
    ///
    /// # Errors
    /// Messages that the model's chat template refuses, and a directory without a tokenizer.
    pub fn encode_chat(&self, messages: &[Message], options: &Options) -> Result<Vec<u32>> {
        let prompt = self.render_chat(messages, options)?;
        let special = self.chat_format()?.encode_with_special_tokens();
        Ok(self.tokenizer()?.encode(&prompt, special)?)
    }

    /// The token ids of a text; `special` is whether the tokenizer puts before it what it has for a prompt, such as
    /// `<bos>`. An empty text may have none.
    ///
    /// # Errors
    /// A directory without a tokenizer.
    pub fn encode_text(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        Ok(self.tokenizer()?.encode(text, special)?)
    }

    /// What a token adds to a text, which need not be whole characters. Where the tokenizer does not tell, it is the
    /// text of the token alone.
    ///
    /// # Errors
    /// A directory without a tokenizer.
    pub fn token_bytes(&self, id: u32) -> Result<Vec<u8>> {
        let tokenizer = self.tokenizer()?;
        match tokenizer.token_bytes(id) {
            Some(bytes) => Ok(bytes),
            None => Ok(tokenizer.decode(&[id], false)?.into_bytes()),
        }
    }

    /// The text of token ids, special tokens written out.
    ///
    /// # Errors
    /// A directory without a tokenizer. Ids that it does not have contribute nothing.
    pub fn decode_all(&self, ids: &[u32]) -> Result<String> {
        Ok(self.tokenizer()?.decode(ids, false)?)
    }
}
