//! Encoded bfloat16 matrices: what comes out is what went in, and products are compared with float64.

use crate::common::{Array, Rng, apart, close, cpus, dot, dtypes, epsilon};
use half::bf16;
use kernels::bf12::{Bf12, bf12_matmuls, bf12_rows};
use kernels::{Cpu, Dtype, Isa, View};
use proptest::prelude::*;

/// Weights as trained ones are distributed, but that about one of 600 has any exponent at all, though
/// never so many that they are refused.
fn weights(rng: &mut Rng, rows: usize, cols: usize, offset: usize) -> Array {
    let mut left = rows * cols / 300;
    Array::new(Dtype::Bf16, [1, rows, cols], 0, offset).fill(|| {
        // None so close to zero that it would be rare as well.
        let usual = (0.01 + rng.normal().abs()).copysign(rng.unit()) / 16.0;
        if left == 0 || !rng.bits().is_multiple_of(600) {
            return usual;
        }
        left -= 1;
        usual * 2_f64.powi((rng.bits() % 96) as i32 - 90)
    })
}

/// A contiguous matrix of these bits.
fn matrix(bits: &[u16], cols: usize) -> Vec<u8> {
    assert_eq!(bits.len() % cols, 0);
    bits.iter().flat_map(|bits| bits.to_le_bytes()).collect()
}

fn view(bytes: &[u8], cols: usize) -> View<'_> {
    let layout = kernels::Layout::matrix(Dtype::Bf16, bytes.len() / 2 / cols, cols);
    View::new(bytes, layout).unwrap()
}

/// The rows `rows` of an encoded matrix, as bits.
fn decoded(cpu: &Cpu, w: &Bf12, rows: &[usize]) -> Vec<u16> {
    let mut bytes = vec![0; 2 * rows.len() * w.cols()];
    let layout = kernels::Layout::matrix(Dtype::Bf16, rows.len(), w.cols());
    let y = kernels::ViewMut::new(&mut bytes, layout).unwrap();
    bf12_rows(cpu, w, rows, y).unwrap();
    let pairs = bytes.chunks_exact(2);
    pairs.map(|b| u16::from_le_bytes([b[0], b[1]])).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn products_are_right(
        (m, n, blocks) in (1_usize..=20, 1_usize..=70, 1_usize..=12),
        y_type in dtypes(),
        (gap, offset) in (0_usize..3, 0_usize..5),
        seed in any::<u64>(),
    ) {
        let mut rng = Rng::new(seed);
        let cols = 128 * blocks;
        let w = weights(&mut rng, n, cols, offset);
        for x_type in [Dtype::Bf16, Dtype::F32] {
            let x = Array::new(x_type, [1, m, cols], gap, offset).fill(|| rng.normal());
            for cpu in cpus() {
                let encoded = Bf12::encode(&cpu, w.view()).unwrap();
                let mut y = Array::new(y_type, [1, m, n], gap, offset);
                bf12_matmuls(&cpu, x.view(), &mut [(&encoded, y.view_mut())]).unwrap();
                y.check_gaps();
                apart(&x, &y, 8, |x, y| {
                    bf12_matmuls(&cpu, x, &mut [(&encoded, y)]).unwrap();
                });
                for i in 0..m {
                    for j in 0..n {
                        let (sum, size) = dot(&x.row(0, i), &w.row(0, j));
                        let sums = epsilon(Dtype::F32) * (4.0 + (cols as f64).sqrt()) * size;
                        let bound = sums + epsilon(y_type) * (sum.abs() + sums) + 2.0_f64.powi(-25);
                        close(y.get(0, i, j), sum, bound, || format!("{:?}: y[{i}, {j}]", cpu.isa()));
                    }
                }
            }
        }
    }

    #[test]
    fn every_bit_comes_back(
        (rows, blocks) in (1_usize..=150, 1_usize..=5),
        scale in -30_i32..30,
        seed in any::<u64>(),
    ) {
        let (mut rng, cols) = (Rng::new(seed), 128 * blocks);
        let mut bits: Vec<u16> = (0..rows * cols)
            .map(|_| bf16::from_f64(rng.normal() * 2_f64.powi(scale)).to_bits())
            .collect();
        // Nearly as many as may be rare, and the largest share of them in one row: NaN of any kind, infinities,
        // denormal numbers, zeros of both signs, the largest and the smallest.
        for i in 0..bits.len() / 300 {
            let at = if i % 2 == 0 { rng.bits() as usize % bits.len() } else { i % cols };
            bits[at] = match rng.bits() % 3 {
                0 => (rng.bits() >> 20) as u16 & 0x807f,
                1 => (rng.bits() >> 20) as u16 | 0x7f80,
                _ => (rng.bits() >> 20) as u16,
            };
        }
        let bytes = matrix(&bits, cols);
        for cpu in cpus() {
            // Those within a power of two of zero are rare, too; about one of 2^12.
            let Some(w) = Bf12::encode(&cpu, view(&bytes, cols)) else {
                prop_assert!(rows * cols < 1 << 15, "{rows} rows of {cols} were refused");
                continue;
            };
            prop_assert_eq!([w.rows(), w.cols()], [rows, cols]);
            let all: Vec<usize> = (0..rows).collect();
            prop_assert!(decoded(&cpu, &w, &all) == bits, "{:?}", cpu.isa());
            let some: Vec<usize> = (0..40).map(|_| rng.bits() as usize % rows).collect();
            let expected: Vec<u16> = some.iter().flat_map(|&r| &bits[r * cols..][..cols]).copied().collect();
            prop_assert!(decoded(&cpu, &w, &some) == expected, "{:?}", cpu.isa());
        }
    }
}

#[test]
fn a_matrix_is_held_in_three_quarters_of_its_bytes() {
    let mut rng = Rng::new(7);
    let w = Array::new(Dtype::Bf16, [1, 512, 1024], 0, 0).fill(|| rng.normal() / 30.0);
    let encoded = Bf12::encode(Cpu::shared(), w.view()).unwrap();
    let bytes = 512 * 1024 * 2;
    let held = encoded.nbytes();
    assert!(
        held * 4 >= bytes * 3 && held * 100 < bytes * 76,
        "{held} of {bytes}"
    );
}

#[test]
fn what_gains_nothing_is_refused() {
    let cpu = Cpu::shared();
    let encode = |dtype, rows, cols, spread: i32| {
        let mut rng = Rng::new(5);
        let w = Array::new(dtype, [1, rows, cols], 0, 0)
            .fill(|| rng.normal() * 2_f64.powi((rng.bits() % spread as u64) as i32 - spread / 2));
        Bf12::encode(cpu, w.view())
    };
    assert!(encode(Dtype::Bf16, 64, 256, 1).is_some());
    assert!(encode(Dtype::F16, 64, 256, 1).is_none(), "another type");
    assert!(
        encode(Dtype::Bf16, 64, 192, 1).is_none(),
        "a block and a half"
    );
    assert!(encode(Dtype::Bf16, 0, 256, 1).is_none(), "no rows");
    assert!(
        encode(Dtype::Bf16, 64, 256, 100).is_none(),
        "a hundred exponents"
    );
}

#[test]
fn several_products_are_those_of_each() {
    let mut rng = Rng::new(3);
    let weights = [20, 7, 64].map(|n| weights(&mut rng, n, 256, 0));
    for cpu in cpus() {
        let encoded: Vec<Bf12> = weights
            .iter()
            .map(|w| Bf12::encode(&cpu, w.view()).unwrap())
            .collect();
        for m in [1, 3, 30] {
            let x = Array::new(Dtype::Bf16, [1, m, 256], 0, 0).fill(|| rng.normal());
            let empty = |w: &Bf12| Array::new(Dtype::F32, [1, m, w.rows()], 1, 3);
            let mut together: Vec<_> = encoded.iter().map(empty).collect();
            let mut parts: Vec<_> = encoded
                .iter()
                .zip(together.iter_mut().map(Array::view_mut))
                .collect();
            bf12_matmuls(&cpu, x.view(), &mut parts).unwrap();
            for (w, together) in encoded.iter().zip(&together) {
                let mut each = empty(w);
                bf12_matmuls(&cpu, x.view(), &mut [(w, each.view_mut())]).unwrap();
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
    let w = Bf12::encode(&cpu, weights(&mut Rng::new(1), 16, 128, 0).view()).unwrap();
    let array = |rows, cols| Array::new(Dtype::Bf16, [1, rows, cols], 0, 0).fill(|| 1.0);
    let product = |x: Array, mut y: Array| bf12_matmuls(&cpu, x.view(), &mut [(&w, y.view_mut())]);
    assert!(product(array(2, 128), array(2, 16)).is_ok());
    assert!(product(array(0, 128), array(0, 16)).is_ok());
    let error = product(array(2, 256), array(2, 16))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("[1, 2, 256]") && error.contains("[16, 128]"),
        "{error}"
    );
    assert!(product(array(2, 128), array(2, 15)).is_err());
    let error = bf12_rows(&cpu, &w, &[3, 16], array(2, 128).view_mut())
        .unwrap_err()
        .to_string();
    assert!(error.contains("no row 16"), "{error}");
    assert!(bf12_rows(&cpu, &w, &[3], array(2, 128).view_mut()).is_err());
}
