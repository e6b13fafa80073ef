//! What can go wrong with a conversation beside its answers.

use std::path::PathBuf;

/// A failure of a [`Session`](super::Session) that is none of the model's.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The system refused something; why is the source.
    #[error("cannot {doing} the session {}", path.display())]
    File {
        /// What was tried, such as `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },

    /// The file does not begin as a session does.
    #[error("{} is no session of ml; name another file (this one is left as it is)", path.display())]
    NotASession {
        /// The file.
        path: PathBuf,
    },

    /// The file begins as a session and cannot be read on.
    #[error(
        "{}, line {line}: {problem}; mend or remove that line, or name another file (this one is left as it is)",
        path.display()
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },

    /// The file is of a later version of this crate.
    #[error(
        "{} was written by a later version of ml (its form is {version}, this one reads {}); update ml, or name \
         another file",
        path.display(),
        super::file::VERSION
    )]
    LaterVersion {
        /// The file.
        path: PathBuf,
        /// Its form.
        version: u64,
    },

    /// Another session has the file, here or in another program.
    #[error("{} is in use by another session; end that one, or name another file", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },

    /// The last answer calls tools, and the model waits for what they give.
    #[error(
        "the last answer calls {calls} and waits for what that gives; send it (`send_tool_result`), or take the \
         turn back"
    )]
    CallsWait {
        /// The tools.
        calls: String,
    },

    /// A result for a call that is none of those that wait.
    #[error("no call of {name} waits for a result; send those of the last answer, each once")]
    NoSuchCall {
        /// The tool.
        name: String,
    },

    /// The last message has no answer yet.
    #[error("the last message has no answer yet; ask for it (`answer`), or take it back")]
    Unanswered,

    /// There is nothing to answer.
    #[error("nothing is to be answered; send a message first")]
    NothingToAnswer,
}
