//! Several streams, and gates that are cut, compared with float64.

use std::sync::Arc;

use crate::common::{Array, Rng, close, cpus, dtypes, epsilon};
use kernels::Dtype;
use kernels::altup::{Coefficients, Made, correct, corrected_active, predict};
use kernels::gated::{Activation, gated_above};
use proptest::prelude::*;

fn row_times(row: &[f32], m: &[f32]) -> f64 {
    let terms = row.iter().zip(m);
    terms.map(|(c, m)| f64::from(*c) * f64::from(*m)).sum()
}

fn bound(dtype: Dtype, size: f64) -> f64 {
    epsilon(dtype) * size + 64.0 * epsilon(Dtype::F32) * size
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn streams_are_predicted_and_corrected(
        (rows, n, hidden) in (1_usize..=9, 1_usize..=5, 1_usize..=70),
        (scaled, adds) in any::<(bool, bool)>(),
        (dtype, seed) in (dtypes(), any::<u64>()),
    ) {
        let mut rng = Rng::new(seed);
        let active = rng.bits() as usize % n;
        let mut numbers = |count: usize| -> Vec<f32> { (0..count).map(|_| rng.normal() as f32).collect() };
        let by = Coefficients {
            streams: n,
            active,
            prediction: Arc::from(numbers(n * n * n)),
            correction: Arc::from(numbers(n * n)),
            output_scale: scaled.then(|| Arc::from(numbers(hidden))),
        };
        let m: Vec<f32> = numbers(rows * n).into_iter().map(f32::tanh).collect();
        let mut array = |cols: usize| Array::new(dtype, [1, rows, cols], 3, 2).fill(|| rng.normal());
        let (x, activated, added) = (array(n * hidden), array(hidden), array(hidden));
        let added = adds.then_some(added);
        for cpu in cpus() {
            let room = |cols| Array::new(dtype, [1, rows, cols], 1, 0);
            let (mut y, mut all, mut one) = (room(n * hidden), room(n * hidden), room(hidden));
            predict(&cpu, x.view(), &m, &by, y.view_mut()).unwrap();
            let made = Made { predicted: x.view(), activated: activated.view(), m: &m };
            correct(&cpu, made, &by, added.as_ref().map(Array::view), all.view_mut()).unwrap();
            corrected_active(&cpu, made, &by, one.view_mut()).unwrap();
            [&y, &all, &one].into_iter().for_each(Array::check_gaps);
            for row in 0..rows {
                let m = &m[row * n..][..n];
                for (j, col) in (0..n).flat_map(|j| (0..hidden).map(move |col| (j, col))) {
                    let stream = |j: usize| x.get(0, row, j * hidden + col);
                    let own = stream(j);
                    let terms = (0..n).map(|k| row_times(&by.prediction[(j * n + k) * n..][..n], m) * stream(k));
                    let terms: Vec<f64> = terms.collect();
                    let (want, size) = (own + terms.iter().sum::<f64>(), own.abs() + terms.iter().map(|t| t.abs()).sum::<f64>());
                    let what = || format!("{:?}: stream {j}, [{row}, {col}]", cpu.isa());
                    close(y.get(0, row, j * hidden + col), want, bound(dtype, 4.0 * size + want.abs()), what);
                    let more = activated.get(0, row, col) - stream(active);
                    let step = (1.0 + row_times(&by.correction[j * n..][..n], m)) * more;
                    let corrected = own + step;
                    let plus = added.as_ref().filter(|_| j > 0).map_or(0.0, |added| added.get(0, row, col));
                    let size = 4.0 * (own.abs() + (1.0 + n as f64) * more.abs() + plus.abs());
                    let found = all.get(0, row, j * hidden + col);
                    close(found, corrected + plus, bound(dtype, size + 4.0 * step.abs()), what);
                    if j == active {
                        let scale = by.output_scale.as_ref().map_or(1.0, |scale| f64::from(scale[col]));
                        let bound = bound(dtype, (size + 4.0 * step.abs()) * scale.abs());
                        close(one.get(0, row, col), corrected * scale, bound, what);
                    }
                }
            }
        }
    }

    #[test]
    fn of_a_gate_that_is_cut_what_is_above_counts(
        (rows, cols) in (1_usize..=5, 1_usize..=150),
        (cut, seed) in (-1.0_f32..2.0, any::<u64>()),
        dtype in dtypes(),
    ) {
        let mut rng = Rng::new(seed);
        let mut array = || Array::new(dtype, [1, rows, cols], 1, 2).fill(|| 0.5 + rng.normal());
        let (gate, up) = (array(), array());
        for cpu in cpus() {
            let mut y = Array::new(dtype, [1, rows, cols], 2, 0);
            gated_above(&cpu, Activation::GeluTanh, Some(cut), gate.view(), up.view(), y.view_mut()).unwrap();
            y.check_gaps();
            for row in 0..rows {
                let g = gate.row(0, row);
                let mean = g.iter().sum::<f64>() / cols as f64;
                // Of all of the row, not of a sample.
                let variance = g.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / cols as f64;
                for (col, g) in g.iter().enumerate() {
                    let above = (g - (mean + f64::from(cut) * variance.sqrt())).max(0.0);
                    let inner = (2.0 / std::f64::consts::PI).sqrt() * (above + 0.044715 * above.powi(3));
                    let want = 0.5 * above * (1.0 + inner.tanh()) * up.get(0, row, col);
                    // What is left of numbers of some size has their errors.
                    let error = 64.0 * epsilon(Dtype::F32) * 8.0 * up.get(0, row, col).abs();
                    let bound = error + 2.0 * epsilon(dtype) * want.abs() + 1e-7;
                    close(y.get(0, row, col), want, bound, || format!("{:?}: [{row}, {col}]", cpu.isa()));
                }
            }
        }
    }
}

#[test]
fn sizes_that_disagree_are_refused() {
    let mut rng = Rng::new(5);
    let mut array = |cols: usize| Array::new(Dtype::F32, [1, 2, cols], 0, 0).fill(|| rng.normal());
    let (x, activated, mut y, mut narrow) = (array(12), array(4), array(12), array(11));
    let cpu = cpus().pop().unwrap();
    let by = |active: usize, prediction: usize| Coefficients {
        streams: 3,
        active,
        prediction: vec![0.1; prediction].into(),
        correction: vec![0.1; 9].into(),
        output_scale: None,
    };
    let m = [0.5; 6];
    assert!(predict(&cpu, x.view(), &m, &by(1, 27), y.view_mut()).is_ok());
    for (by, m) in [(by(3, 27), &m[..]), (by(1, 26), &m), (by(1, 27), &m[..5])] {
        assert!(predict(&cpu, x.view(), m, &by, y.view_mut()).is_err());
        let made = Made {
            predicted: x.view(),
            activated: activated.view(),
            m,
        };
        assert!(correct(&cpu, made, &by, None, y.view_mut()).is_err());
    }
    assert!(predict(&cpu, x.view(), &m, &by(1, 27), narrow.view_mut()).is_err());
    let made = Made {
        predicted: x.view(),
        activated: x.view(),
        m: &m,
    };
    assert!(corrected_active(&cpu, made, &by(1, 27), y.view_mut()).is_err());
}
