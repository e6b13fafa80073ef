//! A token through a model whose blocks differ, in one launch, on an NVIDIA GPU.
//!
//! [`decode`](crate::decode) is the kernel for blocks that are alike, with all sizes as constants in it. Mixtures of
//! experts, windows and heads of two sizes, inputs of layers, packings that differ by matrix: here these are a list of
//! steps in the GPU's memory, made when the model is loaded, and one kernel that goes through it. A step is a product
//! with what its input needs (norms, residual sums) in front and what becomes of its sums (gates) behind, the two halves
//! of a mixture, attention, a gated delta net, or a row of a table. The blocks meet where a step reads what another has left, about six
//! times a layer; operation by operation the host would need milliseconds to submit a token.
//!
//! Weights are bfloat16, float32, or packed by 4 or 8 bits; what is multiplied with them is float32, and so is everything
//! between. A token's bits depend on no other sequence: each has a launch of its own.

mod build;
mod listed;
mod nets;
mod plan;
mod run;
mod words;

pub use nets::{Memories, Nets};
pub use plan::Plan;
pub use run::ListedStep;
