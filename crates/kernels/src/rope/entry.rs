//! What goes into a layer's attention, and what comes of it.

use mlx_core::{Array, Result};

use crate::columns::Columns;
use crate::kv::Slot;
use crate::rms_norm::norm::Norm;

/// A rotation of half-split pairs: plane `i` turns by `scale · position / periods[i]`.
#[derive(Clone, Copy)]
pub struct Rotation<'a> {
    /// Float32 `[head_dim / 2]`, or fewer where only the first features of a head are rotated.
    pub periods: &'a Array,
    /// What positions are multiplied by.
    pub scale: f32,
    /// The position of the first token.
    pub offset: i32,
}

/// What a layer's attention is given, before queries and keys are normalized and rotated.
pub struct Entry<'a> {
    /// `[L, heads · head_dim]`.
    pub queries: Columns,
    /// `[L, kv_heads · head_dim]`.
    pub keys: Columns,
    /// As the keys.
    pub values: Columns,
    /// Of each query.
    pub query_norm: Option<Norm<'a>>,
    /// Of each key.
    pub key_norm: Option<Norm<'a>>,
}

/// What attention reads.
pub struct Entered {
    /// `[1, heads, L, head_dim]`.
    pub queries: Array,
    /// `[1, kv_heads, S, head_dim]`: those of all visible tokens.
    pub keys: Array,
    /// As the keys.
    pub values: Array,
}

impl Entered {
    /// Of what [`cuda::into_cache`] gave.
    pub(crate) fn of(queries: &Array, slot: &mut Slot) -> Result<Self> {
        let [keys, values] = slot.buffers.seen_with_queries(slot.visible)?;
        Ok(Self {
            queries: queries.transpose(&[0, 2, 1, 3])?,
            keys,
            values,
        })
    }
}
