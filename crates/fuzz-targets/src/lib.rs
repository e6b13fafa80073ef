//! What is fuzzed: each target is a function of bytes that reads them as what comes from outside,
//! and panics where a promise is broken.
//!
//! An input that is refused must be refused in one line; nothing may panic, hang or ask for memory
//! that its size does not justify. Fuzzers run these functions (`fuzz/`), and a test replays the
//! committed corpus and the [`seeds`], on plain stable Rust.

mod answer;
mod config;
mod files;
mod request;
mod safetensors;
pub mod seeds;
mod stream;
mod template;
mod tokenizer;

pub use files::json_files;

use ml_server::fuzz::Api;

/// A way into the project for bytes from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// `config.json` and `generation_config.json`.
    Config,
    /// Headers of safetensors files, their index, and the configuration they are compared with.
    Safetensors,
    /// `tokenizer.json` and its companions, then a text through it and back.
    Tokenizer,
    /// A chat template, a conversation and further variables.
    Template,
    /// An answer of a model, cut into pieces, through the parsers of calls and thoughts.
    Answer,
    /// Token ids through the stream decoders of several tokenizers.
    Stream,
    /// The body of a request to the server.
    Request(Api),
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Answer,
        Self::Config,
        Self::Safetensors,
        Self::Tokenizer,
        Self::Template,
        Self::Stream,
        Self::Request(Api::Chat),
        Self::Request(Api::Completions),
        Self::Request(Api::Infill),
        Self::Request(Api::Responses),
        Self::Request(Api::Messages),
        Self::Request(Api::Count),
        Self::Request(Api::Embeddings),
        Self::Request(Api::Rerank),
        Self::Request(Api::Tokenize),
        Self::Request(Api::Detokenize),
    ];

    /// Its name on the command line and of its folder in the corpus.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Config => "config",
            Self::Safetensors => "safetensors",
            Self::Tokenizer => "tokenizer",
            Self::Template => "template",
            Self::Stream => "stream",
            Self::Request(Api::Chat) => "request-chat",
            Self::Request(Api::Completions) => "request-completions",
            Self::Request(Api::Infill) => "request-infill",
            Self::Request(Api::Responses) => "request-responses",
            Self::Request(Api::Messages) => "request-messages",
            Self::Request(Api::Count) => "request-count",
            Self::Request(Api::Embeddings) => "request-embeddings",
            Self::Request(Api::Rerank) => "request-rerank",
            Self::Request(Api::Tokenize) => "request-tokenize",
            Self::Request(Api::Detokenize) => "request-detokenize",
        }
    }

    /// The target of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.name() == name)
    }

    /// Runs one input.
    ///
    /// # Panics
    /// Where a promise is broken.
    pub fn run(self, data: &[u8]) {
        match self {
            Self::Answer => answer::run(data),
            Self::Config => config::run(data),
            Self::Safetensors => safetensors::run(data),
            Self::Tokenizer => tokenizer::run(data),
            Self::Template => template::run(data),
            Self::Stream => stream::run(data),
            Self::Request(api) => request::run(api, data),
        }
    }
}

/// A refusal is one line.
fn check_refusal(error: &dyn std::fmt::Display) {
    let line = error.to_string();
    assert!(!line.is_empty(), "a refusal that says nothing");
    assert!(
        !line.contains(char::is_control),
        "a refusal of more than one line, or one that moves a cursor: {line:?}"
    );
}
