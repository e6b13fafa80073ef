//! Which tokens the filters leave, and how often each of them is drawn: compared with the formulas in float64, on whole
//! sorted rows.

use std::collections::HashMap;

use kernels::Cpu;
use kernels::draw::{Filters, Row, Xtc, draw};
use proptest::prelude::*;

use crate::common::{Array, Rng, cpus, dtypes};

/// None of them.
pub(crate) fn plain() -> Filters<'static> {
    Filters {
        temperature: 1.0,
        temperature_first: false,
        top_k: None,
        top_p: None,
        min_p: None,
        typical_p: None,
        xtc: None,
    }
}

/// The probability, or the distance, within which float32 may decide otherwise.
const CLOSE: f64 = 1e-6;

/// What a filter leaves; the tokens of which float32 may think otherwise are in `unsure`.
#[derive(Clone, Default)]
pub(crate) struct Kept {
    /// The most probable first.
    pub(crate) tokens: Vec<usize>,
    pub(crate) unsure: Vec<usize>,
}

/// The chain by its formulas.
pub(crate) struct Reference {
    row: Vec<f64>,
    kept: Kept,
}

impl Reference {
    fn new(row: &[f64], temperature: f64) -> Self {
        let row: Vec<f64> = row.iter().map(|x| x / temperature).collect();
        let mut tokens: Vec<usize> = (0..row.len())
            .filter(|&i| row[i] > f64::NEG_INFINITY)
            .collect();
        tokens.sort_by(|&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
        let unsure = Vec::new();
        Self {
            row,
            kept: Kept { tokens, unsure },
        }
    }

    /// Of what is kept, in its order.
    fn probabilities(&self) -> Vec<f64> {
        let tokens = &self.kept.tokens;
        let max = self.row[tokens[0]];
        let weights: Vec<f64> = tokens.iter().map(|&i| (self.row[i] - max).exp()).collect();
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / total).collect()
    }

    /// Keeps the first tokens of an order that reach a share, by what the probability of those before each is.
    fn keep_share(&mut self, order: &[usize], share: f64) {
        let probabilities = self.probabilities();
        let (mut before, mut kept) = (0.0, Vec::new());
        for (rank, &at) in order.iter().enumerate() {
            if (before - share).abs() < CLOSE && rank > 0 {
                self.kept.unsure.push(self.kept.tokens[at]);
            }
            if before < share || rank == 0 {
                kept.push(at);
            }
            before += probabilities[at];
        }
        kept.sort_unstable();
        self.kept.tokens = kept.iter().map(|&at| self.kept.tokens[at]).collect();
    }

    fn top_k(&mut self, k: Option<usize>) {
        self.kept.tokens.truncate(k.unwrap_or(usize::MAX));
    }

    fn top_p(&mut self, p: Option<f32>) {
        let Some(p) = p else { return };
        let order: Vec<usize> = (0..self.kept.tokens.len()).collect();
        self.keep_share(&order, p.into());
    }

    fn min_p(&mut self, p: Option<f32>) {
        let Some(p) = p else { return };
        let least = self.row[self.kept.tokens[0]] + f64::from(p).ln();
        let close = |i: &&usize| (self.row[**i] - least).abs() < 1e-5;
        self.kept
            .unsure
            .extend(self.kept.tokens.iter().filter(close));
        self.kept.tokens.retain(|&i| self.row[i] >= least);
    }

    fn typical(&mut self, p: Option<f32>) {
        let Some(p) = p else { return };
        let probabilities = self.probabilities();
        let entropy: f64 = probabilities
            .iter()
            .map(|p| if *p > 0.0 { -p * p.ln() } else { 0.0 })
            .sum();
        let max = self.row[self.kept.tokens[0]];
        // The logarithms themselves: of small probabilities too.
        let log = |at: usize| self.row[self.kept.tokens[at]] - max + probabilities[0].ln();
        let distance = |at: usize| (-log(at) - entropy).abs();
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        order.sort_by(|&a, &b| distance(a).total_cmp(&distance(b)));
        let mut before = 0.0;
        let bound = order.iter().copied().find(|&at| {
            before += probabilities[at];
            before >= f64::from(p)
        });
        // Of those as far as the last one, but for what float32 makes of it, the order may be another; equal ones have
        // theirs.
        let bound = bound.unwrap_or(order[0]);
        let is_close = |&at: &usize| (distance(at) - distance(bound)).abs() < 2e-5;
        let close: Vec<usize> = (0..order.len()).filter(is_close).collect();
        let close: Vec<usize> = close.iter().map(|&at| self.kept.tokens[at]).collect();
        let value = self.row[self.kept.tokens[bound]];
        if close.iter().any(|&token| self.row[token] != value) {
            self.kept.unsure.extend(close);
        }
        self.keep_share(&order, p.into());
    }

    fn xtc(&mut self, xtc: Option<Xtc<'_>>) {
        let Some(Xtc { threshold, spared }) = xtc else {
            return;
        };
        let probabilities = self.probabilities();
        let threshold = f64::from(threshold);
        let tokens = self.kept.tokens.clone();
        let of = |at: usize| self.row[tokens[at]];
        let above: Vec<usize> = (0..tokens.len())
            .filter(|&at| probabilities[at] > threshold)
            .collect();
        let Some(&least) = above.last() else { return };
        let close = (0..tokens.len()).any(|at| (probabilities[at] - threshold).abs() < CLOSE);
        if close {
            self.kept.unsure.extend(&tokens);
        }
        let keeps = |at: &usize| of(*at) <= of(least) || spared.contains(&(tokens[*at] as u32));
        self.kept.tokens = (0..tokens.len())
            .filter(keeps)
            .map(|at| tokens[at])
            .collect();
    }

    /// The order that [`Filters`] promises.
    pub(crate) fn of(row: &[f64], filters: &Filters<'_>) -> Kept {
        if filters.temperature_first {
            let mut chain = Self::new(row, filters.temperature.into());
            chain.top_k(filters.top_k);
            chain.top_p(filters.top_p);
            chain.min_p(filters.min_p);
            chain.typical(filters.typical_p);
            chain.xtc(filters.xtc);
            return chain.kept;
        }
        let mut chain = Self::new(row, 1.0);
        chain.typical(filters.typical_p);
        chain.top_p(filters.top_p);
        chain.min_p(filters.min_p);
        chain.xtc(filters.xtc);
        chain.top_k(filters.top_k);
        chain.kept
    }
}

/// Vocabularies of one block, of several, and of many: all that is few, and what is not.
fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![1_usize..=200, 3_000_usize..=9_000, 40_000_usize..=50_000]
}

/// Logits, flat or peaked; of `steps` to one, so that many are equal, or hardly any.
fn logits(dtype: kernels::Dtype, size: usize, spread: f64, steps: f64, rng: &mut Rng) -> Array {
    Array::new(dtype, [1, 1, size], 0, 1).fill(|| (rng.normal() * spread * steps).round() / steps)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_filters_leave_what_the_formulas_leave(
        dtype in dtypes(), size in sizes(), seed in any::<u64>(), spread in 0.2_f64..=6.0,
        steps in prop_oneof![Just(8.0), Just(1e6)], temperature in 0.3_f32..=2.0,
        temperature_first in any::<bool>(),
        top_k in prop::option::of(1_usize..=6_000), top_p in prop::option::of(0.05_f32..=0.999),
        min_p in prop::option::of(0.001_f32..=0.5), typical_p in prop::option::of(0.05_f32..=0.99),
        threshold in prop::option::of(1e-4_f32..=0.4), alone in 0_usize..6,
    ) {
        let x = logits(dtype, size, spread, steps, &mut Rng::new(seed));
        let row = x.row(0, 0);
        let spared = [size as u32 / 2, 0, row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0 as u32];
        let spared = &spared[..seed as usize % 4];
        let xtc = threshold.map(|threshold| Xtc { threshold, spared });
        let all = Filters { temperature, temperature_first, top_k, top_p, min_p, typical_p, xtc };
        let only = Filters { temperature, temperature_first, ..plain() };
        // All together half of the time; else each by itself, which their bounds then decide.
        let filters = match alone {
            0 => Filters { top_p, ..only },
            1 => Filters { typical_p, ..only },
            2 => Filters { xtc, top_k, ..only },
            _ => all,
        };
        let Kept { tokens, unsure } = Reference::of(&row, &filters);
        // Where a filter before the last was unsure, those behind it were asked something else.
        prop_assume!(alone < 3 || unsure.is_empty());
        for cpu in cpus() {
            let mut own = Row::read(&cpu, x.view()).unwrap();
            let kept = own.kept(&filters);
            let only_one = |a: &[usize], b: &[usize]| -> Vec<usize> {
                let b: std::collections::HashSet<_> = b.iter().collect();
                a.iter().filter(|i| !b.contains(i)).copied().collect()
            };
            let (more, less) = (only_one(&kept, &tokens), only_one(&tokens, &kept));
            let sure = more.iter().chain(&less).find(|i| !unsure.contains(i));
            prop_assert!(
                sure.is_none(),
                "{:?}: {} too many, {} too few of {}; token {sure:?}; {filters:?}",
                cpu.isa(), more.len(), less.len(), tokens.len()
            );
        }
    }
}

/// Of 100,000 draws, by each kind of chain: a chi-square far from its edge.
#[test]
fn tokens_are_drawn_as_often_as_their_probability_says() {
    const DRAWS: usize = 100_000;
    let cpu = Cpu::new(kernels::Isa::best(), 1).unwrap();
    let mut rng = Rng::new(17);
    let spared: &[u32] = &[3];
    let xtc = Some(Xtc {
        threshold: 0.02,
        spared,
    });
    let chains = [
        Filters {
            temperature: 0.7,
            ..plain()
        },
        Filters {
            temperature: 1.5,
            top_k: Some(40),
            top_p: Some(0.9),
            ..plain()
        },
        Filters {
            temperature: 1.2,
            typical_p: Some(0.9),
            min_p: Some(0.02),
            ..plain()
        },
        Filters {
            temperature: 1.3,
            xtc,
            ..plain()
        },
        Filters {
            temperature: 0.8,
            top_p: Some(0.8),
            xtc,
            temperature_first: true,
            ..plain()
        },
    ];
    for (size, filters) in chains
        .iter()
        .flat_map(|filters| [(80, filters), (700, filters)])
    {
        let x = logits(kernels::Dtype::F32, size, 2.0, 1e6, &mut rng);
        let row = x.row(0, 0);
        let tokens = Reference::of(&row, filters).tokens;
        let temperature = f64::from(filters.temperature);
        let weight = |i: usize| ((row[i] - row[tokens[0]]) / temperature).exp();
        let total: f64 = tokens.iter().map(|&i| weight(i)).sum();
        let mut counts: HashMap<usize, usize> = HashMap::new();
        for _ in 0..DRAWS {
            let uniform = (rng.bits() >> 11) as f64 / (1_u64 << 53) as f64;
            let drawn = draw(&cpu, x.view(), filters, uniform).unwrap().unwrap();
            *counts.entry(drawn).or_default() += 1;
        }
        let (mut chi, mut free) = (0.0, 0.0);
        // What is expected fewer than ten times is one bin.
        let mut rare = (0.0, 0.0);
        for &token in &tokens {
            let expected = weight(token) / total * DRAWS as f64;
            let count = counts.remove(&token).unwrap_or(0) as f64;
            if expected < 10.0 {
                rare = (rare.0 + expected, rare.1 + count);
            } else {
                chi += (count - expected).powi(2) / expected;
                free += 1.0;
            }
        }
        assert!(
            counts.is_empty(),
            "{counts:?} are not to be drawn; {filters:?}"
        );
        if rare.0 >= 10.0 {
            chi += (rare.1 - rare.0).powi(2) / rare.0;
            free += 1.0;
        }
        // Its mean and, five deviations above, what nobody sees.
        let free: f64 = (free - 1.0_f64).max(1.0);
        assert!(
            chi < free + 5.0 * (2.0 * free).sqrt() + 8.0,
            "{chi} of {free}; {filters:?}"
        );
    }
}
