//! Text from a stream of token ids, piece by piece, without ever showing half a character.
//!
//! The pieces put together are what [`Tokenizer::decode`] makes of all ids at once, with the same
//! choice about special tokens. The one exception is a tokenizer whose encoder puts a space
//! before every text that its own decoder does not take away again: a stream leaves that one
//! space out. (A space that the decoder does take away, SentencePiece's dummy prefix, is missing
//! in both.) A decoder of an unknown kind is promised less: it is decoded in a short window, which
//! is the same as long as a token's text depends on its neighbours only.
//!
//! When a character comes in several tokens, the stream waits for the last of them:
//! - in a byte-level vocabulary until its bytes are complete, or can no longer become valid;
//! - in a vocabulary with byte fallback until the run of byte tokens ends. The reference decoder
//!   turns *every* byte of a run into U+FFFD if the run as a whole is no UTF-8, so no part of a
//!   run that may still go wrong can be shown before. A run that has gone wrong is not held back.
//!
//! Each token is looked at once, so a stream costs time in proportion to its text.

use super::assembly::{self, Assembly, Piece};
use super::error::one_line;
use super::{Tokenizer, TokenizerError};

/// Bytes that are no UTF-8.
const BROKEN: char = char::REPLACEMENT_CHARACTER;

/// How many tokens may wait, in a decoder of an unknown kind, for a character to be completed. The
/// longest has four bytes, and no token less than one.
const LONGEST_WAIT: usize = 3;

/// Turns token ids into text as they come. Made by [`Tokenizer::stream`].
#[derive(Debug)]
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    skip_special: bool,
    /// Special tokens that are not left out.
    kept: Vec<u32>,
    /// The character to leave out at the start of the text, and how often at most.
    strip: Option<(char, usize)>,
    /// Whether one space that encoding made is still to be left out.
    strip_made_space: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Bytes that are not text yet: the beginning of a character.
    Bytes(Vec<u8>),
    /// The current run of byte tokens.
    Run(Run),
    /// The last tokens, the text of those shown, and how many have not been shown yet.
    Window {
        ids: Vec<u32>,
        shown: String,
        waiting: usize,
    },
}

/// A run of byte tokens in a vocabulary with byte fallback.
#[derive(Debug, Default)]
struct Run {
    bytes: Vec<u8>,
    /// How many of the bytes are complete characters.
    complete: usize,
    /// Whether the run is no UTF-8 whatever follows. Its bytes so far have been shown as broken.
    broken: bool,
}

impl StreamDecoder {
    pub(super) fn new(tokenizer: Tokenizer, skip_special: bool) -> Self {
        let shared = &tokenizer.shared;
        let (state, strip) = match &shared.assembly {
            Assembly::Bytes => (State::Bytes(Vec::new()), None),
            Assembly::Pieces(pieces) => (State::Run(Run::default()), pieces.strip),
            Assembly::Window => (
                State::Window {
                    ids: Vec::new(),
                    shown: String::new(),
                    waiting: 0,
                },
                None,
            ),
        };
        let strip_made_space = shared.makes_leading_space;
        Self {
            tokenizer,
            skip_special,
            kept: Vec::new(),
            strip,
            strip_made_space,
            state,
        }
    }

    /// The same, but these special tokens are part of the text.
    #[must_use]
    pub fn keeping(mut self, kept: &[u32]) -> Self {
        self.kept = kept.to_vec();
        self
    }

    /// Takes the next id. Returns the text that is certain now and was not before, if there is
    /// any; never an empty piece.
    ///
    /// Ids that the vocabulary does not have contribute nothing.
    ///
    /// # Errors
    /// A decoder in `tokenizer.json` that cannot be applied to these tokens.
    pub fn push(&mut self, id: u32) -> Result<Option<String>, TokenizerError> {
        let Some(token) = self.tokenizer.token(id) else {
            return Ok(None);
        };
        let added = self.tokenizer.shared.inner.get_added_vocabulary();
        if self.skip_special && added.is_special_token(&token) && !self.kept.contains(&id) {
            return Ok(None);
        }
        let text = match (&mut self.state, &self.tokenizer.shared.assembly) {
            (State::Bytes(pending), _) => {
                pending.extend(assembly::bytes(&token));
                take_characters(pending)
            }
            (State::Run(run), Assembly::Pieces(pieces)) => {
                let text = match pieces.piece(token) {
                    Ok(Piece::Byte(byte)) => Ok(run.push(byte)),
                    Ok(Piece::Text(text)) => pieces.run(run.end()).map(|run| run + &text),
                    Err(cause) => Err(cause),
                };
                text.map_err(|cause| TokenizerError::Decode(one_line(&cause)))?
            }
            (State::Run(_) | State::Window { .. }, _) => self.push_to_window(id)?,
        };
        Ok(self.start_of_text(text))
    }

    /// Ends the stream. Returns what was held back: the beginning of a character that did not
    /// come to its end is U+FFFD.
    ///
    /// # Errors
    /// As for [`Self::push`].
    pub fn finish(mut self) -> Result<Option<String>, TokenizerError> {
        let text = match (&mut self.state, &self.tokenizer.shared.assembly) {
            (State::Bytes(pending), _) => String::from_utf8_lossy(pending).into_owned(),
            (State::Run(run), Assembly::Pieces(pieces)) => pieces
                .run(run.end())
                .map_err(|cause| TokenizerError::Decode(one_line(&cause)))?,
            (State::Run(run), _) => run.end(),
            (State::Window { ids, shown, .. }, _) => {
                let text = self.tokenizer.decode(ids, false)?;
                after(&text, shown).to_owned()
            }
        };
        Ok(self.start_of_text(text))
    }

    /// A decoder of another kind, to which special tokens that are left out never come: decodes the last token shown together with those that follow,
    /// and what is new in that is the piece. A token that is no text on its own, such as a byte,
    /// is no place to begin, so the window goes on until one that is.
    fn push_to_window(&mut self, id: u32) -> Result<String, TokenizerError> {
        let State::Window {
            ids,
            shown,
            waiting,
        } = &mut self.state
        else {
            return Ok(String::new());
        };
        ids.push(id);
        let text = self.tokenizer.decode(ids, false)?;
        if text.ends_with(BROKEN) && *waiting < LONGEST_WAIT {
            *waiting += 1;
            return Ok(String::new());
        }
        *waiting = 0;
        let piece = after(&text, shown).to_owned();
        let alone = self.tokenizer.decode(&[id], false)?;
        if alone.contains(BROKEN) {
            *shown = text;
        } else {
            *shown = alone;
            *ids = vec![id];
        }
        Ok(piece)
    }

    /// Leaves out what the tokenizer put before the text.
    fn start_of_text(&mut self, mut text: String) -> Option<String> {
        while let Some((character, times)) = &mut self.strip
            && *times > 0
            && !text.is_empty()
        {
            if text.starts_with(*character) {
                text.remove(0);
                *times -= 1;
            } else {
                *times = 0;
            }
        }
        if self.strip_made_space && !text.is_empty() {
            self.strip_made_space = false;
            if text.starts_with(' ') {
                text.remove(0);
            }
        }
        (!text.is_empty()).then_some(text)
    }
}

impl Run {
    /// Takes a byte. Text comes out only when the run has gone wrong.
    fn push(&mut self, byte: u8) -> String {
        if self.broken {
            return BROKEN.to_string();
        }
        self.bytes.push(byte);
        match std::str::from_utf8(&self.bytes[self.complete..]) {
            Ok(_) => self.complete = self.bytes.len(),
            Err(error) if error.error_len().is_none() => {}
            Err(_) => {
                self.broken = true;
                return self.all_broken();
            }
        }
        String::new()
    }

    /// Ends the run.
    fn end(&mut self) -> String {
        let run = std::mem::take(self);
        match String::from_utf8(run.bytes) {
            _ if run.broken => String::new(),
            Ok(text) => text,
            Err(error) => BROKEN.to_string().repeat(error.as_bytes().len()),
        }
    }

    fn all_broken(&self) -> String {
        BROKEN.to_string().repeat(self.bytes.len())
    }
}

/// Takes complete characters off the front of `pending`, and U+FFFD for bytes that cannot become
/// any. What stays is the beginning of a character.
fn take_characters(pending: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut taken = 0;
    for chunk in pending.utf8_chunks() {
        text.push_str(chunk.valid());
        taken += chunk.valid().len();
        let invalid = chunk.invalid();
        let last = taken + invalid.len() == pending.len();
        let unfinished = std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
        if invalid.is_empty() || (last && unfinished) {
            break;
        }
        text.push(BROKEN);
        taken += invalid.len();
    }
    pending.drain(..taken);
    text
}

/// The part of `text` that comes after `shown`; where a decoder rewrote what was shown, the part
/// that comes after what both have in common.
fn after<'text>(text: &'text str, shown: &str) -> &'text str {
    let common = text.chars().zip(shown.chars()).take_while(|(a, b)| a == b);
    &text[common.map(|(character, _)| character.len_utf8()).sum()..]
}
