use mlx_core::{Array, Result, ops};

use crate::common::{Nd, Rng, assert_close, indices, on_each_device};

type Reduce = fn(&Array, &[i32], bool) -> Result<Array>;

/// A reduction with its plain form, by name.
type Case = (&'static str, Reduce, fn(&[f64]) -> f64);

/// Reduces `x` over `axes` with plain code.
fn reduced(x: &Nd, axes: &[usize], keepdims: bool, f: impl Fn(&[f64]) -> f64) -> Nd {
    let kept: Vec<usize> = x
        .shape
        .iter()
        .enumerate()
        .map(|(a, &n)| if axes.contains(&a) { 1 } else { n })
        .collect();
    let data = indices(&kept).map(|at| {
        let group: Vec<f64> = indices(&x.shape)
            .filter(|i| {
                i.iter()
                    .zip(&at)
                    .enumerate()
                    .all(|(a, (i, j))| axes.contains(&a) || i == j)
            })
            .map(|i| x.at(&i))
            .collect();
        f(&group)
    });
    let data = data.collect();
    let shape = if keepdims {
        kept
    } else {
        kept.iter()
            .enumerate()
            .filter(|(a, _)| !axes.contains(a))
            .map(|(_, &n)| n)
            .collect()
    };
    Nd { shape, data }
}

fn truth(value: bool) -> f64 {
    f64::from(u8::from(value))
}

on_each_device! {
    fn reductions_match_plain_code_over_any_axes() {
        let cases: [Case; 7] = [
            ("sum", ops::sum, |g| g.iter().sum()),
            ("mean", ops::mean, |g| g.iter().sum::<f64>() / g.len() as f64),
            ("max", ops::max, |g| g.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
            ("min", ops::min, |g| g.iter().copied().fold(f64::INFINITY, f64::min)),
            ("all", ops::all, |g| truth(g.iter().all(|&v| v != 0.0))),
            ("any", ops::any, |g| truth(g.iter().any(|&v| v != 0.0))),
            ("logsumexp", ops::logsumexp, |g| g.iter().map(|v| v.exp()).sum::<f64>().ln()),
        ];
        let mut rng = Rng::new(10);
        for (name, op, reference) in cases {
            for _ in 0..20 {
                let rank = rng.size(1, 5);
                let shape = rng.shape(rank);
                let x = Nd::random_ints(&mut rng, &shape, -2, 3);
                let chosen: Vec<usize> = (0..rank).filter(|_| rng.coin()).collect();
                let axes: Vec<i32> = chosen
                    .iter()
                    .map(|&a| if rng.coin() { a as i32 } else { a as i32 - rank as i32 })
                    .collect();
                if axes.is_empty() {
                    continue;
                }
                let keepdims = rng.coin();
                eprintln!("{name} of {shape:?} over {axes:?}");
                let want = reduced(&x, &chosen, keepdims, reference);
                let got = op(&x.array(), &axes, keepdims).unwrap();
                assert_close(&got, &want, 4e-6, 2e-6);
            }
        }
    }

    fn no_axes_reduce_nothing() {
        let x = Nd::random(&mut Rng::new(11), &[2, 3], -1.0, 1.0);
        assert_close(&ops::sum(&x.array(), &[], false).unwrap(), &x, 0.0, 0.0);
    }

    fn softmax_sums_to_one_along_its_axis() {
        let mut rng = Rng::new(12);
        for precise in [false, true] {
            for _ in 0..20 {
                let rank = rng.size(1, 4);
                let shape = rng.shape(rank);
                let (at, axis) = rng.axis(rank);
                // Far beyond what exp of a float32 holds, so the largest must be taken off first.
                let x = Nd::random(&mut rng, &shape, 180.0, 200.0);
                let total = reduced(&x, &[at], true, |g| g.iter().map(|v| (v - 200.0).exp()).sum());
                let want =
                    Nd::from_fn(&shape, |i| (x.at(i) - 200.0).exp() / total.at_broadcast(i));
                let got = ops::softmax(&x.array(), axis, precise).unwrap();
                assert_close(&got, &want, 1e-5, 1e-7);
            }
        }
    }

    fn cumsum_runs_either_way_with_or_without_the_element() {
        let mut rng = Rng::new(13);
        for (reverse, inclusive) in [(false, false), (false, true), (true, false), (true, true)] {
            for _ in 0..10 {
                let rank = rng.size(1, 4);
                let shape = rng.shape(rank);
                let (at, axis) = rng.axis(rank);
                let x = Nd::random_ints(&mut rng, &shape, -9, 10);
                let want = Nd::from_fn(&shape, |i| {
                    let counted = |j: &usize| match (reverse, inclusive) {
                        (false, true) => *j <= i[at],
                        (false, false) => *j < i[at],
                        (true, true) => *j >= i[at],
                        (true, false) => *j > i[at],
                    };
                    let mut index = i.to_vec();
                    (0..shape[at])
                        .filter(counted)
                        .map(|j| {
                            index[at] = j;
                            x.at(&index)
                        })
                        .sum()
                });
                let got = ops::cumsum(&x.array(), axis, reverse, inclusive).unwrap();
                assert_close(&got, &want, 0.0, 0.0);
            }
        }
    }
}
