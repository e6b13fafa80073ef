//! Two sets of buffers that MLX's own operations write by turns.
//!
//! MLX writes a slice where the buffer lies only if nobody else needs that buffer; else it copies the
//! whole of it first. A step is submitted while the one before it runs, and attention of that one still
//! reads its buffers: with one set, every token would copy the caches of all layers, and hold them twice
//! meanwhile. With two, a step writes the set that the step before the last one read. That step is done,
//! since its token is the one that has been read. The set lacks what went into the other, one token, which
//! is written along.
//!
//! Whether a buffer is free is MLX's to decide: where a set is still in use after all, a step copies as it
//! would have, and computes the same.

use mlx_core::{Array, Result};

/// Tokens that one set has and the other has not.
#[derive(Clone, Debug)]
pub(super) struct Missed {
    /// `[1, heads, L, dim]`.
    keys: Array,
    /// As the keys.
    values: Array,
    /// Where the first of them goes.
    start: i32,
}

/// The set that is not read now.
#[derive(Debug)]
pub(super) struct Resting {
    arrays: [Array; 2],
    missed: Missed,
    /// Whether the other set was just made from this one, by a step that may be running.
    is_source: bool,
}

/// Buffers that hold one more token, and the set to write at the next one.
pub(super) struct Written {
    pub(super) arrays: [Array; 2],
    pub(super) resting: Resting,
}

/// Adds a token to what `active` holds, `resting` being the other set, if there is one.
pub(super) fn add(
    active: &[Array; 2],
    resting: Option<&Resting>,
    token: Missed,
) -> Result<Written> {
    let arrays = match resting {
        Some(resting) => {
            if resting.is_source {
                // Once in a generation: until that step is done its buffers would be copied again, and
                // there would be three sets.
                active[0].eval()?;
                active[1].eval()?;
            }
            token.added_to(&resting.missed.added_to(&resting.arrays)?)?
        }
        // `active` stays as it is, so this is the copy that makes the second set.
        None => token.added_to(active)?,
    };
    Ok(Written {
        arrays,
        resting: Resting {
            arrays: active.clone(),
            missed: token,
            is_source: resting.is_none(),
        },
    })
}

impl Missed {
    pub(super) fn new(keys: &Array, values: &Array, start: i32) -> Self {
        Self {
            keys: keys.clone(),
            values: values.clone(),
            start,
        }
    }

    /// The buffers with these tokens in them.
    pub(super) fn added_to(&self, [keys, values]: &[Array; 2]) -> Result<[Array; 2]> {
        let write = |buffer: &Array, update: &Array| {
            let shape = update.shape();
            let stop = [1, shape[1], self.start + shape[2], shape[3]];
            buffer.slice_update(update, &[0, 0, self.start, 0], &stop)
        };
        Ok([write(keys, &self.keys)?, write(values, &self.values)?])
    }
}
