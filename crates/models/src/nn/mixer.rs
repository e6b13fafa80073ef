//! What mixes positions in a block.

use kernels::graph;
use mlx_core::Array;

use super::attention::Place;
use super::linear::Matrix;
use super::{Attention, DeltaNet, Linear, RotaryEmbedding};
use crate::cache::LayerCache;
use crate::weights::Source;
use crate::{Error, Result};

/// The part of a block that mixes positions.
pub(crate) enum Mixer {
    Attention(Box<Attention>),
    Delta(Box<DeltaNet>),
}

impl Mixer {
    pub(crate) fn load(source: &Source<'_>, mixer: &arch::Mixer<String>) -> Result<Self> {
        Ok(match mixer {
            arch::Mixer::Attention(a) => Self::Attention(Box::new(Attention::load(source, a)?)),
            arch::Mixer::Delta(d) => Self::Delta(Box::new(DeltaNet::load(source, d)?)),
        })
    }

    /// The attention, if it is that.
    pub(super) fn attention(&self) -> Option<&Attention> {
        match self {
            Self::Attention(attention) => Some(attention),
            Self::Delta(_) => None,
        }
    }

    /// `x [L, hidden]` to the same shape; adds L tokens to the cache, unless another layer has. `plain` are the
    /// matrices, if they have been unpacked.
    pub(super) fn forward(
        &self,
        x: &Array,
        place: &mut Place<'_>,
        plain: [Option<Matrix>; 2],
    ) -> Result<Array> {
        match self {
            Self::Attention(attention) => attention.forward(x, place, plain),
            Self::Delta(delta) => match place.cache {
                LayerCache::Recurrent(cache) => delta.forward(x, cache, plain),
                _ => Err(Error::Input(
                    "the caches are another model's; make new ones".to_owned(),
                )),
            },
        }
    }

    /// For operations that have it in them.
    pub(super) fn as_one<'a>(
        &'a self,
        ropes: &'a [RotaryEmbedding],
    ) -> graph::Mixer<graph::Linear<'a>, graph::Norm<'a>, graph::Rotation<'a>, &'a Array> {
        match self {
            Self::Attention(attention) => graph::Mixer::Attention(attention.as_one(ropes)),
            Self::Delta(delta) => graph::Mixer::Delta(delta.as_one()),
        }
    }

    /// Whether a layer adds to its state.
    pub(super) fn writes(&self) -> bool {
        match self {
            Self::Attention(attention) => attention.inputs.writes(),
            Self::Delta(_) => true,
        }
    }

    /// What the products multiply with: one matrix for all inputs, and the output's.
    pub(super) fn matrices(&self) -> [Option<&Matrix>; 2] {
        match self {
            Self::Attention(attention) => attention.matrices(),
            Self::Delta(delta) => delta.matrices(),
        }
    }

    /// The last of its linear maps.
    pub(super) fn output(&self) -> &Linear {
        match self {
            Self::Attention(attention) => &attention.o_proj,
            Self::Delta(delta) => &delta.o_proj,
        }
    }

    /// Its linear maps.
    pub(super) fn linears(&self) -> Vec<&Linear> {
        let mut linears = match self {
            Self::Attention(attention) => attention.inputs.maps(),
            Self::Delta(delta) => delta.inputs().iter().collect(),
        };
        linears.push(self.output());
        linears
    }

    /// What is made of a row beside the products, in numbers of the activations.
    pub(super) fn numbers_a_row(&self) -> usize {
        match self {
            Self::Attention(_) => 0,
            Self::Delta(delta) => delta.numbers_a_row(),
        }
    }

    pub(super) fn arrays(&self) -> Vec<&Array> {
        match self {
            Self::Attention(attention) => attention.arrays(),
            Self::Delta(delta) => delta.arrays(),
        }
    }
}
