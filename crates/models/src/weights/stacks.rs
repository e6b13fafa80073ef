//! Where the files have the matrices of experts: one each, one tensor of all, or rows of such a tensor, one
//! matrix behind the other or by turns ([`arch::stacks`]).

use arch::Linear;
use arch::stacks::{self, Fused};

use super::Checkpoint;
use super::places::join;

/// A stack of matrices among the names of a checkpoint.
#[derive(Clone, Debug)]
pub(crate) enum StackPlace {
    /// A matrix for each expert, below these paths: those that were found so far.
    Each(Vec<String>),
    /// All in the tensors below this path.
    One(String),
    /// All in rows of a tensor of floats.
    Rows(Fused),
    /// All by turns in the columns of a tensor of floats, `[experts, columns, parts * rows]`.
    Turned(Fused),
    /// All by turns in rows of mxfp4.
    Blocks(Fused),
}

impl StackPlace {
    /// Where the matrices of `stack` are, below `root`. Of those that are each by itself none is looked for.
    pub(super) fn find(checkpoint: &Checkpoint, root: &str, stack: &Linear<String>) -> Self {
        let path = &stack.weight;
        let stacked = stacks::stacked(path).map(|path| join(root, path));
        let is_there = |one: &String| checkpoint.has(&format!("{one}.weight"));
        if let Some(one) = stacked.into_iter().find(is_there) {
            return Self::One(one);
        }
        let mut fused = stacks::fused(path);
        fused.tensor = join(root, &fused.tensor);
        match stack.by_turns {
            true if checkpoint.has(&fused.tensor) => Self::Turned(fused),
            true => Self::Blocks(fused),
            false if checkpoint.has(&fused.tensor) => Self::Rows(fused),
            false => Self::Each(Vec::new()),
        }
    }

    /// The tensor of their biases, and which of how many parts by turns they are of its rows. Experts that are each by
    /// itself have none.
    pub(super) fn biases(&self) -> Option<(String, usize, usize)> {
        match self {
            Self::One(path) => Some((format!("{path}.bias"), 0, 1)),
            Self::Turned(fused) | Self::Blocks(fused) => {
                Some((fused.bias(), fused.part, fused.parts))
            }
            Self::Each(_) | Self::Rows(_) => None,
        }
    }
}
