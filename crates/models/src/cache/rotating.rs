//! The cache of a sliding-window layer.

use std::ops::Range;

use kernels::graph::{Heads, KvBuffers, Slot};

use super::{AttentionMask, GROWTH, round_up};
use crate::Result;

/// Keys and values of the first `keep` tokens and of the latest ones, `max_size` in all.
///
/// Several tokens at once (prefill) are put behind what is held in the order of their positions,
/// and attention reads all of it under a mask, because the earliest of the new tokens still sees
/// what the latest no longer does. One token at a time (decode) overwrites the oldest in place, and
/// attention reads the whole ring without a mask: order does not matter to it.
#[derive(Debug)]
pub struct RotatingKvCache {
    max_size: i32,
    keep: i32,
    buffers: Option<KvBuffers>,
    /// Whether a slot has the buffers, and not new ones.
    given_out: bool,
    /// Tokens seen.
    offset: i32,
    /// Tokens in the buffers.
    held: i32,
    /// Where the next single token goes; everything before it (from `keep` on) is newer than
    /// everything from it on.
    next: i32,
}

impl RotatingKvCache {
    /// A cache of `max_size` tokens of which the first `keep` are never overwritten.
    pub fn new(max_size: i32, keep: i32) -> Self {
        let max_size = max_size.max(1);
        let keep = keep.clamp(0, max_size - 1);
        Self {
            max_size,
            keep,
            buffers: None,
            given_out: false,
            offset: 0,
            held: 0,
            next: 0,
        }
    }

    /// Tokens that it holds at most.
    pub fn window(&self) -> i32 {
        self.max_size
    }

    /// Tokens seen.
    pub fn offset(&self) -> i32 {
        self.offset
    }

    /// Tokens held.
    pub fn held(&self) -> i32 {
        self.held
    }

    /// See [`Cache::fork`](super::Cache::fork).
    pub(super) fn fork(&mut self) -> Result<Self> {
        // Of one range MLX would make a view.
        let held = [0..1.min(self.held), 1.min(self.held)..self.held];
        let copy = |own: &mut KvBuffers| own.rearranged(&held, own.capacity());
        Ok(Self {
            buffers: self.buffers.as_mut().map(copy).transpose()?,
            given_out: false,
            ..*self
        })
    }

    /// Forgets everything and frees the buffers.
    pub fn reset(&mut self) {
        *self = Self::new(self.max_size, self.keep);
    }

    /// How many tokens [`RotatingKvCache::trim`] can forget: all, until the first is overwritten.
    pub fn trimmable(&self) -> i32 {
        if self.offset == self.held && self.next == self.held {
            self.offset
        } else {
            0
        }
    }

    /// Forgets the last `count` tokens, or as many as it can; returns how many.
    pub fn trim(&mut self, count: i32) -> i32 {
        let count = count.clamp(0, self.trimmable());
        self.offset -= count;
        self.held -= count;
        self.next -= count;
        count
    }

    /// See [`LayerCache::take_room`](super::LayerCache::take_room).
    pub(super) fn take_room(&mut self, count: i32, heads: Heads) -> Result<Slot> {
        if count == 1 {
            self.room_in_ring(heads)
        } else {
            self.room_behind(count, heads)
        }
    }

    /// See [`LayerCache::shorten`](super::LayerCache::shorten).
    pub(super) fn shorten(&self, slot: &mut Slot) -> Result<()> {
        if slot.visible > self.max_size {
            let last = slot.visible - (self.max_size - self.keep)..slot.visible;
            slot.buffers = slot
                .buffers
                .rearranged(&[0..self.keep, last], self.max_size)?;
        }
        Ok(())
    }

    /// See [`LayerCache::put_back`](super::LayerCache::put_back).
    pub(super) fn put_back(&mut self, slot: Slot, count: i32) {
        self.offset += count;
        (self.held, self.next) = match slot.visible > self.max_size {
            true => (self.max_size, self.max_size),
            false => (slot.visible, slot.start + count),
        };
        self.buffers = Some(slot.buffers);
        self.given_out = false;
    }

    /// See [`LayerCache::give_back`](super::LayerCache::give_back).
    pub(super) fn give_back(&mut self, slot: Slot) {
        if std::mem::take(&mut self.given_out) {
            self.buffers = Some(slot.buffers);
        }
    }

    /// See [`LayerCache::undo`](super::LayerCache::undo).
    pub(super) fn undo(&mut self, count: i32) -> bool {
        if self.trimmable() < count && count == 1 {
            // It stands where the oldest of a full window stood, which nothing sees any more: neither
            // does the next token, which goes there again.
            self.offset -= 1;
            self.next -= 1;
            return true;
        }
        self.trim(count) == count
    }

    pub(super) fn buffers(&self) -> Option<&KvBuffers> {
        self.buffers.as_ref()
    }

    /// For one token, in place.
    fn room_in_ring(&mut self, heads: Heads) -> Result<Slot> {
        let start = match self.held == self.max_size && self.next == self.max_size {
            true => self.keep,
            false => self.next,
        };
        let (buffers, own) = match self.buffers.take_if(|own| start < own.capacity()) {
            Some(own) => (own, true),
            None => (self.larger(heads)?, false),
        };
        self.given_out = own;
        Ok(Slot {
            buffers,
            start,
            visible: self.held.max(start + 1),
        })
    }

    /// New buffers that begin with the tokens held.
    fn larger(&mut self, heads: Heads) -> Result<KvBuffers> {
        match &mut self.buffers {
            Some(old) => {
                let capacity = (old.capacity() + GROWTH).min(self.max_size);
                Ok(old.grown(self.held, capacity)?)
            }
            None => Ok(KvBuffers::new(heads, GROWTH.min(self.max_size))),
        }
    }

    /// For several tokens, behind those that the first of them still sees.
    fn room_behind(&mut self, count: i32, heads: Heads) -> Result<Slot> {
        let start = self.still_visible_count();
        let visible = start + count;
        let capacity = visible.max(round_up(visible).min(self.max_size));
        let in_order = start > 0 && start == self.held && self.next == self.held;
        let still_visible = self.still_visible();
        let fitting = |own: &mut KvBuffers| in_order && visible <= own.capacity();
        let (buffers, own) = match (self.buffers.take_if(fitting), &mut self.buffers) {
            (Some(own), _) => (own, true),
            (None, Some(old)) if start > 0 => (old.rearranged(&still_visible, capacity)?, false),
            _ => (KvBuffers::new(heads, capacity), false),
        };
        self.given_out = own;
        Ok(Slot {
            buffers,
            start,
            visible,
        })
    }

    /// How many held tokens the next one still sees: one place of the window is its own.
    fn still_visible_count(&self) -> i32 {
        self.held.min(self.max_size - 1)
    }

    /// Those tokens, in the order of their positions.
    fn still_visible(&self) -> [Range<i32>; 3] {
        let kept = self.keep.min(self.held);
        let dropped = self.held - self.still_visible_count();
        // Behind the kept ones the oldest stand from `next` on, if the ring has come round.
        let (oldest, newest) = match self.next < self.held {
            true => (self.next..self.held, kept..self.next),
            false => (kept..self.held, self.held..self.held),
        };
        [0..kept, oldest.start + dropped..oldest.end, newest]
    }

    /// The mask for `count` new tokens over what attention will read for them.
    pub(super) fn mask(&self, count: i32) -> Result<AttentionMask> {
        let before = if count == 1 {
            self.held
        } else {
            self.still_visible_count()
        };
        AttentionMask::sliding(count, before, self.max_size, self.keep)
    }
}
