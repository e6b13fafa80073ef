//! What can go wrong between a directory and its logits, each in one line that names the file or
//! the tensor and says what to do.

use std::path::{Path, PathBuf};

/// A failure of reading, checking or running a model.
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
    /// A safetensors file or its index is damaged.
    #[error("{}: {problem}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A tensor is missing, or is not what the configuration says.
    #[error("{}: tensor '{name}' {problem}", path.display())]
    Tensor {
        /// The model directory or the file that holds the tensor.
        path: PathBuf,
        /// The tensor's name in the checkpoint.
        name: String,
        /// What was expected and what was found.
        problem: String,
    },
    /// The token ids given to the model are not usable.
    #[error("{0}")]
    Input(String),
    /// MLX failed.
    #[error(transparent)]
    Mlx(#[from] mlx_core::Error),
}

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn read(path: &Path, problem: impl ToString) -> Self {
        Self::Read {
            path: path.to_owned(),
            problem: one_line(problem.to_string()),
        }
    }

    pub(crate) fn config(path: &Path, problem: impl Into<String>) -> Self {
        Self::Config {
            path: path.to_owned(),
            problem: one_line(problem.into()),
        }
    }

    pub(crate) fn checkpoint(path: &Path, problem: impl Into<String>) -> Self {
        Self::Checkpoint {
            path: path.to_owned(),
            problem: one_line(problem.into()),
        }
    }

    pub(crate) fn tensor(path: &Path, name: &str, problem: impl Into<String>) -> Self {
        Self::Tensor {
            path: path.to_owned(),
            name: one_line(name.to_owned()),
            problem: one_line(problem.into()),
        }
    }
}

/// A text with names from a file in it, which may hold anything: line breaks and other control
/// characters are spelled out, so that an error is one line and does nothing to a terminal.
pub(crate) fn one_line(text: String) -> String {
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
