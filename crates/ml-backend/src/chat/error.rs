//! What can go wrong between a conversation and its text.

use std::path::PathBuf;

use models::tokenizer::TokenizerError;

/// A failure of a chat format: one line that says what was wrong and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// There are no messages.
    #[error("the conversation is empty: a chat needs at least one message")]
    Empty,
    /// No template in the checkpoint, and none built in for its family.
    #[error(
        "no chat template in the model directory and none built in for model_type '{model_type}'; \
         put the model's chat_template.jinja there, or generate from a plain prompt"
    )]
    NoFormat {
        /// The family.
        model_type: String,
    },
    /// There are tools or their calls, and nothing says how the model is told of them.
    #[error(
        "the model's chat format knows no tools; if the model does, put its chat_template.jinja into its directory"
    )]
    NoTools,
    /// The tokenizer's files hold no usable template.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The template is no valid Jinja.
    #[error("{}: line {line} of the chat template: {problem}", path.display())]
    Syntax {
        /// The file that holds the template.
        path: PathBuf,
        /// The line of the template, from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// The template refused the conversation: it called `raise_exception`.
    #[error("the model's chat template refuses this conversation: {0}")]
    Refused(String),
    /// The template failed on the conversation.
    #[error("{}: line {line} of the chat template: {problem}", path.display())]
    Render {
        /// The file that holds the template.
        path: PathBuf,
        /// The line of the template, from 1.
        line: usize,
        /// What failed there.
        problem: String,
    },
}
