//! An answer of a conversation, as it comes.

use crate::answer::{Answer, AnswerPiece, AnswerStream};
use crate::{Error, Result};

use super::Session;

/// An iterator over the parts of an answer, which becomes a part of its [`Session`].
///
/// It ends after the last part, or after an error. Dropping it before cancels the generation, and what was said of it
/// stays in the conversation.
#[must_use = "an answer that nobody reads is cancelled"]
pub struct SessionStream<'a> {
    session: &'a mut Session,
    stream: AnswerStream,
    settled: bool,
}

impl<'a> SessionStream<'a> {
    pub(super) fn new(session: &'a mut Session, stream: AnswerStream) -> Self {
        Self {
            session,
            stream,
            settled: false,
        }
    }

    /// Tokens of the prompt: of the whole conversation.
    #[must_use]
    pub fn prompt_tokens(&self) -> usize {
        self.stream.prompt_tokens()
    }

    /// What was given so far, and once the stream ended all of it, as [`AnswerStream::answer`] has it.
    #[must_use]
    pub fn answer(&self) -> &Answer {
        self.stream.answer()
    }

    /// Waits for the end.
    pub(super) fn wait(mut self) -> Result<Answer> {
        for piece in &mut self {
            piece?;
        }
        Ok(self.stream.answer().clone())
    }

    /// Puts what was said into the conversation; nothing is no answer.
    fn settle(&mut self, stays: bool) -> Result<()> {
        self.settled = true;
        let answer = self.stream.answer();
        let said = !answer.text.is_empty() || !answer.tool_calls.is_empty();
        self.session.settle((stays && said).then_some(answer))
    }
}

impl Iterator for SessionStream<'_> {
    type Item = Result<AnswerPiece>;

    fn next(&mut self) -> Option<Result<AnswerPiece>> {
        match self.stream.next() {
            None if self.settled => None,
            // The answer is there whether its file is or not.
            None => self.settle(true).err().map(Err),
            Some(Err(error)) => {
                // What failed first is what is told.
                let _ = self.settle(matches!(error, Error::Cancelled { .. }));
                Some(Err(error))
            }
            piece => piece,
        }
    }
}

impl Drop for SessionStream<'_> {
    fn drop(&mut self) {
        if !self.settled {
            // What cannot be written now is with the next turn.
            let _ = self.settle(true);
        }
    }
}
