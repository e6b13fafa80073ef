//! Weights of a few bits: packing, unpacking, and products that read the packed form.
//!
//! A matrix `[.., N, K]` is packed along `K` into uint32 words `[.., N, K * bits / 32]`, with one
//! scale (and, for [`Mode::Affine`], one bias) for each group of `group_size` elements:
//!
//! | mode | element | group | bits | scale |
//! | --- | --- | --- | --- | --- |
//! | affine | `q * scale + bias`, `q` an unsigned integer | 32, 64, 128 | 2, 3, 4, 5, 6, 8 | the matrix's dtype |
//! | mxfp4 | float e2m1 | 32 | 4 | a power of two, e8m0 in a uint8 |
//! | mxfp8 | float e4m3 | 32 | 8 | a power of two, e8m0 in a uint8 |
//! | nvfp4 | float e2m1 | 16 | 4 | float e4m3 in a uint8 |
//!
//! nvfp4's optional second scale for the whole tensor is not exposed: MLX's quantized product has
//! no place for it, and no MLX checkpoint carries it.

use std::ffi::{CStr, c_char};
use std::fmt;
use std::str::FromStr;

use mlx_sys::mlx_optional_int;

use crate::ffi::{ArrayVec, AsOperand, EMPTY, api, array_op};
use crate::ffi::{op_failure, optional, optional_dtype, optional_int, refusal};
use crate::stream::Stream;
use crate::{Array, Dtype, Error, Result};

/// How the elements of a group are coded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mode {
    /// Integers with a scale and a bias for each group.
    Affine,
    /// The OCP microscaling format of 4 bits.
    Mxfp4,
    /// The OCP microscaling format of 8 bits.
    Mxfp8,
    /// NVIDIA's format of 4 bits.
    Nvfp4,
}

impl Mode {
    /// Every mode there is.
    pub const ALL: [Mode; 4] = [Mode::Affine, Mode::Mxfp4, Mode::Mxfp8, Mode::Nvfp4];

    fn c_name(self) -> &'static CStr {
        match self {
            Mode::Affine => c"affine",
            Mode::Mxfp4 => c"mxfp4",
            Mode::Mxfp8 => c"mxfp8",
            Mode::Nvfp4 => c"nvfp4",
        }
    }

    /// The group size and bits that MLX takes where a checkpoint names only the mode.
    pub fn defaults(self) -> Scheme {
        let (group_size, bits) = match self {
            Mode::Affine => (64, 4),
            Mode::Mxfp4 => (32, 4),
            Mode::Mxfp8 => (32, 8),
            Mode::Nvfp4 => (16, 4),
        };
        Scheme {
            mode: self,
            group_size,
            bits,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Mode::Affine => "affine",
            Mode::Mxfp4 => "mxfp4",
            Mode::Mxfp8 => "mxfp8",
            Mode::Nvfp4 => "nvfp4",
        })
    }
}

impl FromStr for Mode {
    type Err = Error;

    /// Reads MLX's name for a mode, as in a checkpoint's `quantization` entry.
    fn from_str(name: &str) -> Result<Mode> {
        Mode::ALL
            .into_iter()
            .find(|mode| mode.to_string() == name)
            .ok_or_else(|| Error::Name {
                what: "quantization mode",
                given: name.to_owned(),
                expected: "affine, mxfp4, mxfp8, nvfp4",
            })
    }
}

/// A mode with its parameters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Scheme {
    /// How elements are coded.
    pub mode: Mode,
    /// Elements that share a scale.
    pub group_size: i32,
    /// Bits of an element.
    pub bits: i32,
}

impl Scheme {
    /// Whether MLX has this combination (see the table above). The operations here refuse others.
    pub fn is_supported(&self) -> bool {
        match self.mode {
            Mode::Affine => {
                matches!(self.group_size, 32 | 64 | 128) && matches!(self.bits, 2..=6 | 8)
            }
            _ => *self == self.mode.defaults(),
        }
    }

    /// The group size, bits and mode as mlx-c takes them. Refuses for `op` a scheme that MLX does not
    /// have: by some it would divide, others it would read wrongly.
    fn arguments(
        &self,
        op: &'static str,
        operands: &[&dyn AsOperand],
    ) -> Result<(mlx_optional_int, mlx_optional_int, *const c_char)> {
        if self.is_supported() {
            let name = self.mode.c_name().as_ptr();
            return Ok((optional_int(self.group_size), optional_int(self.bits), name));
        }
        let supported = match self.mode {
            Mode::Affine => {
                "MLX has groups of 32, 64 or 128 and 2, 3, 4, 5, 6 or 8 bits".to_owned()
            }
            mode => format!("MLX has {} only", mode.defaults()),
        };
        Err(refusal(op, operands, self.to_string(), supported))
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} bits, group {}",
            self.mode, self.bits, self.group_size
        )
    }
}

/// A packed matrix.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// The elements, in uint32 words `[.., N, K * bits / 32]`.
    pub weight: Array,
    /// One scale a group, `[.., N, K / group_size]`.
    pub scales: Array,
    /// One bias a group, of [`Mode::Affine`] only.
    pub biases: Option<Array>,
}

/// Packs a floating matrix `[.., N, K]`; `K` is a multiple of the group size.
pub fn quantize(w: &Array, scheme: &Scheme) -> Result<Quantized> {
    const OP: &str = "quantize";
    let (group_size, bits, mode) = scheme.arguments(OP, &[&w])?;
    let stream = Stream::current(OP)?;
    let mut out = ArrayVec::empty();
    // SAFETY: the handles and the mode's name are alive; `out` is empty and becomes ours.
    let status = unsafe {
        api().mlx_quantize(
            out.raw_mut(),
            w.raw(),
            group_size,
            bits,
            mode,
            EMPTY,
            stream.raw(),
        )
    };
    let failed = || op_failure(OP, &[&w], scheme.to_string());
    if status != 0 {
        return Err(failed());
    }
    let mut parts = out.to_vec(OP)?.into_iter();
    let (Some(weight), Some(scales)) = (parts.next(), parts.next()) else {
        return Err(failed());
    };
    Ok(Quantized {
        weight,
        scales,
        biases: parts.next(),
    })
}

/// Unpacks a matrix to `dtype`; without one, to the dtype of affine scales and otherwise to
/// bfloat16.
pub fn dequantize(
    w: &Array,
    scales: &Array,
    biases: Option<&Array>,
    scheme: &Scheme,
    dtype: Option<Dtype>,
) -> Result<Array> {
    let (group_size, bits, mode) = scheme.arguments("dequantize", &[&w, &scales, &biases])?;
    array_op!("dequantize" [w, scales, biases] "{scheme}"; mlx_dequantize(
        w.raw(),
        scales.raw(),
        optional(biases),
        group_size,
        bits,
        mode,
        EMPTY,
        optional_dtype(dtype),
    ))
}

/// `x` times a packed matrix: `[.., K] x [N, K]^T -> [.., N]` with `transpose`, and
/// `[.., K] x [K, N] -> [.., N]` (packed along `N`) without.
pub fn quantized_matmul(
    x: &Array,
    w: &Array,
    scales: &Array,
    biases: Option<&Array>,
    transpose: bool,
    scheme: &Scheme,
) -> Result<Array> {
    let (group_size, bits, mode) =
        scheme.arguments("quantized_matmul", &[&x, &w, &scales, &biases])?;
    array_op!("quantized_matmul" [x, w, scales, biases] "{scheme}, transpose {transpose}";
    mlx_quantized_matmul(
        x.raw(),
        w.raw(),
        scales.raw(),
        optional(biases),
        transpose,
        group_size,
        bits,
        mode,
    ))
}
