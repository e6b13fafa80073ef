//! Which tokens may be drawn.
//!
//! No filter needs an order of the whole vocabulary. What top-k, min-p and XTC look at is found through the maxima of
//! blocks. Top-p and typical sampling keep what is nearest to something, up to a share of the probability: passes that
//! sum the weights up to eight distances at a time find between which two the bound lies, and only what lies there is
//! sorted. Once few tokens are left, the rest is done on a list of them.

use super::passes::{CUTS, Count, Cut, Distances, Keep};
use super::row::{BLOCK, GRAIN, Row, block_range};
use crate::isa::dispatch;
use crate::scratch::{Scratch, Shared};

/// So many tokens are few.
const FEW: usize = 1024;

/// Tokens among which top-p looks at first.
const FIRST: usize = 256;

/// Which tokens may be drawn, and how flat the odds between them are.
///
/// Each filter looks at the probabilities of what those before it left, as if that were all: typical, top-p, min-p,
/// XTC, top-k, and the temperature last. With `temperature_first` the logits are divided by that before everything,
/// and the order is top-k, top-p, min-p, typical, XTC, as transformers has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Filters<'a> {
    /// What logits are divided by; larger than 0.
    pub temperature: f32,
    /// Whether that comes first.
    pub temperature_first: bool,
    /// As many of the most probable.
    pub top_k: Option<usize>,
    /// The fewest of the most probable that together have this probability.
    pub top_p: Option<f32>,
    /// Those at least so many times as probable as the most probable.
    pub min_p: Option<f32>,
    /// The fewest of those whose information is nearest to what is expected that together have this probability.
    /// <https://arxiv.org/abs/2202.00666>
    pub typical_p: Option<f32>,
    /// Where it is to be done: not the most probable.
    pub xtc: Option<Xtc<'a>>,
}

/// Of those more probable than a threshold, only the least probable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Xtc<'a> {
    /// A probability.
    pub threshold: f32,
    /// Tokens that are never left out by it.
    pub spared: &'a [u32],
}

/// Tokens that may be drawn.
#[derive(Debug, PartialEq)]
pub(super) enum Left {
    /// All of the row that are not at negative infinity.
    Row,
    /// These, the most probable first.
    Few(Vec<usize>),
}

/// Where an order by distance is cut.
struct Edge {
    /// What is nearer than this is before it, and what is not nearer than `to` behind.
    from: f32,
    to: f32,
    /// What lies between them, in the order, and how many of that are before.
    between: Vec<usize>,
    count: usize,
}

impl Row<'_> {
    /// What the filters leave. The row is of numbers.
    pub(super) fn filter(&mut self, filters: &Filters<'_>) -> Left {
        let mut left = Left::Row;
        if filters.temperature_first {
            left = self.top_k(left, filters.top_k);
            left = self.top_p(left, filters.top_p);
            left = self.min_p(left, filters.min_p);
            left = self.typical(left, filters.typical_p);
            return self.xtc(left, filters.xtc);
        }
        left = self.typical(left, filters.typical_p);
        left = self.top_p(left, filters.top_p);
        left = self.min_p(left, filters.min_p);
        left = self.xtc(left, filters.xtc);
        self.top_k(left, filters.top_k)
    }

    /// Of a list, the weights.
    fn weights_of(&self, few: &[usize]) -> Vec<f64> {
        // Against the first, which may not be the row's largest any more.
        let max = few.first().map_or(0.0, |&first| self.values()[first]);
        let weight = |&index: &usize| f64::from(self.values()[index] - max).exp();
        few.iter().map(weight).collect()
    }

    fn top_k(&mut self, left: Left, top_k: Option<usize>) -> Left {
        let Some(k) = top_k.filter(|&k| k < self.values().len()) else {
            return left;
        };
        let k = k.max(1);
        match left {
            Left::Few(mut few) => {
                few.truncate(k);
                Left::Few(few)
            }
            Left::Row if k <= FEW => Left::Few(self.without_infinite(self.largest(k))),
            Left::Row => {
                // Each token has the same weight.
                let blocks = self.maxima.as_slice().len();
                let mut each = Scratch::take(blocks * BLOCK);
                each.as_mut_slice().fill(1.0);
                let all = self.values().len() as f64;
                self.nearest(self.max(), k as f64, &each, all)
            }
        }
    }

    /// Those of a list in descending order that are in the row.
    fn without_infinite(&self, mut few: Vec<usize>) -> Vec<usize> {
        let count = few.partition_point(|&i| self.values()[i] > f32::NEG_INFINITY);
        few.truncate(count.max(1));
        few
    }

    fn min_p(&mut self, left: Left, min_p: Option<f32>) -> Left {
        let Some(min_p) = min_p else { return left };
        match left {
            Left::Few(mut few) => {
                let least = self.values()[few[0]] + min_p.ln();
                let count = few.partition_point(|&i| self.values()[i] >= least);
                few.truncate(count.max(1));
                Left::Few(few)
            }
            Left::Row => {
                let least = self.max() + min_p.ln();
                self.leave_at_least(least)
            }
        }
    }

    /// Leaves what is not below `least`.
    fn leave_at_least(&mut self, least: f32) -> Left {
        let found = self.up_to(FEW, least);
        if found.len() <= FEW {
            return Left::Few(self.in_order(found));
        }
        self.keep(0.0, f32::INFINITY, least);
        Left::Row
    }

    fn in_order(&self, mut few: Vec<usize>) -> Vec<usize> {
        let values = self.values();
        few.sort_unstable_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
        few
    }

    fn top_p(&mut self, left: Left, top_p: Option<f32>) -> Left {
        let Some(top_p) = top_p else { return left };
        let share = f64::from(top_p);
        match left {
            Left::Few(mut few) => {
                let weights = self.weights_of(&few);
                let target = share * weights.iter().sum::<f64>();
                few.truncate(reaching(weights, 0.0, target).max(1));
                Left::Few(few)
            }
            Left::Row => {
                let weights = self.weights(1.0);
                let first = self.largest(FIRST);
                let of_first = first.iter().map(|&i| f64::from(weights.each.as_slice()[i]));
                let count = reaching(of_first, 0.0, share * weights.total);
                if count < first.len() || first.len() == self.values().len() {
                    let mut few = first;
                    few.truncate(count.max(1));
                    return Left::Few(few);
                }
                let target = share * weights.total;
                self.nearest(self.max(), target, &weights.each, weights.total)
            }
        }
    }

    fn typical(&mut self, left: Left, typical_p: Option<f32>) -> Left {
        let Some(share) = typical_p.map(f64::from) else {
            return left;
        };
        match left {
            Left::Few(few) => {
                let weights = self.weights_of(&few);
                let total: f64 = weights.iter().sum();
                let max = f64::from(self.values()[few[0]]);
                let less = |i: usize| f64::from(self.values()[i]) - max;
                let pairs = few.iter().zip(&weights);
                let mean = pairs.map(|(&i, weight)| weight * less(i)).sum::<f64>() / total;
                let distance = |at: usize| (less(few[at]) - mean).abs();
                let mut order: Vec<usize> = (0..few.len()).collect();
                order.sort_by(|&a, &b| distance(a).total_cmp(&distance(b)));
                let in_order = order.iter().map(|&at| weights[at]);
                let count = reaching(in_order, 0.0, share * total);
                order.truncate(count.max(1));
                order.sort_unstable();
                Left::Few(order.into_iter().map(|at| few[at]).collect())
            }
            Left::Row => {
                let weights = self.weights(1.0);
                let center = (f64::from(self.max()) + weights.mean) as f32;
                let target = share * weights.total;
                self.nearest(center, target, &weights.each, weights.total)
            }
        }
    }

    fn xtc(&mut self, left: Left, xtc: Option<Xtc<'_>>) -> Left {
        let Some(Xtc { threshold, spared }) = xtc else {
            return left;
        };
        let threshold = f64::from(threshold);
        let spares = |index: usize| spared.iter().any(|&id| id as usize == index);
        match left {
            Left::Few(few) => {
                let weights = self.weights_of(&few);
                let bound = threshold * weights.iter().sum::<f64>();
                let above = weights.partition_point(|&weight| weight > bound);
                let Some(least) = above.checked_sub(1).map(|last| self.values()[few[last]]) else {
                    return Left::Few(few);
                };
                let keeps = |&i: &usize| self.values()[i] <= least || spares(i);
                Left::Few(few.into_iter().filter(keeps).collect())
            }
            Left::Row => {
                let weights = self.weights(1.0);
                let bound = threshold * weights.total;
                // A little below, and then exactly.
                let mut above = self.at_least(self.max() + (bound.ln() as f32) - 1e-3);
                above.retain(|&i| f64::from(weights.each.as_slice()[i]) > bound);
                let of_above = above.iter().map(|&i| self.values()[i]);
                let least = of_above.fold(f32::INFINITY, f32::min);
                above.retain(|&i| self.values()[i] > least && !spares(i));
                self.set(above.into_iter().map(|i| (i, f32::NEG_INFINITY)));
                Left::Row
            }
        }
    }

    /// Leaves the fewest of those nearest to `center` whose weights reach `target`; all weigh `total`.
    fn nearest(&mut self, center: f32, target: f64, weights: &Scratch<f32>, total: f64) -> Left {
        let Edge {
            from,
            to,
            mut between,
            count,
        } = self.edge(center, target, weights, total);
        let of = Distances {
            values: self.values.as_slice(),
            weights: weights.as_slice(),
            center,
        };
        let out = between.split_off(count.min(between.len()));
        // One without weight is nothing that could be drawn.
        let inside = self.counts(of, 0.0, from);
        if inside.iter().sum::<u32>() as usize + between.len() <= FEW {
            between.extend(self.members(of, 0.0, from, &inside));
            return Left::Few(self.in_order(between));
        }
        self.keep(center, to, f32::NEG_INFINITY);
        self.set(out.into_iter().map(|i| (i, f32::NEG_INFINITY)));
        Left::Row
    }

    /// Of those nearest to `center`, the one with which their weights reach `target`; all weigh `total`.
    pub(super) fn nearest_reaching(
        &self,
        center: f32,
        target: f64,
        weights: &Scratch<f32>,
        total: f64,
    ) -> Option<usize> {
        let Edge { between, count, .. } = self.edge(center, target, weights, total);
        let mut before = between.into_iter().take(count.max(1));
        // Rounding may ask for more than all weigh.
        let has_weight = |&i: &usize| weights.as_slice()[i] > 0.0;
        before.rfind(has_weight)
    }

    /// Where the weights of those nearest to `center` reach `target`.
    fn edge(&self, center: f32, target: f64, weights: &Scratch<f32>, total: f64) -> Edge {
        let of = Distances {
            values: self.values.as_slice(),
            weights: weights.as_slice(),
            center,
        };
        // What is nearer than `from` is kept, with this weight; the bound is not before it.
        let (mut from, mut kept, mut width) = (0.0_f32, 0.0_f64, 1.0_f32);
        let (to, mut between) = loop {
            let cuts = std::array::from_fn(|i| from + width * (i + 1) as f32);
            let sums = self.cut(of, cuts);
            let Some(at) = sums.iter().position(|&sum| sum >= target) else {
                if cuts[CUTS - 1] > 1e30 || sums[CUTS - 1] >= total {
                    // Rounding: all that there is.
                    break (f32::INFINITY, self.between(of, from, f32::INFINITY));
                }
                (from, kept) = (cuts[CUTS - 1], sums[CUTS - 1]);
                width *= CUTS as f32;
                continue;
            };
            let to = cuts[at];
            if at > 0 {
                (from, kept) = (cuts[at - 1], sums[at - 1]);
            }
            let counts = self.counts(of, from, to);
            let is_narrow = from + width / CUTS as f32 <= from || width < 1e-6;
            if is_narrow || counts.iter().sum::<u32>() as usize <= FEW {
                break (to, self.members(of, from, to, &counts));
            }
            width /= CUTS as f32;
        };
        let values = self.values.as_slice();
        between.sort_unstable_by(|&a, &b| {
            let by_distance = of.of(a).total_cmp(&of.of(b));
            by_distance
                .then(values[b].total_cmp(&values[a]))
                .then(a.cmp(&b))
        });
        let in_order = between.iter().map(|&i| f64::from(of.weights[i]));
        let mut count = reaching(in_order, kept, target);
        if kept == 0.0 {
            count = count.max(1);
        }
        Edge {
            from,
            to,
            between,
            count,
        }
    }

    /// The weights of what is nearer than each of `cuts`.
    fn cut(&self, of: Distances<'_>, cuts: [f32; CUTS]) -> [f64; CUTS] {
        let mut sums = vec![[0.0_f32; CUTS]; of.values.len().div_ceil(BLOCK)];
        let to = Shared::new(sums.as_mut_ptr());
        self.cpu.pool().run_ranges(sums.len(), GRAIN, |blocks| {
            let kernel = Cut {
                of,
                cuts,
                to,
                blocks,
            };
            // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be
            // made; there is room for every block, and these are this thread's.
            unsafe { dispatch(self.cpu.isa(), kernel) }
        });
        let mut total = [0.0; CUTS];
        for block in sums {
            for (total, sum) in total.iter_mut().zip(block) {
                *total += f64::from(sum);
            }
        }
        total
    }

    /// How many of each block are in a range of distances.
    fn counts(&self, of: Distances<'_>, from: f32, to: f32) -> Vec<u32> {
        let mut counts = vec![0; of.values.len().div_ceil(BLOCK)];
        let shared = Shared::new(counts.as_mut_ptr());
        self.cpu.pool().run_ranges(counts.len(), GRAIN, |blocks| {
            let (range, to) = (from..to, shared);
            let kernel = Count {
                of,
                range,
                to,
                blocks,
            };
            // SAFETY: as in `cut`.
            unsafe { dispatch(self.cpu.isa(), kernel) }
        });
        counts
    }

    /// The indices in a range of distances, in ascending order.
    fn between(&self, of: Distances<'_>, from: f32, to: f32) -> Vec<usize> {
        self.members(of, from, to, &self.counts(of, from, to))
    }

    fn members(&self, of: Distances<'_>, from: f32, to: f32, counts: &[u32]) -> Vec<usize> {
        let blocks = counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let indices = blocks.flat_map(|(block, _)| block_range(block, of.values.len()));
        indices
            .filter(|&i| (from..to).contains(&of.of(i)))
            .collect()
    }

    /// Leaves what is nearer to `center` than `within`, and not below `least`.
    fn keep(&mut self, center: f32, within: f32, least: f32) {
        let blocks = self.maxima.as_slice().len();
        let len = self.values().len();
        let values = Shared::new(self.values.as_mut_ptr());
        let maxima = Shared::new(self.maxima.as_mut_ptr());
        let cpu = self.cpu;
        cpu.pool().run_ranges(blocks, GRAIN, |blocks| {
            let kernel = Keep {
                values,
                len,
                center,
                within,
                least,
                maxima,
                blocks,
            };
            // SAFETY: as in `cut`.
            unsafe { dispatch(cpu.isa(), kernel) }
        });
        self.find_max();
    }
}

/// How many of `weights`, which come behind what weighs `before`, it takes to reach `target`.
fn reaching(weights: impl IntoIterator<Item = f64>, mut before: f64, target: f64) -> usize {
    let mut count = 0;
    for weight in weights {
        if before >= target {
            break;
        }
        before += weight;
        count += 1;
    }
    count
}
