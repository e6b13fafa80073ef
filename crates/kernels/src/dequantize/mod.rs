//! Packed matrices as plain numbers, on an NVIDIA GPU.
//!
//! A product with many rows of activations unpacks its matrix for the dense product (see
//! [`quantized_matmul`](crate::quantized_matmul)), a fifth of a prefill if MLX does it: its kernel
//! stores two bytes at a time and takes three times as long as memory does. This one gives the same
//! numbers, bit for bit, in stores of 16 bytes. An H200 unpacks the seven billion weights of an 8B
//! model in 4.7 ms from 4 bits and in 5.7 ms from 8, at 3.75 TB/s. More or fewer numbers at a time (8
//! or 64 a thread, blocks of 128 or 512) were up to 12% slower, never faster.

pub(crate) mod graph;

use crate::Dtype;
use crate::cuda::dtype_option;

/// CUDA C++ that needs no header.
pub const SOURCE: &str = concat!(include_str!("eights.cuh"), include_str!("dequantize.cu"));
/// The same for chosen rows.
pub const ROWS_SOURCE: &str = concat!(include_str!("eights.cuh"), include_str!("rows.cu"));

/// Threads of a block.
const THREADS: u32 = 256;
/// Eights of numbers that a thread makes.
const AT_ONCE: u32 = 2;

/// The most matrices of one launch.
pub const MATRICES: usize = 4;

/// What the code depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Bits of a packed number.
    pub bits: i32,
    /// Numbers that share a scale and a bias.
    pub group: i32,
    /// Of scales, biases and results.
    pub dtype: Dtype,
    /// Matrices that a launch makes, up to [`MATRICES`].
    pub matrices: usize,
}

impl Variant {
    /// What the source is compiled with.
    pub fn options(&self) -> Vec<String> {
        vec![
            dtype_option(self.dtype),
            format!("-DBITS={}", self.bits),
            format!("-DGROUP={}", self.group),
            format!("-DTHREADS={THREADS}"),
            format!("-DAT_ONCE={AT_ONCE}"),
            format!("-DMATRICES={}", self.matrices),
        ]
    }
}
