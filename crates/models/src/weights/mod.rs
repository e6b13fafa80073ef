//! Weights: from safetensors files to checked arrays.
//!
//! [`files`] says which files of a directory may be the model's, and [`checkpoint`] opens and validates
//! them; neither knows anything of models. [`manifest`] says which tensors a configuration needs and
//! compares them with the headers, so that every mismatch is found before MLX starts and before a byte of
//! data is read (but for two tensors that may be the same). [`places`] finds the parts of a model among
//! the names, [`stacks`] those of experts, [`packing`] tells how a matrix is quantized. [`loader`] then makes the arrays, straight from
//! the memory map.

mod checkpoint;
mod files;
mod floats;
mod header;
mod loader;
mod manifest;
mod packing;
mod places;
mod random;
mod stacks;

pub(crate) use checkpoint::{Checkpoint, TensorEntry};
pub use floats::{Floats, read_floats};
pub(crate) use loader::{Loader, Source, StackLoader};
pub(crate) use manifest::{Manifest, Stored};
pub(crate) use stacks::StackPlace;
