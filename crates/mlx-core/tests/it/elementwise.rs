use mlx_core::{Array, Dtype, Result, ops};

use crate::common::{Nd, Rng, assert_close, indices, nd, on_each_device, product_tolerance};

type Unary = fn(&Array) -> Result<Array>;
type Binary = fn(&Array, &Array) -> Result<Array>;

/// An operation with its plain form, by name; of one number, with the range to try.
type UnaryCase = (&'static str, Unary, fn(f64) -> f64, f64, f64);
type BinaryCase<T> = (&'static str, Binary, fn(f64, f64) -> T);

/// Two shapes that broadcast, and what they broadcast to.
fn broadcastable(rng: &mut Rng) -> (Vec<usize>, Vec<usize>, Vec<usize>) {
    let rank = rng.size(0, 5);
    let whole = rng.shape(rank);
    let mut part = || {
        let skipped = rng.size(0, rank + 1);
        whole[skipped..]
            .iter()
            .map(|&n| if rng.coin() { n } else { 1 })
            .collect::<Vec<_>>()
    };
    let (a, b) = (part(), part());
    let of = |shape: &[usize], axis: usize| {
        (axis + shape.len())
            .checked_sub(rank)
            .map_or(1, |axis| shape[axis])
    };
    let all: Vec<usize> = (0..rank)
        .map(|axis| of(&a, axis).max(of(&b, axis)))
        .collect();
    let used = a.len().max(b.len());
    (a, b, all[rank - used..].to_vec())
}

fn erf(x: f64) -> f64 {
    // The Taylor series, which is exact enough in float64 for the arguments used here.
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

on_each_device! {
    fn functions_of_one_number_match_rusts() {
        let cases: [UnaryCase; 18] = [
            ("neg", ops::neg, |x| -x, -9.0, 9.0),
            ("abs", ops::abs, f64::abs, -9.0, 9.0),
            ("sign", ops::sign, f64::signum, -9.0, 9.0),
            ("exp", ops::exp, f64::exp, -20.0, 20.0),
            ("log", ops::log, f64::ln, 1e-3, 50.0),
            ("log1p", ops::log1p, f64::ln_1p, -0.9, 9.0),
            ("sqrt", ops::sqrt, f64::sqrt, 0.0, 50.0),
            ("rsqrt", ops::rsqrt, |x| 1.0 / x.sqrt(), 1e-3, 50.0),
            ("square", ops::square, |x| x * x, -9.0, 9.0),
            ("reciprocal", ops::reciprocal, |x| 1.0 / x, 0.1, 9.0),
            ("tanh", ops::tanh, f64::tanh, -9.0, 9.0),
            ("sigmoid", ops::sigmoid, |x| 1.0 / (1.0 + (-x).exp()), -20.0, 20.0),
            ("erf", ops::erf, erf, -3.0, 3.0),
            ("sin", ops::sin, f64::sin, -20.0, 20.0),
            ("cos", ops::cos, f64::cos, -20.0, 20.0),
            ("floor", ops::floor, f64::floor, -9.0, 9.0),
            ("ceil", ops::ceil, f64::ceil, -9.0, 9.0),
            ("round", |a| ops::round(a, 0), f64::round_ties_even, -9.0, 9.0),
        ];
        let mut rng = Rng::new(1);
        for (name, op, reference, low, high) in cases {
            eprintln!("{name}");
            for rank in 0..4 {
                let x = {
                    let shape = rng.shape(rank);
                    Nd::random(&mut rng, &shape, low, high)
                };
                let want = Nd { data: x.data.iter().map(|&v| reference(v)).collect(), ..x.clone() };
                assert_close(&op(&x.array()).unwrap(), &want, 4e-6, 1e-6);
            }
        }
    }

    fn functions_of_two_numbers_broadcast_like_numpy() {
        let cases: [BinaryCase<f64>; 8] = [
            ("add", ops::add, |a, b| a + b),
            ("sub", ops::sub, |a, b| a - b),
            ("mul", ops::mul, |a, b| a * b),
            ("div", ops::div, |a, b| a / b),
            ("power", ops::power, f64::powf),
            ("maximum", ops::maximum, f64::max),
            ("minimum", ops::minimum, f64::min),
            ("logaddexp", ops::logaddexp, |a, b| (a.exp() + b.exp()).ln()),
        ];
        let mut rng = Rng::new(2);
        for (name, op, reference) in cases {
            eprintln!("{name}");
            for _ in 0..25 {
                let (a, b, all) = broadcastable(&mut rng);
                let (a, b) =
                    (Nd::random(&mut rng, &a, 0.2, 4.0), Nd::random(&mut rng, &b, 0.5, 4.0));
                let want =
                    Nd::from_fn(&all, |i| reference(a.at_broadcast(i), b.at_broadcast(i)));
                assert_close(&op(&a.array(), &b.array()).unwrap(), &want, 4e-6, 2e-6);
            }
        }
    }

    fn comparisons_and_choices_match_rusts() {
        let cases: [BinaryCase<bool>; 8] = [
            ("greater", ops::greater, |a, b| a > b),
            ("greater_equal", ops::greater_equal, |a, b| a >= b),
            ("less", ops::less, |a, b| a < b),
            ("less_equal", ops::less_equal, |a, b| a <= b),
            ("equal", ops::equal, |a, b| a == b),
            ("not_equal", ops::not_equal, |a, b| a != b),
            ("logical_and", ops::logical_and, |a, b| a != 0.0 && b != 0.0),
            ("logical_or", ops::logical_or, |a, b| a != 0.0 || b != 0.0),
        ];
        let mut rng = Rng::new(3);
        for (name, op, reference) in cases {
            eprintln!("{name}");
            for _ in 0..10 {
                let (a, b, all) = broadcastable(&mut rng);
                let a = Nd::random_ints(&mut rng, &a, -1, 2);
                let b = Nd::random_ints(&mut rng, &b, -1, 2);
                let want: Vec<bool> = indices(&all)
                    .map(|i| reference(a.at_broadcast(&i), b.at_broadcast(&i)))
                    .collect();
                let got = op(&a.array(), &b.array()).unwrap();
                assert_eq!(got.to_vec::<bool>().unwrap(), want);

                let (yes, no) = (Array::scalar(7.0f32).unwrap(), Array::scalar(-7.0f32).unwrap());
                let chosen = ops::where_(&got, &yes, &no).unwrap().to_vec::<f32>().unwrap();
                let want: Vec<f32> = want.iter().map(|&w| if w { 7.0 } else { -7.0 }).collect();
                assert_eq!(chosen, want);
            }
        }
    }

    fn what_is_not_a_number_is_recognised() {
        let values = [1.0f32, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0];
        let x = Array::from_slice(&values, &[5]).unwrap();
        let read = |op: Unary| op(&x).unwrap().to_vec::<bool>().unwrap();
        assert_eq!(read(ops::isnan), values.map(f32::is_nan));
        assert_eq!(read(ops::isinf), values.map(f32::is_infinite));
        assert_eq!(read(ops::isfinite), values.map(f32::is_finite));
        assert_eq!(read(ops::logical_not), values.map(|v| v == 0.0));
    }

    fn matmul_is_the_sum_of_products_with_batches_broadcast() {
        let mut rng = Rng::new(4);
        for _ in 0..30 {
            let (batch_a, batch_b, batch) = broadcastable(&mut rng);
            let (m, k, n) = (rng.size(1, 20), rng.size(1, 70), rng.size(1, 20));
            let a = Nd::random(&mut rng, &[&batch_a[..], &[m, k]].concat(), -1.0, 1.0);
            let b = Nd::random(&mut rng, &[&batch_b[..], &[k, n]].concat(), -1.0, 1.0);
            let want = Nd::from_fn(&[&batch[..], &[m, n]].concat(), |index| {
                let (front, last) = index.split_at(batch.len());
                let dot = |l: usize| {
                    a.at_broadcast(&[front, &[last[0], l]].concat())
                        * b.at_broadcast(&[front, &[l, last[1]]].concat())
                };
                (0..k).map(dot).sum()
            });
            let got = ops::matmul(&a.array(), &b.array()).unwrap();
            assert_close(&got, &want, 0.0, product_tolerance() * k as f64);
        }
    }

    fn addmm_adds_a_scaled_product() {
        let mut rng = Rng::new(5);
        let (a, b) =
            (Nd::random(&mut rng, &[4, 6], -1.0, 1.0), Nd::random(&mut rng, &[6, 3], -1.0, 1.0));
        let c = Nd::random(&mut rng, &[3], -1.0, 1.0);
        let want = Nd::from_fn(&[4, 3], |i| {
            let dot: f64 = (0..6).map(|l| a.at(&[i[0], l]) * b.at(&[l, i[1]])).sum();
            0.5 * dot + 2.0 * c.at(&[i[1]])
        });
        let got = ops::addmm(&c.array(), &a.array(), &b.array(), 0.5, 2.0).unwrap();
        assert_close(&got, &want, 0.0, product_tolerance() * 6.0);
    }

    fn a_scalar_of_the_arrays_dtype_does_not_promote_it() {
        let x = Nd::random(&mut Rng::new(6), &[3, 5], -2.0, 2.0);
        for dtype in [Dtype::Bfloat16, Dtype::Float16, Dtype::Float32] {
            let (x, array) = x.rounded(dtype);
            let two = Array::scalar_of(2.0, dtype).unwrap();
            let doubled = ops::mul(&array, &two).unwrap();
            assert_eq!(doubled.dtype(), dtype);
            assert_eq!(nd(&doubled).data, x.data.iter().map(|v| v * 2.0).collect::<Vec<_>>());
        }
        // Which is what a plain float32 scalar would do.
        let (_, narrow) = x.rounded(Dtype::Bfloat16);
        let wide = ops::mul(&narrow, &Array::scalar(2.0f32).unwrap()).unwrap();
        assert_eq!(wide.dtype(), Dtype::Float32);
    }

    fn whole_numbers_divide_as_floats() {
        let a = Array::from_slice(&[7i32, -7, 6], &[3]).unwrap();
        let b = Array::from_slice(&[2i32, 2, 0], &[3]).unwrap();
        let got = ops::div(&a, &b).unwrap().to_vec::<f32>().unwrap();
        assert_eq!(got, [3.5, -3.5, f32::INFINITY]);
    }
}
