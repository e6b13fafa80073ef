//! What can go wrong between a prompt and its answer.
//!
//! A message says what was wrong and what to do about it; a cause below it is reached through
//! [`source`](std::error::Error::source) and not repeated. A generation that breaks off keeps what
//! it had: see [`Error::partial`].

use std::path::PathBuf;

use crate::{Dtype, Generation};

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a streaming callback may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What failed in a crate below this one: a message that says what was wrong, where, and what to do, and
/// the causes below it. Which kind of failure it is, the variant of [`Error`] says.
#[derive(Debug)]
pub struct Cause(BoxError);

impl Cause {
    /// What it is, if it is one of these.
    pub fn downcast_ref<T: std::error::Error + 'static>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// A failure to load a model or to generate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model directory cannot be used, or its forward pass failed.
    #[error(transparent)]
    Model(Cause),

    /// The tokenizer's files cannot be used, or a text cannot be encoded.
    #[error(transparent)]
    Tokenizer(Cause),

    /// The messages cannot be put into the form that the model was trained on.
    #[error(transparent)]
    Chat(Cause),

    /// MLX failed, its native library is missing, or there is no such device or instruction set.
    #[error(transparent)]
    Mlx(Cause),

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

    /// Two texts were given to a model that cannot fill in what is between them.
    #[error(
        "the model has no tokens for filling in the middle, so it can only go on behind a text; leave the suffix \
         out, or take a model such as Qwen2.5-Coder"
    )]
    NoFillInTheMiddle {
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
        /// Tokens that the model's context holds.
        context: usize,
    },

    /// The prompt leaves no room for an answer, however its text becomes tokens.
    #[error(
        "the prompt has {bytes} bytes, which are at least {least_tokens} tokens, and the model's \
         context holds {context}; shorten the prompt"
    )]
    PromptTooLarge {
        /// Bytes of the text, as it was to be encoded.
        bytes: usize,
        /// As many as if each token were the longest of the vocabulary.
        least_tokens: usize,
        /// Tokens that the model's context holds.
        context: usize,
    },

    /// The logits of so many tokens do not fit into memory.
    #[error(
        "the logits take {bytes} bytes{}; ask for those of fewer tokens",
        available.map_or(" and cannot be allocated".to_owned(), |n| format!(" and {n} are available"))
    )]
    TooManyLogits {
        /// Bytes of all positions' logits as float32.
        bytes: u64,
        /// Bytes that the system can give, where it says so.
        available: Option<u64>,
    },

    /// One of a token's logits is NaN, or the largest is not finite.
    #[error(
        "the model's logits are not numbers (NaN or infinity); the likely cause is the layers' dtype, \
         {dtype}: {}",
        not_numbers(*dtype)
    )]
    NotNumbers {
        /// Dtype of the layers' activations.
        dtype: Dtype,
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

    /// An answer of the form that was asked for ([`Options::structure`](crate::Options::structure)) cannot be held
    /// to it.
    #[error("the {kind} cannot be used: {problem}")]
    Structure {
        /// What the form was given as.
        kind: &'static str,
        /// What is wrong, in one line that names the keyword where one is not supported.
        problem: String,
    },

    /// A call cannot be asked for: of these tools, or of this model.
    #[error("no call of the tools can be asked for: {problem}")]
    Tools {
        /// What is wrong, in one line that names the tool, or the keyword of its schema.
        problem: String,
    },

    /// A [`LogitsProcessor`](crate::LogitsProcessor) failed; its error is the source.
    #[error("the logits processor failed")]
    Processor {
        /// What it returned, or what was wrong with the logits that it left.
        source: BoxError,
    },

    /// No token is left to be drawn.
    #[error(
        "no token may be drawn: what is allowed, what is banned and what a logits processor left out leave none; \
         allow more"
    )]
    NothingAllowed,

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

    /// The directory's files for embeddings cannot be used, or the model is not made for what was asked.
    #[error("{}: {problem}", path.display())]
    Embedding {
        /// The file, or the directory.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },

    /// [`EmbedOptions::cancel`](crate::EmbedOptions::cancel) or that of a reranking was used: nothing is given.
    #[error("cancelled after {done} of {of} texts")]
    CancelledTexts {
        /// Texts that were done.
        done: usize,
        /// All texts.
        of: usize,
    },

    /// A conversation or its file cannot be used as it was asked.
    #[error(transparent)]
    Session(#[from] crate::SessionError),

    /// The engine thread could not be started.
    #[error("cannot start the engine thread")]
    Thread(#[source] std::io::Error),

    /// The folder for what prompts made cannot be used; nothing was loaded.
    #[error("cannot keep prompts in {}; name a folder that can be written, or none", path.display())]
    PrefixDir {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },

    /// A defect: the engine panicked. Later calls work again.
    #[error("the engine panicked ({message}); this is a defect of ml-backend, please report it")]
    Panicked {
        /// What the panic said.
        message: String,
    },

    /// More requests wait than may.
    #[error(
        "{waiting} requests are waiting already; try again later, or let more wait (`MlxBackendBuilder::queue`)"
    )]
    QueueFull {
        /// How many wait.
        waiting: usize,
    },

    /// A defect: the engine thread is gone.
    #[error("the engine thread has ended; load the model again")]
    EngineEnded,
}

impl From<models::Error> for Error {
    fn from(error: models::Error) -> Self {
        match error {
            models::Error::Mlx(error) => error.into(),
            error => Self::Model(Cause(error.into())),
        }
    }
}

impl From<models::tokenizer::TokenizerError> for Error {
    fn from(error: models::tokenizer::TokenizerError) -> Self {
        Self::Tokenizer(Cause(error.into()))
    }
}

impl From<crate::chat::ChatError> for Error {
    fn from(error: crate::chat::ChatError) -> Self {
        match error {
            crate::chat::ChatError::Tokenizer(error) => error.into(),
            error => Self::Chat(Cause(error.into())),
        }
    }
}

impl From<mlx_core::Error> for Error {
    fn from(error: mlx_core::Error) -> Self {
        Self::Mlx(Cause(error.into()))
    }
}

impl Error {
    pub(crate) fn of_kernels(error: kernels::Error) -> Self {
        Self::Mlx(Cause(error.into()))
    }

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

/// Why a dtype may be the cause, and what to do.
fn not_numbers(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Float16 => {
            "its numbers end at 65504; load the model as bfloat16 or float32 (--dtype bf16 or f32)"
        }
        Dtype::Bfloat16 => {
            "what a layer adds up may not fit it; load the model as float32 (--dtype f32), and if that \
             fails too, fetch its weights again, which then hold what is no number"
        }
        _ => {
            "it has the largest range there is, so the weights themselves must hold what is no number \
             or too large; fetch them again"
        }
    }
}
