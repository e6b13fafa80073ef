//! A token through a whole model in one launch, on an NVIDIA GPU; or one of each of several sequences.
//!
//! Decoding a token for one sequence reads every weight once and computes little, so it should take
//! as long as reading takes. Operation by operation it takes several times that: each launch drains
//! the memory's queue, and a small model has hundreds. Here one kernel stays on all multiprocessors
//! for the whole token. Its blocks meet at a barrier five times a layer; the stream of weights,
//! which depends on no activation, runs on through shared memory while they wait.
//!
//! The kernel (`cuda/token.cu` and what it includes) is compiled for one model on one GPU, so all
//! sizes are constants in it. [`Sizes`] is what it has to know; [`TokenStep`] compiles it, gives it
//! the addresses of weights and caches, and puts its launches into MLX's graph. Weights are bfloat16,
//! plain or in 12 bits, or packed by 4 or 8 bits; products have bfloat16 inputs and float32 sums, and
//! everything between them is float32. Other models run operation by operation.
//!
//! Tokens of several sequences are columns of the same products (`cuda/tokens.cu`), so that they cost little more
//! than one, up to eight, or as many as there is shared memory for. For more there is another kernel (`cuda/rows.cu`).
//! A token's bits do not depend on the others.

mod sizes;
mod step;
mod tables;

pub use sizes::{Packing, Sizes, Target};
pub use step::{OwnInputs, TokenModel, TokenStep, has_kernel, target};
pub(crate) use tables::Tables;
