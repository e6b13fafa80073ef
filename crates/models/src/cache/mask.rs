//! Which keys each query sees.

use kernels::graph::Mask;
use mlx_core::{Array, Dtype, ops};

use crate::Result;

/// A mask over L queries and S keys, the last L of which are the queries' own.
#[derive(Debug)]
pub(crate) enum AttentionMask {
    /// Every query sees every key.
    None,
    /// A query sees the keys up to its own.
    Causal,
    /// Of those, the last `width`; `array` says the same as booleans `[L, S]`, and is computed only
    /// if somebody asks for it.
    Window {
        /// Keys seen, the query's own included.
        width: i32,
        /// True where the query sees the key.
        array: Array,
    },
    /// A query sees the keys that are less than `width` from its own, on either side.
    Around {
        /// Keys seen on each side, the query's own included.
        width: i32,
        /// True where the query sees the key.
        array: Array,
    },
    /// Booleans `[L, S]`, true where the query sees the key.
    Array(Array),
}

impl AttentionMask {
    /// Of a full-attention layer.
    pub(super) fn full(queries: i32) -> Self {
        if queries == 1 {
            Self::None
        } else {
            Self::Causal
        }
    }

    /// Of a sliding-window layer whose cache shows `before` older keys: the first `keep` of them
    /// are always seen, of the others the last `window - keep`, the query's own included.
    pub(super) fn sliding(queries: i32, before: i32, window: i32, keep: i32) -> Result<Self> {
        // One query reads a ring that holds its window and nothing else.
        if queries == 1 {
            return Ok(Self::None);
        }
        let keys = before + queries;
        if keys <= window {
            return Ok(Self::Causal);
        }
        let index = |start: i32, stop: i32, shape: &[i32]| {
            Array::arange(start.into(), stop.into(), 1.0, Dtype::Int32)?.reshape(shape)
        };
        let query = index(before, keys, &[queries, 1])?;
        let key = index(0, keys, &[1, keys])?;
        let reach = Array::scalar(window - keep)?;
        let recent = ops::greater(&ops::add(&key, &reach)?, &query)?;
        let near = match keep {
            0 => recent,
            _ => ops::logical_or(&recent, &ops::less(&key, &Array::scalar(keep)?)?)?,
        };
        let causal = ops::less_equal(&key, &query)?;
        let array = ops::logical_and(&causal, &near)?;
        Ok(match keep {
            0 => Self::Window {
                width: window,
                array,
            },
            _ => Self::Array(array),
        })
    }

    /// Of a bidirectional layer: of `queries` tokens, which are all there are, each sees those that are less than
    /// `window` away.
    pub(super) fn around(queries: i32, window: i32) -> Result<Self> {
        if queries <= window {
            return Ok(Self::None);
        }
        let index =
            |shape: &[i32]| Array::arange(0.0, queries.into(), 1.0, Dtype::Int32)?.reshape(shape);
        let (query, key) = (index(&[queries, 1])?, index(&[1, queries])?);
        let reach = Array::scalar(window)?;
        let before = ops::greater(&ops::add(&key, &reach)?, &query)?;
        let behind = ops::less(&key, &ops::add(&query, &reach)?)?;
        Ok(Self::Around {
            width: window,
            array: ops::logical_and(&before, &behind)?,
        })
    }

    /// That of the last `rows` queries.
    pub(super) fn of_last(&self, rows: i32) -> Result<Self> {
        let last = |array: &Array| {
            let (queries, keys) = (array.dim(0), array.dim(1));
            array.slice(&[queries - rows, 0], &[queries, keys])
        };
        Ok(match self {
            Self::None => Self::None,
            Self::Causal => Self::full(rows),
            Self::Window { width, array } => Self::Window {
                width: *width,
                array: last(array)?,
            },
            Self::Around { width, array } => Self::Around {
                width: *width,
                array: last(array)?,
            },
            Self::Array(array) => Self::Array(last(array)?),
        })
    }

    pub(crate) fn as_mask(&self) -> Mask<'_> {
        match self {
            Self::None => Mask::None,
            Self::Causal => Mask::Causal,
            Self::Window { width, array } => Mask::Window {
                width: *width,
                array,
            },
            Self::Around { width, array } => Mask::Around {
                width: *width,
                array,
            },
            Self::Array(array) => Mask::Array(array),
        }
    }
}
