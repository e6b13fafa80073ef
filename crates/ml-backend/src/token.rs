//! A token that the device may still be computing.
//!
//! The tokens of several sequences that were drawn at once are one array. They are read at once, and where the
//! same sequences go on, that array is what the next step takes. Where the host has to draw, since the device has no
//! operation for what was asked, a token is the logits until somebody needs to know it.

use std::cell::OnceCell;
use std::rc::Rc;

use kernels::graph::Drawn;
use mlx_core::{Array, ops};

use crate::{Error, Result};

/// What is seen where stages on a GPU left nothing.
const NOTHING_LEFT: i32 = -2;

/// A token that was drawn for one sequence, by itself or beside others, or will be.
#[derive(Clone)]
pub(crate) enum Token {
    /// A row of what was drawn at once.
    Drawn {
        /// All of it.
        step: Rc<Step>,
        row: usize,
    },
    /// The host draws it.
    Later(Rc<Later>),
}

/// A token that is drawn when its logits are on the host.
pub(crate) struct Later {
    /// `[V]`.
    logits: Array,
    /// Once it was drawn; `None` where nothing could be.
    id: OnceCell<Option<u32>>,
}

/// What was drawn at once.
pub(crate) struct Step {
    drawn: Drawn,
    rows: usize,
    /// `drawn.seen`, once somebody has waited for it.
    seen: OnceCell<Vec<i32>>,
}

impl Token {
    /// Of one sequence.
    pub(crate) fn alone(drawn: Drawn) -> Self {
        Self::each(drawn, 1).remove(0)
    }

    /// Of `rows` sequences, in their order.
    pub(crate) fn each(drawn: Drawn, rows: usize) -> Vec<Self> {
        let seen = OnceCell::new();
        let step = Rc::new(Step { drawn, rows, seen });
        let token = |row| Self::Drawn {
            step: Rc::clone(&step),
            row,
        };
        (0..rows).map(token).collect()
    }

    /// To be drawn from `logits` `[V]` by [`settle`](Self::settle).
    pub(crate) fn later(logits: Array) -> Self {
        let id = OnceCell::new();
        Self::Later(Rc::new(Later { logits, id }))
    }

    /// Draws it, if that was left for later and is not done.
    pub(crate) fn settle(&self, draw: impl FnOnce(&Array) -> Option<u32>) {
        if let Self::Later(later) = self {
            later.id.get_or_init(|| draw(&later.logits));
        }
    }

    /// What has to be submitted for the token to come.
    pub(crate) fn arrays(&self) -> Vec<&Array> {
        match self {
            Self::Drawn { step, .. } => vec![&step.drawn.id, &step.drawn.seen],
            Self::Later(later) => vec![&later.logits],
        }
    }

    /// The tokens, int32 `[tokens.len()]`, as the next step's input.
    pub(crate) fn ids(tokens: &[&Self]) -> Result<Array> {
        if let Some(Self::Drawn { step: first, .. }) = tokens.first()
            && tokens.len() == first.rows
            && tokens
                .iter()
                .enumerate()
                .all(|(row, token)| token.is_row(first, row))
        {
            return Ok(first.drawn.id.clone());
        }
        let rows = tokens.iter().map(|token| token.id());
        let rows = rows.collect::<Result<Vec<_>>>()?;
        Ok(ops::concatenate(&rows.iter().collect::<Vec<_>>(), 0)?)
    }

    fn is_row(&self, of: &Rc<Step>, wanted: usize) -> bool {
        matches!(self, Self::Drawn { step, row } if Rc::ptr_eq(step, of) && *row == wanted)
    }

    /// By itself, int32 `[1]`.
    fn id(&self) -> Result<Array> {
        match self {
            Self::Drawn { step, row } => match step.rows {
                1 => Ok(step.drawn.id.clone()),
                _ => {
                    let row = *row as i32;
                    Ok(step.drawn.id.slice(&[row], &[row + 1])?)
                }
            },
            // Where nothing was drawn, a step may be made all the same, which nobody will look at.
            Self::Later(later) => {
                let id = later.id.get().copied().flatten().unwrap_or(0);
                Ok(Array::from_slice(&[id as i32], &[1])?)
            }
        }
    }

    /// Waits for it; `None` where the logits were not numbers.
    ///
    /// # Errors
    /// When the device fails, and where stages on it left nothing to draw.
    pub(crate) fn read(&self) -> Result<Option<u32>> {
        let (step, row) = match self {
            Self::Drawn { step, row } => (step, *row),
            Self::Later(later) => return Ok(later.id.get().copied().flatten()),
        };
        let seen = match step.seen.get() {
            Some(seen) => seen,
            None => {
                let seen = step.drawn.seen.to_vec::<i32>()?;
                step.seen.get_or_init(|| seen)
            }
        };
        match seen.get(row) {
            Some(&NOTHING_LEFT) => Err(Error::NothingAllowed),
            seen => Ok(seen.and_then(|&id| u32::try_from(id).ok())),
        }
    }
}
