//! Gemma 3 and Qwen3: from a model directory to logits.
//!
//! A directory's `config.json` becomes a [`Config`](config::Config), its safetensors a checked
//! manifest of tensors, and both together a [`Model`] whose [`forward`](Model::forward) takes token
//! ids and [caches](cache) and gives logits. The [tokenizer] turns text into ids and back.
//!
//! This crate knows nothing of prompts, chats or sampling: those are `ml-backend`'s. It contains no
//! `unsafe` and does not know that MLX is C++.

#![deny(unsafe_code)]

pub mod cache;
pub mod config;
mod encoding;
mod error;
mod families;
mod info;
mod json;
mod model;
mod nn;
pub mod tokenizer;
mod weights;

pub use config::{Family, GenerationDefaults};
pub use encoding::available_memory;
pub use error::{Error, Result};
pub use info::ModelInfo;
pub use model::{LoadOptions, LoadProgress, Logits, Model};
