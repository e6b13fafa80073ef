//! From token ids to pieces of text that can be shown.
//!
//! Two things stand between a token and the screen. A token may end in the middle of a character:
//! the decoder keeps it until the character is whole. And a text may be the beginning of a stop
//! text: [`StopTexts`] keeps it until that is decided. Both only delay: what they keep comes out
//! with the last piece.

use crate::language_model::Sampled;
use crate::metrics::Piece;
use crate::{Result, TokenLogprobs};

/// Turns ids into text, remembering what was not yet whole.
pub(crate) trait Decoder {
    /// The text that `id` completes; may be empty.
    fn push(&mut self, id: u32) -> Result<String>;
    /// What is left, when no more ids come.
    fn finish(self: Box<Self>) -> Result<String>;
}

/// What makes a [`Decoder`] for each generation; shared by all threads.
pub(crate) trait Vocabulary: Send + Sync {
    /// A decoder at the start of an answer.
    fn decoder(&self) -> Box<dyn Decoder>;
}

/// Collects a generation's tokens and cuts their text into pieces.
pub(crate) struct TextBuilder {
    decoder: Option<Box<dyn Decoder>>,
    stops: StopTexts,
    /// All pieces so far.
    pub(crate) text: String,
    /// All tokens so far.
    pub(crate) token_ids: Vec<u32>,
    /// How probable they were, where that is asked for.
    pub(crate) logprobs: Vec<TokenLogprobs>,
    /// Tokens that are in a piece already.
    handed_out: usize,
}

impl TextBuilder {
    /// Without a vocabulary there are ids only.
    pub(crate) fn new(vocabulary: Option<&dyn Vocabulary>, stop: &[String]) -> Self {
        Self {
            decoder: vocabulary.map(|vocabulary| vocabulary.decoder()),
            stops: StopTexts::new(stop),
            text: String::new(),
            token_ids: Vec::new(),
            logprobs: Vec::new(),
            handed_out: 0,
        }
    }

    /// Adds a token. Says what can be shown now, and whether a stop text was reached.
    pub(crate) fn push(&mut self, token: impl Into<Sampled>) -> Result<(Option<Piece>, bool)> {
        let Sampled { id, logprobs, .. } = token.into();
        self.token_ids.push(id);
        self.logprobs.extend(logprobs);
        let Some(decoder) = &mut self.decoder else {
            return Ok((self.piece(String::new(), true), false));
        };
        let text = decoder.push(id)?;
        let (text, stopped) = self.stops.push(&text);
        Ok((self.piece(text, false), stopped))
    }

    /// What was kept back, when no token follows any more; and whether that completed a stop text.
    pub(crate) fn finish(&mut self) -> Result<(Option<Piece>, bool)> {
        let Some(decoder) = self.decoder.take() else {
            return Ok((None, false));
        };
        let text = decoder.finish()?;
        let (mut text, stopped) = self.stops.push(&text);
        if !stopped {
            text.push_str(&self.stops.take());
        }
        Ok((self.piece(text, false), stopped))
    }

    fn piece(&mut self, text: String, even_empty: bool) -> Option<Piece> {
        if text.is_empty() && !even_empty {
            return None;
        }
        self.text.push_str(&text);
        let token_ids = self.token_ids[self.handed_out..].to_vec();
        let logprobs = self.logprobs.get(self.handed_out..);
        let logprobs = logprobs.unwrap_or_default().to_vec();
        self.handed_out = self.token_ids.len();
        Some(Piece {
            text,
            token_ids,
            logprobs,
        })
    }
}

/// Finds the first stop text in a text that comes in parts.
struct StopTexts {
    stops: Vec<String>,
    /// The end of what came in, as far as it may be the beginning of a stop text.
    held: String,
}

impl StopTexts {
    fn new(stops: &[String]) -> Self {
        Self {
            stops: stops.to_vec(),
            held: String::new(),
        }
    }

    /// What is certainly no part of a stop text, and whether a stop text followed it.
    fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        if let Some(at) = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop))
            .min()
        {
            self.held.truncate(at);
            return (self.take(), true);
        }
        let kept = self
            .stops
            .iter()
            .map(|stop| overlap(&self.held, stop))
            .max()
            .unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - kept);
        (std::mem::replace(&mut self.held, rest), false)
    }

    fn take(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes of the longest end of `text` that `stop` begins with.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len().saturating_sub(1));
    (1..=longest)
        .rev()
        .find(|&n| text.as_bytes().ends_with(&stop.as_bytes()[..n]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Letters;

    /// Pieces of `tokens` as they would be shown, and whether a stop text ended it.
    fn stream(tokens: &str, stop: &[&str]) -> (Vec<String>, bool, String) {
        let stop: Vec<String> = stop.iter().map(|&s| s.to_owned()).collect();
        let mut text = TextBuilder::new(Some(&Letters), &stop);
        let mut pieces = Vec::new();
        let mut stopped = false;
        for letter in tokens.chars() {
            let (piece, hit) = text.push(letter as u32).unwrap();
            pieces.extend(piece.map(|piece| piece.text));
            if hit {
                stopped = true;
                break;
            }
        }
        if !stopped {
            pieces.extend(text.finish().unwrap().0.map(|piece| piece.text));
        }
        (pieces, stopped, text.text.clone())
    }

    #[test]
    fn a_stop_text_is_never_shown_not_even_its_beginning() {
        let (pieces, stopped, text) = stream("one END two", &["END"]);
        assert!(stopped);
        assert_eq!(pieces.concat(), "one ");
        assert_eq!(text, "one ");
        assert!(pieces.iter().all(|piece| !piece.contains('E')));
    }

    #[test]
    fn what_only_looked_like_a_stop_text_is_shown_in_the_end() {
        let (pieces, stopped, text) = stream("an EN", &["END"]);
        assert!(!stopped);
        assert_eq!(pieces.concat(), "an EN");
        assert_eq!(text, "an EN");
        let (pieces, ..) = stream("ENEND", &["END"]);
        assert_eq!(pieces, ["EN"]);
    }

    #[test]
    fn the_earliest_of_several_stop_texts_counts() {
        let (pieces, stopped, _) = stream("aXbYc", &["Y", "Xb"]);
        assert!(stopped);
        assert_eq!(pieces.concat(), "a");
    }

    #[test]
    fn a_stop_text_with_wide_characters_splits_nothing() {
        let (pieces, stopped, _) = stream("né🦀ñ🦀🦀x", &["🦀🦀"]);
        assert!(stopped);
        assert_eq!(pieces.concat(), "né🦀ñ");
    }

    #[test]
    fn every_token_is_in_one_piece_at_most_and_in_order() {
        let mut text = TextBuilder::new(Some(&Letters), &["END".to_owned()]);
        let mut ids = Vec::new();
        for letter in "a EN b".chars() {
            ids.extend(
                text.push(letter as u32)
                    .unwrap()
                    .0
                    .map(|p| p.token_ids)
                    .unwrap_or_default(),
            );
        }
        assert_eq!(ids, "a EN b".chars().map(|c| c as u32).collect::<Vec<_>>());
    }

    #[test]
    fn without_a_vocabulary_each_token_is_a_piece_of_its_own() {
        let mut text = TextBuilder::new(None, &[]);
        for id in [5, 9] {
            let (piece, stopped) = text.push(id).unwrap();
            assert_eq!(
                piece,
                Some(Piece {
                    token_ids: vec![id],
                    ..Piece::default()
                })
            );
            assert!(!stopped);
        }
        assert_eq!(text.finish().unwrap(), (None, false));
        assert_eq!(text.token_ids, [5, 9]);
    }
}
