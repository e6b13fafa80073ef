//! What goes wrong, in one line that says what to do.

use std::path::{Path, PathBuf};

/// What failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that no model can have, or a variable of the environment that says nothing sensible.
    #[error("{0}")]
    Input(String),
    /// There is no such model, revision or file, or it is not for everybody.
    #[error("{0}")]
    Refused(String),
    /// It would have to be fetched, and that is forbidden.
    #[error(
        "{0} is not in the cache, and HF_HUB_OFFLINE forbids to fetch it; unset that, or pull it elsewhere"
    )]
    Offline(String),
    /// The connection failed, as often as it was tried.
    #[error("cannot reach {url}: {reason}; run the same again to go on where it ended")]
    Connection {
        /// What was asked.
        url: String,
        /// What the last attempt said.
        reason: String,
    },
    /// The hub's answer is not what its protocol says.
    #[error("{url} answered what no hub answers: {reason}")]
    Protocol {
        /// What was asked.
        url: String,
        /// What was wrong.
        reason: String,
    },
    /// What came is not what the hub had told.
    #[error(
        "{file} came with another {what} than the hub told ({found}, not {told}); it was thrown away"
    )]
    Mismatch {
        /// Which file.
        file: String,
        /// Size or digest.
        what: &'static str,
        /// What came.
        found: String,
        /// What was told.
        told: String,
    },
    /// The file system.
    #[error("{}: {source}", path.display())]
    Io {
        /// Of which file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
}

/// With [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Names the file of an error.
pub(crate) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
    move |source| Error::Io {
        path: path.to_owned(),
        source,
    }
}
