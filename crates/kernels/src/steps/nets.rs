//! What a sequence remembers in gated delta nets, as the kernel has it: of all nets behind each other.

use mlx_core::{Array, Dtype, Result, ops};

use crate::delta::graph::Remembered;
use crate::delta::net::Sizes;

/// The gated delta nets of a model, which are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nets {
    /// How many.
    pub count: usize,
    /// Of each.
    pub sizes: Sizes,
}

/// What they remember of a sequence: arrays, which nobody writes.
#[derive(Clone, Debug)]
pub struct Memories {
    /// Float32 `[nets, heads, key_dim, value_dim]`.
    pub states: Array,
    /// `[nets, width - 1, channels]`, of the dtype of keys and values.
    pub tails: Array,
}

impl Nets {
    /// Floats of the state of a net.
    pub(super) fn floats(self) -> i32 {
        (self.sizes.heads * self.sizes.key_dim * self.sizes.value_dim) as i32
    }

    /// Numbers of the tail of a net.
    pub(super) fn numbers(self) -> i32 {
        (self.sizes.tail() * self.sizes.channels()) as i32
    }

    /// Shapes of states and of tails.
    pub(super) fn shapes(self) -> [Vec<i32>; 2] {
        let s = self.sizes;
        let shape = |axes: &[usize]| axes.iter().map(|&n| n as i32).collect();
        [
            shape(&[self.count, s.heads, s.key_dim, s.value_dim]),
            shape(&[self.count, s.tail(), s.channels()]),
        ]
    }

    /// Of the nets' memories, in their order; of a sequence that begins, none of them. `dtype` is that of keys and
    /// values.
    pub fn join(self, each: &[Remembered], dtype: Dtype) -> Result<Memories> {
        let [states, tails] = self.shapes();
        if each.is_empty() {
            return Ok(Memories {
                states: Array::zeros(&states, Dtype::Float32)?,
                tails: Array::zeros(&tails, dtype)?,
            });
        }
        let together =
            |shape: &[i32], arrays: Vec<&Array>| ops::concatenate(&arrays, 0)?.reshape(shape);
        Ok(Memories {
            states: together(&states, each.iter().map(|one| &one.matrices).collect())?,
            tails: together(&tails, each.iter().map(|one| &one.tail).collect())?.cast(dtype)?,
        })
    }
}

impl Memories {
    /// Whether they have these shapes, and tails this dtype.
    pub(super) fn fit(&self, [states, tails]: [&[i32]; 2], dtype: Dtype) -> bool {
        let (s, t) = (&self.states, &self.tails);
        s.shape() == states
            && t.shape() == tails
            && s.dtype() == Dtype::Float32
            && t.dtype() == dtype
    }

    /// Of net `index`.
    pub fn of_net(&self, index: usize) -> Result<Remembered> {
        let part = |all: &Array| {
            let (mut from, mut to) = (vec![0; all.ndim()], all.shape().to_vec());
            (from[0], to[0]) = (index as i32, index as i32 + 1);
            all.slice(&from, &to)?.reshape(&all.shape()[1..])
        };
        Ok(Remembered {
            tail: part(&self.tails)?,
            matrices: part(&self.states)?,
        })
    }
}
