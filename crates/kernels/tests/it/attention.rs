//! Attention, compared with the textbook in float64.

use crate::common::{self, Array, Rng, close, cpus, dot, dtypes, epsilon};
use kernels::attention::{MaskView, Scores, Weighed, attention, attention_in_pages};
use kernels::pages::{Addresses, PAGE, Place};
use kernels::{Cpu, Dtype, Isa};
use proptest::prelude::*;

/// Sizes of an attention.
#[derive(Clone, Copy, Debug)]
struct Shape {
    heads: usize,
    group: usize,
    queries: usize,
    keys: usize,
    dim: usize,
}

/// A mask as the tests draw it.
#[derive(Clone, Copy, Debug)]
enum Kind {
    None,
    Causal,
    Window(usize),
    Around(usize),
    Rows,
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::None),
        Just(Kind::Causal),
        (1_usize..200).prop_map(Kind::Window),
        (1_usize..200).prop_map(Kind::Around),
        Just(Kind::Rows),
    ]
}

/// `out[head, query]`, and what its elements' rounding errors are measured by.
fn reference(
    q: &[f64],
    k: &[Vec<f64>],
    v: &[Vec<f64>],
    scores: Scores,
    sink: Option<f32>,
    sees: impl Fn(usize) -> bool,
) -> (Vec<f64>, Vec<f64>) {
    let dim = q.len();
    let scores: Vec<f64> = (0..k.len())
        .map(|j| {
            if sees(j) {
                let score = f64::from(scores.scale) * dot(q, &k[j]).0;
                let squash = |cap| f64::from(cap) * (score / f64::from(cap)).tanh();
                scores.softcap.map_or(score, squash)
            } else {
                f64::NEG_INFINITY
            }
        })
        .collect();
    let sink = sink.map_or(f64::NEG_INFINITY, f64::from);
    let max = scores.iter().copied().fold(sink, f64::max);
    if max == f64::NEG_INFINITY {
        return (vec![0.0; dim], vec![0.0; dim]);
    }
    let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
    let total: f64 = weights.iter().sum::<f64>() + (sink - max).exp();
    let (mut out, mut size) = (vec![0.0; dim], vec![0.0; dim]);
    for (w, v) in weights.iter().zip(v) {
        for d in 0..dim {
            out[d] += w / total * v[d];
            size[d] += w / total * v[d].abs();
        }
    }
    (out, size)
}

/// Keys and values in pages, behind something else, with NaN wherever no token is; without the first `dropped`.
struct InPages {
    memory: Vec<Vec<u8>>,
    places: [Place; 2],
    tokens: usize,
}

impl InPages {
    fn new([k, v]: [&Array; 2], dropped: usize) -> Self {
        let [heads, rows, dim] = k.layout.shape();
        let place = |offset| Place {
            offset,
            heads,
            dim,
            dtype: k.layout.dtype,
        };
        let keys = place(64);
        let places = [keys, place(64 + keys.bytes())];
        let page = vec![0xff; places[1].offset + places[1].bytes()];
        let mut memory = vec![page; rows.div_ceil(PAGE) - dropped];
        for (place, array) in places.iter().zip([k, v]) {
            for row in dropped * PAGE..rows {
                let page = &mut memory[row / PAGE - dropped];
                for head in 0..heads {
                    let numbers = array.row(head, row);
                    let bytes: Vec<u8> = numbers
                        .iter()
                        .flat_map(|x| common::encode(place.dtype, *x))
                        .collect();
                    let at = place.offset + (head * PAGE + row % PAGE) * bytes.len();
                    page[at..at + bytes.len()].copy_from_slice(&bytes);
                }
            }
        }
        Self {
            memory,
            places,
            tokens: rows - dropped * PAGE,
        }
    }
}

fn check(cpus: &[Cpu], shape: Shape, kind: Kind, types: [Dtype; 3], offset: usize, seed: u64) {
    let mut rng = Rng::new(seed);
    // Every other model squashes.
    let softcap = seed.is_multiple_of(2).then_some(1.5);
    let sinks: Vec<f32> = (0..shape.heads * shape.group)
        .map(|_| 2.0 * rng.normal() as f32)
        .collect();
    let sinks = seed.is_multiple_of(3).then_some(&sinks[..]);
    let Shape {
        heads,
        group,
        queries,
        keys,
        dim,
    } = shape;
    let [q_type, k_type, out_type] = types;
    let q =
        Array::new(q_type, [heads * group, queries, dim], 1, offset).fill(|| 2.0 * rng.normal());
    let k = Array::new(k_type, [heads, keys, dim], 2, offset).fill(|| rng.normal());
    let v = Array::new(k_type, [heads, keys, dim], 0, offset).fill(|| rng.normal());
    let scores = Scores {
        scale: (dim as f64).powf(-0.5) as f32,
        softcap,
    };
    let stride = keys + 3;
    let allowed: Vec<u8> = (0..queries * stride)
        .map(|_| (rng.bits() >> 40) as u8 % 3)
        .collect();
    let mask = match kind {
        Kind::None => MaskView::None,
        Kind::Causal => MaskView::Causal,
        Kind::Window(size) => MaskView::Window(size),
        Kind::Around(size) => MaskView::Around(size),
        Kind::Rows => MaskView::Rows {
            allowed: &allowed,
            stride,
        },
    };
    let mut wanted = Vec::new();
    for head in 0..heads * group {
        let rows = |a: &Array| -> Vec<_> { (0..keys).map(|j| a.row(head / group, j)).collect() };
        let (k, v) = (rows(&k), rows(&v));
        for i in 0..queries {
            let last = (keys + i) as i64 - queries as i64;
            let sees = |j: usize| match kind {
                Kind::None => true,
                Kind::Causal => j as i64 <= last,
                Kind::Window(size) => j as i64 <= last && j as i64 > last - size as i64,
                Kind::Around(size) => (j as i64 - last).abs() < size as i64,
                Kind::Rows => allowed[i * stride + j] != 0,
            };
            let sink = sinks.map(|sinks| sinks[head]);
            wanted.push(reference(&q.row(head, i), &k, &v, scores, sink, sees));
        }
    }
    let seen = Weighed { mask, sinks };
    let squashed = f64::from(u8::from(softcap.is_some()));
    for cpu in cpus {
        let mut out = Array::new(out_type, [heads * group, queries, dim], 1, offset);
        attention(
            cpu,
            q.view(),
            k.view(),
            v.view(),
            scores,
            seen,
            out.view_mut(),
        )
        .unwrap();
        out.check_gaps();
        // In pages it is the same to the bit, also where those go that nobody sees any more.
        let mut all = vec![0];
        if let Kind::Window(size) = kind {
            all.push(keys.saturating_sub(queries + size - 1) / PAGE);
        }
        for dropped in all.into_iter().filter(|_| !matches!(kind, Kind::Rows)) {
            let mut pages = InPages::new([&k, &v], dropped);
            let memory = pages.memory.iter_mut().map(Vec::as_mut_slice);
            let mut addresses = Addresses::new(memory);
            let held = addresses.pages();
            let [k, v] = pages
                .places
                .map(|place| held.tokens(&place, pages.tokens).unwrap());
            let mut again = Array::new(out_type, [heads * group, queries, dim], 1, offset);
            attention_in_pages(cpu, q.view(), k, v, scores, seen, again.view_mut()).unwrap();
            again.check_gaps();
            for head in 0..heads * group {
                for i in 0..queries {
                    let bits = |a: &Array| a.row(head, i).into_iter().map(f64::to_bits);
                    let same = bits(&out).eq(bits(&again));
                    assert!(same, "{:?}: row {head}, {i} in pages", cpu.isa());
                }
            }
        }
        for head in 0..heads * group {
            for i in 0..queries {
                let (values, sizes) = &wanted[head * queries + i];
                for d in 0..dim {
                    // A score is a sum of `dim` products whose partial sums reach 10 or so: its error grows
                    // with the root of their number, and its exponential takes it on.
                    let steps = 20.0 + 6.0 * (dim as f64).sqrt() + 20.0 * squashed;
                    let sums = epsilon(Dtype::F32) * steps * sizes[d];
                    let bound = sums + epsilon(out_type) * values[d].abs() + 1e-7;
                    close(out.get(head, i, d), values[d], bound, || {
                        let threads = cpu.pool().threads();
                        format!("{:?}, {threads} threads: out[{head}, {i}, {d}]", cpu.isa())
                    });
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn decode_is_right(
        (heads, group, queries) in (1_usize..=3, 1_usize..=4, 1_usize..=3),
        (keys, dim) in (1_usize..=700, (4_usize..=32).prop_map(|d| 8 * d)),
        kind in kinds(),
        types in (dtypes(), dtypes(), dtypes()),
        offset in 0_usize..4,
        seed in any::<u64>(),
    ) {
        let shape = Shape { heads, group, queries, keys, dim };
        check(&cpus(), shape, kind, [types.0, types.1, types.2], offset, seed);
    }

    #[test]
    fn prefill_is_right(
        (heads, group, queries) in (1_usize..=2, 1_usize..=3, 6_usize..=90),
        (keys, dim) in (1_usize..=600, (4_usize..=32).prop_map(|d| 8 * d)),
        kind in kinds(),
        types in (dtypes(), dtypes(), dtypes()),
        offset in 0_usize..4,
        seed in any::<u64>(),
    ) {
        let shape = Shape { heads, group, queries, keys, dim };
        check(&cpus(), shape, kind, [types.0, types.1, types.2], offset, seed);
    }
}

#[test]
fn the_models_own_shapes_are_right() {
    let cpus = cpus();
    let types = [Dtype::Bf16; 3];
    for (group, heads, dim) in [(2, 2, 128), (4, 1, 256), (1, 2, 64)] {
        for (queries, keys) in [(1, 1), (1, 513), (40, 40), (33, 150)] {
            let shape = Shape {
                heads,
                group,
                queries,
                keys,
                dim,
            };
            check(&cpus, shape, Kind::Causal, types, 0, 5);
            check(&cpus, shape, Kind::Window(32), types, 0, 6);
            check(&cpus, shape, Kind::Around(17), types, 0, 7);
            check(&cpus, shape, Kind::Window(32), types, 0, 9);
        }
    }
}

#[test]
fn sizes_that_disagree_are_refused() {
    let cpu = Cpu::new(Isa::Portable, 1).unwrap();
    let array = |shape| Array::new(Dtype::F32, shape, 0, 0).fill(|| 1.0);
    let attend = |q: [usize; 3], k, v, mask: MaskView<'_>| {
        let mut out = array(q);
        let (q, k, v) = (array(q), array(k), array(v));
        attention(
            &cpu,
            q.view(),
            k.view(),
            v.view(),
            1.0,
            mask,
            out.view_mut(),
        )
    };
    assert!(attend([4, 2, 32], [2, 5, 32], [2, 5, 32], MaskView::Causal).is_ok());
    assert!(attend([3, 2, 32], [2, 5, 32], [2, 5, 32], MaskView::Causal).is_err());
    assert!(attend([4, 2, 32], [2, 5, 24], [2, 5, 24], MaskView::Causal).is_err());
    assert!(attend([4, 2, 32], [2, 5, 32], [2, 6, 32], MaskView::Causal).is_err());
    let rows = |bytes| MaskView::Rows {
        allowed: bytes,
        stride: 5,
    };
    assert!(attend([4, 2, 32], [2, 5, 32], [2, 5, 32], rows(&[1; 10])).is_ok());
    assert!(attend([4, 2, 32], [2, 5, 32], [2, 5, 32], rows(&[1; 9])).is_err());
    for (count, fits) in [(4, true), (2, false)] {
        let (q, k, mut out) = (array([4, 2, 32]), array([2, 5, 32]), array([4, 2, 32]));
        let seen = Weighed {
            mask: MaskView::Causal,
            sinks: Some(&[0.5; 4][..count]),
        };
        let views = (q.view(), k.view(), k.view());
        let made = attention(&cpu, views.0, views.1, views.2, 1.0, seen, out.view_mut());
        assert_eq!(made.is_ok(), fits);
    }
}
