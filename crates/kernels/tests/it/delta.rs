//! Gated delta nets between their linear maps, compared with the recurrence in float64.

use crate::common::{Array, Rng, cpus, epsilon, open_device, values};
use kernels::delta::net::{
    EnteredView, NetView, Sequence, Sizes, StateView, StateViewMut, delta_net,
};
use kernels::graph::{self, Columns};
use kernels::rms_norm::NormView;
use kernels::{Cpu, Dtype};
use mlx_core::DeviceKind;
use proptest::prelude::*;

/// Of the norm: large, so that it does not hide how large what is read was.
const EPS: f64 = 1e-2;

/// A net with random weights, and what comes of some rows.
struct Net {
    sizes: Sizes,
    by_key_head: bool,
    filter: Vec<f32>,
    decay: Vec<f32>,
    step: Vec<f32>,
    norm: Array,
    dtype: Dtype,
    /// `mixed`, `z`, `b`, `a`; by key head the first and third alone are used.
    entered: [Array; 4],
}

/// What a sequence remembers: tail and matrices.
struct State([Array; 2]);

/// In what a reference is wrong.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    /// The state forgets nothing.
    Kept,
    /// What a key had is not unlearned.
    Unlearned,
    /// Queries are not shortened.
    Scale,
    /// The convolution does not see the rows before.
    Tail,
    /// The first heads share the first key, and so on, by turns.
    Shared,
}

impl Net {
    fn random(rng: &mut Rng, sizes: Sizes, by_key_head: bool, dtype: Dtype, rows: usize) -> Self {
        let (channels, values) = (sizes.channels(), sizes.heads * sizes.value_dim);
        let widths = match by_key_head {
            false => [channels, values, sizes.heads, sizes.heads],
            true => [channels + values, 1, 2 * sizes.heads, 1],
        };
        let mut floats = |n: usize, size: f64, around: f64| -> Vec<f32> {
            let number = |_| (around + size * rng.normal()) as f32;
            (0..n).map(number).collect()
        };
        Self {
            sizes,
            by_key_head,
            filter: floats(sizes.width * channels, 0.7, 0.0),
            decay: floats(sizes.heads, 0.1, -0.4),
            step: floats(sizes.heads, 0.5, 0.0),
            norm: Array::new(Dtype::F32, [1, 1, sizes.value_dim], 0, 0)
                .fill(|| 1.0 + 0.2 * rng.normal()),
            dtype,
            entered: widths
                .map(|width| Array::new(dtype, [1, rows, width], 3, 2).fill(|| rng.normal())),
        }
    }

    fn view(&self) -> NetView<'_> {
        NetView {
            sizes: self.sizes,
            by_key_head: self.by_key_head,
            filter: &self.filter,
            decay: &self.decay,
            step: &self.step,
            norm: NormView {
                weight: Some(self.norm.view()),
                epsilon: EPS as f32,
            },
        }
    }

    fn entered(&self, rows: std::ops::Range<usize>) -> EnteredView<'_> {
        let part = |i: usize| self.entered[i].view().slice_rows(rows.clone()).unwrap();
        let [z, a] = if self.by_key_head { [0, 2] } else { [1, 3] };
        EnteredView {
            mixed: part(0),
            z: part(z),
            b: part(2),
            a: part(a),
        }
    }

    fn state(&self) -> State {
        let s = &self.sizes;
        State([
            Array::new(self.dtype, [1, s.tail(), s.channels()], 0, 0),
            Array::new(Dtype::F32, [s.heads, s.key_dim, s.value_dim], 0, 0),
        ])
    }

    /// A row's channels, and of each head `z`, `b`, `a`, as the reference implementation takes them apart.
    fn parted(&self, row: usize) -> (Vec<f64>, Vec<Vec<f64>>, Vec<f64>, Vec<f64>) {
        let s = &self.sizes;
        let shared = s.heads / s.key_heads;
        let whole = |i: usize| self.entered[i].row(0, row);
        if !self.by_key_head {
            let z = whole(1).chunks(s.value_dim).map(<[f64]>::to_vec).collect();
            return (whole(0), z, whole(2), whole(3));
        }
        let (mut q, mut k, mut v, mut z) = (vec![], vec![], vec![], vec![]);
        let group = 2 * s.key_dim + 2 * shared * s.value_dim;
        for of_head in whole(0).chunks(group) {
            let (queries, rest) = of_head.split_at(s.key_dim);
            let (keys, rest) = rest.split_at(s.key_dim);
            let (values, gates) = rest.split_at(shared * s.value_dim);
            q.extend(queries);
            k.extend(keys);
            v.extend(values);
            z.extend(gates.chunks(s.value_dim).map(<[f64]>::to_vec));
        }
        let (mut b, mut a) = (vec![], vec![]);
        for pair in whole(2).chunks(2 * shared) {
            b.extend(&pair[..shared]);
            a.extend(&pair[shared..]);
        }
        ([q, k, v].concat(), z, b, a)
    }

    /// Rows `rows` of one sequence: what comes out, and the matrices behind them.
    fn reference(
        &self,
        rows: std::ops::Range<usize>,
        before: Option<&State>,
        wrong: Wrong,
    ) -> (Vec<Vec<f64>>, Vec<f64>) {
        let s = self.sizes;
        let shared = s.heads / s.key_heads;
        let channels = s.channels();
        let tail = |i: usize| match before {
            Some(state) if wrong != Wrong::Tail => state.0[0].row(0, i),
            _ => vec![0.0; channels],
        };
        let mut seen: Vec<Vec<f64>> = (0..s.tail()).map(tail).collect();
        let matrix = s.key_dim * s.value_dim;
        let mut states = vec![0.0; s.heads * matrix];
        if let Some(State([_, matrices])) = before {
            let all = (0..s.heads).flat_map(|h| (0..s.key_dim).map(move |i| (h, i)));
            states = all.flat_map(|(h, i)| matrices.row(h, i)).collect();
        }
        let silu = |x: f64| x / (1.0 + (-x).exp());
        let mut out = Vec::new();
        for row in rows {
            let (mixed, z, b, a) = self.parted(row);
            seen.push(mixed);
            let last = &seen[seen.len() - s.width..];
            let x: Vec<f64> = (0..channels)
                .map(|c| {
                    let taps = last.iter().enumerate();
                    silu(
                        taps.map(|(i, seen)| seen[c] * f64::from(self.filter[i * channels + c]))
                            .sum(),
                    )
                })
                .collect();
            let unit = |x: &[f64]| -> Vec<f64> {
                let length = (x.iter().map(|x| x * x).sum::<f64>() + 1e-6).sqrt();
                x.iter().map(|x| x / length).collect()
            };
            let mut y = Vec::new();
            for head in 0..s.heads {
                let key_head = match wrong {
                    Wrong::Shared => head % s.key_heads,
                    _ => head / shared,
                };
                let q = unit(&x[key_head * s.key_dim..][..s.key_dim]);
                let k = unit(&x[(s.key_heads + key_head) * s.key_dim..][..s.key_dim]);
                let v = &x[2 * s.key_heads * s.key_dim + head * s.value_dim..][..s.value_dim];
                let forgets = (1.0 + (a[head] + f64::from(self.step[head])).exp()).ln();
                let kept = match wrong {
                    Wrong::Kept => 1.0,
                    _ => (f64::from(self.decay[head]) * forgets).exp(),
                };
                let learned = 1.0 / (1.0 + (-b[head]).exp());
                let state = &mut states[head * matrix..][..matrix];
                state.iter_mut().for_each(|x| *x *= kept);
                let mut read = vec![0.0; s.value_dim];
                for c in 0..s.value_dim {
                    let at = |i: usize| i * s.value_dim + c;
                    let known: f64 = (0..s.key_dim).map(|i| state[at(i)] * k[i]).sum();
                    let known = if wrong == Wrong::Unlearned {
                        0.0
                    } else {
                        known
                    };
                    let change = learned * (v[c] - known);
                    (0..s.key_dim).for_each(|i| state[at(i)] += k[i] * change);
                    read[c] = (0..s.key_dim).map(|i| state[at(i)] * q[i]).sum();
                    if wrong != Wrong::Scale {
                        read[c] /= (s.key_dim as f64).sqrt();
                    }
                }
                let square = read.iter().map(|x| x * x).sum::<f64>() / s.value_dim as f64;
                let norm = self.norm.row(0, 0);
                let numbers = (0..s.value_dim)
                    .map(|c| read[c] / (square + EPS).sqrt() * norm[c] * silu(z[head][c]));
                y.extend(numbers);
            }
            out.push(y);
        }
        (out, states)
    }

    /// Runs `rows` of one sequence: what comes out, and what is remembered behind them.
    fn run(
        &self,
        cpu: &Cpu,
        rows: std::ops::Range<usize>,
        before: Option<&State>,
    ) -> (Array, State) {
        let (mut y, mut behind) = (self.y(rows.len()), self.state());
        let sequence = sequence(rows.len(), before, &mut behind, None);
        let entered = self.entered(rows);
        delta_net(cpu, &entered, &self.view(), vec![sequence], y.view_mut()).unwrap();
        (y, behind)
    }

    fn y(&self, rows: usize) -> Array {
        Array::new(
            self.dtype,
            [1, rows, self.sizes.heads * self.sizes.value_dim],
            5,
            0,
        )
    }
}

fn sequence<'a>(
    rows: usize,
    before: Option<&'a State>,
    behind: &'a mut State,
    aligned: Option<(usize, &'a mut State)>,
) -> Sequence<'a> {
    fn written(State([tail, matrices]): &mut State) -> StateViewMut<'_> {
        StateViewMut {
            tail: tail.view_mut(),
            matrices: matrices.view_mut(),
        }
    }
    Sequence {
        rows,
        before: before.map(|State([tail, matrices])| StateView {
            tail: tail.view(),
            matrices: matrices.view(),
        }),
        behind: written(behind),
        aligned: aligned.map(|(rows, state)| (rows, written(state))),
    }
}

fn bits(array: &Array) -> Vec<u64> {
    let [planes, rows, _] = array.layout.shape();
    let all = (0..planes).flat_map(|plane| (0..rows).map(move |row| (plane, row)));
    let numbers = all.flat_map(|(plane, row)| array.row(plane, row));
    numbers.map(f64::to_bits).collect()
}

fn same_state(a: &State, b: &State) -> bool {
    a.0.iter().zip(&b.0).all(|(a, b)| bits(a) == bits(b))
}

/// The largest difference, by the largest number; infinite where something is not a number.
fn error(found: &[f64], wanted: &[f64]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let largest = wanted.iter().fold(1e-3, |m: f64, x| m.max(x.abs()));
    let differences = found
        .iter()
        .zip(wanted)
        .map(|(a, b)| (a - b).abs() / largest);
    differences.fold(
        0.0,
        |m: f64, x| if x.is_nan() { f64::INFINITY } else { m.max(x) },
    )
}

fn sizes() -> impl Strategy<Value = Sizes> {
    let dims = || prop::sample::select(vec![5_usize, 16, 24, 64, 100, 128]);
    (1_usize..=3, 1_usize..=3, dims(), dims(), 1_usize..=4).prop_map(
        |(key_heads, shared, key_dim, value_dim, width)| Sizes {
            key_heads,
            heads: key_heads * shared,
            key_dim,
            value_dim,
            width,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn nets_are_right_however_a_sequence_is_cut(
        sizes in sizes(),
        (earlier, rows) in (0_usize..=70, 1_usize..=70),
        cut in any::<prop::sample::Index>(),
        (by_key_head, in_bf16) in any::<(bool, bool)>(),
        seed in any::<u64>(),
    ) {
        let mut rng = Rng::new(seed);
        let dtype = if in_bf16 { Dtype::Bf16 } else { Dtype::F32 };
        let all = earlier + rows;
        let net = Net::random(&mut rng, sizes, by_key_head, dtype, all);
        let (wanted, matrices) = net.reference(0..all, None, Wrong::Nothing);
        for cpu in cpus() {
            // Alone, in two passes, the second of which leaves a state on its way.
            let first = (earlier > 0).then(|| net.run(&cpu, 0..earlier, None));
            let before = first.as_ref().map(|(_, state)| state);
            let (mut y, mut behind, mut aligned) = (net.y(rows), net.state(), net.state());
            let at = 1 + cut.index(rows);
            let on_the_way = Some((at, &mut aligned));
            let one = sequence(rows, before, &mut behind, on_the_way);
            delta_net(&cpu, &net.entered(earlier..all), &net.view(), vec![one], y.view_mut()).unwrap();
            y.check_gaps();
            for (row, wanted) in wanted[earlier..].iter().enumerate() {
                let error = error(&y.row(0, row), wanted);
                prop_assert!(error <= 2e-4 + epsilon(dtype), "{:?}: row {row}: {error:e}", cpu.isa());
            }
            let found: Vec<f64> = (0..sizes.heads)
                .flat_map(|h| (0..sizes.key_dim).map(move |i| (h, i)))
                .flat_map(|(h, i)| behind.0[1].row(h, i))
                .collect();
            let error = error(&found, &matrices);
            prop_assert!(error <= 2e-5, "{:?}: the state: {error:e}", cpu.isa());
            // All rows in one pass have the same bits, and so have those up to the state on the way.
            let (whole, state) = net.run(&cpu, 0..all, None);
            prop_assert!(same_state(&state, &behind), "{:?}: cut at {earlier}", cpu.isa());
            let whole = bits(&whole);
            prop_assert!(whole[whole.len() - bits(&y).len()..] == bits(&y)[..], "{:?}", cpu.isa());
            let (_, state) = net.run(&cpu, 0..earlier + at, None);
            prop_assert!(same_state(&state, &aligned), "{:?}: on the way", cpu.isa());
        }
    }

    #[test]
    fn a_sequence_depends_on_no_other(
        sizes in sizes(),
        lengths in prop::collection::vec(1_usize..=40, 2..=4),
        by_key_head in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let all = lengths.iter().sum();
        let net = Net::random(&mut Rng::new(seed), sizes, by_key_head, Dtype::Bf16, all);
        for cpu in cpus() {
            let mut states: Vec<State> = lengths.iter().map(|_| net.state()).collect();
            let sequences = lengths.iter().zip(&mut states);
            let sequences = sequences.map(|(rows, state)| sequence(*rows, None, state, None));
            let mut y = net.y(all);
            delta_net(&cpu, &net.entered(0..all), &net.view(), sequences.collect(), y.view_mut()).unwrap();
            let together = bits(&y);
            let (mut first, mut bits_before) = (0, 0);
            for (rows, state) in lengths.iter().zip(&states) {
                let (alone, behind) = net.run(&cpu, first..first + rows, None);
                let alone = bits(&alone);
                prop_assert!(same_state(&behind, state), "{:?}", cpu.isa());
                prop_assert!(together[bits_before..][..alone.len()] == alone[..], "{:?}", cpu.isa());
                (first, bits_before) = (first + rows, bits_before + alone.len());
            }
        }
    }
}

/// The bound of the first test tells right from wrong.
#[test]
fn what_is_wrong_differs() {
    let sizes = Sizes {
        key_heads: 2,
        heads: 4,
        key_dim: 64,
        value_dim: 128,
        width: 4,
    };
    for by_key_head in [false, true] {
        let net = Net::random(&mut Rng::new(5), sizes, by_key_head, Dtype::F32, 40);
        let cpu = cpus().pop().unwrap();
        let (_, state) = net.run(&cpu, 0..10, None);
        let (y, _) = net.run(&cpu, 10..40, Some(&state));
        let error_of = |wrong| {
            let (wanted, _) = net.reference(10..40, Some(&state), wrong);
            let errors = wanted
                .iter()
                .enumerate()
                .map(|(row, w)| error(&y.row(0, row), w));
            errors.fold(0.0, f64::max)
        };
        assert!(error_of(Wrong::Nothing) <= 2e-4);
        for wrong in [
            Wrong::Kept,
            Wrong::Unlearned,
            Wrong::Scale,
            Wrong::Tail,
            Wrong::Shared,
        ] {
            assert!(error_of(wrong) > 1e-2);
        }
    }
}

/// Some rows of a matrix as an array of the graph.
fn of_rows(x: &Array, rows: std::ops::Range<usize>) -> mlx_core::Array {
    let shape = [rows.len() as i32, x.layout.cols as i32];
    let floats: Vec<f32> = rows
        .flat_map(|row| x.row(0, row))
        .map(|x| x as f32)
        .collect();
    let dtype = match x.layout.dtype {
        Dtype::Bf16 => mlx_core::Dtype::Bfloat16,
        _ => mlx_core::Dtype::Float32,
    };
    let array = mlx_core::Array::from_slice(&floats, &shape).unwrap();
    array.cast(dtype).unwrap()
}

/// Passes of one sequence on a GPU: few rows, many, and states on the way.
fn check_on_gpu(sizes: Sizes, by_key_head: bool, dtype: Dtype) {
    const PASSES: [usize; 6] = [70, 1, 16, 50, 3, 90];
    let all = PASSES.iter().sum();
    let net = Net::random(&mut Rng::new(9), sizes, by_key_head, dtype, all);
    let (wanted, _) = net.reference(0..all, None, Wrong::Nothing);
    let of_floats = |x: &[f32], shape: &[i32]| mlx_core::Array::from_slice(x, shape).unwrap();
    let heads = [sizes.heads as i32];
    let [filter, decay, step] = [
        of_floats(&net.filter, &[sizes.width as i32, sizes.channels() as i32]),
        of_floats(&net.decay, &heads),
        of_floats(&net.step, &heads),
    ];
    let norm = of_rows(&net.norm, 0..1).reshape(&[-1]).unwrap();
    let by = graph::Net {
        filter: &filter,
        decay: &decay,
        step: &step,
        norm: graph::Norm {
            weight: &norm,
            eps: EPS as f32,
        },
        sizes,
    };
    let mut before: Option<graph::Remembered> = None;
    let mut first = 0;
    for rows in PASSES {
        let own = first..first + rows;
        let parts = net.entered.each_ref().map(|x| of_rows(x, own.clone()));
        // As columns of one matrix, as they are where projections are joined.
        let joined = mlx_core::ops::concatenate(&parts.each_ref(), 1).unwrap();
        let mut start = 0;
        let columns = parts.each_ref().map(|part| {
            let columns = Columns::of(&joined, start, part.dim(1));
            start += part.dim(1);
            columns
        });
        let [mixed, z, b, a] = &columns;
        let entered = match by_key_head {
            false => graph::NetEntered::Apart([mixed, z, b, a]),
            true => graph::NetEntered::ByKeyHead([mixed, b]),
        };
        let made = graph::delta_net(&entered, &by, before.as_ref(), first as i32).unwrap();
        let made = made.expect("there are kernels for these sizes");
        let found = values(&made.out);
        for (row, wanted) in wanted[own.clone()].iter().enumerate() {
            let error = error(&found[row * wanted.len()..][..wanted.len()], wanted);
            assert!(
                error <= 2e-4 + epsilon(dtype),
                "{sizes:?}: row {row} of {own:?}: {error:e}"
            );
        }
        let multiple = own.end / 64 * 64;
        let aligned = (rows > 1 && multiple > first).then(|| multiple - first);
        let kept = made.aligned.as_ref().map(|(tokens, _)| *tokens as usize);
        assert_eq!(kept, aligned, "{own:?}");
        for (end, state) in made
            .aligned
            .iter()
            .map(|(tokens, state)| (first + *tokens as usize, state))
            .chain([(own.end, &made.latest)])
        {
            let (_, matrices) = net.reference(0..end, None, Wrong::Nothing);
            let error = error(&values(&state.matrices), &matrices);
            assert!(
                error <= 2e-5,
                "{sizes:?}: the state behind {end}: {error:e}"
            );
            let tail: Vec<f64> = (end - sizes.tail()..end)
                .flat_map(|row| net.parted(row).0)
                .collect();
            assert_eq!(values(&state.tail), tail, "the tail behind {end}");
        }
        before = Some(made.latest);
        first = own.end;
    }
}

#[test]
fn nets_are_right_on_a_gpu() {
    if open_device() != DeviceKind::Cuda {
        return;
    }
    for (key_dim, value_dim, by_key_head, dtype) in [
        (128, 128, false, Dtype::Bf16),
        (64, 128, true, Dtype::F32),
        (128, 32, true, Dtype::Bf16),
        (32, 64, false, Dtype::F32),
    ] {
        let sizes = Sizes {
            key_heads: 2,
            heads: 6,
            key_dim,
            value_dim,
            width: 4,
        };
        check_on_gpu(sizes, by_key_head, dtype);
    }
}

#[test]
fn sizes_that_disagree_are_refused() {
    let sizes = Sizes {
        key_heads: 1,
        heads: 2,
        key_dim: 8,
        value_dim: 8,
        width: 3,
    };
    let net = Net::random(&mut Rng::new(6), sizes, false, Dtype::F32, 3);
    let cpu = cpus().pop().unwrap();
    let refused = |by: NetView<'_>, rows: usize, aligned: usize| {
        let (mut y, mut behind, mut on_the_way) = (net.y(3), net.state(), net.state());
        let aligned = (aligned > 0).then_some((aligned, &mut on_the_way));
        let one = sequence(rows, None, &mut behind, aligned);
        delta_net(&cpu, &net.entered(0..3), &by, vec![one], y.view_mut()).is_err()
    };
    assert!(!refused(net.view(), 3, 0) && !refused(net.view(), 3, 3));
    assert!(refused(net.view(), 2, 0) && refused(net.view(), 3, 4));
    let fewer = |sizes: Sizes| NetView {
        sizes,
        ..net.view()
    };
    assert!(refused(fewer(Sizes { width: 2, ..sizes }), 3, 0));
    assert!(refused(fewer(Sizes { heads: 1, ..sizes }), 3, 0));
    assert!(refused(
        fewer(Sizes {
            key_heads: 0,
            ..sizes
        }),
        3,
        0
    ));
    assert!(refused(
        NetView {
            decay: &net.decay[1..],
            ..net.view()
        },
        3,
        0
    ));
}
