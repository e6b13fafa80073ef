//! What mixes positions in a block.

use std::sync::Arc;

use crate::attention::Scores;
use crate::delta::net::Sizes;

/// The part of a block that mixes positions: `W` is a linear map, `N` a norm, `R` a rotation, `F` a list of floats.
#[derive(Clone, Debug)]
pub enum Mixer<W, N, R, F> {
    /// Every position sees those before it.
    Attention(Attention<W, N, R>),
    /// Every position sees a state that those before it have written.
    Delta(DeltaNet<W, N, F>),
}

/// Grouped-query attention, before its output projection.
#[derive(Clone, Debug)]
pub struct Attention<W, N, R> {
    /// `[Hq · D, hidden]`; with gates twice as many rows, behind each head's query its gate.
    pub queries: W,
    /// `[Hkv · D, hidden]`; none where the block reads what one before it has put into the pages.
    pub keys: Option<W>,
    /// `[Hkv · D, hidden]`; none where values are keys before norm and rotation.
    pub values: Option<W>,
    /// Of each query, D weights.
    pub query_norm: Option<N>,
    /// Of each key, D weights.
    pub key_norm: Option<N>,
    /// Epsilon of a norm of each value, which has no weights.
    pub value_norm: Option<f32>,
    /// Of queries and keys; its offset is added to the rows' positions.
    pub rotation: R,
    /// What becomes of scores.
    pub scores: Scores,
    /// A score of each query head that joins those of its keys, and whose weight is given to no value (gpt-oss).
    pub sinks: Option<Arc<[f32]>>,
    /// Whether what a head gives is multiplied by the sigmoid of its gate.
    pub gated: bool,
}

/// A gated delta net, before its output projection.
#[derive(Clone, Copy, Debug)]
pub struct DeltaNet<W, N, F> {
    /// The linear maps in front.
    pub inputs: DeltaInputs<W>,
    /// `[width, channels]`: the position itself last.
    pub filter: F,
    /// `-exp(decay)` of each head.
    pub decay: F,
    /// Added to what forgetting is gated by, of each head.
    pub step: F,
    /// Of what a head reads.
    pub norm: N,
    /// Its sizes.
    pub sizes: Sizes,
}

/// The linear maps in front of a gated delta net.
#[derive(Clone, Copy, Debug)]
pub enum DeltaInputs<W> {
    /// Queries, keys and values; `z`; `b`; `a`.
    Apart([W; 4]),
    /// All of the former two and of the latter two, each key head's together.
    ByKeyHead([W; 2]),
}

impl<W, N, R, F> Mixer<W, N, R, F> {
    /// The attention, if it is that.
    pub fn attention(&self) -> Option<&Attention<W, N, R>> {
        match self {
            Self::Attention(attention) => Some(attention),
            Self::Delta(_) => None,
        }
    }

    /// Whether it adds to its state.
    pub(crate) fn writes(&self) -> bool {
        self.attention()
            .is_none_or(|attention| attention.keys.is_some())
    }

    /// The same mixer with its parts as something else.
    pub(crate) fn try_map<'a, W2, N2, R2, F2, X>(
        &'a self,
        weight: impl Fn(&'a W) -> Result<W2, X>,
        norm: impl Fn(&'a N) -> Result<N2, X>,
        rotation: impl Fn(&'a R) -> Result<R2, X>,
        floats: impl Fn(&'a F) -> Result<F2, X>,
    ) -> Result<Mixer<W2, N2, R2, F2>, X> {
        Ok(match self {
            Self::Attention(a) => Mixer::Attention(Attention {
                queries: weight(&a.queries)?,
                keys: a.keys.as_ref().map(&weight).transpose()?,
                values: a.values.as_ref().map(&weight).transpose()?,
                query_norm: a.query_norm.as_ref().map(&norm).transpose()?,
                key_norm: a.key_norm.as_ref().map(&norm).transpose()?,
                value_norm: a.value_norm,
                rotation: rotation(&a.rotation)?,
                scores: a.scores,
                sinks: a.sinks.clone(),
                gated: a.gated,
            }),
            Self::Delta(net) => Mixer::Delta(DeltaNet {
                inputs: match &net.inputs {
                    DeltaInputs::Apart([qkv, z, b, a]) => {
                        DeltaInputs::Apart([weight(qkv)?, weight(z)?, weight(b)?, weight(a)?])
                    }
                    DeltaInputs::ByKeyHead([qkvz, ba]) => {
                        DeltaInputs::ByKeyHead([weight(qkvz)?, weight(ba)?])
                    }
                },
                filter: floats(&net.filter)?,
                decay: floats(&net.decay)?,
                step: floats(&net.step)?,
                norm: norm(&net.norm)?,
                sizes: net.sizes,
            }),
        })
    }
}
