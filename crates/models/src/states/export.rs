//! A sequence as arrays, to be kept elsewhere.

use std::rc::Rc;

use kernels::graph::{Heads, PageList, PageRange, Segment, read_pages, write_pages};
use mlx_core::Array;

use super::sequence::{Pages, Sequence, Taken};
use super::{SequenceId, States};
use crate::{Error, Result};

/// What a sequence remembers.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The position of the next token.
    pub position: i32,
    /// Of each of the model's states: keys and values `[kv_heads, tokens, head_dim]` of the tokens from `start` up
    /// to the position. Full attention begins at 0, a window where its first page does.
    pub states: Vec<PageRange>,
}

impl States {
    /// What a sequence remembers, in arrays of its own.
    ///
    /// # Errors
    /// When it was freed, or its last operation failed, or the model has recurrent states, which are not exported.
    pub fn export(&mut self, id: SequenceId) -> Result<Exported> {
        self.has_keys_alone()?;
        let sequence = self.get(id)?;
        let position = sequence.position;
        let nothing = Taken::nothing();
        let segment = Segment {
            rows: 0,
            position,
            kinds: sequence.kinds.iter().map(|p| p.with(&nothing)).collect(),
            slots: None,
            after: sequence.last.clone(),
        };
        if position == 0 {
            let none = |heads: &Heads| {
                let array = || Array::zeros(&[heads.count, 0, heads.dim], heads.dtype);
                Ok(PageRange {
                    start: 0,
                    arrays: [array()?, array()?],
                })
            };
            let states = self.map.heads().iter().map(none).collect::<Result<_>>()?;
            return Ok(Exported { position, states });
        }
        let states = 0..self.map.heads().len();
        let kind = |state| &sequence.kinds[self.map.kind_of(state)];
        let starts: Vec<i32> = states.map(|state| kind(state).from()).collect();
        let mut states = read_pages(&self.map, &segment, &starts)?;
        for (state, heads) in states.iter_mut().zip(self.map.heads()) {
            let shape = [heads.count, position - state.start, heads.dim];
            for array in &mut state.arrays {
                *array = array.reshape(&shape)?;
            }
        }
        // What is written next may lie where this reads.
        let arrays: Vec<_> = states.iter().flat_map(|state| &state.arrays).collect();
        mlx_core::eval(&arrays)?;
        Ok(Exported { position, states })
    }

    /// A sequence that remembers this.
    ///
    /// # Errors
    /// When it is of other states, lacks a token that the next one sees, or there is no memory.
    pub fn import(&mut self, exported: &Exported) -> Result<SequenceId> {
        let refused = |why: &str| Error::Input(format!("a sequence cannot be imported: {why}"));
        let position = exported.position;
        self.has_keys_alone()?;
        if exported.states.len() != self.map.heads().len() || position < 0 {
            return Err(refused("it is of other states"));
        }
        let mut ranges = Vec::with_capacity(exported.states.len());
        for (state, heads) in exported.states.iter().zip(self.map.heads()) {
            let shape = [heads.count, position - state.start, heads.dim];
            let mut range = state.clone();
            for array in &mut range.arrays {
                if array.shape() != shape || array.dtype() != heads.dtype || state.start < 0 {
                    return Err(refused("it is of other heads"));
                }
                *array = array.reshape(&[1, shape[0], shape[1], shape[2]])?;
            }
            ranges.push(range);
        }
        let mut kinds = Vec::with_capacity(self.map.kinds().len());
        for (i, kind) in self.map.kinds().iter().enumerate() {
            let of_kind = ranges.iter().enumerate();
            let of_kind = of_kind.filter(|(state, _)| self.map.kind_of(*state) == i);
            let starts = of_kind.map(|(_, range)| range.start);
            let (from, last) = starts.fold((position, 0), |(least, most), start| {
                (start.min(least), start.max(most))
            });
            let needed = kind.window.map_or(0, |w| (position - w + 1).max(0));
            if from != last || from > needed {
                return Err(refused("it lacks tokens that are seen"));
            }
            kinds.push(Pages::filled(kind, from, position, || self.page(kind))?);
        }
        let nothing = Taken::nothing();
        let lists: Vec<PageList> = kinds.iter().map(|pages| pages.with(&nothing)).collect();
        let mut sequence = Sequence::new(kinds, None);
        if position > 0 {
            let segment = Segment {
                rows: position,
                position: 0,
                kinds: lists,
                slots: None,
                after: None,
            };
            let done = write_pages(&self.map, &segment, &ranges)?;
            done.eval()?;
            sequence.position = position;
            sequence.last = Some(Rc::new(done));
        }
        Ok(self.add(sequence))
    }
    fn has_keys_alone(&self) -> Result<()> {
        match self.map.slots().is_empty() {
            true => Ok(()),
            false => Err(Error::Input(
                "sequences with recurrent states are not exported; run their tokens again"
                    .to_owned(),
            )),
        }
    }
}
