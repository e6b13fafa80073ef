//! MLX's packed formats.
//!
//! Row `n` of `w` is a little-endian stream of bits: code `k` is in bits `k * bits` to
//! `(k + 1) * bits` of it. (MLX stores words of 32 bits where `bits` divides 32 and bytes
//! elsewhere; on a little-endian machine both are this stream.) A group of `group_size`
//! consecutive codes shares a scale and, in the affine mode, a bias.

use crate::error::ensure;
use crate::{Dtype, Result};

/// What a code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// An unsigned integer `q`; the weight is `q * scale + bias`.
    Affine,
    /// A float of 1 sign, 2 exponent and 1 mantissa bits; scales are powers of two (e8m0).
    Mxfp4,
    /// A float of 1 sign, 4 exponent and 3 mantissa bits; scales are powers of two (e8m0).
    Mxfp8,
    /// As [`Mode::Mxfp4`], with scales of 1 sign, 4 exponent and 3 mantissa bits (e4m3).
    Nvfp4,
}

/// A mode with its parameters. Only those that MLX has can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    mode: Mode,
    bits: u8,
    group_size: u8,
}

impl Format {
    /// The affine mode: `bits` 2, 3, 4, 5, 6 or 8, `group_size` 32, 64 or 128.
    ///
    /// # Errors
    /// For any other numbers.
    pub fn affine(bits: usize, group_size: usize) -> Result<Self> {
        ensure!(
            "quantized_matmul",
            matches!(bits, 2..=6 | 8) && matches!(group_size, 32 | 64 | 128),
            "no affine format of {bits} bits and groups of {group_size}"
        );
        // Both fit in a byte: checked above.
        Ok(Self {
            mode: Mode::Affine,
            bits: bits as u8,
            group_size: group_size as u8,
        })
    }

    /// `mxfp4`: 4 bits, groups of 32.
    pub const MXFP4: Self = Self {
        mode: Mode::Mxfp4,
        bits: 4,
        group_size: 32,
    };
    /// `mxfp8`: 8 bits, groups of 32.
    pub const MXFP8: Self = Self {
        mode: Mode::Mxfp8,
        bits: 8,
        group_size: 32,
    };
    /// `nvfp4`: 4 bits, groups of 16.
    pub const NVFP4: Self = Self {
        mode: Mode::Nvfp4,
        bits: 4,
        group_size: 16,
    };

    /// What a code means.
    pub const fn mode(self) -> Mode {
        self.mode
    }

    /// Bits of a code.
    pub const fn bits(self) -> usize {
        self.bits as usize
    }

    /// Codes that share a scale.
    pub const fn group_size(self) -> usize {
        self.group_size as usize
    }

    /// Arrays that a matrix is stored in: codes, scales and, for the affine mode, biases.
    pub(crate) const fn arrays(self) -> usize {
        match self.mode {
            Mode::Affine => 3,
            Mode::Mxfp4 | Mode::Mxfp8 | Mode::Nvfp4 => 2,
        }
    }
}

/// Most vectors of codes that as many groups fill as a vector has lanes of 32 bits: bytes in groups of 128.
#[cfg(target_arch = "x86_64")]
pub(super) const MAX_VECTORS: usize = 32;

/// For each vector of codes of a block of `LANES` groups, the group within the block of each lane, which
/// has so many codes.
#[cfg(target_arch = "x86_64")]
pub(super) fn lane_groups<const LANES: usize>(
    format: Format,
    codes: usize,
) -> [[i32; LANES]; MAX_VECTORS] {
    let shift = format.group_size().trailing_zeros();
    let mut groups = [[0; LANES]; MAX_VECTORS];
    for (vector, groups) in groups.iter_mut().enumerate() {
        for (lane, group) in groups.iter_mut().enumerate() {
            *group = (((vector * LANES + lane) * codes) >> shift) as i32;
        }
    }
    groups
}

/// The scales of a quantized matrix, `[rows, cols / group_size]`, without gaps.
#[derive(Clone, Copy, Debug)]
pub enum Scales<'a> {
    /// Scales and biases of the affine mode, of one element type.
    Affine {
        /// Factors.
        scales: &'a [u8],
        /// What is added.
        biases: &'a [u8],
        /// Their type.
        dtype: Dtype,
    },
    /// One byte a group: the other modes.
    Bytes(&'a [u8]),
}

/// A quantized matrix `[rows, cols]`, in bytes that need no alignment.
#[derive(Clone, Copy, Debug)]
pub struct Quantized<'a> {
    pub(super) format: Format,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) packed: &'a [u8],
    pub(super) scales: Scales<'a>,
}

impl<'a> Quantized<'a> {
    /// The matrix whose codes are `packed`, row after row without gaps.
    ///
    /// # Errors
    /// When `cols` is not a multiple of the group, or a slice has not the length that follows.
    pub fn new(
        format: Format,
        rows: usize,
        cols: usize,
        packed: &'a [u8],
        scales: Scales<'a>,
    ) -> Result<Self> {
        let op = "quantized_matmul";
        let group = format.group_size();
        ensure!(
            op,
            cols.is_multiple_of(group),
            "{cols} columns are not groups of {group}"
        );
        let count = |per_row: usize| per_row.saturating_mul(rows);
        let check = |what: &str, bytes: &[u8], wanted: usize| {
            ensure!(
                op,
                bytes.len() == wanted,
                "[{rows}, {cols}] in {format:?} needs {wanted} bytes of {what}, not {}",
                bytes.len()
            );
            Ok(())
        };
        check("codes", packed, count(cols / 8 * format.bits()))?;
        let groups = cols / group;
        match (format.mode(), scales) {
            (
                Mode::Affine,
                Scales::Affine {
                    scales,
                    biases,
                    dtype,
                },
            ) => {
                check("scales", scales, count(groups * dtype.size()))?;
                check("biases", biases, count(groups * dtype.size()))?;
            }
            (Mode::Mxfp4 | Mode::Mxfp8 | Mode::Nvfp4, Scales::Bytes(scales)) => {
                check("scales", scales, count(groups))?;
            }
            (mode, _) => ensure!(op, false, "the scales given are not those of {mode:?}"),
        }
        Ok(Self {
            format,
            rows,
            cols,
            packed,
            scales,
        })
    }

    /// How codes are packed.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Rows: outputs of the product.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: inputs of the product.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes that a product reads: codes, scales and biases.
    pub const fn bytes(&self) -> usize {
        self.packed.len()
            + match self.scales {
                Scales::Affine { scales, biases, .. } => scales.len() + biases.len(),
                Scales::Bytes(scales) => scales.len(),
            }
    }

    /// What products of several matrices with one `x` must share: how weights are stored.
    pub(super) const fn kind(&self) -> (Format, usize, Option<Dtype>) {
        let dtype = match self.scales {
            Scales::Affine { dtype, .. } => Some(dtype),
            Scales::Bytes(_) => None,
        };
        (self.format, self.cols, dtype)
    }

    /// Where the scales lie, and the biases; of a mode without these, the scales again.
    #[cfg(target_arch = "x86_64")]
    pub(super) const fn scale_pointers(&self) -> (*const u8, *const u8) {
        match self.scales {
            Scales::Affine { scales, biases, .. } => (scales.as_ptr(), biases.as_ptr()),
            Scales::Bytes(scales) => (scales.as_ptr(), scales.as_ptr()),
        }
    }

    /// Bytes of a row of codes.
    pub(super) const fn row_bytes(&self) -> usize {
        self.cols / 8 * self.format.bits()
    }

    /// Groups of a row.
    pub(super) const fn groups(&self) -> usize {
        self.cols / self.format.group_size()
    }
}
