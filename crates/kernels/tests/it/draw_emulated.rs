//! The CUDA kernels of the sampling stages, run on this machine as C++: the tokens that they draw are those of the
//! formulas in float64, step after step, with penalties that look back at what was drawn.

use std::collections::HashMap;

use kernels::draw::cuda::{Layout, SHARED, STEPS};
use kernels::draw::{Dry, Filters, Stages, Xtc};

use crate::common::Rng;
use crate::decode_emulated::compile::{HEADER, Library, compiler, shared_memory};
use crate::decode_emulated::model::Memory;
use crate::filters::{Reference, plain};

const LAYOUT: Layout = Layout {
    threads: 64,
    each: 2,
    rows: 2,
};

/// Steps of a sequence.
const DRAWS: usize = 4;

/// The launches on this machine.
struct Kernels(Library);

impl Kernels {
    fn new(compiler: &str) -> Self {
        let mut text = LAYOUT.definitions() + HEADER + SHARED;
        for step in &STEPS {
            text += &shared_memory(step.files);
            let bytes = (step.bytes)(LAYOUT);
            text += &format!(
                "EMULATED_ENTRY bool emulated_{0}(u64 seed, const u64* arguments) {{\n    return \
                 emulated::launch_kernel(arguments[0], THREADS / 32, {bytes}, seed, {0}, arguments + 1);\n}}\n",
                step.name
            );
        }
        Self(Library::of_text(compiler, "draw", &text))
    }

    /// What is drawn from each row, and what is seen of it.
    fn draw(
        &mut self,
        rows: &[Vec<f32>],
        slots: &mut [Memory],
        mask: Option<&[u32]>,
        seed: u64,
    ) -> Vec<[i32; 2]> {
        let columns = rows[0].len();
        let parts = u64::from(LAYOUT.parts(columns as u32));
        let work_words = LAYOUT.work_words(columns as u32) as usize;
        let logits = Memory::of_floats(&rows.concat());
        let words = mask.map_or(0, |mask| mask.len() / rows.len()) as u64;
        let mask = Memory::of_words(mask.unwrap_or(&[0]));
        let mut changed = Memory::of_floats(&vec![f32::NAN; rows.len() * columns]);
        let mut work = Memory::of_words(&vec![u32::MAX; rows.len() * work_words]);
        let mut tokens = Memory::of_words(&vec![0; 2 * rows.len() * columns]);
        let (mut id, mut seen) = (Memory::of_words(&[7, 7]), Memory::of_words(&[7, 7]));
        let slots: Vec<u64> = slots.iter_mut().map(Memory::address_mut).collect();
        let grid = parts * rows.len() as u64;
        let sizes = [columns as u64, parts, work_words as u64];
        let (changed, work) = (changed.address_mut(), work.address_mut());
        let [columns, parts, work_words] = sizes;
        let arguments = [
            [&[grid, logits.address(), mask.address()], &slots[..]].concat(),
            [&[grid, changed, work], &slots[..]].concat(),
            [&[grid, changed, work, 0], &slots[..]].concat(),
        ];
        let rest = [
            vec![changed, work, columns, words, parts, work_words],
            vec![0, columns, parts, work_words],
            vec![
                id.address_mut(),
                seen.address_mut(),
                tokens.address_mut(),
                columns,
                parts,
                work_words,
            ],
        ];
        for ((step, first), rest) in STEPS.iter().zip(arguments).zip(rest) {
            let all = [first, rest].concat();
            // SAFETY: the arguments are the kernel's, and the memory is as large as it has to be.
            let goes_on = unsafe { self.0.launch(step.name, seed, &all) };
            assert!(goes_on, "{} waits for ever", step.name);
        }
        let words = |memory: &Memory, row: usize| {
            let bytes = memory.bytes();
            i32::from_ne_bytes(bytes[4 * row..4 * row + 4].try_into().unwrap())
        };
        (0..rows.len())
            .map(|row| [words(&id, row), words(&seen, row)])
            .collect()
    }
}

/// SplitMix64 of a seed and a place, as on a processor.
fn uniform(seed: u64, drawn: u64, number: u64) -> f64 {
    let mix = |mut x: u64| {
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    };
    let place = (2 * drawn + number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mix(mix(seed).wrapping_add(place)) >> 11) as f64 / (1_u64 << 53) as f64
}

/// A logits row after biases, penalties and masks, in float32, each by its definition.
fn changed(
    stages: &Stages<'_>,
    ids: &[u32],
    prompt: usize,
    row: &[f32],
    mask: Option<&[u32]>,
) -> Vec<f32> {
    let mut row = row.to_vec();
    let last = |n: usize| &ids[ids.len().saturating_sub(n)..];
    for &(id, bias) in stages.biases {
        row[id as usize] += bias;
    }
    if let Some((penalty, context)) = stages.repetition {
        let seen: std::collections::HashSet<_> = last(context).iter().collect();
        for &id in seen {
            let x = &mut row[id as usize];
            *x = if *x < 0.0 { *x * penalty } else { *x / penalty };
        }
    }
    let mut counts: HashMap<u32, f32> = HashMap::new();
    for &id in stages.window.map_or(&ids[prompt..], last) {
        *counts.entry(id).or_default() += 1.0;
    }
    for (id, count) in counts {
        let x = &mut row[id as usize];
        *x = *x - stages.presence - stages.frequency * count;
    }
    if let Some(dry) = stages.dry {
        let mut longest: HashMap<u32, usize> = HashMap::new();
        let seen = last(dry.context);
        for at in 1..seen.len() {
            let pairs = seen[..at].iter().rev().zip(seen.iter().rev());
            let same = pairs.take_while(|(a, b)| a == b && !dry.breakers.contains(a));
            let length = same.count();
            if length > 0 && !dry.breakers.contains(&seen[at]) {
                let most = longest.entry(seen[at]).or_default();
                *most = length.max(*most);
            }
        }
        for (id, length) in longest {
            if let Some(over) = length.checked_sub(dry.allowed_length) {
                let cost = f64::from(dry.multiplier) * f64::from(dry.base).powi(over as i32);
                row[id as usize] -= cost.min(1e30) as f32;
            }
        }
    }
    for words in [stages.allowed, mask].into_iter().flatten() {
        for (id, x) in row.iter_mut().enumerate() {
            if words
                .get(id / 32)
                .is_none_or(|word| word >> (id % 32) & 1 == 0)
            {
                *x = f32::NEG_INFINITY;
            }
        }
    }
    row
}

/// What should be drawn; `None` where rounding may decide otherwise.
fn expected(stages: &Stages<'_>, drawn: u64, row: &[f32]) -> Option<i32> {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if max == f32::NEG_INFINITY {
        return Some(-2);
    }
    if stages.filters.temperature == 0.0 {
        return row.iter().position(|x| *x == max).map(|id| id as i32);
    }
    let number = |number| uniform(stages.seed, drawn, number);
    let is_done = number(1) < f64::from(stages.xtc_probability);
    let filters = Filters {
        xtc: stages.filters.xtc.filter(|_| is_done),
        ..stages.filters
    };
    let temperature = f64::from(filters.temperature);
    let row: Vec<f64> = row.iter().map(|&x| x.into()).collect();
    let kept = Reference::of(&row, &filters);
    if !kept.unsure.is_empty() {
        return None;
    }
    // The most probable first.
    let weights = kept.tokens.iter();
    let weights: Vec<f64> = weights
        .map(|&i| ((row[i] - row[kept.tokens[0]]) / temperature).exp())
        .collect();
    let total: f64 = weights.iter().sum();
    let target = number(0) * total;
    let mut sum = 0.0;
    for (&token, weight) in kept.tokens.iter().zip(weights) {
        if (sum - target).abs() < 1e-6 * total {
            return None;
        }
        sum += weight;
        if sum > target {
            return ((sum - target).abs() >= 1e-6 * total).then_some(token as i32);
        }
    }
    None
}

#[test]
fn tokens_are_drawn_as_the_formulas_say() {
    let Some(compiler) = compiler() else { return };
    let mut kernels = Kernels::new(&compiler);
    let mut rng = Rng::new(5);
    let mut sure = 0;
    for case in 0..60 {
        let size = [3, 40, 200, 700, 1300][case % 5];
        let rows = 2;
        let mut below = |n: usize| rng.bits() as usize % n;
        // Few kinds of tokens, so that much is repeated.
        let few = size.min(5);
        let prompt = below(24);
        let prompts: Vec<Vec<u32>> = (0..rows)
            .map(|_| (0..prompt).map(|_| below(few) as u32).collect())
            .collect();
        let breakers = [below(size) as u32];
        let spared = [below(size) as u32, below(size) as u32];
        let biases = [(below(size) as u32, 1.5)];
        let allowed: Vec<u32> = (0..size.div_ceil(32))
            .map(|_| below(1 << 32) as u32)
            .collect();
        let mask: Vec<u32> = (0..rows * size.div_ceil(32))
            .map(|_| below(1 << 32) as u32)
            .collect();
        let mask = (below(5) == 0).then_some(&mask[..]);
        let alone = below(7);
        let some =
            |rng: &mut Rng, number: usize, p: f64| alone == number || alone > 4 && rng.unit() < p;
        let biases = if alone > 4 { &biases[..] } else { &[] };
        let mut stages = Vec::new();
        for _ in 0..rows {
            let share = |rng: &mut Rng| 0.02 + 0.97 * rng.unit().abs() as f32;
            stages.push(Stages {
                biases,
                repetition: some(&mut rng, 5, 0.3).then(|| (0.5 + share(&mut rng), 1 + prompt / 2)),
                presence: if some(&mut rng, 5, 0.0) { 0.7 } else { 0.0 },
                frequency: if some(&mut rng, 5, 0.0) { -0.3 } else { 0.0 },
                window: (rng.unit() < 0.0).then_some(3),
                dry: some(&mut rng, 6, 0.2).then(|| Dry {
                    multiplier: 0.8,
                    base: 1.5,
                    allowed_length: 1 + case % 2,
                    context: if case % 3 == 0 { 6 } else { usize::MAX },
                    breakers: &breakers,
                }),
                allowed: (rng.unit() < -0.7).then_some(&allowed[..]),
                filters: Filters {
                    temperature: if rng.unit() < -0.8 {
                        0.0
                    } else {
                        0.3 + share(&mut rng)
                    },
                    temperature_first: rng.unit() < 0.0,
                    top_k: some(&mut rng, 0, 0.0).then(|| 1 + rng.bits() as usize % (size + 5)),
                    top_p: some(&mut rng, 1, 0.0).then(|| share(&mut rng)),
                    min_p: some(&mut rng, 2, 0.0).then(|| share(&mut rng) / 2.0),
                    typical_p: some(&mut rng, 3, 0.0).then(|| share(&mut rng)),
                    xtc: some(&mut rng, 4, 0.0).then(|| Xtc {
                        threshold: share(&mut rng) / 4.0,
                        spared: &spared,
                    }),
                },
                xtc_probability: if rng.unit() < 0.0 { 0.5 } else { 1.0 },
                seed: rng.bits(),
            });
        }
        let capacity = prompt + DRAWS;
        let words = stages.iter().zip(&prompts);
        let words = words.map(|(stages, ids)| stages.words(size, ids, capacity));
        let mut slots: Vec<Memory> = words.map(|words| Memory::of_words(&words)).collect();
        let mut ids = prompts.clone();
        let (spread, steps) = ([0.3, 2.0, 6.0][case % 3], [8.0, 1e6][case % 2]);
        for step in 0..DRAWS {
            let logits: Vec<Vec<f32>> = (0..rows)
                .map(|_| {
                    let one = |rng: &mut Rng| (rng.normal() * spread * steps).round() / steps;
                    // The few are drawn now and then.
                    let more = |i: usize| if i < few { 3.0 } else { 0.0 };
                    (0..size).map(|i| one(&mut rng) as f32 + more(i)).collect()
                })
                .collect();
            let drawn = kernels.draw(&logits, &mut slots, mask, rng.bits());
            for (row, [id, seen]) in drawn.into_iter().enumerate() {
                let words = size.div_ceil(32);
                let mask = mask.map(|mask| &mask[row * words..(row + 1) * words]);
                let after = changed(&stages[row], &ids[row], prompt, &logits[row], mask);
                let wanted = expected(&stages[row], step as u64, &after);
                if let Some(wanted) = wanted {
                    sure += 1;
                    assert_eq!(seen, wanted, "case {case}, step {step}: {:?}", stages[row]);
                }
                assert_eq!(id, seen.max(0));
                // A row of which nothing is left ends the sequence.
                ids[row].extend(u32::try_from(seen).ok());
            }
            if drawn_nothing(&ids, prompt + step + 1) {
                break;
            }
        }
    }
    println!("{sure} of {} draws are sure", 60 * 2 * DRAWS);
    assert!(sure > 300);
}

/// Whether a sequence has ended.
fn drawn_nothing(ids: &[Vec<u32>], tokens: usize) -> bool {
    ids.iter().any(|ids| ids.len() < tokens)
}

/// What is no number, and what is infinite, is no token; nor is a row without anything that may be drawn.
#[test]
fn of_rows_that_are_not_numbers_nothing_is_drawn() {
    let Some(compiler) = compiler() else { return };
    let mut kernels = Kernels::new(&compiler);
    let none = [0_u32; 9];
    for temperature in [0.0, 1.0] {
        let stages = |allowed| Stages {
            biases: &[],
            repetition: None,
            presence: 0.0,
            frequency: 0.0,
            window: None,
            dry: None,
            allowed,
            filters: Filters {
                temperature,
                top_p: Some(0.5),
                ..plain()
            },
            xtc_probability: 0.0,
            seed: 1,
        };
        for (bad, seen) in [(f32::NAN, -1), (f32::INFINITY, -1), (0.5, -2)] {
            let allowed = (seen == -2).then_some(&none[..]);
            let mut slots = [stages(None), stages(allowed)]
                .map(|stages| Memory::of_words(&stages.words(300, &[], 0)));
            let mut rows = vec![vec![0.25; 300]; 2];
            rows[0][77] = 30.0;
            rows[1][280] = bad;
            let drawn = kernels.draw(&rows, &mut slots, None, 3);
            assert_eq!(drawn, [[77, 77], [0, seen]]);
        }
    }
}
