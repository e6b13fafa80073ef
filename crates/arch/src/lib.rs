//! Model families as data.
//!
//! A directory's `config.json` becomes a [`Config`], whose [`Model`] says what the model is made of: which
//! tensors, of which sizes, and how they are used. Whatever must know that walks the same record: the check
//! of a checkpoint's headers, loading, random weights, the bytes of weights and caches, the shapes that
//! benchmarks run. A family is one file in [`families`] and one line in its `ALL`.
//!
//! This crate knows nothing of MLX, arrays or devices, nor of prompts.

#![deny(unsafe_code)]

mod config;
mod error;
pub mod families;
mod fields;
mod generation;
pub mod json;
mod layers;
mod model;
mod quantization;
mod rope;
pub mod stacks;
mod walk;

pub use config::{Config, read_json};
pub use error::{Error, Result, one_line};
pub use families::Family;
pub use generation::GenerationDefaults;
pub use model::{
    Activation, AltUp, Attention, Both, Convolution, Delta, DeltaInputs, Embedding, Experts, Gated,
    Keys, Laurel, Layer, Linear, Mixer, Mlp, Model, Norm, PerLayer, PerLayerInputs, Recurrent,
    Shared, State, Streams, Sub,
};
pub use quantization::{LayerQuantization, Mode, Quantization, Scheme, unsupported};
pub use rope::{Rope, RopeScaling};
pub use walk::Part;
