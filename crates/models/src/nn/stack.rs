//! The blocks of a decoder, one after the other.
//!
//! Where the kernels can, all of them are one operation; else each is made of single ones. The two
//! compute the same, and the second is the reference.

use std::cell::OnceCell;

use kernels::decode::TokenStep;
use kernels::graph::{self, Heads};
use mlx_core::{Array, Dtype, memory};

use super::block::Residual;
use super::pace::Pace;
use super::{Block, Rope};
use crate::Result;
use crate::cache::Cache;

/// Blocks, and the rotations that they name.
pub(crate) struct Stack {
    layers: Vec<Block>,
    ropes: Vec<Rope>,
    /// All blocks as one operation, if they can be: found out when first needed.
    joined: OnceCell<Option<graph::Stack>>,
}

impl Stack {
    pub(crate) fn new(layers: Vec<Block>, ropes: Vec<Rope>) -> Self {
        Self {
            layers,
            ropes,
            joined: OnceCell::new(),
        }
    }

    /// The residual stream `x [L, hidden]` behind all blocks, of which the last `rows` are wanted:
    /// `[rows, hidden]`. Adds L tokens to `cache`.
    pub(crate) fn forward(&self, x: &Array, cache: &mut Cache, rows: i32) -> Result<Array> {
        let length = x.dim(0);
        self.make_room(cache, length, x.dtype())?;
        let masks = cache.masks(length)?;
        if let Some(joined) = self.joined(x)? {
            let layers = cache.layers().iter();
            let masks: Vec<graph::Mask<'_>> = layers.map(|l| masks.of(l).as_mask()).collect();
            if joined.serves(x, &masks)? {
                let offset = cache.offset();
                return cache.add(length, self.heads(x.dtype()), |slots| {
                    Ok(joined.run(x, offset, slots, &masks, rows)?)
                });
            }
        }
        let Some(first) = self.layers.first() else {
            return Ok(x.clone());
        };
        let mut at = Residual::new(x, first)?;
        let unpacks = graph::may_unpack()? && self.layers.iter().any(|b| b.unpacks(length));
        let mut pace = Pace::new(length, first.pass_bytes(x, unpacks), unpacks)?;
        for (i, block) in self.layers.iter().enumerate() {
            let next = self.layers.get(i + 1).map(|block| &block.attention_norm);
            let rows = if next.is_some() { length } else { rows };
            let cache = cache.layer_mut(block.state);
            let mask = masks.of(cache);
            at = block.forward(&at, self.rope(block), mask, cache, rows, next)?;
            pace.submit(&at.x)?;
        }
        pace.finish(&at.x)?;
        Ok(at.x)
    }

    /// The token `id` behind those in `cache` through `step`, which is made of these blocks: its
    /// logits. Adds it to `cache`.
    pub(super) fn decode(&self, step: &TokenStep, id: &Array, cache: &mut Cache) -> Result<Array> {
        self.make_room(cache, 1, Dtype::Bfloat16)?;
        let offset = cache.offset();
        cache.add(1, self.heads(Dtype::Bfloat16), |slots| {
            Ok(step.run(id, offset, slots)?)
        })
    }

    /// What the caches of the layers hold.
    fn heads(&self, dtype: Dtype) -> impl Iterator<Item = Heads> {
        let blocks = self.layers.iter();
        blocks.map(move |block| block.attention.key_heads(dtype))
    }

    /// Fails where the device has no room for what `count` more tokens need in `cache`, before anything
    /// has changed.
    fn make_room(&self, cache: &Cache, count: i32, dtype: Dtype) -> Result<()> {
        let layers = self.heads(dtype).zip(cache.layers());
        let bytes = layers.map(|(heads, layer)| layer.new_bytes(count, heads) as u64);
        match bytes.sum() {
            0 => Ok(()),
            bytes => Ok(memory::make_room(bytes)?),
        }
    }

    /// The blocks for kernels, each with whether it has a sliding window.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (graph::Block<'_>, bool)> {
        let blocks = self.layers.iter();
        blocks.map(|block| (block.as_one(self.rope(block)), block.slides))
    }

    fn rope(&self, block: &Block) -> &Rope {
        &self.ropes[block.attention.rope]
    }

    fn joined(&self, x: &Array) -> Result<Option<&graph::Stack>> {
        if let Some(joined) = self.joined.get() {
            return Ok(joined.as_ref());
        }
        let blocks: Vec<graph::Block<'_>> = self.blocks().map(|(block, _)| block).collect();
        let joined = graph::Stack::new(&blocks, x.dtype())?;
        Ok(self.joined.get_or_init(|| joined).as_ref())
    }

    /// What rotations need; the blocks' arrays are asked for a block at a time.
    pub(crate) fn rope_arrays(&self) -> Vec<&Array> {
        self.ropes.iter().flat_map(Rope::arrays).collect()
    }
}
