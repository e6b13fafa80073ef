//! Where arrays lie, for kernels that read more arrays than a launch can name.

use std::cell::RefCell;
use std::collections::VecDeque;

use mlx_core::cuda::{Kernel, Launch, Module};
use mlx_core::{Array, Dtype, Result, ops};

use crate::kv::Slot;

const SOURCE: &str = include_str!("cuda/addresses.cu");
/// Arrays that one launch of that kernel takes, and the words of a layer in the table of weights.
pub(super) const ROW: usize = 32;

/// Tables of caches that are kept: those of more sequences than are decoded in turns, and of their groups.
const KEPT: usize = 512;

/// Makes tables of addresses, and keeps those of caches until their buffers are others.
pub(crate) struct Tables {
    kernel: Kernel,
    /// Of so many tokens, the buffers with these [`KvBuffers::id`](crate::kv::KvBuffers::id), the last used first.
    known: RefCell<VecDeque<(Vec<u64>, Array)>>,
}

impl Tables {
    pub(crate) fn new() -> Result<Self> {
        let source = format!("typedef unsigned long long u64;\n{SOURCE}");
        Ok(Self {
            kernel: Module::compile("addresses", &source, &[])?.kernel("addresses")?,
            known: RefCell::default(),
        })
    }

    /// The addresses of `arrays`, uint64, in whole rows.
    pub(crate) fn of(&self, arrays: &[&Array]) -> Result<Array> {
        let mut rows = Vec::new();
        for row in arrays.chunks(ROW) {
            let filler = std::iter::repeat(&row[0]);
            let row: Vec<&Array> = row.iter().chain(filler).take(ROW).copied().collect();
            let launch = Launch {
                copy_strided: false,
                ..Launch::new([1, 1, 1], [1, 1, 1])
            };
            // SAFETY: the kernel takes 32 addresses, reads none of them, and writes 32 words.
            let made = unsafe {
                self.kernel
                    .launch(&row, &[(&[ROW as i32], Dtype::Uint64)], &[], launch)
            }?;
            rows.extend(made);
        }
        ops::concatenate(&rows.iter().collect::<Vec<_>>(), 0)
    }

    /// The addresses of the keys and the values of each layer of each of `sequences`, and, up to `tokens` of
    /// them, of the last one again.
    pub(crate) fn of_caches(&self, sequences: &mut [Vec<Slot>], tokens: usize) -> Result<Array> {
        for slot in sequences.iter_mut().flatten() {
            // Here and not only below, since it may copy a buffer that others have views of.
            slot.buffers.in_place()?;
        }
        if let [one] = sequences
            && tokens == 1
        {
            return self.of_cache(one);
        }
        let ids = sequences.iter().flatten().map(|slot| slot.buffers.id());
        let key = std::iter::once(tokens as u64).chain(ids).collect();
        self.known_or(key, || {
            let mut tables = Vec::with_capacity(tokens);
            for slots in &mut *sequences {
                // What fills up the last row of addresses is left out.
                let words = 2 * slots.len() as i32;
                tables.push(self.of_cache(slots)?.slice(&[0], &[words])?);
            }
            let last = tables.last().cloned();
            let filler = last
                .iter()
                .cycle()
                .take(tokens.saturating_sub(tables.len()));
            let all: Vec<&Array> = tables.iter().chain(filler).collect();
            ops::concatenate(&all, 0)
        })
    }

    /// Of one sequence, in whole rows.
    fn of_cache(&self, slots: &mut [Slot]) -> Result<Array> {
        let ids = slots.iter().map(|slot| slot.buffers.id());
        let key = std::iter::once(1).chain(ids).collect();
        self.known_or(key, || {
            let mut arrays = Vec::with_capacity(2 * slots.len());
            for slot in &mut *slots {
                arrays.extend(slot.buffers.in_place()?.0);
            }
            self.of(&arrays)
        })
    }

    /// The table that is known by `key`, or what `make` makes.
    fn known_or(&self, key: Vec<u64>, make: impl FnOnce() -> Result<Array>) -> Result<Array> {
        let found = {
            let mut known = self.known.borrow_mut();
            let at = known.iter().position(|(of, _)| *of == key);
            at.and_then(|at| known.remove(at))
        };
        let entry = match found {
            Some(entry) => entry,
            None => (key, make()?),
        };
        let table = entry.1.clone();
        let mut known = self.known.borrow_mut();
        known.push_front(entry);
        known.truncate(KEPT);
        Ok(table)
    }
}
