//! Mixtures of experts on CUDA, compared with float64.

use crate::common::{Rng, open_device, values};
use kernels::gated::Activation;
use kernels::graph::{Mixture, Packed, Weight, mixture};
use mlx_core::quant::{self, Mode, Quantized, Scheme};
use mlx_core::{Array, DeviceKind, Dtype};

/// Matrices and their numbers.
enum Matrices {
    Dense(Array),
    Packed(Quantized, Scheme),
}

struct Stack {
    held: Matrices,
    numbers: Vec<f64>,
    columns: usize,
}

impl Stack {
    fn random(rng: &mut Rng, shape: &[i32], dtype: Dtype, scheme: Option<Scheme>) -> Self {
        let columns = shape[shape.len() - 1] as usize;
        let size = (columns as f64).sqrt().recip();
        let plain = floats(rng, shape, dtype, size);
        let Some(scheme) = scheme else {
            let numbers = values(&plain);
            return Self {
                held: Matrices::Dense(plain),
                numbers,
                columns,
            };
        };
        let packed = quant::quantize(&plain, &scheme).unwrap();
        // In float32, which has all products of codes and scales, and their sums but for the last bits.
        let wide = |a: &Array| match a.dtype().is_floating() {
            true => a.cast(Dtype::Float32).unwrap(),
            false => a.clone(),
        };
        let biases = packed.biases.as_ref().map(wide);
        let made = quant::dequantize(
            &packed.weight,
            &wide(&packed.scales),
            biases.as_ref(),
            &scheme,
            Some(Dtype::Float32),
        );
        Self {
            numbers: values(&made.unwrap()),
            held: Matrices::Packed(packed, scheme),
            columns,
        }
    }

    fn weight(&self) -> Weight<'_> {
        match &self.held {
            Matrices::Dense(plain) => Weight::Dense(plain),
            Matrices::Packed(packed, scheme) => Weight::Packed(Packed {
                weight: &packed.weight,
                scales: &packed.scales,
                biases: packed.biases.as_ref(),
                scheme,
            }),
        }
    }

    /// `x` times `count` rows from the `first` on.
    fn times(&self, x: &[f64], first: usize, count: usize) -> Vec<f64> {
        let rows = self.numbers.chunks_exact(self.columns).skip(first);
        rows.take(count)
            .map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum())
            .collect()
    }
}

fn floats(rng: &mut Rng, shape: &[i32], dtype: Dtype, size: f64) -> Array {
    let count = shape.iter().product::<i32>() as usize;
    let numbers: Vec<f32> = (0..count).map(|_| (rng.normal() * size) as f32).collect();
    let array = Array::from_slice(&numbers, shape).unwrap();
    array.cast(dtype).unwrap()
}

struct Case {
    dtype: Dtype,
    scheme: Option<Scheme>,
    router: Option<Scheme>,
    experts: usize,
    top: usize,
    renormalised: bool,
    activation: Activation,
    hidden: usize,
    width: usize,
    shared: bool,
    biases: bool,
}

struct Drawn {
    router: Stack,
    gate: Stack,
    up: Stack,
    down: Stack,
    /// Of each.
    biases: [Array; 4],
}

impl Case {
    fn draw(&self, rng: &mut Rng) -> Drawn {
        let [experts, hidden, width] = [self.experts, self.hidden, self.width].map(|n| n as i32);
        let mut stack = |shape: &[i32], scheme| Stack::random(rng, shape, self.dtype, scheme);
        Drawn {
            router: stack(&[experts, hidden], self.router),
            gate: stack(&[experts, width, hidden], self.scheme),
            up: stack(&[experts, width, hidden], self.scheme),
            down: stack(&[experts, hidden, width], self.scheme),
            biases: [
                &[experts][..],
                &[experts, width],
                &[experts, width],
                &[experts, hidden],
            ]
            .map(|shape| floats(rng, shape, self.dtype, 0.5)),
        }
    }

    /// What becomes of a row; `None` where it is a close choice.
    fn output(&self, of: &Drawn, x: &[f64]) -> Option<Vec<f64>> {
        let biases = of.biases.each_ref().map(values);
        // A bias of each of the rows from the `first` on.
        let biased = |rows: Vec<f64>, which: usize, first: usize| -> Vec<f64> {
            let biases = biases[which][first..].iter();
            let factor = f64::from(u8::from(self.biases));
            rows.iter()
                .zip(biases)
                .map(|(y, b)| y + factor * b)
                .collect()
        };
        let logits = biased(of.router.times(x, 0, self.experts), 0, 0);
        let mut order: Vec<usize> = (0..self.experts).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        let (chosen, left) = order.split_at(self.top);
        if left
            .first()
            .is_some_and(|e| logits[chosen[self.top - 1]] - logits[*e] < 1e-3)
        {
            return None;
        }
        let exp = |e: &usize| logits[*e].exp();
        let total: f64 = match self.renormalised {
            true => chosen.iter().map(exp).sum(),
            false => order.iter().map(exp).sum(),
        };
        let mut sums = vec![0.0; self.hidden];
        for e in chosen {
            let first = e * self.width;
            let gate = biased(of.gate.times(x, first, self.width), 1, first);
            let up = biased(of.up.times(x, first, self.width), 2, first);
            let activation = |g: f64, u: f64| match self.activation {
                Activation::Silu => g / (1.0 + (-g).exp()) * u,
                Activation::GeluTanh => {
                    let inner = (2.0 / std::f64::consts::PI).sqrt() * (g + 0.044715 * g.powi(3));
                    g / 2.0 * (1.0 + inner.tanh()) * u
                }
                Activation::Clamped { limit, alpha } => {
                    let (limit, g) = (f64::from(limit), g.min(limit.into()));
                    g / (1.0 + (-g * f64::from(alpha)).exp()) * (u.clamp(-limit, limit) + 1.0)
                }
            };
            let inner: Vec<f64> = gate
                .iter()
                .zip(&up)
                .map(|(g, u)| activation(*g, *u))
                .collect();
            let first = e * self.hidden;
            let outer = biased(of.down.times(&inner, first, self.hidden), 3, first);
            for (sum, y) in sums.iter_mut().zip(outer) {
                *sum += exp(e) / total * y;
            }
        }
        Some(sums)
    }

    fn run(&self, of: &Drawn, x: &Array, shared: Option<(&Array, &Array)>) -> Array {
        let by = Mixture {
            router: of.router.weight(),
            top: self.top,
            renormalised: self.renormalised,
            gate: of.gate.weight(),
            up: of.up.weight(),
            down: of.down.weight(),
            activation: self.activation,
            biases: self.biases.then(|| of.biases.each_ref()),
        };
        mixture(x, &by, shared)
            .unwrap()
            .expect("the kernels have it")
    }

    /// Few and many rows are those of float64, and a row is the same beside others.
    fn check(&self, rng: &mut Rng) {
        let of = self.draw(rng);
        let what = format!(
            "{:?} {:?} {} of {}",
            self.dtype, self.scheme, self.top, self.experts
        );
        let epsilon = match self.dtype {
            Dtype::Float16 => 2.0_f64.powi(-11),
            _ => 2.0_f64.powi(-8),
        };
        for rows in [1, 5, 32, 33, 300] {
            let shape = [rows, self.hidden as i32];
            let x = floats(rng, &shape, self.dtype, 1.0);
            let out = floats(rng, &shape, self.dtype, 1.0);
            let gate = floats(rng, &[rows, 1], Dtype::Float32, 1.0);
            let shared = self.shared.then_some((&out, &gate));
            let y = self.run(&of, &x, shared);
            assert_eq!((y.dtype(), y.shape()), (self.dtype, &shape[..]));
            let (found, xs) = (values(&y), values(&x));
            let (outs, gates) = (values(&out), values(&gate));
            let mut looked_at = 0;
            for (row, gate) in gates.iter().enumerate() {
                let at = row * self.hidden..(row + 1) * self.hidden;
                let Some(mut want) = self.output(&of, &xs[at.clone()]) else {
                    continue;
                };
                looked_at += 1;
                if self.shared {
                    for (want, out) in want.iter_mut().zip(&outs[at.clone()]) {
                        *want += out / (1.0 + (-gate).exp());
                    }
                }
                // Weights are rounded when they are unpacked, outputs before they are summed.
                let norm = want.iter().map(|x| x * x).sum::<f64>().sqrt();
                let off = want.iter().zip(&found[at]).map(|(a, b)| (a - b).powi(2));
                let off = off.sum::<f64>().sqrt() / norm;
                assert!(
                    off < 2.0 * epsilon,
                    "{what}: row {row} of {rows} is {off:e} off"
                );
            }
            assert!(looked_at * 2 > rows, "{what}: {looked_at} of {rows} rows");
            if rows == 5 {
                for row in 0..rows {
                    let one = |a: &Array| a.slice(&[row, 0], &[row + 1, a.dim(1)]).unwrap();
                    let (out, gate) = (one(&out), one(&gate));
                    let alone = self.run(&of, &one(&x), shared.map(|_| (&out, &gate)));
                    let at = row as usize * self.hidden;
                    assert!(
                        values(&alone) == found[at..][..self.hidden],
                        "{what}: row {row} alone"
                    );
                }
            }
        }
    }
}

fn affine(bits: i32, group_size: i32) -> Option<Scheme> {
    Some(Scheme {
        mode: Mode::Affine,
        group_size,
        bits,
    })
}

#[test]
fn mixtures_on_a_gpu_are_right_and_rows_do_not_depend_on_others() {
    if open_device() != DeviceKind::Cuda {
        eprintln!("skipped: ML_TEST_DEVICE does not name CUDA");
        return;
    }
    let mut rng = Rng::new(17);
    let plain = Case {
        dtype: Dtype::Bfloat16,
        scheme: None,
        router: None,
        experts: 7,
        top: 2,
        renormalised: true,
        activation: Activation::Silu,
        hidden: 136,
        width: 72,
        shared: false,
        biases: false,
    };
    plain.check(&mut rng);
    let packed = |scheme, router| Case {
        scheme,
        router,
        hidden: 256,
        width: 128,
        experts: 40,
        top: 8,
        ..plain
    };
    Case {
        dtype: Dtype::Float16,
        activation: Activation::GeluTanh,
        shared: true,
        renormalised: false,
        ..plain
    }
    .check(&mut rng);
    for group in [32, 64, 128] {
        packed(affine(4, group), affine(8, 64)).check(&mut rng);
    }
    Case {
        shared: true,
        renormalised: false,
        ..packed(affine(8, 64), affine(8, 64))
    }
    .check(&mut rng);
    Case {
        dtype: Dtype::Float16,
        ..packed(affine(4, 64), None)
    }
    .check(&mut rng);
    packed(Some(Mode::Mxfp4.defaults()), None).check(&mut rng);
    // gpt-oss, whose gates and ups are clamped more often here.
    let clamped = Activation::Clamped {
        limit: 1.2,
        alpha: 1.702,
    };
    for scheme in [Some(Mode::Mxfp4.defaults()), None] {
        Case {
            activation: clamped,
            biases: true,
            top: 4,
            ..packed(scheme, None)
        }
        .check(&mut rng);
    }
}

/// What is not renormalised, chosen by another rule, or multiplied with other matrices is told apart.
#[test]
fn wrong_mixtures_on_a_gpu_are_seen() {
    if open_device() != DeviceKind::Cuda {
        eprintln!("skipped: ML_TEST_DEVICE does not name CUDA");
        return;
    }
    let mut rng = Rng::new(18);
    let case = Case {
        dtype: Dtype::Bfloat16,
        scheme: None,
        router: None,
        experts: 16,
        top: 4,
        renormalised: true,
        activation: Activation::Silu,
        hidden: 128,
        width: 64,
        shared: false,
        biases: false,
    };
    let mut of = case.draw(&mut rng);
    for rows in [3, 64] {
        let x = floats(&mut rng, &[rows, 128], Dtype::Bfloat16, 1.0);
        let right = values(&case.run(&of, &x, None));
        let apart = |y: &Array| {
            let off = right.iter().zip(values(y)).map(|(a, b)| (a - b).powi(2));
            off.sum::<f64>().sqrt() / right.iter().map(|a| a * a).sum::<f64>().sqrt()
        };
        let wrong = [
            Case {
                renormalised: false,
                ..case
            },
            Case { top: 3, ..case },
            Case {
                biases: true,
                ..case
            },
            Case {
                activation: Activation::GeluTanh,
                ..case
            },
        ];
        for wrong in &wrong {
            assert!(apart(&wrong.run(&of, &x, None)) > 0.02);
        }
        std::mem::swap(&mut of.gate, &mut of.up);
        assert!(apart(&case.run(&of, &x, None)) > 0.02);
        std::mem::swap(&mut of.gate, &mut of.up);
    }
}
