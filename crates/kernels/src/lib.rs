//! Operations of language models as kernels of our own.
//!
//! CPU kernels run on MLX's workers and on the pool's, whose stacks are small (512 kB for MLX's on macOS): an
//! array on the stack has a few kB at most, and what is larger lies in scratch memory.

#![allow(
    clippy::needless_range_loop,
    reason = "an iterator over registers is not always unrolled, and then they become memory"
)]

pub mod add;
pub mod altup;
pub mod argmax;
pub mod attention;
pub mod bandwidth;
pub mod bf12;
pub mod block;
pub mod decode;
pub mod delta;
pub mod dequantize;
pub mod draw;
pub mod experts;
pub mod gated;
pub mod graph;
pub mod isa;
pub mod kv;
pub mod linear;
pub mod matmul;
pub mod mlp;
pub mod pages;
pub mod quantized_matmul;
pub mod rms_norm;
pub mod rope;
pub mod rows;
pub mod steps;
pub mod threads;

mod arrays;
mod columns;
mod constants;
mod cpu;
mod cuda;
mod dtype;
mod error;
#[cfg(target_arch = "x86_64")]
mod even_odd;
mod gemm;
mod kept;
mod metal;
mod scratch;
mod stream;
mod vector;
mod view;

pub use cpu::Cpu;
pub use dtype::Dtype;
pub use error::{Error, Result};
pub use isa::Isa;
pub use threads::Pool;
pub use view::{Layout, View, ViewMut};

/// Frees working memory that threads keep for their next call: the blocks of more than `largest` bytes,
/// of all threads. With 0 the tables of rotations go as well, and the process keeps nothing for a model
/// that is gone. What a call is using stays; another one only has to make again what it needs.
pub fn release_kept(largest: usize) {
    scratch::release(largest);
    if largest == 0 {
        rope::release_tables();
    }
}
