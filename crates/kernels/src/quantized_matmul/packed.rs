//! A quantized matrix as MLX's arrays.

use mlx_core::Array;
use mlx_core::quant::{Mode, Scheme};

use super::Format;
use crate::arrays::are_floats;

/// A quantized matrix `[N, K]`.
#[derive(Clone, Copy)]
pub struct Packed<'a> {
    /// Words `[N, K * bits / 32]`.
    pub weight: &'a Array,
    /// `[N, K / group]`.
    pub scales: &'a Array,
    /// `[N, K / group]`, for the affine mode.
    pub biases: Option<&'a Array>,
    /// How it is packed.
    pub scheme: &'a Scheme,
}

impl<'a> Packed<'a> {
    /// What the kernels call this format, if they have it.
    pub(crate) fn format(&self) -> Option<Format> {
        let floats = self
            .biases
            .is_none_or(|biases| are_floats(&[self.scales, biases]));
        if !floats || self.weight.ndim() != 2 {
            return None;
        }
        match (self.scheme.mode, self.biases) {
            (Mode::Affine, Some(_)) => {
                Format::affine(self.scheme.bits as usize, self.scheme.group_size as usize).ok()
            }
            (Mode::Mxfp4, None) => Some(Format::MXFP4),
            (Mode::Mxfp8, None) => Some(Format::MXFP8),
            (Mode::Nvfp4, None) => Some(Format::NVFP4),
            _ => None,
        }
    }

    pub(crate) fn arrays(self) -> impl Iterator<Item = &'a Array> {
        [self.weight, self.scales].into_iter().chain(self.biases)
    }
}
