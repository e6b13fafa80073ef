//! What stands between the products of a model, as operations, on the device that `ML_TEST_DEVICE`
//! names, or else the CPU: compared with float64.

use crate::common::{Rng, open_device, values};
use half::{bf16, f16};
use kernels::gated::Activation;
use kernels::graph::{
    Columns, Entry, Heads, KvBuffers, Norm, Rotation, Slot, gated, into_cache, residual,
    residual_norm, rms_norm, rows,
};
use mlx_core::{Array, DeviceKind, Dtype, device};

const DTYPES: [Dtype; 3] = [Dtype::Bfloat16, Dtype::Float16, Dtype::Float32];

/// Half the distance between 1 and the next number.
fn half_unit(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::Bfloat16 => 2.0_f64.powi(-8),
        Dtype::Float16 => 2.0_f64.powi(-11),
        _ => 2.0_f64.powi(-24),
    }
}

fn rounded(x: f64, dtype: Dtype) -> f64 {
    match dtype {
        Dtype::Bfloat16 => bf16::from_f64(x).to_f64(),
        Dtype::Float16 => f16::from_f64(x).to_f64(),
        _ => f64::from(x as f32),
    }
}

/// An array with its numbers.
struct Numbers {
    array: Array,
    values: Vec<f64>,
}

impl Numbers {
    fn of(values: Vec<f64>, shape: &[i32], dtype: Dtype) -> Self {
        let values: Vec<f64> = values.into_iter().map(|x| rounded(x, dtype)).collect();
        let floats: Vec<f32> = values.iter().map(|&x| x as f32).collect();
        let array = Array::from_slice(&floats, shape).unwrap();
        Self {
            array: array.cast(dtype).unwrap(),
            values,
        }
    }

    fn random(shape: &[i32], spread: f64, dtype: Dtype, rng: &mut Rng) -> Self {
        let size: i32 = shape.iter().product();
        let values = rng.normals(size as usize);
        Self::of(values.iter().map(|x| x * spread).collect(), shape, dtype)
    }

    /// Row `i` of rows of `width` numbers.
    fn row(&self, i: usize, width: usize) -> &[f64] {
        &self.values[i * width..][..width]
    }
}

/// Every number is the wanted one, to one rounding of the result and some float32 ones of `size`.
fn check(got: &Array, want: &[[f64; 2]], what: &str) {
    let dtype = got.dtype();
    let got = values(got);
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, [want, size])) in got.iter().zip(want).enumerate() {
        let slack = 24.0 * 2.0_f64.powi(-24) * size + 2.0_f64.powi(-25);
        let allowed = half_unit(dtype) * (want.abs() + slack) * 1.001 + slack;
        assert!(
            (got - want).abs() <= allowed,
            "{what}, {dtype:?}: number {i} is {got}, not {want}"
        );
    }
}

/// `shapes`, and on the CPU `odd`: on a GPU that is left to MLX, which rounds more often.
fn with_odd(shapes: &[(i32, i32)], odd: (i32, i32)) -> Vec<(i32, i32)> {
    let mut shapes = shapes.to_vec();
    if device::current().unwrap() == DeviceKind::Cpu {
        shapes.push(odd);
    }
    shapes
}

fn norm(row: &[f64], weight: &[f64], eps: f32) -> Vec<f64> {
    let square = row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64;
    let by = (square + f64::from(eps)).sqrt().recip();
    row.iter().zip(weight).map(|(x, w)| x * by * w).collect()
}

#[test]
fn gates_are_applied_to_columns_of_one_array_and_of_two() {
    open_device();
    let mut rng = Rng::new(1);
    for dtype in DTYPES {
        for (tokens, width) in with_odd(&[(1, 8), (5, 24), (3, 4096), (67, 40)], (2, 5)) {
            let joint = Numbers::random(&[1, tokens, 3 * width], 2.0, dtype, &mut rng);
            let row = |i: i32| joint.row(i as usize, 3 * width as usize);
            let (gate, up) = (
                Columns::of(&joint.array, width, width),
                Columns::of(&joint.array, 2 * width, width),
            );
            let apart = [&gate, &up].map(|part| Columns::all(part.to_array().unwrap()));
            let clamped = Activation::Clamped {
                limit: 1.75,
                alpha: 1.702,
            };
            for activation in [Activation::Silu, Activation::GeluTanh, clamped] {
                let activated = |g: f64| match activation {
                    Activation::Clamped { limit, alpha } => {
                        let g = g.min(limit.into());
                        g / (1.0 + (-f64::from(alpha) * g).exp())
                    }
                    Activation::Silu => g / (1.0 + (-g).exp()),
                    Activation::GeluTanh => {
                        let inner =
                            (2.0 / std::f64::consts::PI).sqrt() * (g + 0.044715 * g.powi(3));
                        0.5 * g * (1.0 + inner.tanh())
                    }
                };
                let factor = |u: f64| match activation {
                    Activation::Clamped { limit, .. } => {
                        u.clamp(-f64::from(limit), limit.into()) + 1.0
                    }
                    _ => u,
                };
                let width = width as usize;
                let want = |i: i32| {
                    let (gates, ups) = (&row(i)[width..2 * width], &row(i)[2 * width..]);
                    let both = gates.iter().zip(ups);
                    both.map(|(&g, &u)| {
                        let u = factor(u);
                        [activated(g) * u, (g * u).abs() * (1.0 + g * g)]
                    })
                };
                let want: Vec<[f64; 2]> = (0..tokens).flat_map(want).collect();
                let of_one = gated(activation, &gate, &up).unwrap();
                assert_eq!(of_one.shape(), [1, tokens, width as i32]);
                check(&of_one, &want, "of one array");
                let of_two = gated(activation, &apart[0], &apart[1]).unwrap();
                check(&of_two, &want, "of two arrays");
            }
        }
    }
}

#[test]
fn residual_sums_and_norms_are_right() {
    open_device();
    let mut rng = Rng::new(2);
    for dtype in DTYPES {
        for (tokens, width) in with_odd(&[(1, 8), (3, 1024), (40, 72), (2, 5376)], (3, 13)) {
            let shape = [1, tokens, width];
            let x = Numbers::random(&shape, 3.0, dtype, &mut rng);
            let addend = Numbers::random(&shape, 2.0, dtype, &mut rng);
            let [behind, then] = [1.0, 2.0].map(|s| Numbers::random(&[width], s, dtype, &mut rng));
            let (behind_eps, then_eps) = (1e-2, 1e-6);
            let as_norm = |weight, eps| Norm { weight, eps };
            let (by, next) = (
                as_norm(&behind.array, behind_eps),
                as_norm(&then.array, then_eps),
            );
            let per_row = |f: &dyn Fn(usize) -> Vec<f64>| -> Vec<f64> {
                (0..tokens as usize).flat_map(f).collect()
            };
            let width = width as usize;
            let with_size = |values: Vec<f64>, times: f64| -> Vec<[f64; 2]> {
                values
                    .into_iter()
                    .map(|x| [x, times * (x.abs() + 1.0)])
                    .collect()
            };

            let normed = per_row(&|i| norm(x.row(i, width), &then.values, then_eps));
            let got = rms_norm(&x.array, next).unwrap();
            check(&got, &with_size(normed, 1.0), "a norm");

            for by in [None, Some(by)] {
                // MLX rounds a normalized addend before it adds it.
                let roundings = if by.is_some() {
                    half_unit(dtype) / 2.0_f64.powi(-24)
                } else {
                    1.0
                };
                let sums = per_row(&|i| {
                    let addend = addend.row(i, width);
                    let addend = match by {
                        Some(_) => norm(addend, &behind.values, behind_eps),
                        None => addend.to_vec(),
                    };
                    x.row(i, width)
                        .iter()
                        .zip(addend)
                        .map(|(x, a)| x + a)
                        .collect()
                });
                let sum = residual(&x.array, &addend.array, by).unwrap();
                check(&sum, &with_size(sums.clone(), roundings), "a sum");
                let [sum, normed] = residual_norm(&x.array, &addend.array, by, next).unwrap();
                check(
                    &sum,
                    &with_size(sums, roundings),
                    "a sum that is normalized",
                );
                // Of the sum that was made.
                let made = values(&sum);
                let want = per_row(&|i| norm(&made[i * width..][..width], &then.values, then_eps));
                check(&normed, &with_size(want, 1.0), "a normalized sum");
            }
        }
    }
}

#[test]
fn a_float16_sum_stays_inside_its_range() {
    open_device();
    let near = 60000.0;
    let x = Numbers::of([near, -near].repeat(8), &[1, 1, 16], Dtype::Float16);
    let weight = Numbers::of(vec![1.0; 16], &[16], Dtype::Float16);
    let then = Norm {
        weight: &weight.array,
        eps: 1e-6,
    };
    let want = [65504.0, -65504.0].repeat(8);
    let sum = residual(&x.array, &x.array, None).unwrap();
    assert_eq!(values(&sum), want);
    let [sum, normed] = residual_norm(&x.array, &x.array, None, then).unwrap();
    assert_eq!(values(&sum), want);
    assert_eq!(values(&normed), [1.0, -1.0].repeat(8));
}

#[test]
fn chosen_rows_are_copied() {
    open_device();
    let mut rng = Rng::new(3);
    for dtype in DTYPES {
        for width in [8, 1000, 3] {
            let matrix = Numbers::random(&[11, width], 1.0, dtype, &mut rng);
            let ids = [10, 0, 3, 3, 9];
            let got = rows(&matrix.array, &Array::from_slice(&ids, &[5]).unwrap()).unwrap();
            let row = |&id: &i32| matrix.row(id as usize, width as usize).to_vec();
            assert_eq!(got.shape(), [5, width]);
            assert_eq!(values(&got), ids.iter().flat_map(row).collect::<Vec<_>>());
        }
    }
}

/// Heads of queries and keys, elements of each, and a stretch of positions.
struct Layer {
    heads: usize,
    kv_heads: usize,
    dim: usize,
    scale: f32,
}

/// What the cache should hold: the keys, with the sizes of their errors, and the values of each token.
#[derive(Default)]
struct Held {
    keys: Vec<Vec<[f64; 2]>>,
    values: Vec<Vec<[f64; 2]>>,
}

impl Layer {
    /// `row` as heads, normalized and rotated for `position`.
    fn rotated(
        &self,
        row: &[f64],
        weight: &[f64],
        periods: &[f32],
        position: usize,
    ) -> Vec<[f64; 2]> {
        let half = self.dim / 2;
        let mut made = Vec::new();
        for head in row.chunks(self.dim) {
            let x = norm(head, weight, 1e-6);
            let mut y = vec![[0.0; 2]; self.dim];
            for (i, period) in periods.iter().enumerate() {
                let angle = f64::from(self.scale) * position as f64 / f64::from(*period);
                let (sin, cos) = angle.sin_cos();
                // An angle is known to some roundings of its own size; MLX rounds what is normalized.
                let size = (x[i].abs() + x[i + half].abs()) * (1.0 + angle.abs());
                y[i] = [x[i] * cos - x[i + half] * sin, size];
                y[i + half] = [x[i + half] * cos + x[i] * sin, size];
            }
            made.extend(y);
        }
        made
    }

    fn run(&self, dtype: Dtype, lengths: &[usize], rng: &mut Rng) {
        let Self {
            heads,
            kv_heads,
            dim,
            ..
        } = *self;
        let [q_norm, k_norm] = [1.0, 0.5].map(|s| Numbers::random(&[dim as i32], s, dtype, rng));
        let periods: Vec<f32> = (0..dim / 2)
            .map(|i| 1e4_f32.powf(2.0 * i as f32 / dim as f32))
            .collect();
        let periods_array = Array::from_slice(&periods, &[periods.len() as i32]).unwrap();
        let norm_of = |weight| Norm { weight, eps: 1e-6 };
        let total: usize = lengths.iter().sum();
        let kind = Heads {
            count: kv_heads as i32,
            dim: dim as i32,
            dtype,
        };
        let mut buffers = KvBuffers::new(kind, total as i32 - 1);
        let (mut offset, mut held) = (0, Held::default());
        for &tokens in lengths {
            if offset + tokens > buffers.capacity() as usize {
                buffers = buffers.grown(offset as i32, total as i32 + 3).unwrap();
            }
            let width = (heads + 2 * kv_heads) * dim;
            let joint = Numbers::random(&[1, tokens as i32, width as i32], 2.0, dtype, rng);
            let part = |start: usize, heads: usize| {
                Columns::of(&joint.array, (start * dim) as i32, (heads * dim) as i32)
            };
            let entry = Entry {
                queries: part(0, heads),
                keys: part(heads, kv_heads),
                values: part(heads + kv_heads, kv_heads),
                query_norm: Some(norm_of(&q_norm.array)),
                key_norm: Some(norm_of(&k_norm.array)),
            };
            let by = Rotation {
                periods: &periods_array,
                scale: self.scale,
                offset: offset as i32,
            };
            let mut slot = Slot {
                buffers,
                start: offset as i32,
                visible: (offset + tokens) as i32,
            };
            let seen = into_cache(&entry, by, &mut slot).unwrap();
            buffers = slot.buffers;

            let mut queries = Vec::new();
            for i in 0..tokens {
                let row = joint.row(i, width);
                let (q, rest) = row.split_at(heads * dim);
                let (k, v) = rest.split_at(kv_heads * dim);
                queries.push(self.rotated(q, &q_norm.values, &periods, offset + i));
                held.keys
                    .push(self.rotated(k, &k_norm.values, &periods, offset + i));
                held.values.push(v.iter().map(|&v| [v, 0.0]).collect());
            }
            offset += tokens;
            let what = format!("{heads} and {kv_heads} heads of {dim}, {tokens} tokens");
            let parts = [
                (&seen.queries, &queries, heads, "queries"),
                (&seen.keys, &held.keys, kv_heads, "keys"),
                (&seen.values, &held.values, kv_heads, "values"),
            ];
            for (got, want, heads, part) in parts {
                assert_eq!(
                    got.shape(),
                    [1, heads as i32, want.len() as i32, dim as i32]
                );
                let by_head =
                    (0..heads).flat_map(|h| want.iter().map(move |t| &t[h * dim..][..dim]));
                let mut want: Vec<[f64; 2]> = by_head.flatten().copied().collect();
                if part != "values" {
                    // MLX rounds what is normalized before it rotates it.
                    let roundings = half_unit(dtype) / 2.0_f64.powi(-24);
                    want.iter_mut().for_each(|w| w[1] *= roundings / 8.0 + 1.0);
                }
                check(got, &want, &format!("{what}: {part}"));
            }
        }
        // Tokens in another order.
        let ranges = [1..2, 3..offset as i32, 0..1];
        let order: Vec<usize> = ranges
            .iter()
            .flat_map(|r| r.clone())
            .map(|t| t as usize)
            .collect();
        let count = order.len() as i32;
        let [before_keys, before_values] = buffers.first(offset as i32).unwrap();
        let before = [values(&before_keys), values(&before_values)];
        let mut moved = buffers.rearranged(&ranges, count + 2).unwrap();
        let [keys, vals] = moved.first(count).unwrap();
        for (before, after) in before.iter().zip([values(&keys), values(&vals)]) {
            let mut want = Vec::new();
            for head in before.chunks(offset * dim) {
                order
                    .iter()
                    .for_each(|t| want.extend_from_slice(&head[t * dim..][..dim]));
            }
            assert!(after == want, "tokens in another order");
        }
    }
}

#[test]
fn queries_keys_and_values_are_where_attention_reads_them() {
    open_device();
    let mut rng = Rng::new(4);
    for dtype in DTYPES {
        for (heads, kv_heads, dim, scale) in [
            (16, 8, 128, 1.0),
            (4, 1, 256, 0.125),
            (3, 3, 64, 1.0),
            (2, 1, 80, 1.0),
            (5, 1, 8, 0.5),
        ] {
            let layer = Layer {
                heads,
                kv_heads,
                dim,
                scale,
            };
            layer.run(dtype, &[7, 1, 1, 30, 2], &mut rng);
        }
    }
}

/// The decode loop's way: a step is submitted while the one before it runs and reads its buffers. That must
/// not copy them; and each token must be where it belongs.
#[test]
fn a_token_is_added_by_mlx_without_a_copy_of_the_cache() {
    use mlx_core::{host_op, memory};
    open_device();
    if device::current().unwrap() == DeviceKind::Cuda {
        return; // Its caches are written by our kernels.
    }
    // Keys and values of 32 MiB each, far more than the other tests of this program hold.
    const CAPACITY: i32 = 1 << 15;
    let heads = Heads {
        count: 2,
        dim: 128,
        dtype: Dtype::Float32,
    };
    let set = 2 * 2 * 128 * 4 * CAPACITY as usize;
    let mut rng = Rng::new(14);
    let mut buffers = KvBuffers::new(heads, CAPACITY);
    assert_eq!(buffers.nbytes(), set);
    let (mut written, mut running) = (Vec::new(), None::<Array>);
    let mut step = |buffers: &mut KvBuffers, at: i32| {
        let token: Vec<f32> = (0..2 * 256).map(|_| rng.normal() as f32).collect();
        let half = |range| Array::from_slice(&token[range], &[1, 2, 1, 128]).unwrap();
        buffers.write(&half(0..256), &half(256..512), at).unwrap();
        written.push(token);
        let [keys, values] = buffers.first(at + 1).unwrap();
        let read = host_op::single("read", &[&keys, &values], &[1], Dtype::Float32, |_, _| {
            // So long that the next step is submitted meanwhile.
            std::thread::sleep(std::time::Duration::from_millis(3));
            Ok(())
        });
        let read = read.unwrap();
        mlx_core::async_eval(&[&read]).unwrap();
        if let Some(before) = running.replace(read) {
            before.eval().unwrap();
        }
    };
    (0..4).for_each(|at| step(&mut buffers, at));
    device::synchronize().unwrap();
    let held = memory::active().unwrap();
    memory::reset_peak().unwrap();
    (4..24).for_each(|at| step(&mut buffers, at));
    device::synchronize().unwrap();
    let more = memory::peak().unwrap().saturating_sub(held);
    assert!(more < set / 4, "{more} bytes beside a set of {set}");
    let now = memory::active().unwrap();
    assert!(now < held + set / 4, "{now} bytes, {held} before");

    let [keys, values] = buffers.first(24).unwrap();
    let (keys, values) = (
        keys.to_vec::<f32>().unwrap(),
        values.to_vec::<f32>().unwrap(),
    );
    for (at, token) in written.iter().enumerate() {
        for head in 0..2 {
            let found = (head * 24 + at) * 128..(head * 24 + at + 1) * 128;
            let right = head * 128..(head + 1) * 128;
            assert_eq!(keys[found.clone()], token[right.clone()], "token {at}");
            assert_eq!(values[found], token[256..][right], "token {at}");
        }
    }
}
