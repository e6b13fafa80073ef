//! What can go wrong between a prompt and its answer.
//!
//! A message says what was wrong and what to do about it; a cause below it is reached through
//! [`source`](std::error::Error::source) and not repeated. A generation that breaks off keeps what
//! it had: see [`Error::partial`].

use std::path::PathBuf;

use crate::Generation;

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a streaming callback may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// A failure to load a model or to generate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model directory cannot be used, or its forward pass failed.
    #[error(transparent)]
    Model(#[from] models::Error),

    /// The tokenizer's files cannot be used, or a text cannot be encoded.
    #[error(transparent)]
    Tokenizer(#[from] models::tokenizer::TokenizerError),

    /// The messages cannot be put into the form that the model was trained on.
    #[error(transparent)]
    Chat(#[from] crate::chat::ChatError),

    /// MLX failed, its native library is missing, or there is no such device.
    #[error(transparent)]
    Mlx(#[from] mlx_core::Error),

    /// The model does not fit into the GPU's memory; nothing was loaded.
    #[error(
        "the model needs {needed} bytes of memory on {device} ({weights} for its weights, the rest \
         to work with) and {free} are free; end other programs that use the GPU, choose a smaller \
         or a quantized model, or the device cpu"
    )]
    TooLittleMemory {
        /// The GPU's name.
        device: String,
        /// Bytes needed in all.
        needed: u64,
        /// Bytes of the weights in the dtype asked for.
        weights: u64,
        /// Bytes free on the GPU.
        free: u64,
    },

    /// The model is larger than the Mac's memory; nothing was loaded.
    #[error(
        "the model needs {needed} bytes of memory on {device} ({weights} for its weights, the rest \
         to work with) and the machine has {memory} in all; choose a smaller or a quantized model"
    )]
    LargerThanTheMachine {
        /// The GPU's name.
        device: String,
        /// Bytes needed in all.
        needed: u64,
        /// Bytes of the weights in the dtype asked for.
        weights: u64,
        /// Bytes of RAM.
        memory: u64,
    },

    /// Text was asked of a directory without a tokenizer.
    #[error(
        "{} has no tokenizer.json, so it can take and give token ids but no text; \
         add the file, or use ids",
        dir.display()
    )]
    NoTokenizer {
        /// The model directory.
        dir: PathBuf,
    },

    /// There is nothing to continue.
    #[error("the prompt is empty; give at least one token of text")]
    EmptyPrompt,

    /// A given token id is none of the model's.
    #[error("token id {id} is not in the model's vocabulary, whose ids end at {}", vocab_size.saturating_sub(1))]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Rows of the model's embedding.
        vocab_size: usize,
    },

    /// The prompt leaves no room for an answer.
    #[error(
        "the prompt has {prompt_tokens} tokens and the model's context holds {context}; \
         shorten the prompt"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// `max_position_embeddings` of the model.
        context: usize,
    },

    /// A value of [`Options`](crate::Options) that no generation can use.
    #[error("the option {name} is {value}; it must be {expected}")]
    InvalidOption {
        /// The option's field.
        name: &'static str,
        /// What it was.
        value: String,
        /// What it may be.
        expected: &'static str,
    },

    /// [`Options::cancel`](crate::Options::cancel) was used.
    #[error("cancelled after {} tokens", partial.token_ids.len())]
    Cancelled {
        /// What was generated so far.
        partial: Box<Generation>,
    },

    /// The caller's callback failed; its error is the source.
    #[error("the callback failed after {} tokens", partial.token_ids.len())]
    Callback {
        /// What was generated and handed out so far, the piece that the callback failed at included.
        partial: Box<Generation>,
        /// What the callback returned.
        source: BoxError,
    },

    /// The generation failed when it was under way; the reason is the source.
    #[error("the generation broke off after {} tokens", partial.token_ids.len())]
    Interrupted {
        /// What was generated so far.
        partial: Box<Generation>,
        /// What failed.
        source: Box<Error>,
    },

    /// The engine thread could not be started.
    #[error("cannot start the engine thread")]
    Thread(#[source] std::io::Error),

    /// A defect: the engine panicked. Later calls work again.
    #[error("the engine panicked ({message}); this is a defect of ml-backend, please report it")]
    Panicked {
        /// What the panic said.
        message: String,
    },

    /// A defect: the engine thread is gone.
    #[error("the engine thread has ended; load the model again")]
    EngineEnded,
}

impl Error {
    /// What was generated before it failed, where it failed on the way.
    pub fn partial(&self) -> Option<&Generation> {
        match self {
            Self::Cancelled { partial }
            | Self::Callback { partial, .. }
            | Self::Interrupted { partial, .. } => Some(partial),
            _ => None,
        }
    }

    /// [`partial`](Self::partial), by value.
    pub fn into_partial(self) -> Option<Generation> {
        match self {
            Self::Cancelled { partial }
            | Self::Callback { partial, .. }
            | Self::Interrupted { partial, .. } => Some(*partial),
            _ => None,
        }
    }
}
