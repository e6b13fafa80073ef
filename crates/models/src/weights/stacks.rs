//! Where the files have the matrices of experts: one each, one tensor of all, or rows of such a tensor
//! ([`arch::stacks`]).

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
}

impl StackPlace {
    /// Where the matrices are that the description calls `path`, below `root`. Of those that are each by
    /// itself none is looked for.
    pub(super) fn find(checkpoint: &Checkpoint, root: &str, path: &str) -> Self {
        let stacked = stacks::stacked(path).map(|path| join(root, path));
        let is_there = |one: &String| checkpoint.has(&format!("{one}.weight"));
        if let Some(one) = stacked.into_iter().find(is_there) {
            return Self::One(one);
        }
        let mut fused = stacks::fused(path);
        fused.tensor = join(root, &fused.tensor);
        if checkpoint.has(&fused.tensor) {
            return Self::Rows(fused);
        }
        Self::Each(Vec::new())
    }
}
