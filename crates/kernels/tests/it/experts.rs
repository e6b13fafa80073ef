//! Mixtures of experts, compared with float64.

use crate::common::{Array, Rng, close, cpus, dot, epsilon};
use kernels::experts::{Each, Experts, Shared, experts, routed_experts};
use kernels::gated::Activation;
use kernels::linear::{LinearView, WeightView};
use kernels::mlp::Gated;
use kernels::rms_norm::NormView;
use kernels::{Dtype, Result};
use proptest::prelude::*;

/// Rows of which none depends on the others, with floats as weights.
const FEW: usize = 8;

/// The matrices of an expert: gate, up and down; and their biases, with which its gate is clamped.
struct Expert([Array; 3], Option<[Array; 3]>);

const LIMIT: f32 = 1.5;
const ALPHA: f32 = 1.702;

impl Expert {
    fn random(rng: &mut Rng, dtype: Dtype, hidden: usize, width: usize) -> Self {
        let mut matrix = |rows: usize, cols: usize| {
            let size = (cols as f64).sqrt().recip();
            Array::new(dtype, [1, rows, cols], 0, 0).fill(|| rng.normal() * size)
        };
        let matrices = [
            matrix(width, hidden),
            matrix(width, hidden),
            matrix(hidden, width),
        ];
        Self(matrices, None)
    }

    /// The same with biases.
    fn biased(self, rng: &mut Rng) -> Self {
        let rows = self.0.each_ref().map(|matrix| matrix.layout);
        let bias =
            rows.map(|l| Array::new(l.dtype, [1, 1, l.rows], 0, 0).fill(|| 0.5 * rng.normal()));
        Self(self.0, Some(bias))
    }

    fn view(&self) -> Gated<LinearView<'_>> {
        let [mut gate, mut up, mut down] = self.0.each_ref().map(linear);
        let mut activation = Activation::Silu;
        if let Some(biases) = &self.1 {
            for (linear, bias) in [&mut gate, &mut up, &mut down].into_iter().zip(biases) {
                linear.bias = Some(bias.view());
            }
            activation = Activation::Clamped {
                limit: LIMIT,
                alpha: ALPHA,
            };
        }
        Gated {
            gate,
            up,
            down,
            activation,
            cut: None,
        }
    }

    /// In float64, with the size of the terms of each sum.
    fn outputs(&self, x: &[f64]) -> Vec<(f64, f64)> {
        let [gate, up, down] = &self.0;
        let bias = |which: usize, n: usize| {
            let biases = self.1.as_ref();
            biases.map_or(0.0, |biases| biases[which].get(0, 0, n))
        };
        let inner: Vec<f64> = (0..gate.layout.rows)
            .map(|n| {
                let g = dot(x, &gate.row(0, n)).0 + bias(0, n);
                let u = dot(x, &up.row(0, n)).0 + bias(1, n);
                if self.1.is_none() {
                    return g / (1.0 + (-g).exp()) * u;
                }
                let (limit, alpha) = (f64::from(LIMIT), f64::from(ALPHA));
                let g = g.min(limit);
                g / (1.0 + (-alpha * g).exp()) * (u.clamp(-limit, limit) + 1.0)
            })
            .collect();
        (0..down.layout.rows)
            .map(|n| {
                let (y, size) = dot(&inner, &down.row(0, n));
                (y + bias(2, n), size + bias(2, n).abs())
            })
            .collect()
    }
}

fn linear(matrix: &Array) -> LinearView<'_> {
    LinearView {
        weight: WeightView::Dense(matrix.view()),
        bias: None,
    }
}

struct All(Vec<Expert>, Vec<f32>);

impl Each for All {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn expert(&self, index: usize) -> Result<Gated<LinearView<'_>>> {
        Ok(self.0[index].view())
    }

    fn factor(&self, index: usize) -> f32 {
        self.1.get(index).copied().unwrap_or(1.0)
    }
}

struct Mixture {
    router: Array,
    top: usize,
    renormalised: bool,
    all: All,
    shared: Option<(Array, Expert)>,
    /// The weight of a norm of what the router sees, and what its logits are multiplied by.
    router_norm: Option<(Array, f32)>,
}

const EPSILON: f32 = 1e-3;

impl Mixture {
    fn view(&self) -> Experts<LinearView<'_>, NormView<'_>, &dyn Each> {
        Experts {
            router: linear(&self.router),
            router_norm: self.router_norm.as_ref().map(|(weight, _)| NormView {
                weight: Some(weight.view()),
                epsilon: EPSILON,
            }),
            router_scale: self.router_norm.as_ref().map_or(1.0, |(_, scale)| *scale),
            top: self.top,
            renormalised: self.renormalised,
            each: &self.all,
            shared: self.shared.as_ref().map(|(gate, mlp)| Shared {
                gate: linear(gate),
                mlp: mlp.view(),
            }),
        }
    }

    /// What becomes of a row, with the size of the terms; `None` where it is a close choice.
    fn output(&self, x: &[f64], seen: &[f64]) -> Option<Vec<(f64, f64)>> {
        let count = self.all.0.len();
        let (mut seen, mut scale) = (seen.to_vec(), 1.0);
        if let Some((weight, factor)) = &self.router_norm {
            let square = dot(&seen, &seen).0 / seen.len() as f64 + f64::from(EPSILON);
            let weight = weight.row(0, 0);
            let normed = seen.iter().zip(&weight);
            seen = normed.map(|(x, w)| x / square.sqrt() * w).collect();
            scale = f64::from(*factor);
        }
        let logits: Vec<f64> = (0..count)
            .map(|e| dot(&seen, &self.router.row(0, e)).0 * scale)
            .collect();
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        if self.top < count && logits[order[self.top - 1]] - logits[order[self.top]] < 1e-3 {
            return None;
        }
        let all: f64 = logits.iter().map(|x| x.exp()).sum();
        let chosen: f64 = order[..self.top].iter().map(|e| logits[*e].exp()).sum();
        let sum = if self.renormalised { chosen } else { all };
        let mut parts: Vec<(f64, &Expert)> = order[..self.top]
            .iter()
            .map(|e| {
                let share = logits[*e].exp() / sum * f64::from(self.all.factor(*e));
                (share, &self.all.0[*e])
            })
            .collect();
        if let Some((gate, mlp)) = &self.shared {
            let gate = dot(x, &gate.row(0, 0)).0;
            parts.push((1.0 / (1.0 + (-gate).exp()), mlp));
        }
        let mut sums = vec![(0.0, 0.0); x.len()];
        for (share, expert) in parts {
            for (sum, (value, size)) in sums.iter_mut().zip(expert.outputs(x)) {
                sum.0 += share * value;
                sum.1 += share * size;
            }
        }
        Some(sums)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn mixtures_are_right_and_rows_do_not_depend_on_others(
        (rows, hidden, width) in (1_usize..=40, 1_usize..=70, 1_usize..=50),
        (count, top) in (1_usize..=9).prop_flat_map(|count| (Just(count), 1..=count)),
        (renormalised, shares, routes, biased) in any::<(bool, bool, bool, bool)>(),
        in_bf16 in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut rng = Rng::new(seed);
        let dtype = if in_bf16 { Dtype::Bf16 } else { Dtype::F32 };
        let router = Array::new(dtype, [1, count, hidden], 0, 0).fill(|| rng.normal());
        let experts_of = (0..count).map(|_| {
            let expert = Expert::random(&mut rng, dtype, hidden, width);
            if biased { expert.biased(&mut rng) } else { expert }
        }).collect();
        let shared = shares.then(|| {
            let size = (hidden as f64).sqrt().recip();
            let gate = Array::new(dtype, [1, 1, hidden], 0, 0).fill(|| rng.normal() * size);
            (gate, Expert::random(&mut rng, dtype, hidden, width + 3))
        });
        let factors = (0..if routes { count } else { 0 }).map(|_| 1.0 + 0.3 * rng.normal() as f32).collect();
        let router_norm = routes.then(|| {
            let weight = Array::new(dtype, [1, 1, hidden], 0, 0).fill(|| 1.0 + 0.2 * rng.normal());
            (weight, 0.7)
        });
        let all = All(experts_of, factors);
        let mixture = Mixture { router, top, renormalised, all, shared, router_norm };
        let seen = Array::new(dtype, [1, rows, hidden], 1, 0).fill(|| rng.normal());
        let x = Array::new(dtype, [1, rows, hidden], 1, 0).fill(|| rng.normal());
        let want: Vec<_> = (0..rows).map(|row| mixture.output(&x.row(0, row), &seen.row(0, row))).collect();
        for cpu in cpus() {
            let mut y = Array::new(dtype, [1, rows, hidden], 2, 0);
            routed_experts(&cpu, x.view(), seen.view(), &mixture.view(), y.view_mut()).unwrap();
            y.check_gaps();
            for (row, want) in want.iter().enumerate() {
                for (col, (value, size)) in want.iter().flatten().enumerate() {
                    // What is between the products is rounded to the element type.
                    let bound = 24.0 * epsilon(dtype) * size + 200.0 * epsilon(Dtype::F32) * (size + value.abs() + 1.0);
                    let bound = bound + epsilon(dtype) * value.abs();
                    close(y.get(0, row, col), *value, bound, || format!("{:?}: [{row}, {col}]", cpu.isa()));
                }
            }
            if rows <= FEW {
                for row in 0..rows {
                    let mut alone = Array::new(dtype, [1, 1, hidden], 0, 0);
                    let one = x.view().slice_rows(row..row + 1).unwrap();
                    let seen = seen.view().slice_rows(row..row + 1).unwrap();
                    routed_experts(&cpu, one, seen, &mixture.view(), alone.view_mut()).unwrap();
                    let same = (0..hidden).all(|c| alone.get(0, 0, c).to_bits() == y.get(0, row, c).to_bits());
                    prop_assert!(same, "{:?}: row {row} of {rows}", cpu.isa());
                }
            }
        }
    }
}

#[test]
fn sizes_that_disagree_are_refused() {
    let mut rng = Rng::new(4);
    let each = (0..3).map(|_| Expert::random(&mut rng, Dtype::F32, 8, 5));
    let all = All(each.collect(), Vec::new());
    let mut matrix =
        |rows, cols| Array::new(Dtype::F32, [1, rows, cols], 0, 0).fill(|| rng.normal());
    let (x, mut y, mut narrow) = (matrix(2, 8), matrix(2, 8), matrix(2, 7));
    let mut mixture = Mixture {
        router: matrix(3, 8),
        top: 2,
        renormalised: true,
        all,
        shared: None,
        router_norm: None,
    };
    let cpu = cpus().pop().unwrap();
    assert!(experts(&cpu, x.view(), &mixture.view(), y.view_mut()).is_ok());
    assert!(experts(&cpu, x.view(), &mixture.view(), narrow.view_mut()).is_err());
    for top in [0, 4] {
        mixture.top = top;
        assert!(experts(&cpu, x.view(), &mixture.view(), y.view_mut()).is_err());
    }
    (mixture.top, mixture.router) = (1, matrix(4, 8));
    assert!(experts(&cpu, x.view(), &mixture.view(), y.view_mut()).is_err());
}
