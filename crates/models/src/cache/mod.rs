//! Key-value caches: what each layer remembers of the tokens it has seen.
//!
//! Where our kernels run a model on a processor, a cache is a sequence of [`States`](crate::states::States), in
//! pages. Elsewhere each layer has buffers: a full-attention layer has a [`KvCache`], which grows by [`GROWTH`] tokens at a time; a
//! sliding-window layer has a [`RotatingKvCache`], which never holds more than its window; a gated delta net has a
//! [`RecurrentCache`]. Keys
//! are stored rotated, at their absolute positions, so neither cares in which order the kernel sees
//! them.

mod history;
mod kv;
mod mask;
mod recurrent;
mod rotating;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;

use arch::State;
use kernels::graph::{Heads, KvBuffers, Remembered, Slot as KeySlot};
use kernels::steps::{Memories, Nets};
use mlx_core::{Array, Dtype};

use crate::states::{Paged, SequenceId, States};
use crate::{Error, Result};
pub(crate) use history::{History, Past};
pub use kv::KvCache;
pub(crate) use mask::AttentionMask;
pub use recurrent::RecurrentCache;
pub(crate) use recurrent::Slot;
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
    /// Of a gated delta net.
    Recurrent(RecurrentCache),
}

/// The masks of one forward pass.
pub(crate) struct Masks {
    full: AttentionMask,
    /// Of sliding windows, by their width.
    sliding: Vec<(i32, AttentionMask)>,
}

impl Masks {
    /// Those of the last `rows` queries.
    pub(crate) fn of_last(&self, rows: i32) -> Result<Self> {
        let sliding = self.sliding.iter();
        let sliding = sliding.map(|(width, mask)| Ok((*width, mask.of_last(rows)?)));
        Ok(Self {
            full: self.full.of_last(rows)?,
            sliding: sliding.collect::<Result<_>>()?,
        })
    }

    /// The mask of a layer with this window.
    pub(crate) fn of(&self, window: Option<i32>) -> &AttentionMask {
        let sliding = self
            .sliding
            .iter()
            .find(|(width, _)| Some(*width) == window);
        sliding.map_or(&self.full, |(_, mask)| mask)
    }
}

/// The caches of all layers, which always hold the same number of tokens.
#[derive(Debug)]
pub struct Cache {
    /// None where the tokens are in pages.
    layers: Vec<LayerCache>,
    paged: Option<Paged>,
    /// Whether tokens see those behind them: a sequence is one pass then.
    bidirectional: bool,
}

impl Cache {
    /// Empty caches for a model with these states; buffers are allocated at first use.
    pub fn new(states: &[State]) -> Self {
        let layer = |state: &State| match state {
            State::Recurrent(sizes) => LayerCache::Recurrent(RecurrentCache::new(*sizes)),
            State::Keys(keys) => match keys.window {
                Some(window) => LayerCache::Rotating(RotatingKvCache::new(window as i32, 0)),
                None => LayerCache::Full(KvCache::new()),
            },
        };
        Self {
            layers: states.iter().map(layer).collect(),
            paged: None,
            bidirectional: false,
        }
    }

    /// The same, of a bidirectional model.
    pub(crate) fn bidirectional(mut self, is: bool) -> Self {
        self.bidirectional = is;
        self
    }

    /// An empty sequence of `states`.
    pub(crate) fn in_pages(states: &Rc<RefCell<States>>) -> Self {
        Self {
            layers: Vec::new(),
            paged: Some(Paged::new(states)),
            // The pages know.
            bidirectional: false,
        }
    }

    /// Of the sequence `id` of `states`, which is freed with this.
    pub(crate) fn of_pages(states: &Rc<RefCell<States>>, id: SequenceId) -> Self {
        Self {
            layers: Vec::new(),
            paged: Some(Paged::of(states, id)),
            bidirectional: false,
        }
    }

    /// Its sequence, where it is in pages.
    pub fn sequence(&self) -> Option<SequenceId> {
        self.paged.as_ref().map(Paged::id)
    }

    pub(crate) fn paged(&self) -> Option<&Paged> {
        self.paged.as_ref()
    }

    /// A second cache with the same tokens: what is added to one the other has not. In pages it takes no memory; of
    /// buffers it has copies.
    ///
    /// # Errors
    /// When there is no memory for a copy, or the device fails.
    pub fn fork(&mut self) -> Result<Self> {
        let layers = self.layers.iter_mut().map(LayerCache::fork);
        let fork = Self {
            layers: layers.collect::<Result<_>>()?,
            paged: self.paged.as_ref().map(Paged::fork).transpose()?,
            bidirectional: self.bidirectional,
        };
        if !fork.layers.is_empty() {
            // The buffers may be written in place next.
            fork.eval()?;
        }
        Ok(fork)
    }

    /// Tokens seen so far: the position of the next one.
    pub fn offset(&self) -> i32 {
        if let Some(paged) = &self.paged {
            return paged.position();
        }
        self.layers.first().map_or(0, LayerCache::offset)
    }

    /// See [`KvCache::expect`]. A sliding window is small, and needs no hint, nor do pages.
    pub fn expect(&mut self, tokens: i32) {
        for layer in &mut self.layers {
            if let LayerCache::Full(cache) = layer {
                cache.expect(tokens);
            }
        }
    }

    /// Forgets everything and frees the buffers.
    pub fn reset(&mut self) {
        if let Some(paged) = &mut self.paged {
            paged.rewind(0);
        }
        for layer in &mut self.layers {
            match layer {
                LayerCache::Full(cache) => cache.reset(),
                LayerCache::Rotating(cache) => cache.reset(),
                LayerCache::Recurrent(cache) => cache.reset(),
            }
        }
    }

    /// Forgets the last `count` tokens, or as many as every layer can, and returns how many that
    /// were: of a model with recurrent states more, down to a checkpoint. In pages a sliding window can forget 256 at the least, see [`States::rewind`]; elsewhere one that has
    /// begun to overwrite its oldest tokens can forget none.
    pub fn trim(&mut self, count: i32) -> i32 {
        if let Some(paged) = &mut self.paged {
            let held = paged.position();
            return held - paged.rewind(held - count.clamp(0, held));
        }
        let held = self.offset();
        let count = held - self.reachable(held - count.clamp(0, held));
        for layer in &mut self.layers {
            match layer {
                LayerCache::Full(cache) => cache.trim(count),
                LayerCache::Rotating(cache) => cache.trim(count),
                LayerCache::Recurrent(cache) => held - cache.rewind(held - count),
            };
        }
        count
    }

    /// Forgets the tokens behind the first `to`, and as many before those as it takes: how many are held then. More
    /// than `to` where a sliding window cannot go back so far.
    pub fn rewind(&mut self, to: i32) -> i32 {
        let held = self.offset();
        held - self.trim(held - to.clamp(0, held))
    }

    /// How many tokens would be held behind [`Cache::rewind`] to `to`.
    pub fn reachable(&self, to: i32) -> i32 {
        if let Some(paged) = &self.paged {
            return paged.reachable(to);
        }
        let held = self.offset();
        let to = to.clamp(0, held);
        let to = self.checkpoint(to).unwrap_or(to);
        let possible = |layer: &LayerCache| match layer {
            LayerCache::Full(cache) => cache.offset(),
            LayerCache::Rotating(cache) => cache.trimmable(),
            LayerCache::Recurrent(_) => held,
        };
        let possible = self.layers.iter().map(possible).min();
        held - possible.unwrap_or(0).min(held - to).max(0)
    }

    /// The most tokens, up to `to`, that all recurrent states can go back to; `None` if there are no such states.
    fn checkpoint(&self, mut to: i32) -> Option<i32> {
        self.recurrent().next()?;
        // They have the same checkpoints, unless a pass has failed.
        loop {
            match self.recurrent().map(|cache| cache.reachable(to)).min()? {
                least if least < to => to = least,
                _ => return Some(to),
            }
        }
    }

    /// [`LayerCache::add`] for all layers of several sequences at once that hold keys, `count` tokens each; `heads` are
    /// those of these layers, in their order. `write` has the slots of each sequence.
    pub(crate) fn add<T>(
        caches: &mut [&mut Self],
        count: i32,
        heads: &[Heads],
        write: impl FnOnce(&mut [Vec<KeySlot>]) -> Result<T>,
    ) -> Result<T> {
        let mut slots = Vec::with_capacity(caches.len());
        let made = Self::add_to(&mut slots, caches, count, heads, write);
        for (cache, slots) in caches.iter_mut().zip(slots) {
            for (layer, slot) in cache.with_keys_mut().zip(slots) {
                match made.is_ok() {
                    true => layer.put_back(slot, count),
                    false => layer.give_back(slot),
                }
            }
        }
        made
    }

    /// The part of it that may fail.
    fn add_to<T>(
        slots: &mut Vec<Vec<KeySlot>>,
        caches: &mut [&mut Self],
        count: i32,
        heads: &[Heads],
        write: impl FnOnce(&mut [Vec<KeySlot>]) -> Result<T>,
    ) -> Result<T> {
        for cache in &mut *caches {
            let of_one = slots.push_mut(Vec::with_capacity(cache.layers.len()));
            for (layer, heads) in cache.with_keys_mut().zip(heads) {
                of_one.push(layer.take_room(count, *heads)?);
            }
        }
        let made = write(slots)?;
        for (cache, slots) in caches.iter_mut().zip(slots) {
            for (layer, slot) in cache.with_keys_mut().zip(slots) {
                layer.shorten(slot)?;
            }
        }
        Ok(made)
    }

    /// Forgets what a pass that could not be built left in some of the layers, so that all hold the first
    /// `offset` tokens again. Where a sliding window has given up older tokens for it, everything is
    /// forgotten: the layers always hold the same.
    pub(crate) fn undo_to(&mut self, offset: i32) {
        if let Some(paged) = &mut self.paged {
            // A pass that is not built adds nothing, so this is of one before it, of the same tokens.
            if paged.rewind(offset) != offset {
                paged.rewind(0);
            }
            return;
        }
        let undone = self.layers.iter_mut().all(|layer| {
            let added = layer.offset() - offset;
            added <= 0 || layer.undo(added)
        });
        if !undone {
            self.reset();
        }
    }

    /// Bytes of all buffers, or pages.
    pub fn nbytes(&self) -> usize {
        if let Some(paged) = &self.paged {
            return paged.bytes();
        }
        let recurrent = self.recurrent().map(RecurrentCache::nbytes);
        self.buffers().map(KvBuffers::nbytes).chain(recurrent).sum()
    }

    /// Bytes of second sets of buffers, which MLX's own operations need.
    pub fn resting_bytes(&self) -> usize {
        self.buffers().map(KvBuffers::resting_bytes).sum()
    }

    /// All of them.
    pub fn all_bytes(&self) -> usize {
        self.nbytes() + self.resting_bytes()
    }

    /// Computes what was added and waits for it, as after a prefill chunk whose logits nobody asked for.
    ///
    /// # Errors
    /// When the device fails.
    pub fn eval(&self) -> Result<()> {
        if let Some(paged) = &self.paged {
            return Ok(paged.last().map_or(Ok(()), |last| last.eval())?);
        }
        let recurrent = self.recurrent().flat_map(RecurrentCache::arrays);
        let buffers = self.buffers().flat_map(KvBuffers::arrays);
        Ok(mlx_core::eval(
            &buffers.chain(recurrent).collect::<Vec<_>>(),
        )?)
    }

    /// Submits what a pass has made of recurrent states, of which its logits need not all: else they would hold
    /// what they are made of.
    pub(crate) fn submit_recurrent(&self) -> Result<()> {
        let latest = self.recurrent().filter_map(RecurrentCache::latest);
        let arrays: Vec<&Array> = latest.flat_map(Slot::arrays).collect();
        match arrays[..] {
            [] => Ok(()),
            _ => Ok(mlx_core::async_eval(&arrays)?),
        }
    }

    /// What all gated delta nets remember, for a kernel of all of them.
    pub(crate) fn memories(&self, nets: Nets, dtype: Dtype) -> Result<Memories> {
        let latest: Vec<&Slot> = self
            .recurrent()
            .filter_map(RecurrentCache::latest)
            .collect();
        if let Some(memories) = Slot::of_one_token(&latest) {
            return Ok(memories.clone());
        }
        let each = latest.iter().map(|slot| slot.remembered());
        let each: Vec<Remembered> = each.collect::<Result<_>>()?;
        Ok(nets.join(&each, dtype)?)
    }

    /// Goes on by the token behind which all gated delta nets remember this.
    pub(crate) fn remember(&mut self, memories: Memories) {
        let memories = Rc::new(memories);
        let layers = self.layers.iter_mut();
        let recurrent = layers.filter_map(|layer| match layer {
            LayerCache::Recurrent(cache) => Some(cache),
            LayerCache::Full(_) | LayerCache::Rotating(_) => None,
        });
        for (net, cache) in recurrent.enumerate() {
            let latest = Slot::of_all(cache.offset() + 1, &memories, net);
            cache.put(latest, None);
        }
    }

    /// The layers that are not recurrent.
    fn with_keys_mut(&mut self) -> impl Iterator<Item = &mut LayerCache> {
        let layers = self.layers.iter_mut();
        layers.filter(|layer| !matches!(layer, LayerCache::Recurrent(_)))
    }

    fn recurrent(&self) -> impl Iterator<Item = &RecurrentCache> {
        self.layers.iter().filter_map(|layer| match layer {
            LayerCache::Recurrent(cache) => Some(cache),
            LayerCache::Full(_) | LayerCache::Rotating(_) => None,
        })
    }

    fn buffers(&self) -> impl Iterator<Item = &KvBuffers> {
        self.layers.iter().filter_map(LayerCache::buffers)
    }

    /// The masks for `count` new tokens, one for each kind of layer; to be asked for before the
    /// layers are updated.
    pub(crate) fn masks(&self, count: i32) -> Result<Masks> {
        let mut sliding: Vec<(i32, AttentionMask)> = Vec::new();
        for layer in &self.layers {
            if let LayerCache::Rotating(cache) = layer
                && !sliding.iter().any(|(width, _)| *width == cache.window())
            {
                let mask = match self.bidirectional {
                    true => AttentionMask::around(count, cache.window())?,
                    false => cache.mask(count)?,
                };
                sliding.push((cache.window(), mask));
            }
        }
        Ok(Masks {
            full: match self.bidirectional {
                true => AttentionMask::None,
                false => AttentionMask::full(count),
            },
            sliding,
        })
    }

    pub(crate) fn layers(&self) -> &[LayerCache] {
        &self.layers
    }

    pub(crate) fn layer_mut(&mut self, index: usize) -> &mut LayerCache {
        &mut self.layers[index]
    }
}

impl LayerCache {
    /// See [`Cache::fork`].
    fn fork(&mut self) -> Result<Self> {
        Ok(match self {
            Self::Full(cache) => Self::Full(cache.fork()?),
            Self::Rotating(cache) => Self::Rotating(cache.fork()?),
            Self::Recurrent(cache) => Self::Recurrent(cache.clone()),
        })
    }

    /// Tokens that a sliding window shows.
    pub(crate) fn window(&self) -> Option<i32> {
        match self {
            Self::Full(_) | Self::Recurrent(_) => None,
            Self::Rotating(cache) => Some(cache.window()),
        }
    }

    /// Tokens seen so far.
    pub fn offset(&self) -> i32 {
        match self {
            Self::Full(cache) => cache.offset(),
            Self::Rotating(cache) => cache.offset(),
            Self::Recurrent(cache) => cache.offset(),
        }
    }

    /// Bytes of new states that the next pass needs.
    pub(crate) fn new_slot_bytes(&self, dtype: Dtype) -> u64 {
        match self {
            Self::Recurrent(cache) => cache.new_bytes(dtype),
            Self::Full(_) | Self::Rotating(_) => 0,
        }
    }

    /// Bytes of new buffers that the next `count` tokens need. A sliding window is small, and not counted.
    pub(crate) fn new_bytes(&self, count: i32, heads: Heads) -> usize {
        match self {
            Self::Full(cache) => cache.new_bytes(count, heads),
            Self::Rotating(_) | Self::Recurrent(_) => 0,
        }
    }

    /// Makes room for the next `count` tokens, which `write` puts there. Where it fails, the cache is as
    /// it was. `heads` is asked for at first use.
    pub(crate) fn add<T>(
        &mut self,
        count: i32,
        heads: Heads,
        write: impl FnOnce(&mut KeySlot) -> Result<T>,
    ) -> Result<T> {
        let mut slot = self.take_room(count, heads)?;
        let made = write(&mut slot).and_then(|made| {
            self.shorten(&mut slot)?;
            Ok(made)
        });
        match made.is_ok() {
            true => self.put_back(slot, count),
            false => self.give_back(slot),
        }
        made
    }

    /// Gives out the buffers, or new ones that begin with the same tokens, with room for `count` more. What
    /// the cache knows of its tokens stays as it is until [`LayerCache::put_back`].
    fn take_room(&mut self, count: i32, heads: Heads) -> Result<KeySlot> {
        match self {
            Self::Full(cache) => cache.take_room(count, heads),
            Self::Rotating(cache) => cache.take_room(count, heads),
            Self::Recurrent(_) => Err(Error::Input(
                "the caches are another model's; make new ones".to_owned(),
            )),
        }
    }

    /// Takes from a slot with new tokens in it what the cache will not keep.
    fn shorten(&self, slot: &mut KeySlot) -> Result<()> {
        match self {
            Self::Full(_) | Self::Recurrent(_) => Ok(()),
            Self::Rotating(cache) => cache.shorten(slot),
        }
    }

    /// Takes back a shortened slot with `count` new tokens in it.
    fn put_back(&mut self, slot: KeySlot, count: i32) {
        match self {
            Self::Full(cache) => cache.put_back(slot),
            Self::Rotating(cache) => cache.put_back(slot, count),
            // It gives out none.
            Self::Recurrent(_) => {}
        }
    }

    /// Takes back a slot in which no token counts.
    fn give_back(&mut self, slot: KeySlot) {
        match self {
            Self::Full(cache) => cache.give_back(slot),
            Self::Rotating(cache) => cache.give_back(slot),
            Self::Recurrent(_) => {}
        }
    }

    /// Forgets the `count` tokens of the last pass; false where older ones had to go for them.
    fn undo(&mut self, count: i32) -> bool {
        match self {
            Self::Full(cache) => cache.trim(count) == count,
            Self::Rotating(cache) => cache.undo(count),
            Self::Recurrent(cache) => cache.undo(count),
        }
    }

    fn buffers(&self) -> Option<&KvBuffers> {
        match self {
            Self::Full(cache) => cache.buffers(),
            Self::Rotating(cache) => cache.buffers(),
            Self::Recurrent(_) => None,
        }
    }
}

/// `count` tokens in whole steps of [`GROWTH`].
fn round_up(count: i32) -> i32 {
    (count + GROWTH - 1) / GROWTH * GROWTH
}
