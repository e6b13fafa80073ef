//! The cache of a full-attention layer.

use mlx_core::Array;
use mlx_core::ops;

use super::{GROWTH, room, tokens, write};
use crate::Result;

/// Keys and values of every token, in buffers `[1, kv_heads, capacity, head_dim]` whose capacity
/// grows by [`GROWTH`], so that most tokens are written in place.
#[derive(Debug, Default)]
pub struct KvCache {
    buffers: Option<(Array, Array)>,
    offset: i32,
}

impl KvCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tokens held.
    pub fn offset(&self) -> i32 {
        self.offset
    }

    /// Forgets everything and frees the buffers.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Forgets the last `count` tokens, or all there are; returns how many. What is forgotten is
    /// overwritten by the next update.
    pub fn trim(&mut self, count: i32) -> i32 {
        let count = count.clamp(0, self.offset);
        self.offset -= count;
        count
    }

    /// See [`LayerCache::update`](super::LayerCache::update).
    pub fn update(&mut self, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        let (start, stop) = (self.offset, self.offset + keys.dim(2));
        // Taken out, so that this cache holds no second reference and the write can be in place.
        let (old_keys, old_values) = match self.buffers.take() {
            Some((k, v)) => (grown(k, start, stop)?, grown(v, start, stop)?),
            None => (room(keys, round_up(stop))?, room(values, round_up(stop))?),
        };
        let new_keys = write(&old_keys, keys, start)?;
        let new_values = write(&old_values, values, start)?;
        let visible = (tokens(&new_keys, 0, stop)?, tokens(&new_values, 0, stop)?);
        self.buffers = Some((new_keys, new_values));
        self.offset = stop;
        Ok(visible)
    }

    pub(super) fn arrays(&self) -> Vec<&Array> {
        self.buffers.iter().flat_map(|(k, v)| [k, v]).collect()
    }
}

/// `buffer`, or a larger copy of its first `held` tokens if `needed` do not fit.
fn grown(buffer: Array, held: i32, needed: i32) -> Result<Array> {
    let capacity = buffer.dim(2);
    if needed <= capacity {
        return Ok(buffer);
    }
    let extra = room(&buffer, round_up(needed) - held)?;
    Ok(ops::concatenate(&[&tokens(&buffer, 0, held)?, &extra], 2)?)
}

fn round_up(count: i32) -> i32 {
    (count + GROWTH - 1) / GROWTH * GROWTH
}
