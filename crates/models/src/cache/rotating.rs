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
            offset: 0,
            held: 0,
            next: 0,
        }
    }

    /// Tokens seen.
    pub fn offset(&self) -> i32 {
        self.offset
    }

    /// Tokens held.
    pub fn held(&self) -> i32 {
        self.held
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

    /// See [`LayerCache::put_back`](super::LayerCache::put_back).
    pub(super) fn put_back(&mut self, slot: Slot, count: i32) -> Result<()> {
        self.offset += count;
        self.next += count;
        self.held = self.held.max(self.next);
        let Slot { buffers, .. } = slot;
        self.buffers = Some(if self.held > self.max_size {
            let last = self.held - (self.max_size - self.keep)..self.held;
            (self.held, self.next) = (self.max_size, self.max_size);
            buffers.rearranged(&[0..self.keep, last], self.max_size)?
        } else {
            buffers
        });
        Ok(())
    }

    pub(super) fn buffers(&self) -> Option<&KvBuffers> {
        self.buffers.as_ref()
    }

    /// For one token, in place.
    fn room_in_ring(&mut self, heads: Heads) -> Result<Slot> {
        if self.held == self.max_size && self.next == self.max_size {
            self.next = self.keep;
        }
        let buffers = match self.buffers.take() {
            Some(buffers) if self.next < buffers.capacity() => buffers,
            Some(buffers) => {
                let capacity = (buffers.capacity() + GROWTH).min(self.max_size);
                buffers.grown(self.held, capacity)?
            }
            None => KvBuffers::new(heads, GROWTH.min(self.max_size)),
        };
        Ok(Slot {
            buffers,
            start: self.next,
            visible: self.held.max(self.next + 1),
        })
    }

    /// For several tokens, behind those that the first of them still sees.
    fn room_behind(&mut self, count: i32, heads: Heads) -> Result<Slot> {
        let start = self.still_visible_count();
        let visible = start + count;
        let capacity = visible.max(round_up(visible).min(self.max_size));
        let buffers = match self.buffers.take() {
            Some(buffers) if start > 0 => {
                let in_order = start == self.held && self.next == self.held;
                if in_order && visible <= buffers.capacity() {
                    buffers
                } else {
                    buffers.rearranged(&self.still_visible(), capacity)?
                }
            }
            _ => KvBuffers::new(heads, capacity),
        };
        (self.held, self.next) = (start, start);
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
