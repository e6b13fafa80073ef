//! Quantized products in MLX's own operations, in the form that is best on the device.

use mlx_core::{Array, DeviceKind, Result, device, ops, quant};

use super::packed::Packed;
use crate::dequantize::graph::dequantized;
use crate::graph::are_floats;

/// From this many rows on, a packed matrix is unpacked for the dense product on an NVIDIA GPU.
///
/// Up to here MLX has a matrix-vector kernel of its own. From here on it would compile a kernel at
/// run time, ten seconds for each class of shapes, which multiplies float32 with 11 bits and uses
/// none of what Hopper multiplies with. Unpacking 4096 by 4096 numbers costs 12 µs on an H200.
const UNPACK_FROM_ROWS: usize = 8;

/// `x dequantize(w)ᵀ`. An unpacked matrix is freed after its product.
pub(super) fn product(x: &Array, w: &Packed<'_>) -> Result<Array> {
    if device::current()? == DeviceKind::Cuda && unpacks(x, w) {
        let dense = dequantized(*w, x.dtype())?;
        return ops::matmul(x, &dense.t()?);
    }
    quant::quantized_matmul(x, w.weight, w.scales, w.biases, true, w.scheme)
}

fn unpacks(x: &Array, w: &Packed<'_>) -> bool {
    let Some((&width, outer)) = x.shape().split_last() else {
        return false;
    };
    let rows: usize = outer.iter().map(|&n| n as usize).product();
    // Where a row is a single group, MLX has a kernel for Hopper that takes a minute to compile; it
    // leaves only single rows to the other one.
    let from = match width <= w.scheme.group_size {
        true => 2,
        false => UNPACK_FROM_ROWS,
    };
    rows >= from && w.weight.ndim() == 2 && are_floats(&[x])
}
