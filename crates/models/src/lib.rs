//! From a model directory to logits, for every family that [`arch`] describes.
//!
//! A directory's `config.json` becomes an [`arch::Config`], its safetensors a checked
//! manifest of tensors, and both together a [`Model`] whose [`forward`](Model::forward) takes token
//! ids and [caches](cache) and gives logits. The [tokenizer] turns text into ids and back.
//!
//! This crate knows nothing of prompts, chats or sampling: those are `ml-backend`'s. It contains no
//! `unsafe` and does not know that MLX is C++.

#![deny(unsafe_code)]

pub mod cache;
mod decoder;
mod encoding;
mod error;
mod info;
mod model;
mod nn;
mod plan;
pub mod states;
pub mod tokenizer;
mod weights;

pub use arch::{Config, Family, GenerationDefaults};
pub use encoding::available_memory;
pub use error::{Error, Result};
pub use info::ModelInfo;
pub use model::{LoadOptions, LoadProgress, Logits, Model, Pass, Passed};
pub use plan::Step;
pub use weights::{Floats, read_floats};
