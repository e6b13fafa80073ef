//! What each token adds to a text, in bytes: what a grammar over texts has to know of a vocabulary.

use super::Tokenizer;
use super::assembly::{self, Assembly, Piece};

impl Tokenizer {
    /// Whether a token adds the same bytes wherever it stands, so that [`Self::token_bytes`] tells them. It does
    /// in byte-level and SentencePiece-style vocabularies.
    #[must_use]
    pub fn tells_token_bytes(&self) -> bool {
        !matches!(self.shared.assembly, Assembly::Window)
    }

    /// The bytes that a token adds to a text; together those of an answer are its text. A token may end within a
    /// character. `None` for an id that the vocabulary does not have, and for all ids where nobody can tell.
    ///
    /// A space that decoding takes away from the start of a text is in them.
    #[must_use]
    pub fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let token = self.token(id)?;
        match &self.shared.assembly {
            Assembly::Bytes => Some(assembly::bytes(&token)),
            Assembly::Pieces(pieces) => match pieces.piece(token).ok()? {
                Piece::Byte(byte) => Some(vec![byte]),
                Piece::Text(text) => Some(text.into_bytes()),
            },
            Assembly::Window => None,
        }
    }
}
