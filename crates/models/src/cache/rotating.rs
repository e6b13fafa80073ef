//! The cache of a sliding-window layer.

use mlx_core::Array;
use mlx_core::ops;

use super::{AttentionMask, GROWTH, room, tokens, write};
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
    buffers: Option<(Array, Array)>,
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

    /// See [`LayerCache::update`](super::LayerCache::update).
    pub fn update(&mut self, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        if keys.dim(2) == 1 {
            self.push(keys, values)
        } else {
            self.extend(keys, values)
        }
    }

    pub(super) fn arrays(&self) -> Vec<&Array> {
        self.buffers.iter().flat_map(|(k, v)| [k, v]).collect()
    }

    /// One token, in place.
    fn push(&mut self, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        if self.held == self.max_size && self.next == self.max_size {
            self.next = self.keep;
        }
        let (old_keys, old_values) = match self.buffers.take() {
            Some((k, v)) => (self.with_room(k)?, self.with_room(v)?),
            None => {
                let capacity = GROWTH.min(self.max_size);
                (room(keys, capacity)?, room(values, capacity)?)
            }
        };
        let keys = write(&old_keys, keys, self.next)?;
        let values = write(&old_values, values, self.next)?;
        self.next += 1;
        self.offset += 1;
        self.held = self.held.max(self.next);
        let visible = match self.held == keys.dim(2) {
            true => (keys.clone(), values.clone()),
            false => (tokens(&keys, 0, self.held)?, tokens(&values, 0, self.held)?),
        };
        self.buffers = Some((keys, values));
        Ok(visible)
    }

    /// Several tokens, by concatenation.
    fn extend(&mut self, keys: &Array, values: &Array) -> Result<(Array, Array)> {
        let count = keys.dim(2);
        let (keys, values) = match self.buffers.take() {
            Some((k, v)) if self.held > 0 => (
                ops::concatenate(&[&self.still_visible(&k)?, keys], 2)?,
                ops::concatenate(&[&self.still_visible(&v)?, values], 2)?,
            ),
            _ => (keys.clone(), values.clone()),
        };
        let stored = (self.latest(&keys)?, self.latest(&values)?);
        self.offset += count;
        self.held = stored.0.dim(2);
        self.next = self.held;
        self.buffers = Some(stored);
        Ok((keys, values))
    }

    /// How many held tokens the next one still sees: one place of the window is its own.
    fn still_visible_count(&self) -> i32 {
        self.held.min(self.max_size - 1)
    }

    /// Those tokens, in the order of their positions.
    fn still_visible(&self, buffer: &Array) -> Result<Array> {
        let kept = self.keep.min(self.held);
        let dropped = self.held - self.still_visible_count();
        // Behind the kept ones the oldest stand from `next` on, if the ring has come round.
        let (oldest, newest) = match self.next < self.held {
            true => (self.next..self.held, kept..self.next),
            false => (kept..self.held, self.held..self.held),
        };
        let ranges = [0..kept, oldest.start + dropped..oldest.end, newest];
        let mut parts = Vec::new();
        for range in ranges.into_iter().filter(|range| !range.is_empty()) {
            parts.push(tokens(buffer, range.start, range.end)?);
        }
        match parts.as_slice() {
            [] => tokens(buffer, 0, 0),
            [only] => Ok(only.clone()),
            several => Ok(ops::concatenate(&several.iter().collect::<Vec<_>>(), 2)?),
        }
    }

    /// The mask for `count` new tokens over what [`RotatingKvCache::update`] will return for them.
    pub(super) fn mask(&self, count: i32) -> Result<AttentionMask> {
        let before = if count == 1 {
            self.held
        } else {
            self.still_visible_count()
        };
        AttentionMask::sliding(count, before, self.max_size, self.keep)
    }

    /// The first `keep` and the last tokens of `array`, `max_size` in all.
    fn latest(&self, array: &Array) -> Result<Array> {
        let count = array.dim(2);
        if count <= self.max_size {
            return Ok(array.clone());
        }
        let last = tokens(array, count - (self.max_size - self.keep), count)?;
        if self.keep == 0 {
            return Ok(last);
        }
        Ok(ops::concatenate(
            &[&tokens(array, 0, self.keep)?, &last],
            2,
        )?)
    }

    /// `buffer`, or a larger copy if the next token does not fit and the ring is not yet full.
    fn with_room(&self, buffer: Array) -> Result<Array> {
        let capacity = buffer.dim(2);
        if self.next < capacity {
            return Ok(buffer);
        }
        let extra = room(&buffer, GROWTH.min(self.max_size - capacity))?;
        Ok(ops::concatenate(&[&buffer, &extra], 2)?)
    }
}
