//! Weights that nobody trained, drawn on the device.
//!
//! Speed does not depend on the values as long as they are ordinary: a product keeps the size of its
//! operand, as with trained weights, so nothing becomes infinite, zero or denormal on the way.

use mlx_core::random::{self, Key};
use mlx_core::{Array, Dtype, ops};

use super::{Stored, TensorEntry};
use crate::Result;

/// The vector `name`, the same each time: within a fifth of `around`.
pub(super) fn vector(name: &str, entry: &TensorEntry, around: f32) -> Result<Array> {
    let key = Key::new(seed(name))?;
    let (low, high) = (around - 0.2, around + 0.2);
    Ok(random::uniform(&key, low, high, &entry.shape, entry.dtype)?)
}

/// The part `part` of the matrix at `path`, the same each time. `stored` is how the matrix is stored.
pub(super) fn matrix(path: &str, part: &str, entry: &TensorEntry, stored: Stored) -> Result<Array> {
    let scheme = match stored {
        Stored::Quantized(scheme) => Some(scheme),
        Stored::Dense => None,
    };
    // Scales and biases of a matrix are drawn from one key: see below.
    let key = Key::new(seed(path) ^ u64::from(part == "weight"))?;
    let shape = &entry.shape;
    Ok(match (part, scheme, entry.dtype) {
        (_, _, Dtype::Uint32) => random::bits(&key, shape)?,
        ("scales" | "biases", Some(scheme), dtype) if dtype.is_floating() => {
            // Integers of so many random bits deviate by 2^bits / √12 from their mean, which the
            // bias takes away.
            let columns = shape.last().map_or(1, |&groups| groups * scheme.group_size);
            let levels = f64::from(1_u32 << scheme.bits);
            let size = deviation(columns) / (levels / 12_f64.sqrt());
            let (low, high) = (0.8 * size as f32, 1.2 * size as f32);
            let scales = random::uniform(&key, low, high, shape, dtype)?;
            match part {
                "scales" => scales,
                _ => {
                    let middle = Array::scalar_of(-(levels - 1.0) / 2.0, dtype)?;
                    ops::mul(&scales, &middle)?
                }
            }
        }
        // Exponents of mxfp4 and mxfp8 near 2^-8, or nvfp4's small floats.
        (_, _, Dtype::Uint8) => Array::full(shape, 119.0, Dtype::Uint8)?,
        _ => {
            // Not uniform: of MLX's uniform bfloat16 numbers one of 350 is zero.
            let columns = shape.last().copied().unwrap_or(1);
            random::normal(&key, shape, entry.dtype, 0.0, deviation(columns) as f32)?
        }
    })
}

/// Codes of mxfp4 two a byte, at `path`, the same each time.
pub(super) fn blocks(path: &str, entry: &TensorEntry) -> Result<Array> {
    let mut shape = entry.shape.clone();
    if let Some(bytes) = shape.last_mut() {
        *bytes /= 4;
    }
    Ok(random::bits(&Key::new(seed(path))?, &shape)?)
}

/// With it, a product with a matrix of so many columns keeps the size of its operand.
fn deviation(columns: i32) -> f64 {
    f64::from(columns.max(1)).sqrt().recip()
}

/// A number of its own for each path (FNV-1a).
fn seed(path: &str) -> u64 {
    path.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
