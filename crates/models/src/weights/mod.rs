//! Weights: from safetensors files to checked arrays.
//!
//! [`checkpoint`] opens and validates the files and knows nothing of models. [`manifest`] says
//! which tensors a configuration needs and compares them with the headers, so that every mismatch
//! is found before MLX starts and before a byte of data is read. [`loader`] then makes the arrays,
//! straight from the memory map.

mod checkpoint;
mod loader;
mod manifest;
mod random;

pub(crate) use checkpoint::{Checkpoint, TensorEntry};
pub(crate) use loader::{Loader, Source};
pub(crate) use manifest::{Manifest, Stored};
pub(crate) use random::Random;
