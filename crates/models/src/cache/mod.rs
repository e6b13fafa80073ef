//! Key-value caches: what each layer remembers of the tokens it has seen.
//!
//! A full-attention layer has a [`KvCache`], which grows by [`GROWTH`] tokens at a time; a
//! sliding-window layer has a [`RotatingKvCache`], which never holds more than its window. Keys
//! are stored rotated, at their absolute positions, so neither cares in which order the kernel sees
//! them.

mod kv;
mod mask;
mod rotating;
#[cfg(test)]
mod tests;

use mlx_core::Array;

use crate::Result;
use crate::config::{Config, LayerType};
pub use kv::KvCache;
pub(crate) use mask::AttentionMask;
pub use rotating::RotatingKvCache;

/// Tokens by which a buffer grows. cuDNN's decode attention wants capacities that are multiples of
/// it, and mlx-lm uses the same.
pub const GROWTH: i32 = 256;

/// One layer's cache.
#[derive(Debug)]
pub enum LayerCache {
    /// Of a full-attention layer.
    Full(KvCache),
    /// Of a sliding-window layer.
    Rotating(RotatingKvCache),
}

/// The masks of one forward pass.
pub(crate) struct Masks {
    full: AttentionMask,
    sliding: AttentionMask,
}

impl Masks {
    /// The mask of a layer of this kind.
    pub(crate) fn of(&self, kind: LayerType) -> &AttentionMask {
        match kind {
            LayerType::Full => &self.full,
            LayerType::Sliding => &self.sliding,
        }
    }
}

/// The caches of all layers, which always hold the same number of tokens.
#[derive(Debug)]
pub struct Cache {
    layers: Vec<LayerCache>,
}

impl Cache {
    /// Empty caches for a model of this configuration; buffers are allocated at first use.
    pub fn new(config: &Config) -> Self {
        let layer = |kind: &LayerType| match (kind, config.sliding_window) {
            (LayerType::Sliding, Some(window)) => {
                LayerCache::Rotating(RotatingKvCache::new(window as i32, 0))
            }
            _ => LayerCache::Full(KvCache::new()),
        };
        Self {
            layers: config.layer_types.iter().map(layer).collect(),
        }
    }

    /// Tokens seen so far: the position of the next one.
    pub fn offset(&self) -> i32 {
        self.layers.first().map_or(0, |layer| match layer {
            LayerCache::Full(cache) => cache.offset(),
            LayerCache::Rotating(cache) => cache.offset(),
        })
    }

    /// Forgets everything and frees the buffers.
    pub fn reset(&mut self) {
        for layer in &mut self.layers {
            match layer {
                LayerCache::Full(cache) => cache.reset(),
                LayerCache::Rotating(cache) => cache.reset(),
            }
        }
    }

    /// Forgets the last `count` tokens, or as many as every layer can, and returns how many that
    /// were. A sliding window that has begun to overwrite its oldest tokens can forget none.
    pub fn trim(&mut self, count: i32) -> i32 {
        let possible = |layer: &LayerCache| match layer {
            LayerCache::Full(cache) => cache.offset(),
            LayerCache::Rotating(cache) => cache.trimmable(),
        };
        let count = self
            .layers
            .iter()
            .map(possible)
            .min()
            .unwrap_or(0)
            .min(count)
            .max(0);
        for layer in &mut self.layers {
            match layer {
                LayerCache::Full(cache) => cache.trim(count),
                LayerCache::Rotating(cache) => cache.trim(count),
            };
        }
        count
    }

    /// Bytes of all buffers.
    pub fn nbytes(&self) -> usize {
        self.arrays().iter().map(|array| array.nbytes()).sum()
    }

    /// The buffers, to be evaluated after a prefill chunk whose logits nobody asked for.
    pub fn arrays(&self) -> Vec<&Array> {
        self.layers
            .iter()
            .flat_map(|layer| match layer {
                LayerCache::Full(cache) => cache.arrays(),
                LayerCache::Rotating(cache) => cache.arrays(),
            })
            .collect()
    }

    /// The masks for `count` new tokens, one for each kind of layer; to be asked for before the
    /// layers are updated.
    pub(crate) fn masks(&self, count: i32) -> Result<Masks> {
        let rotating = self.layers.iter().find_map(|layer| match layer {
            LayerCache::Rotating(cache) => Some(cache),
            LayerCache::Full(_) => None,
        });
        let sliding = match rotating {
            Some(cache) => cache.mask(count)?,
            None => AttentionMask::None,
        };
        Ok(Masks {
            full: AttentionMask::full(count),
            sliding,
        })
    }

    pub(crate) fn layer_mut(&mut self, index: usize) -> &mut LayerCache {
        &mut self.layers[index]
    }
}

impl LayerCache {
    /// Tokens seen so far.
    pub fn offset(&self) -> i32 {
        match self {
            Self::Full(cache) => cache.offset(),
            Self::Rotating(cache) => cache.offset(),
        }
    }

    /// Adds keys and values `[1, kv_heads, L, head_dim]` of the next L tokens, and returns those
    /// that attention now reads, `[1, kv_heads, S, head_dim]`.
    pub fn update(&mut self, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        match self {
            Self::Full(cache) => cache.update(keys, values),
            Self::Rotating(cache) => cache.update(keys, values),
        }
    }
}

/// `array[:, :, start..stop, :]`.
fn tokens(array: &Array, start: i32, stop: i32) -> Result<Array> {
    let shape = array.shape();
    let (heads, dim) = (shape[1], shape[3]);
    Ok(array.slice(&[0, 0, start, 0], &[1, heads, stop, dim])?)
}

/// Room for `count` tokens of the heads, width and dtype of `like`.
fn room(like: &Array, count: i32) -> Result<Array> {
    let shape = like.shape();
    Ok(Array::zeros(&[1, shape[1], count, shape[3]], like.dtype())?)
}

/// `buffer` with the tokens of `update` written at `start`.
fn write(buffer: &Array, update: &Array, start: i32) -> Result<Array> {
    let shape = update.shape();
    let stop = [1, shape[1], start + shape[2], shape[3]];
    Ok(buffer.slice_update(update, &[0, 0, start, 0], &stop)?)
}
