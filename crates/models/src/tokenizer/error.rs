//! What can go wrong with a tokenizer's files and with the texts given to it.

use std::path::PathBuf;

/// A failure of opening or using a tokenizer: one line that names the file and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A file is missing, cannot be read, or does not hold what it should.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// The checkpoint brings several chat templates and says nowhere which one serves.
    #[error(
        "{}: of its chat templates ({names}) none is called 'default'; \
         copy the one to use to chat_template.jinja in the model directory",
        path.display()
    )]
    NoDefaultTemplate {
        /// The file that holds the templates.
        path: PathBuf,
        /// Their names, separated by commas.
        names: String,
    },
    /// A text could not be encoded.
    #[error("cannot encode the text: {0}")]
    Encode(String),
    /// Ids could not be decoded.
    #[error("cannot decode the ids: {0}")]
    Decode(String),
}

impl TokenizerError {
    /// A problem of one file.
    pub(super) fn file(path: impl Into<PathBuf>, problem: impl Into<String>) -> Self {
        Self::File {
            path: path.into(),
            problem: arch::one_line(problem.into()),
        }
    }
}

/// The message of a foreign error on one line, whatever it holds.
pub(super) fn one_line(cause: &dyn std::fmt::Display) -> String {
    let message = cause.to_string();
    let words = message.split(|c: char| c.is_whitespace() || c.is_control());
    words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}
