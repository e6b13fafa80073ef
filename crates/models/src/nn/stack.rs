//! The blocks of a decoder, one after the other.
//!
//! Where the kernels can, all of them are one operation; else each is made of single ones. The two
//! compute the same, and the second is the reference.

use std::cell::OnceCell;

use kernels::graph::{self, Heads};
use mlx_core::{Array, Dtype, memory};

use super::attention::Place;
use super::block::Residual;
use super::fused::WholeStep;
use super::pace::Pace;
use super::{DecoderBlock, RotaryEmbedding};
use crate::cache::{Cache, Masks};
use crate::states::Added;
use crate::{Error, Result};

/// Blocks, and the rotations that they name.
pub(crate) struct Stack {
    layers: Vec<DecoderBlock>,
    ropes: Vec<RotaryEmbedding>,
    /// Of each state, whether several blocks see it.
    shared: Vec<bool>,
    /// All blocks as one operation, if they can be: found out when first needed.
    joined: OnceCell<Option<graph::PinnedBlocks>>,
}

/// A pass of one sequence through the blocks, under way.
pub(crate) enum Pass {
    At(Box<At>),
    /// All blocks have run.
    Over {
        /// The residual stream behind them.
        behind: Array,
        /// What is to be committed.
        added: Option<Added>,
    },
}

impl Pass {
    /// The sequence has the tokens, where it is in pages; elsewhere its layers have them already.
    pub(crate) fn commit(&mut self) {
        if let Self::Over { added, .. } = self {
            added.take().into_iter().for_each(Added::commit);
        }
    }
}

/// How far a pass is.
pub(crate) struct At {
    residual: Residual,
    /// Of all blocks that have inputs of their own.
    inputs: Option<Array>,
    masks: Masks,
    /// Keys and values of states that several blocks see.
    shown: Vec<Option<graph::Seen>>,
    pace: Pace,
    /// Of the first token.
    position: i32,
    /// Tokens of the pass, and those that are wanted behind the last block.
    length: i32,
    rows: i32,
    /// The next block.
    layer: usize,
}

impl Stack {
    pub(crate) fn new(layers: Vec<DecoderBlock>, ropes: Vec<RotaryEmbedding>) -> Self {
        let states = layers.iter().map(|block| block.state + 1).max();
        let mut users = vec![0; states.unwrap_or(0)];
        layers.iter().for_each(|block| users[block.state] += 1);
        Self {
            layers,
            ropes,
            shared: users.into_iter().map(|users| users > 1).collect(),
            joined: OnceCell::new(),
        }
    }

    /// Begins to run `x [L, hidden]` through all blocks, of which the last `rows` are wanted. [`Stack::go_on`]
    /// adds L tokens to `cache`, which nothing else uses until then; in pages [`Pass::commit`] does.
    /// `inputs [L, ..]` are those of all blocks that have such.
    pub(crate) fn begin(
        &self,
        x: &Array,
        inputs: Option<Array>,
        cache: &mut Cache,
        rows: i32,
    ) -> Result<Pass> {
        let length = x.dim(0);
        if let Some(paged) = cache.paged() {
            let (stack, inputs) = (self.serving(x)?, inputs.as_ref());
            let (behind, added) = Added::run(stack, x, inputs, &[paged], &[length], rows)?;
            let added = Some(added);
            return Ok(Pass::Over { behind, added });
        }
        self.make_room(&[&mut *cache], length, x.dtype())?;
        let Some(first) = self.layers.first() else {
            return Ok(Pass::Over {
                behind: x.clone(),
                added: None,
            });
        };
        let unpacks = graph::may_unpack()? && self.layers.iter().any(|b| b.unpacks(length));
        Ok(Pass::At(Box::new(At {
            residual: Residual::new(x, first)?,
            inputs,
            masks: cache.masks(length)?,
            shown: self.shared.iter().map(|_| None).collect(),
            position: cache.offset(),
            pace: Pace::new(length, first.pass_bytes(x, unpacks), unpacks)?,
            length,
            rows,
            layer: 0,
        })))
    }

    /// Goes on with a pass for as long as `more` says, which is asked where layers are submitted anyway: the
    /// residual stream behind all blocks, `[rows, hidden]`, once it is there.
    pub(crate) fn go_on(
        &self,
        pass: &mut Pass,
        cache: &mut Cache,
        more: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Array>> {
        let at = match pass {
            Pass::Over { behind, .. } => return Ok(Some(behind.clone())),
            Pass::At(at) => at,
        };
        while let Some(block) = self.layers.get(at.layer) {
            let next = self.layers.get(at.layer + 1);
            let (is_last, next) = (next.is_none(), next.and_then(DecoderBlock::norm_before));
            let (writer, before) = (self.last_writer(), at.residual.x.dim(0));
            // Behind the last block that adds to a state nobody sees the rows that are not asked for.
            let rows = if at.layer < writer { before } else { at.rows };
            let cache = cache.layer_mut(block.state);
            let place = Place {
                ropes: &self.ropes,
                mask: at.masks.of(cache.window()),
                cache,
                position: at.position + at.length - before,
                dtype: at.residual.x.dtype(),
                shown: self.shared[block.state].then(|| &mut at.shown[block.state]),
            };
            let inputs = at.inputs.as_ref();
            at.residual = block.forward(&at.residual, inputs, place, rows, next)?;
            if at.layer == writer && !is_last && rows < before {
                at.masks = at.masks.of_last(rows)?;
            }
            at.layer += 1;
            if at.pace.submit(&at.residual.x)? && !is_last && !more() {
                return Ok(None);
            }
        }
        at.pace.finish(&at.residual.x)?;
        cache.submit_recurrent()?;
        Ok(Some(at.residual.x.clone()))
    }

    /// Tokens of several sequences, as many of each as `counts` says: their rows of the residual stream,
    /// `x [N, hidden]`, behind all blocks, and what to commit for those tokens more in the `caches`. `None`, and
    /// nothing done, where they are not in pages.
    pub(crate) fn forward_each(
        &self,
        x: &Array,
        inputs: Option<&Array>,
        caches: &[&mut Cache],
        counts: &[i32],
    ) -> Result<Option<(Array, Added)>> {
        let paged: Option<Vec<_>> = caches.iter().map(|cache| cache.paged()).collect();
        let Some(paged) = paged else {
            return Ok(None);
        };
        Added::run(self.serving(x)?, x, inputs, &paged, counts, x.dim(0)).map(Some)
    }

    /// The tokens `ids [N]` behind those in the N `caches` through `step`, which is made of these blocks: their
    /// logits `[N, vocab]`. Adds them to the caches.
    pub(super) fn decode(
        &self,
        step: &WholeStep,
        ids: &Array,
        caches: &mut [&mut Cache],
    ) -> Result<Array> {
        let dtype = step.dtype();
        self.make_room(caches, 1, dtype)?;
        let offsets: Vec<i32> = caches.iter().map(|cache| cache.offset()).collect();
        // Of one sequence, where there are any.
        let mut memories = match (step.nets(), &*caches) {
            (Some(nets), [cache]) => Some(cache.memories(nets, dtype)?),
            _ => None,
        };
        let logits = Cache::add(caches, 1, &self.heads(dtype), |slots| {
            step.run(ids, &offsets, slots, &mut memories)
        })?;
        if let (Some(memories), [cache]) = (memories, caches) {
            cache.remember(memories);
        }
        Ok(logits)
    }

    /// The last block that adds to a state.
    fn last_writer(&self) -> usize {
        let writer = self.layers.iter().rposition(DecoderBlock::writes);
        writer.unwrap_or(self.layers.len().saturating_sub(1))
    }

    /// What the caches hold that hold keys, state after state.
    fn heads(&self, dtype: Dtype) -> Vec<Heads> {
        let blocks = self.layers.iter().filter(|block| block.writes());
        let attentions = blocks.filter_map(|block| block.mixer.attention());
        attentions.map(|a| a.key_heads(dtype)).collect()
    }

    /// Fails where the device has no room for what `count` more tokens need in each of the `caches`, before
    /// anything has changed.
    fn make_room(&self, caches: &[&mut Cache], count: i32, dtype: Dtype) -> Result<()> {
        let layers = caches.iter().flat_map(|cache| {
            let states = cache.layers();
            let writers = self.layers.iter().filter(|block| block.writes());
            writers.map(|block| (block, &states[block.state]))
        });
        let bytes = layers.map(|(block, layer)| match block.mixer.attention() {
            Some(attention) => layer.new_bytes(count, attention.key_heads(dtype)) as u64,
            None => layer.new_slot_bytes(dtype),
        });
        match bytes.sum() {
            0 => Ok(()),
            bytes => Ok(memory::make_room(bytes)?),
        }
    }

    /// The blocks for kernels, each with whether it has a sliding window; `None` where one is nothing for them.
    pub(super) fn blocks(&self) -> Option<Vec<(graph::Block<'_>, bool)>> {
        let blocks = self.layers.iter();
        blocks
            .map(|block| Some((block.as_one(&self.ropes)?, block.slides)))
            .collect()
    }

    /// Makes one array of experts that are held by themselves.
    pub(crate) fn stack_experts(&self) -> Result<()> {
        self.layers
            .iter()
            .try_for_each(|block| block.mlp.stack_experts())
    }

    /// Of each block which of the model's states it has.
    pub(super) fn states(&self) -> Vec<usize> {
        self.layers.iter().map(|block| block.state).collect()
    }

    /// All blocks as one operation.
    ///
    /// # Errors
    /// When it cannot be run now, for which there are caches that are not in pages.
    fn serving(&self, x: &Array) -> Result<&graph::PinnedBlocks> {
        match self.joined(x.dtype())? {
            Some(joined) if joined.takes(x)? => Ok(joined),
            _ => Err(Error::Input(
                "the caches are in pages, in which only kernels on the CPU run; make new ones"
                    .to_owned(),
            )),
        }
    }

    /// All blocks as one operation on a stream of `dtype`, where there is one: they run in pages.
    pub(crate) fn joined(&self, dtype: Dtype) -> Result<Option<&graph::PinnedBlocks>> {
        if let Some(joined) = self.joined.get() {
            return Ok(joined.as_ref());
        }
        let states = self.states_by_kind();
        let joined = match self.blocks() {
            Some(blocks) => {
                let blocks: Vec<_> = blocks.into_iter().map(|(block, _)| block).collect();
                graph::PinnedBlocks::new(&blocks, &states, dtype)?
            }
            None => None,
        };
        Ok(self.joined.get_or_init(|| joined).as_ref())
    }

    /// Of each block which of the model's states it has, counted among those with keys, or among recurrent ones.
    fn states_by_kind(&self) -> Vec<usize> {
        let is_recurrent = |block: &DecoderBlock| block.mixer.attention().is_none();
        let mut kinds = vec![false; self.shared.len()];
        for block in &self.layers {
            kinds[block.state] = is_recurrent(block);
        }
        let before = |block: &DecoderBlock| {
            let same = |kind: &&bool| **kind == is_recurrent(block);
            kinds[..block.state].iter().filter(same).count()
        };
        self.layers.iter().map(before).collect()
    }

    /// What rotations need; the blocks' arrays are asked for a block at a time.
    pub(crate) fn rope_arrays(&self) -> Vec<&Array> {
        self.ropes
            .iter()
            .flat_map(RotaryEmbedding::arrays)
            .collect()
    }
}
