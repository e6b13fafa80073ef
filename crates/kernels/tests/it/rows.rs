//! The operations that go row by row, compared with float64.

use crate::common::{Array, Rng, close, cpus, dtypes, epsilon};
use kernels::add::{add, add_row, multiply};
use kernels::gated::{Activation, gated};
use kernels::rms_norm::{Addend, NormView, add_rms_norm, rms_norm};
use kernels::rope::{RotationView, rope};
use kernels::{Cpu, Dtype, Isa};
use proptest::prelude::*;

/// Compares every element with what `want` gives, within some float32 roundings of `size` and one
/// of the result.
fn check(cpu: &Cpu, got: &Array, roundings: f64, want: impl Fn(usize, usize, usize) -> (f64, f64)) {
    got.check_gaps();
    let l = got.layout;
    for plane in 0..l.planes {
        for row in 0..l.rows {
            for col in 0..l.cols {
                let (value, size) = want(plane, row, col);
                let error = roundings * epsilon(Dtype::F32) * size;
                // float16 has a smallest number.
                let bound = error + epsilon(l.dtype) * (value.abs() + error) + 2.0_f64.powi(-25);
                close(got.get(plane, row, col), value, bound, || {
                    format!(
                        "{:?}, {} threads: [{plane}, {row}, {col}]",
                        cpu.isa(),
                        cpu.pool().threads()
                    )
                });
            }
        }
    }
}

/// The factor and the factors of a normalisation, in float64.
fn normalised(row: &[f64], weight: &Option<Array>, epsilon: f32) -> Vec<f64> {
    let square: f64 = row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64;
    let factor = (square + f64::from(epsilon)).sqrt().recip();
    let weight = |i| weight.as_ref().map_or(1.0, |weight| weight.get(0, 0, i));
    row.iter()
        .enumerate()
        .map(|(i, x)| x * factor * weight(i))
        .collect()
}

/// Sizes of an array of rows, with some that are many.
fn shapes() -> impl Strategy<Value = [usize; 3]> {
    prop_oneof![
        (1_usize..=3, 1_usize..=9, 1_usize..=300).prop_map(|(a, b, c)| [a, b, c]),
        (1_usize..=2, 100_usize..=300, 1_usize..=200).prop_map(|(a, b, c)| [a, b, c]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sums_are_right(
        shape in shapes(),
        types in (dtypes(), dtypes(), dtypes()),
        (gap, offset) in (0_usize..3, 0_usize..5),
        seed in any::<u64>(),
    ) {
        let mut rng = Rng::new(seed);
        let a = Array::new(types.0, shape, gap, offset).fill(|| rng.normal());
        let b = Array::new(types.1, shape, 0, offset).fill(|| rng.normal());
        for cpu in cpus() {
            let mut y = Array::new(types.2, shape, gap, offset);
            add(&cpu, a.view(), b.view(), y.view_mut()).unwrap();
            check(&cpu, &y, 1.0, |p, r, c| {
                let (a, b) = (a.get(p, r, c), b.get(p, r, c));
                (a + b, a.abs() + b.abs())
            });
        }
    }

    #[test]
    fn biases_are_added_to_each_row(
        (rows, cols) in (1_usize..=9, 1_usize..=300),
        types in (dtypes(), dtypes()),
        (gap, offset) in (0_usize..3, 0_usize..5),
        seed in any::<u64>(),
    ) {
        let mut rng = Rng::new(seed);
        let a = Array::new(types.0, [1, rows, cols], gap, offset).fill(|| rng.normal());
        let row = Array::new(types.1, [1, 1, cols], 0, offset).fill(|| rng.normal());
        for cpu in cpus() {
            let mut at = (0..rows).flat_map(|r| (0..cols).map(move |c| (r, c)));
            let mut next = || at.next().map_or(0.0, |(r, c)| a.get(0, r, c));
            let mut y = Array::new(types.0, [1, rows, cols], gap, offset).fill(&mut next);
            add_row(&cpu, y.view_mut(), row.view()).unwrap();
            check(&cpu, &y, 1.0, |_, r, c| {
                let (a, b) = (a.get(0, r, c), row.get(0, 0, c));
                (a + b, a.abs() + b.abs())
            });
        }
    }

    #[test]
    fn numbers_are_multiplied_where_they_lie(
        shape in shapes(),
        dtype in dtypes(),
        (gap, offset) in (0_usize..3, 0_usize..5),
        (factor, seed) in (-2.0_f32..2.0, any::<u64>()),
    ) {
        let numbers = || {
            let mut rng = Rng::new(seed);
            Array::new(dtype, shape, gap, offset).fill(|| rng.normal())
        };
        let x = numbers();
        for cpu in cpus() {
            let mut y = numbers();
            multiply(&cpu, y.view_mut(), factor);
            check(&cpu, &y, 1.0, |p, r, c| {
                let product = x.get(p, r, c) * f64::from(factor);
                (product, product.abs())
            });
        }
    }

    #[test]
    fn gated_activations_take_columns_of_a_wider_array(
        (rows, cols, before, behind) in (1_usize..=5, 1_usize..=70, 0_usize..=9, 0_usize..=9),
        dtype in dtypes(),
        seed in any::<u64>(),
    ) {
        let mut rng = Rng::new(seed);
        let gate = Array::new(dtype, [1, rows, cols], 0, 0).fill(|| rng.normal());
        let wide = Array::new(dtype, [1, rows, before + cols + behind], 1, 0).fill(|| rng.normal());
        for cpu in cpus() {
            let mut y = Array::new(dtype, [1, rows, cols], 0, 0);
            let up = wide.view().slice_cols(before..before + cols).unwrap();
            gated(&cpu, Activation::Silu, gate.view(), up, y.view_mut()).unwrap();
            check(&cpu, &y, 8.0, |p, r, c| {
                let (gate, up) = (gate.get(p, r, c), wide.get(p, r, before + c));
                let value = gate / (1.0 + (-gate).exp()) * up;
                (value, value.abs() + (gate * up).abs())
            });
            assert!(wide.view().slice_cols(before..before + cols + behind + 1).is_err());
        }
    }

    #[test]
    fn gated_activations_are_right(
        shape in shapes(),
        types in (dtypes(), dtypes(), dtypes()),
        (gap, offset) in (0_usize..3, 0_usize..5),
        seed in any::<u64>(),
    ) {
        let mut rng = Rng::new(seed);
        let g = Array::new(types.0, shape, gap, offset).fill(|| 4.0 * rng.normal());
        let u = Array::new(types.1, shape, 0, offset).fill(|| rng.normal());
        for cpu in cpus() {
            let mut y = Array::new(types.2, shape, gap, offset);
            gated(&cpu, Activation::Silu, g.view(), u.view(), y.view_mut()).unwrap();
            check(&cpu, &y, 16.0, |p, r, c| {
                let g = g.get(p, r, c);
                let value = g / (1.0 + (-g).exp()) * u.get(p, r, c);
                (value, value.abs())
            });
            gated(&cpu, Activation::GeluTanh, g.view(), u.view(), y.view_mut()).unwrap();
            check(&cpu, &y, 16.0, |p, r, c| {
                let g = g.get(p, r, c);
                let x = (2.0 / std::f64::consts::PI).sqrt() * (g + 0.044715 * g.powi(3));
                // The exponent 2x is known to a rounding of its own size.
                let value = 0.5 * g * (1.0 + x.tanh()) * u.get(p, r, c);
                (value, value.abs() * (1.0 + x.abs()))
            });
        }
    }

    #[test]
    fn norms_are_right(
        shape in shapes(),
        types in (dtypes(), dtypes(), dtypes()),
        weighted in any::<bool>(),
        (gap, offset) in (0_usize..3, 0_usize..5),
        seed in any::<u64>(),
    ) {
        let mut rng = Rng::new(seed);
        let x = Array::new(types.0, shape, gap, offset).fill(|| 3.0 * rng.normal());
        let weight = weighted.then(|| Array::new(types.1, [1, 1, shape[2]], 0, offset).fill(|| rng.normal()));
        let norm = NormView { weight: weight.as_ref().map(Array::view), epsilon: 1e-5 };
        for cpu in cpus() {
            let mut y = Array::new(types.2, shape, gap, offset);
            rms_norm(&cpu, x.view(), norm, y.view_mut()).unwrap();
            let want: Vec<Vec<Vec<f64>>> = (0..shape[0])
                .map(|p| (0..shape[1]).map(|r| normalised(&x.row(p, r), &weight, 1e-5)).collect())
                .collect();
            check(&cpu, &y, 16.0, |p, r, c| (want[p][r][c], want[p][r][c].abs()));
        }
    }

    #[test]
    fn residual_norms_are_right(
        shape in shapes(),
        types in (dtypes(), dtypes(), dtypes(), dtypes()),
        inner in any::<bool>(),
        (gap, offset) in (0_usize..3, 0_usize..5),
        seed in any::<u64>(),
    ) {
        let mut rng = Rng::new(seed);
        let x = Array::new(types.0, shape, gap, offset).fill(|| 3.0 * rng.normal());
        let other = Array::new(types.1, shape, 0, offset).fill(|| rng.normal());
        let mut row = |n| Array::new(types.1, [1, 1, n], 0, offset).fill(|| rng.normal());
        let (first, second) = (Some(row(shape[2])), Some(row(shape[2])));
        let first_norm = NormView { weight: first.as_ref().map(Array::view), epsilon: 1e-6 };
        let norm = NormView { weight: second.as_ref().map(Array::view), epsilon: 1e-6 };
        for cpu in cpus() {
            let mut sum = Array::new(types.2, shape, gap, offset);
            let mut y = Array::new(types.3, shape, 0, offset);
            let addend = Addend { x: other.view(), norm: inner.then_some(first_norm) };
            add_rms_norm(&cpu, x.view(), addend, sum.view_mut(), norm, y.view_mut()).unwrap();
            let added: Vec<Vec<Vec<f64>>> = (0..shape[0])
                .map(|p| (0..shape[1]).map(|r| match inner {
                    true => normalised(&other.row(p, r), &first, 1e-6),
                    false => other.row(p, r),
                }).collect())
                .collect();
            check(&cpu, &sum, 16.0, |p, r, c| {
                let (a, b) = (x.get(p, r, c), added[p][r][c]);
                (a + b, a.abs() + b.abs())
            });
            // The norm is that of the sums as they were kept.
            let want: Vec<Vec<Vec<f64>>> = (0..shape[0])
                .map(|p| (0..shape[1]).map(|r| normalised(&sum.row(p, r), &second, 1e-6)).collect())
                .collect();
            check(&cpu, &y, 16.0, |p, r, c| (want[p][r][c], want[p][r][c].abs()));
        }
    }

    #[test]
    fn rotations_are_right(
        (heads, rows, dim) in (1_usize..=4, 1_usize..=40, (1_usize..=64).prop_map(|d| 4 * d)),
        partial in any::<bool>(),
        normed in any::<bool>(),
        base in prop::sample::select(vec![1e4_f32, 1e6]),
        (scale, position) in (prop::sample::select(vec![1.0_f32, 0.125]), 0_usize..100_000),
        types in (dtypes(), dtypes()),
        seed in any::<u64>(),
    ) {
        let mut rng = Rng::new(seed);
        let half = if partial { dim / 4 } else { dim / 2 };
        let periods: Vec<f32> = (0..half).map(|i| base.powf(i as f32 / half as f32)).collect();
        // Heads lie inside the rows, as a projection gives them, and outside, as a cache wants them.
        let mut x = Array::new(types.0, [heads, rows, dim], 0, 1);
        (x.layout.plane_stride, x.layout.row_stride) = (dim, heads * dim);
        let x = x.fill(|| rng.normal());
        let weight = normed.then(|| Array::new(types.0, [1, 1, dim], 0, 0).fill(|| rng.normal()));
        let norm = normed.then(|| NormView { weight: weight.as_ref().map(Array::view), epsilon: 1e-6 });
        let want: Vec<Vec<Vec<f64>>> = (0..heads)
            .map(|p| (0..rows).map(|r| match normed {
                true => normalised(&x.row(p, r), &weight, 1e-6),
                false => x.row(p, r),
            }).collect())
            .collect();
        for cpu in cpus() {
            let mut y = Array::new(types.1, [heads, rows, dim], 3, 2);
            let rotation = RotationView { periods: &periods, scale, offset: position };
            rope(&cpu, x.view(), norm, rotation, y.view_mut()).unwrap();
            check(&cpu, &y, 24.0, |p, r, c| {
                let row = &want[p][r];
                if c >= 2 * half {
                    return (row[c], row[c].abs());
                }
                let i = c % half;
                let angle = f64::from(scale) * (position + r) as f64 / f64::from(periods[i]);
                let (sin, cos) = angle.sin_cos();
                let (a, b) = (row[i], row[half + i]);
                let value = if c < half { a * cos - b * sin } else { a * sin + b * cos };
                (value, a.abs() + b.abs())
            });
        }
    }
}

#[test]
fn sizes_that_disagree_are_refused() {
    let cpu = Cpu::new(Isa::Portable, 1).unwrap();
    let array = |shape| Array::new(Dtype::F32, shape, 0, 0).fill(|| 1.0);
    let (a, b, w) = (array([1, 2, 8]), array([1, 2, 9]), array([1, 1, 9]));
    let mut y = array([1, 2, 8]);
    assert!(add(&cpu, a.view(), b.view(), y.view_mut()).is_err());
    assert!(gated(&cpu, Activation::Silu, b.view(), a.view(), y.view_mut()).is_err());
    let norm = NormView {
        weight: Some(w.view()),
        epsilon: 1e-6,
    };
    assert!(rms_norm(&cpu, a.view(), norm, y.view_mut()).is_err());
    let rotation = RotationView {
        periods: &[1.0; 5],
        scale: 1.0,
        offset: 0,
    };
    assert!(rope(&cpu, a.view(), None, rotation, y.view_mut()).is_err());
}
