//! The kernels against plain float64 code, and CUDA's through the compiler.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

mod altup;
mod attend;
mod attention;
mod bf12;
mod common;
mod cuda;
mod decode;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod decode_emulated;
mod delta;
mod dequantize;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod draw_emulated;
mod encoded;
mod experts;
mod experts_on_gpu;
mod filters;
mod matmul;
mod operations;
mod quantized_matmul;
mod rows;
mod threads;
mod tokens;
