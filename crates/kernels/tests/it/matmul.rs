//! Dense products, compared with float64.

use crate::common::{Array, Rng, apart, close, cpus, dot, dtypes, epsilon};
use kernels::matmul::{matmul, matmuls};
use kernels::{Cpu, Dtype, Isa};
use proptest::prelude::*;

/// Rows of `x` above which it is a prefill.
const FEW: usize = 8;

fn check(cpu: &Cpu, x: &Array, w: &Array, y: &mut Array) {
    matmul(cpu, x.view(), w.view(), y.view_mut()).unwrap();
    y.check_gaps();
    apart(x, y, FEW, |x, y| matmul(cpu, x, w.view(), y).unwrap());
    let w_rows: Vec<_> = (0..w.layout.rows).map(|n| w.row(0, n)).collect();
    for m in 0..x.layout.rows {
        let x_row = x.row(0, m);
        for (n, w_row) in w_rows.iter().enumerate() {
            let (sum, size) = dot(&x_row, w_row);
            let terms = 4.0 + (x_row.len() as f64).sqrt();
            let sums = epsilon(Dtype::F32) * terms * size;
            let bound = sums + epsilon(y.layout.dtype) * (sum.abs() + sums) + 2.0_f64.powi(-25);
            let what = || {
                format!(
                    "{:?}, {} threads: y[{m}, {n}]",
                    cpu.isa(),
                    cpu.pool().threads()
                )
            };
            close(y.get(0, m, n), sum, bound, what);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn products_of_any_types_are_right(
        (m, n, k) in (1_usize..=40, 1_usize..=70, 1_usize..=300),
        (x_type, w_type, y_type) in (dtypes(), dtypes(), dtypes()),
        (gap, offset) in (0_usize..3, 0_usize..5),
        seed in any::<u64>(),
    ) {
        let mut rng = Rng::new(seed);
        let x = Array::new(x_type, [1, m, k], gap, offset).fill(|| rng.normal());
        let w = Array::new(w_type, [1, n, k], gap, offset).fill(|| rng.normal());
        for cpu in cpus() {
            check(&cpu, &x, &w, &mut Array::new(y_type, [1, m, n], gap, offset));
        }
    }

    #[test]
    fn products_of_one_type_are_right(
        (m, n, k) in (1_usize..=12, 1_usize..=90, 1_usize..=1500),
        dtype in dtypes(),
        offset in 0_usize..5,
        seed in any::<u64>(),
    ) {
        let mut rng = Rng::new(seed);
        let x = Array::new(dtype, [1, m, k], 0, offset).fill(|| rng.normal());
        let w = Array::new(dtype, [1, n, k], 0, offset).fill(|| rng.normal());
        for cpu in cpus() {
            check(&cpu, &x, &w, &mut Array::new(dtype, [1, m, n], 0, offset));
        }
    }
}

#[test]
fn several_products_are_those_of_each() {
    let mut rng = Rng::new(3);
    for m in [1, 5, 30] {
        let x = Array::new(Dtype::Bf16, [1, m, 96], 0, 0).fill(|| rng.normal());
        let weights: Vec<_> = [
            (20, Dtype::Bf16),
            (0, Dtype::Bf16),
            (7, Dtype::Bf16),
            (9, Dtype::F32),
        ]
        .into_iter()
        .map(|(n, dtype)| Array::new(dtype, [1, n, 96], 0, 1).fill(|| rng.normal()))
        .collect();
        for cpu in cpus() {
            let empty = |w: &Array| Array::new(Dtype::F32, [1, m, w.layout.rows], 1, 3);
            let mut together: Vec<_> = weights.iter().map(empty).collect();
            let mut parts: Vec<_> = weights
                .iter()
                .zip(&mut together)
                .map(|(w, y)| (w.view(), y.view_mut()))
                .collect();
            matmuls(&cpu, x.view(), &mut parts).unwrap();
            for (w, together) in weights.iter().zip(&together) {
                let mut each = empty(w);
                matmul(&cpu, x.view(), w.view(), each.view_mut()).unwrap();
                assert!(
                    (0..m).all(|m| each.row(0, m) == together.row(0, m)),
                    "{:?}",
                    cpu.isa()
                );
            }
        }
    }
}

#[test]
fn sizes_that_disagree_are_refused() {
    let cpu = Cpu::new(Isa::Portable, 1).unwrap();
    let array = |rows, cols| Array::new(Dtype::F32, [1, rows, cols], 0, 0).fill(|| 1.0);
    let error = matmul(
        &cpu,
        array(2, 8).view(),
        array(3, 9).view(),
        array(2, 3).view_mut(),
    );
    assert!(error.unwrap_err().to_string().contains("[1, 2, 8]"));
    assert!(
        matmul(
            &cpu,
            array(2, 8).view(),
            array(3, 8).view(),
            array(3, 2).view_mut()
        )
        .is_err()
    );
    assert!(
        matmul(
            &cpu,
            array(0, 8).view(),
            array(3, 8).view(),
            array(0, 3).view_mut()
        )
        .is_ok()
    );
}
