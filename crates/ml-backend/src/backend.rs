//! The two traits that a program writes against.
//!
//! Both are object safe, so a program can hold a `Box<dyn StreamingBackend>` and not know which
//! backend it got. [`MlxBackend`](crate::MlxBackend) has more to offer than they ask for.

use crate::chat::Message;
use crate::{BoxError, Generation, Options, Result};

/// Takes a piece of text as it comes. An error that it returns ends the generation.
pub type OnPiece<'a> = dyn FnMut(&str) -> Result<(), BoxError> + 'a;

/// Something that generates text.
pub trait Backend: Send + Sync {
    /// A short name for logs and messages, such as `mlx`.
    fn name(&self) -> &str;

    /// Whether requests can be served now.
    fn available(&self) -> bool;

    /// Continues `prompt`, which is taken as it is.
    fn generate(&self, prompt: &str, options: &Options) -> Result<Generation>;

    /// Answers the last of `messages`, which are put into the form that the model was trained on.
    fn chat(&self, messages: &[Message], options: &Options) -> Result<Generation>;
}

/// Something that generates text and hands it out as it comes.
pub trait StreamingBackend: Backend {
    /// [`generate`](Backend::generate), and calls `on_piece` with each piece of text. The pieces
    /// put together are the text of the result.
    fn generate_stream(
        &self,
        prompt: &str,
        options: &Options,
        on_piece: &mut OnPiece<'_>,
    ) -> Result<Generation>;

    /// [`chat`](Backend::chat), and calls `on_piece` with each piece of text.
    fn chat_stream(
        &self,
        messages: &[Message],
        options: &Options,
        on_piece: &mut OnPiece<'_>,
    ) -> Result<Generation>;
}
