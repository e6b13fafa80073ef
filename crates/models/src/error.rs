//! What can go wrong between a directory and its logits, each in one line that names the file or
//! the tensor and says what to do.

use std::path::{Path, PathBuf};

use arch::one_line;

/// A failure of reading, checking or running a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory cannot be read, or its configuration cannot be used.
    #[error(transparent)]
    Config(#[from] arch::Error),
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
        arch::Error::read(path, problem).into()
    }

    pub(crate) fn config(path: &Path, problem: impl Into<String>) -> Self {
        arch::Error::config(path, problem).into()
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
