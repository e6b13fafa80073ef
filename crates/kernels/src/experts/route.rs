//! Which experts a token has, and which tokens an expert.

use std::ops::Range;

/// A row and one of its experts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pair {
    pub(super) expert: usize,
    pub(super) row: usize,
    /// What the expert's output is multiplied by.
    pub(super) share: f32,
}

/// All pairs of some rows: by expert, and those of one expert by row.
pub(super) struct Routes {
    pub(super) pairs: Vec<Pair>,
}

impl Routes {
    /// Of rows of `count` logits: each has its `top` likeliest experts, of equals the first ones.
    pub(super) fn new(logits: &[f32], count: usize, top: usize, renormalised: bool) -> Self {
        let mut pairs = Vec::with_capacity(logits.len() / count.max(1) * top);
        for (row, logits) in logits.chunks_exact(count.max(1)).enumerate() {
            let begin = pairs.len();
            choose(row, logits, top, &mut pairs);
            if renormalised {
                let chosen = &mut pairs[begin..];
                let sum: f32 = chosen.iter().map(|pair| pair.share).sum();
                chosen.iter_mut().for_each(|pair| pair.share /= sum);
            }
        }
        pairs.sort_by_key(|pair| (pair.expert, pair.row));
        Self { pairs }
    }

    /// The pairs of each expert that has any.
    pub(super) fn by_expert(&self) -> impl Iterator<Item = (Range<usize>, &[Pair])> {
        let mut begin = 0;
        self.pairs
            .chunk_by(|a, b| a.expert == b.expert)
            .map(move |pairs| {
                let range = begin..begin + pairs.len();
                begin = range.end;
                (range, pairs)
            })
    }
}

/// The `top` largest of the softmax of `logits`, largest first.
fn choose(row: usize, logits: &[f32], top: usize, pairs: &mut Vec<Pair>) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f32> = logits.iter().map(|x| (x - largest).exp()).collect();
    let sum: f32 = exponentials.iter().sum();
    let begin = pairs.len();
    for _ in 0..top.min(logits.len()) {
        let chosen = &pairs[begin..];
        let left = (0..logits.len()).filter(|e| chosen.iter().all(|pair| pair.expert != *e));
        let best = left.reduce(|best, e| match logits[e] > logits[best] {
            true => e,
            false => best,
        });
        pairs.extend(best.map(|expert| Pair {
            expert,
            row,
            share: exponentials[expert] / sum,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equals_the_first_are_chosen() {
        let routes = Routes::new(&[0.5, 2.0, 2.0, 2.0, -1.0, 2.0], 6, 2, true);
        let experts: Vec<usize> = routes.pairs.iter().map(|pair| pair.expert).collect();
        assert_eq!(experts, [1, 2]);
        assert!(routes.pairs.iter().all(|pair| pair.share == 0.5));
    }

    #[test]
    fn each_expert_has_its_rows_in_order() {
        let logits = [0.0, 1.0, 3.0, 4.0, 1.0, 0.0, 0.0, 5.0, 6.0];
        let routes = Routes::new(&logits, 3, 2, false);
        let groups: Vec<(usize, Vec<usize>)> = routes
            .by_expert()
            .map(|(range, pairs)| {
                assert_eq!(range.len(), pairs.len());
                (pairs[0].expert, pairs.iter().map(|pair| pair.row).collect())
            })
            .collect();
        assert_eq!(groups, [(0, vec![1]), (1, vec![0, 1, 2]), (2, vec![0, 2])]);
        // Softmax over all three, by hand.
        let share = 3_f32.exp() / (0_f32.exp() + 1_f32.exp() + 3_f32.exp());
        let first = routes
            .pairs
            .iter()
            .find(|pair| (pair.expert, pair.row) == (2, 0));
        assert!((first.unwrap().share - share).abs() < 1e-6);
    }
}
