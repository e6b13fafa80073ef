//! A token that the device may still be computing.
//!
//! The tokens of several sequences that were drawn at once are one array. They are read at once, and where the
//! same sequences go on, that array is what the next step takes.

use std::cell::OnceCell;
use std::rc::Rc;

use kernels::graph::Drawn;
use mlx_core::{Array, ops};

use crate::Result;

/// A token that was drawn for one sequence, by itself or beside others.
#[derive(Clone)]
pub(crate) struct Token {
    step: Rc<Step>,
    row: usize,
}

/// What was drawn at once.
struct Step {
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
        let token = |row| Self {
            step: Rc::clone(&step),
            row,
        };
        (0..rows).map(token).collect()
    }

    /// What has to be submitted for the token to come.
    pub(crate) fn arrays(&self) -> [&Array; 2] {
        [&self.step.drawn.id, &self.step.drawn.seen]
    }

    /// The tokens, int32 `[tokens.len()]`, as the next step's input.
    pub(crate) fn ids(tokens: &[&Self]) -> Result<Array> {
        if let Some(first) = tokens.first()
            && tokens.len() == first.step.rows
            && tokens
                .iter()
                .enumerate()
                .all(|(row, token)| Rc::ptr_eq(&token.step, &first.step) && token.row == row)
        {
            return Ok(first.step.drawn.id.clone());
        }
        let rows = tokens.iter().map(|token| token.id());
        let rows = rows.collect::<Result<Vec<_>>>()?;
        Ok(ops::concatenate(&rows.iter().collect::<Vec<_>>(), 0)?)
    }

    /// By itself, int32 `[1]`.
    fn id(&self) -> Result<Array> {
        let id = &self.step.drawn.id;
        match self.step.rows {
            1 => Ok(id.clone()),
            _ => Ok(id.slice(&[self.row as i32], &[self.row as i32 + 1])?),
        }
    }

    /// Waits for it; `None` where the logits were not numbers.
    pub(crate) fn read(&self) -> Result<Option<u32>> {
        let seen = match self.step.seen.get() {
            Some(seen) => seen,
            None => {
                let seen = self.step.drawn.seen.to_vec::<i32>()?;
                self.step.seen.get_or_init(|| seen)
            }
        };
        Ok(seen.get(self.row).and_then(|&id| u32::try_from(id).ok()))
    }
}
