//! What benchmarks run: dimensions of published models, the tensors that follow from them, and
//! checkpoints of random weights.
//!
//! A crate of its own, since `cargo xtask bench`, which compares engines, and the program that times
//! this one need the same shapes, and the latter has to work where there is no cargo. It knows
//! nothing of MLX.
#![deny(unsafe_code)]

pub mod checkpoint;
mod shape;
mod tensor;

pub use shape::{Shape, Weights};
pub use tensor::{Tensor, decode_bytes, is_tied, read_dir, total_bytes};
