//! Quantized products in MLX's own operations, in the form that is best on the device.

use mlx_core::{Array, DeviceKind, Result, device, ops, quant};

use super::packed::Packed;
use crate::arrays::are_floats;
use crate::dequantize::graph::{all_dequantized, dequantized};

/// From this many rows on, a packed matrix is unpacked for the dense product on an NVIDIA GPU.
///
/// Up to here MLX has a matrix-vector kernel of its own. From here on it would compile a kernel at
/// run time, ten seconds for each class of shapes, which multiplies float32 with 11 bits and uses
/// none of what Hopper multiplies with. Unpacking 4096 by 4096 numbers costs 12 µs on an H200.
const UNPACK_FROM_ROWS: usize = 8;

/// `x dequantize(w)ᵀ`. An unpacked matrix is freed after its product.
pub(super) fn product(x: &Array, w: &Packed<'_>) -> Result<Array> {
    if unpacks(x, w)? {
        let dense = dequantized(*w, x.dtype())?;
        return ops::matmul(x, &dense.t()?);
    }
    quant::quantized_matmul(x, w.weight, w.scales, w.biases, true, w.scheme)
}

/// Matrices as plain ones, made together, if a product with as many rows as `x` has, of its dtype, would
/// unpack each.
pub fn unpacked(x: &Array, ws: &[Packed<'_>]) -> Result<Option<Vec<Array>>> {
    for w in ws {
        if !unpacks(x, w)? {
            return Ok(None);
        }
    }
    all_dequantized(ws, x.dtype()).map(Some)
}

fn unpacks(x: &Array, w: &Packed<'_>) -> Result<bool> {
    let Some((_, outer)) = x.shape().split_last() else {
        return Ok(false);
    };
    let rows: usize = outer.iter().map(|&n| n as usize).product();
    // Where a row is a single group, MLX has a kernel for Hopper that takes a minute to compile; it
    // leaves only single rows to the other one.
    let from = match w.scales.shape().last() {
        Some(&groups) if groups > 1 => UNPACK_FROM_ROWS,
        _ => 2,
    };
    let fits = rows >= from && w.weight.ndim() == 2 && are_floats(&[x]);
    Ok(fits && device::current()? == DeviceKind::Cuda)
}
