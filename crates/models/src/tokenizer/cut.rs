//! Texts of a bounded number of tokens.

use super::{Tokenizer, TokenizerError};

impl Tokenizer {
    /// The ids of `text` with what is put around a text, `most` at the most: of a longer one the last tokens of the
    /// text itself are left out, as transformers truncates.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_at_most(&self, text: &str, most: usize) -> Result<Vec<u32>, TokenizerError> {
        let whole = self.encode(text, true)?;
        if whole.len() <= most {
            return Ok(whole);
        }
        Ok(cut(whole, &self.encode(text, false)?, most))
    }
}

/// `whole`, which has `text` somewhere in it, with as little of that as makes it `most`.
fn cut(mut whole: Vec<u32>, text: &[u32], most: usize) -> Vec<u32> {
    let before = match text {
        [] => None,
        text => whole.windows(text.len()).position(|part| part == text),
    };
    let around = whole.len() - text.len().min(whole.len());
    if let Some(before) = before {
        let kept = most.saturating_sub(around).min(text.len());
        whole.drain(before + kept..before + text.len());
    }
    whole.truncate(most);
    whole
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn what_is_around_a_text_stays() {
        let whole = vec![1, 7, 8, 9, 2];
        assert_eq!(cut(whole.clone(), &[7, 8, 9], 4), [1, 7, 8, 2]);
        assert_eq!(cut(whole.clone(), &[7, 8, 9], 2), [1, 2]);
        assert_eq!(cut(whole.clone(), &[7, 8, 9], 1), [1]);
        assert_eq!(cut(vec![7, 8, 9], &[7, 8, 9], 2), [7, 8]);
        assert_eq!(cut(whole, &[6], 3), [1, 7, 8]);
    }
}
