//! Operations along axes. A reduced axis disappears, or stays with length 1 if `keepdims`.
//!
//! `axes` lists what is reduced; an empty list reduces nothing.

use crate::ffi::{array_op, optional_dtype};
use crate::{Array, Result};

macro_rules! reductions {
    ($($(#[$doc:meta])* $name:ident = $call:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(a: &Array, axes: &[i32], keepdims: bool) -> Result<Array> {
            const OP: &str = stringify!($name);
            array_op!(OP [a] "axes {axes:?}";
                $call(a.raw(), axes.as_ptr(), axes.len(), keepdims))
        }
    )*};
}

reductions! {
    /// The sum.
    sum = mlx_sum_axes;
    /// The arithmetic mean.
    mean = mlx_mean_axes;
    /// The largest.
    max = mlx_max_axes;
    /// The smallest.
    min = mlx_min_axes;
    /// Whether all are non-zero.
    all = mlx_all_axes;
    /// Whether any is non-zero.
    any = mlx_any_axes;
    /// `log(sum(exp(a)))`, safe against overflow.
    logsumexp = mlx_logsumexp_axes;
}

/// `exp(a) / sum(exp(a))` along `axis`. `precise` computes 16-bit types in float32.
pub fn softmax(a: &Array, axis: i32, precise: bool) -> Result<Array> {
    array_op!("softmax" [a] "axis {axis}"; mlx_softmax_axis(a.raw(), axis, precise))
}

/// The running sum along `axis`: from the other end if `reverse`, without the element itself unless
/// `inclusive`.
pub fn cumsum(a: &Array, axis: i32, reverse: bool, inclusive: bool) -> Result<Array> {
    if a.size() == 0 {
        // MLX divides by the length of the axis.
        return Ok(a.clone());
    }
    array_op!("cumsum" [a] "axis {axis}";
        mlx_cumsum_axis(a.raw(), axis, reverse, inclusive, optional_dtype(None)))
}
