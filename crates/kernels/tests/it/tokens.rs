//! From logits to a token: the largest, and a draw, compared with a full sort in float64.

use crate::common::{Array, Rng, cpus, dtypes};
use kernels::argmax::argmax;
use kernels::draw::{Filters, draw};

use crate::filters::plain;
use proptest::prelude::*;

/// Vocabularies of one block and of many.
fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![1_usize..=200, 3_000_usize..=9_000]
}

/// Logits, flat or peaked, some of them equal.
fn logits(dtype: kernels::Dtype, size: usize, spread: f64, rng: &mut Rng) -> Array {
    Array::new(dtype, [1, 1, size], 0, 1).fill(|| (rng.normal() * spread * 8.0).round() / 8.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_first_of_the_largest_is_found(
        dtype in dtypes(), size in sizes(), seed in any::<u64>(), hole in any::<bool>(),
    ) {
        let mut rng = Rng::new(seed);
        let mut x = logits(dtype, size, 2.0, &mut rng);
        if hole && size > 1 {
            // Not a number in front.
            let first = Array::new(dtype, [1, 1, size], 0, 1);
            let mut values = x.row(0, 0).into_iter();
            let _ = values.next();
            let mut at = 0;
            x = first.fill(|| {
                at += 1;
                if at == 1 { f64::NAN } else { values.next().unwrap() }
            });
        }
        let row = x.row(0, 0);
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let want = row.iter().position(|&v| v == max).unwrap_or(0);
        for cpu in cpus() {
            let want = (!row.iter().any(|v| v.is_nan())).then_some(want);
            prop_assert_eq!(argmax(&cpu, x.view()).unwrap(), want, "{:?}", cpu.isa());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// One NaN anywhere, or nothing finite at the top, and nothing follows from a row; what is left out of
    /// it, at negative infinity, is nothing wrong.
    #[test]
    fn from_what_is_no_number_nothing_is_drawn(
        dtype in dtypes(), size in sizes(), seed in any::<u64>(), at in any::<prop::sample::Index>(),
        top_k in prop::option::of(1_usize..=600), top_p in prop::option::of(0.05_f32..=0.99),
    ) {
        let x = logits(dtype, size, 2.0, &mut Rng::new(seed));
        let at = at.index(size);
        let filters = Filters { temperature: 0.7, top_k, top_p, ..plain() };
        for (value, all, none) in [
            (f64::NAN, false, true), (f64::INFINITY, false, true),
            (f64::NEG_INFINITY, true, true), (f64::NEG_INFINITY, false, size == 1),
        ] {
            let (mut values, mut i) = (x.row(0, 0).into_iter(), 0);
            let row = Array::new(dtype, [1, 1, size], 0, 1).fill(|| {
                let own = values.next().unwrap();
                i += 1;
                if all || i == at + 1 { value } else { own }
            });
            for cpu in cpus() {
                let largest = argmax(&cpu, row.view()).unwrap();
                let drawn = draw(&cpu, row.view(), &filters, 0.5).unwrap();
                prop_assert_eq!((largest.is_none(), drawn.is_none()), (none, none), "{} at {}", value, at);
                prop_assert!(none || (largest != Some(at) && drawn != Some(at)));
            }
        }
    }
}

/// On the device that `ML_TEST_DEVICE` names, or else the CPU: of several rows at once.
#[test]
fn the_largest_of_each_row_is_found_at_once() {
    use mlx_core::{Array, Dtype as MlxDtype};

    crate::common::open_device();
    let mut rng = Rng::new(11);
    for (rows, columns) in [(1, 1), (3, 640), (8, 8192), (9, 20_001), (5, 151_936)] {
        let mut x: Vec<f32> = (0..rows * columns).map(|_| rng.normal() as f32).collect();
        let mut wanted = Vec::new();
        for (r, row) in x.chunks_mut(columns).enumerate() {
            let at = rng.bits() as usize % columns;
            row[at] = 50.0;
            // The first of equal ones; what is no number anywhere; the largest beyond all numbers; the rest of
            // them below.
            let last = columns - 1;
            match r % 5 {
                1 => row[last] = 50.0,
                2 => row[last] = f32::NAN,
                3 => row[last] = f32::INFINITY,
                4 => row[0] = f32::NEG_INFINITY,
                _ => {}
            }
            let numbers = !matches!(r % 5, 2 | 3);
            let at = row.iter().position(|&x| x == 50.0).unwrap_or(0);
            wanted.push(if numbers && row[at] == 50.0 {
                at as i32
            } else {
                -1
            });
        }
        let array = Array::from_slice(&x, &[rows as i32, columns as i32]).unwrap();
        for dtype in [MlxDtype::Float32, MlxDtype::Bfloat16] {
            let drawn = kernels::graph::argmax(&array.cast(dtype).unwrap()).unwrap();
            assert_eq!(
                drawn.seen.to_vec::<i32>().unwrap(),
                wanted,
                "{rows} x {columns}, {dtype}"
            );
            for (id, seen) in drawn.id.to_vec::<i32>().unwrap().into_iter().zip(&wanted) {
                assert!((0..columns as i32).contains(&id) && (id == *seen || *seen < 0));
            }
        }
    }
}
