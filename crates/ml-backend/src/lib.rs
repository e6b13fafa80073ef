//! Run Gemma, Qwen, Llama and Mistral checkpoints on MLX: text in, text out, whole or streamed.
//!
//! ```
//! use ml_backend::{Backend, Message, MlxBackend, Options, StreamingBackend};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))?;
//! let backend = MlxBackend::load("assets/models/qwen3-demo")?;
//! let options = Options::new().temperature(0.0).max_tokens(64);
//!
//! let answer = backend.chat(&[Message::user("What is 17 + 25?")], &options)?;
//! assert_eq!(answer.text, "42");
//!
//! // Or piece by piece, as it is made.
//! let spell = [Message::user("Spell the word garden.")];
//! let answer = backend.chat_stream(&spell, &options, &mut |piece| {
//!     print!("{piece}");
//!     Ok(())
//! })?;
//! println!("\n{} tokens in {:?}", answer.metrics.generated_tokens, answer.metrics.total_time);
//! # Ok(())
//! # }
//! ```
//!
//! A directory holds what a checkpoint usually brings: `config.json`, `tokenizer.json`, a chat
//! template, and safetensors, as they are or quantized for MLX. [`MlxBackend::builder`] chooses the
//! device, the dtype and the memory limits; [`Options`] choose how one answer is generated.
//!
//! # What holds here
//! - **Any thread may call.** [`MlxBackend`] is `Send`, `Sync` and cheap to clone. The model lives
//!   on one engine thread, since an MLX stream belongs to the thread that made it. Requests are
//!   taken up in the order in which they came; several are served at the same time
//!   ([`MlxBackendBuilder::at_once`]), and what one gives does not depend on the others.
//! - **Three ways to read, one text.** [`Backend`] gives the whole, [`StreamingBackend`] calls back,
//!   and [`MlxBackend::stream_chat`] is an iterator. The pieces put together are the whole.
//! - **What was generated is never lost.** Cancelled, failed on the way, or stopped by the caller's
//!   own error: [`Error::partial`] has what there was.
//! - **The host reads one token a step, a step late.** Step n+1 is submitted before token n is
//!   read. Sampling happens on the device; on a GPU a request that asks for more than temperature, top-k, top-p, min-p
//!   and the repetition penalty has its logits brought to the host, where each of its tokens is known before its next
//!   step.
//!
//! This crate knows nothing of layers and weights, which are `models`', nor of terminals. No type of the
//! crates below is in its API.

#![deny(unsafe_code)]

mod account;
mod answer;
mod backend;
mod budget;
mod builder;
mod calls;
/// How conversations are written down. For this repository's own tests; no part of the API.
#[doc(hidden)]
pub mod chat;
mod device;
mod embedding;
mod engine;
mod error;
mod generate;
mod handle;
mod language_model;
mod load;
mod loaded;
mod logprobs;
mod memory;
mod metrics;
mod middle;
mod mlx_model;
mod model_info;
mod options;
mod prefix;
mod request;
mod rerank;
mod sample;
mod scheduler;
mod scores;
mod session;
mod stream;
mod structure;
#[cfg(test)]
mod testing;
mod text;
mod token;
mod tokens;
mod vocabulary;

pub use answer::{Answer, AnswerPiece, AnswerStream};
pub use backend::{Backend, OnPiece, StreamingBackend};
pub use builder::{MlxBackendBuilder, Progress};
pub use chat::{AnswerEvent, Message, Role, ToolCall};
pub use device::{Device, DeviceInfo, DeviceKind, Dtype};
pub use embedding::EmbedOptions;
#[doc(hidden)]
pub use embedding::check_embedding_files;
pub use error::{BoxError, Cause, Error, Result};
pub use handle::MlxBackend;
pub use load::{device_info, free_memory};
pub use loaded::LoadedModel;
pub use logprobs::{Alternative, TokenLogprobs};
pub use memory::{MemoryHeld, MemoryLimits};
pub use metrics::{FinishReason, Generation, Metrics, Piece};
pub use model_info::{Advice, ModelInfo};
pub use models::Step;
pub use options::{
    CancelToken, DEFAULT_MAX_TOKENS, DEFAULT_PREFILL_CHUNK, DEFAULT_PREFILL_CHUNK_ON_CPU,
    DEFAULT_TEMPERATURE, MAX_PREFILL_CHUNK, Options, ToolChoice,
};
pub use rerank::RerankOptions;
pub use sample::{Dry, LogitsProcessor, Xtc};
pub use session::{Session, SessionError, SessionFile, SessionStream};
pub use stream::GenerationStream;
pub use structure::Structure;

/// The README's example is compiled with the others.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// And that of the page on structure.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/structure.md")]
struct StructurePage;

/// And that of the page on tools.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/tools.md")]
struct ToolsPage;

/// And that of the page on conversations.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/sessions.md")]
struct SessionsPage;
/// And that of the page on prompts that were read.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/prefix.md")]
struct PrefixPage;
