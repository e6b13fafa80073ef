//! What can be wrong with a configuration, each in one line that names the file and the key and says what
//! to do.

use std::path::{Path, PathBuf};

/// A failure of reading or understanding a model directory's configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory or one of its files cannot be read.
    #[error("{}: {problem}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said, or what is missing.
        problem: String,
    },
    /// `config.json` (or `generation_config.json`) says something that cannot be used.
    #[error("{}: {problem}", path.display())]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// The key and what is wrong with it.
        problem: String,
    },
    /// The architecture is none of ours.
    #[error("{}: model_type '{model_type}' is not supported; supported are {supported}", path.display())]
    UnsupportedModel {
        /// The configuration file.
        path: PathBuf,
        /// The `model_type` that was found.
        model_type: String,
        /// The supported values, separated by commas.
        supported: String,
    },
}

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Of a file or directory that cannot be read.
    pub fn read(path: &Path, problem: impl ToString) -> Self {
        Self::Read {
            path: path.to_owned(),
            problem: one_line(problem.to_string()),
        }
    }

    /// Of a configuration that cannot be used.
    pub fn config(path: &Path, problem: impl Into<String>) -> Self {
        Self::Config {
            path: path.to_owned(),
            problem: one_line(problem.into()),
        }
    }
}

/// A text with names from a file in it, which may hold anything: line breaks and other control
/// characters are spelled out, so that an error is one line and does nothing to a terminal.
pub fn one_line(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut line = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character.is_control() {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
    }
    line
}
