//! The cache of a full-attention layer.

use kernels::graph::{Heads, KvBuffers, Slot};

use super::round_up;
use crate::Result;

/// Keys and values of every token, in buffers `[1, kv_heads, capacity, head_dim]` whose capacity
/// grows by [`GROWTH`](super::GROWTH), so that most tokens are written in place.
#[derive(Debug, Default)]
pub struct KvCache {
    buffers: Option<KvBuffers>,
    /// Whether a slot has the buffers, and not new ones.
    given_out: bool,
    offset: i32,
    /// Tokens that there is to be room for from the first on.
    expected: i32,
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

    /// Says how many tokens will probably be held in all: the next new buffers have room for them, and
    /// need not be copied to larger ones on the way.
    pub fn expect(&mut self, tokens: i32) {
        self.expected = tokens;
    }

    /// See [`Cache::fork`](super::Cache::fork).
    pub(super) fn fork(&mut self) -> Result<Self> {
        // Room for one more makes it a copy, whatever made the buffers.
        let (held, capacity) = (self.offset, round_up(self.offset + 1));
        let copy = |own: &mut KvBuffers| own.grown(held, capacity);
        Ok(Self {
            buffers: self.buffers.as_mut().map(copy).transpose()?,
            offset: held,
            ..Self::default()
        })
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

    /// See [`LayerCache::take_room`](super::LayerCache::take_room).
    pub(super) fn take_room(&mut self, count: i32, heads: Heads) -> Result<Slot> {
        let capacity = self.capacity_with(count);
        let (buffers, own) = match self.buffers.take_if(|own| own.capacity() == capacity) {
            Some(own) => (own, true),
            None => (self.larger(heads, capacity)?, false),
        };
        self.given_out = own;
        Ok(Slot {
            buffers,
            start: self.offset,
            visible: self.offset + count,
        })
    }

    /// New buffers that begin with the tokens held.
    fn larger(&mut self, heads: Heads, capacity: i32) -> Result<KvBuffers> {
        match &mut self.buffers {
            Some(old) => Ok(old.grown(self.offset, capacity)?),
            None => Ok(KvBuffers::new(heads, capacity)),
        }
    }

    /// See [`LayerCache::new_bytes`](super::LayerCache::new_bytes).
    pub(super) fn new_bytes(&self, count: i32, heads: Heads) -> usize {
        match self.capacity_with(count) {
            capacity if capacity > self.capacity() => heads.bytes(capacity),
            _ => 0,
        }
    }

    /// Tokens that the buffers have room for.
    fn capacity(&self) -> i32 {
        self.buffers.as_ref().map_or(0, KvBuffers::capacity)
    }

    /// The same once there is room for `count` more.
    fn capacity_with(&self, count: i32) -> i32 {
        match self.offset + count {
            stop if stop > self.capacity() => round_up(stop.max(self.expected)),
            _ => self.capacity(),
        }
    }

    /// See [`LayerCache::put_back`](super::LayerCache::put_back).
    pub(super) fn put_back(&mut self, slot: Slot) {
        self.buffers = Some(slot.buffers);
        self.given_out = false;
        self.offset = slot.visible;
    }

    /// See [`LayerCache::give_back`](super::LayerCache::give_back).
    pub(super) fn give_back(&mut self, slot: Slot) {
        if std::mem::take(&mut self.given_out) {
            self.buffers = Some(slot.buffers);
        }
    }

    pub(super) fn buffers(&self) -> Option<&KvBuffers> {
        self.buffers.as_ref()
    }
}
