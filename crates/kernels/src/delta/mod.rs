//! The gated delta rule (arXiv:2412.06464): what each token reads of a state that those before it have written.
//!
//! For each head a matrix `S [key_dim, value_dim]` in float32, and for each token a key `k` and a query `q`, a value
//! `v`, how much is kept `exp(g)`, and how much is learned `b`:
//!
//! ```text
//! S = exp(g) S
//! S = S + k (b (v - Sᵀ k))ᵀ
//! y = Sᵀ q
//! ```
//!
//! On the CPU a kernel of ours runs it (`rule`), with all that lies between a net's linear maps ([`net`]). On CUDA
//! there are such kernels too ([`cuda`]). Elsewhere it is made of MLX's operations ([`graph`]): of one token by these lines, of many in chunks (`chunks`).

pub(crate) mod chunks;
pub mod cuda;
pub mod graph;
mod head;
pub mod net;
mod rule;
