//! How packed weights are stored: MLX's schemes of a few bits a weight.
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
//! nvfp4's optional second scale for the whole tensor is not there: MLX's quantized product has
//! no place for it, and no MLX checkpoint carries it.
//!
//! A crate of its own, since what describes models and what computes with arrays both speak of it.

#![deny(unsafe_code)]

use std::fmt;
use std::str::FromStr;

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

/// A name that is no mode's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownMode(String);

impl fmt::Display for UnknownMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Mode::ALL.map(|mode| mode.to_string()).join(", ");
        write!(
            f,
            "unknown quantization mode '{}'; expected one of {names}",
            self.0
        )
    }
}

impl std::error::Error for UnknownMode {}

impl FromStr for Mode {
    type Err = UnknownMode;

    /// Reads MLX's name for a mode, as in a checkpoint's `quantization` entry.
    fn from_str(name: &str) -> Result<Mode, UnknownMode> {
        let mut all = Mode::ALL.into_iter();
        all.find(|mode| mode.to_string() == name)
            .ok_or_else(|| UnknownMode(name.to_owned()))
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
    /// Whether MLX has this combination (see the table above). MLX's operations refuse others.
    pub fn is_supported(&self) -> bool {
        match self.mode {
            Mode::Affine => {
                matches!(self.group_size, 32 | 64 | 128) && matches!(self.bits, 2..=6 | 8)
            }
            _ => *self == self.mode.defaults(),
        }
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
