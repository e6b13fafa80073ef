//! Arithmetic, one element at a time, and the matrix product.
//!
//! MLX's integer division and remainder are left out: dividing by zero ends the process there.

use crate::ffi::array_op;
use crate::{Array, Result};

macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident = $call:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(a: &Array) -> Result<Array> {
            const OP: &str = stringify!($name);
            array_op!(OP [a]; $call(a.raw()))
        }
    )*};
}

macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident = $call:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(a: &Array, b: &Array) -> Result<Array> {
            const OP: &str = stringify!($name);
            array_op!(OP [a, b]; $call(a.raw(), b.raw()))
        }
    )*};
}
pub(super) use {binary, unary};

unary! {
    /// `-a`.
    neg = mlx_negative;
    /// `|a|`.
    abs = mlx_abs;
    /// -1, 0 or 1.
    sign = mlx_sign;
    /// e to the power of `a`.
    exp = mlx_exp;
    /// Natural logarithm.
    log = mlx_log;
    /// `log(1 + a)`, exact near zero.
    log1p = mlx_log1p;
    /// Square root.
    sqrt = mlx_sqrt;
    /// `1 / sqrt(a)`.
    rsqrt = mlx_rsqrt;
    /// `a * a`.
    square = mlx_square;
    /// `1 / a`.
    reciprocal = mlx_reciprocal;
    /// Hyperbolic tangent.
    tanh = mlx_tanh;
    /// `1 / (1 + exp(-a))`.
    sigmoid = mlx_sigmoid;
    /// The error function.
    erf = mlx_erf;
    /// Sine of radians.
    sin = mlx_sin;
    /// Cosine of radians.
    cos = mlx_cos;
    /// Rounded down.
    floor = mlx_floor;
    /// Rounded up.
    ceil = mlx_ceil;
}

binary! {
    /// `a + b`.
    add = mlx_add;
    /// `a - b`.
    sub = mlx_subtract;
    /// `a * b`.
    mul = mlx_multiply;
    /// `a / b`; integers divide as floats.
    div = mlx_divide;
    /// The larger of the two.
    maximum = mlx_maximum;
    /// The smaller of the two.
    minimum = mlx_minimum;
    /// `a` to the power of `b`.
    power = mlx_power;
    /// `log(exp(a) + exp(b))`.
    logaddexp = mlx_logaddexp;
    /// The matrix product over the last two axes, `[.., M, K] x [.., K, N] -> [.., M, N]`; the axes
    /// before them broadcast.
    matmul = mlx_matmul;
}

/// `alpha * (a x b) + beta * c` in one operation.
pub fn addmm(c: &Array, a: &Array, b: &Array, alpha: f32, beta: f32) -> Result<Array> {
    array_op!("addmm" [c, a, b] "alpha {alpha}, beta {beta}";
        mlx_addmm(c.raw(), a.raw(), b.raw(), alpha, beta))
}

/// Rounded to `decimals` digits after the point.
pub fn round(a: &Array, decimals: i32) -> Result<Array> {
    array_op!("round" [a] "decimals {decimals}"; mlx_round(a.raw(), decimals))
}
