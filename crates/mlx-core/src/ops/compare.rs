//! Comparisons and choices; their results are `bool` arrays, except that of [`where_`].

use super::arith::{binary, unary};
use crate::ffi::array_op;
use crate::{Array, Result};

binary! {
    /// `a > b`.
    greater = mlx_greater;
    /// `a >= b`.
    greater_equal = mlx_greater_equal;
    /// `a < b`.
    less = mlx_less;
    /// `a <= b`.
    less_equal = mlx_less_equal;
    /// `a == b`.
    equal = mlx_equal;
    /// `a != b`.
    not_equal = mlx_not_equal;
    /// Both are non-zero.
    logical_and = mlx_logical_and;
    /// One of them is non-zero.
    logical_or = mlx_logical_or;
}

unary! {
    /// It is zero.
    logical_not = mlx_logical_not;
    /// It is NaN.
    isnan = mlx_isnan;
    /// It is an infinity.
    isinf = mlx_isinf;
    /// It is neither NaN nor an infinity.
    isfinite = mlx_isfinite;
}

/// `a` where `condition` holds and `b` elsewhere, all three broadcast.
pub fn where_(condition: &Array, a: &Array, b: &Array) -> Result<Array> {
    array_op!("where" [condition, a, b]; mlx_where(condition.raw(), a.raw(), b.raw()))
}
