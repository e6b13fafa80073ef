//! Products with quantized weights, compared with float64 and with what MLX made.

use crate::common::{Array, Rng, Weights, apart, close, cpus, dot, dtypes, epsilon, formats};
use kernels::quantized_matmul::{
    Format, Mode, Quantized, Scales, dequantize, quantized_matmul, quantized_matmuls,
};
use kernels::{Cpu, Dtype, Error, Isa, Layout, View, ViewMut};
use proptest::prelude::*;
use safetensors::SafeTensors;

/// Rows of `x` above which it is a prefill.
const FEW: usize = 16;

/// What a product loses where `x` becomes 16-bit integers: an element more than 128 times smaller than the
/// largest of its block is rounded to a multiple of 2^-14 of that one, and
/// meets at most half the range of the weights. These errors are independent.
fn lost(x: &[f64], w: &[f64], block: usize) -> f64 {
    let largest = |values: &[f64]| values.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
    let weight = largest(w);
    let squares: f64 = x
        .chunks(block)
        .map(|eight| {
            let most = largest(eight);
            let rounded = eight.iter().filter(|x| x.abs() < most / 64.0 && **x != 0.0);
            rounded.count() as f64 * (2.0_f64.powi(-15) * most * weight).powi(2)
        })
        .sum();
    4.0 * squares.sqrt()
}

/// Whether AVX-512 multiplies integers.
fn has_vnni() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512vnni");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

fn check(cpu: &Cpu, x: &Array, w: &Weights, y: &mut Array) {
    quantized_matmul(cpu, x.view(), &w.view(), y.view_mut()).unwrap();
    y.check_gaps();
    apart(x, y, FEW, |x, y| {
        quantized_matmul(cpu, x, &w.view(), y).unwrap();
    });
    let prefill =
        x.layout.rows > FEW && x.layout.dtype == Dtype::Bf16 && cpu.isa() == Isa::Avx512Bf16;
    let few = x.layout.rows <= FEW;
    // Elements of a block, where it becomes integers.
    let own = w.format.bits() == 4 || w.format.bits() == 8;
    let block = match cpu.isa() {
        _ if x.layout.dtype != Dtype::Bf16 || w.format == Format::MXFP8 => None,
        Isa::Avx2 if !few => Some(w.format.group_size().min(64)),
        Isa::Avx512 if !few && has_vnni() => Some(w.format.group_size().min(64)),
        Isa::Avx512Bf16 if own => None,
        Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16 if few => {
            Some(if w.format.bits() == 2 { 16 } else { 8 })
        }
        _ => None,
    };
    for m in 0..x.layout.rows {
        let x_row = x.row(0, m);
        for n in 0..w.rows {
            let (sum, size) = dot(&x_row, w.row(n));
            // Sums are of codes as they are, of which a weight is the difference to a bias.
            let codes = 8.0 * (4.0 + (w.cols as f64).sqrt()) * size;
            let mut error = epsilon(Dtype::F32) * codes;
            if prefill {
                // Each weight was rounded: independent errors of up to half a last place.
                let squares: f64 = x_row
                    .iter()
                    .zip(w.row(n))
                    .map(|(x, w)| (x * w).powi(2))
                    .sum();
                error += epsilon(Dtype::Bf16) * (4.0 * squares.sqrt()).min(size);
            }
            if let Some(block) = block {
                error += lost(&x_row, w.row(n), block);
            }
            let bound = error + epsilon(y.layout.dtype) * (sum.abs() + error) + 2.0_f64.powi(-25);
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
    fn products_are_right(
        format in formats(),
        (m, n, groups) in (1_usize..=40, 1_usize..=70, 1_usize..=10),
        (x_type, w_type, y_type) in (dtypes(), dtypes(), dtypes()),
        (gap, offset) in (0_usize..3, 0_usize..5),
        seed in any::<u64>(),
    ) {
        let mut rng = Rng::new(seed);
        let k = groups * format.group_size();
        let w = Weights::random(&mut rng, format, n, k, w_type, offset);
        let x = Array::new(x_type, [1, m, k], gap, offset).fill(|| rng.normal());
        for cpu in cpus() {
            let mut y = Array::new(y_type, [1, m, n], gap, offset);
            check(&cpu, &x, &w, &mut y);
        }
    }

    #[test]
    fn bfloat16_decode_is_right(
        (bits, group) in (prop::sample::select(vec![2_usize, 3, 4, 5, 6, 8]), prop::sample::select(vec![32_usize, 64, 128])),
        (m, n, groups) in (1_usize..=FEW, 1_usize..=70, 1_usize..=50),
        (w_type, y_type) in (dtypes(), dtypes()),
        offset in 0_usize..5,
        seed in any::<u64>(),
    ) {
        let mut rng = Rng::new(seed);
        let format = Format::affine(bits, group).unwrap();
        let k = (groups * group).min(3072);
        let w = Weights::random(&mut rng, format, n, k, w_type, offset);
        let x = Array::new(Dtype::Bf16, [1, m, k], 1, offset).fill(|| rng.normal());
        let mut by_integers: Vec<Array> = Vec::new();
        for cpu in cpus() {
            let mut y = Array::new(y_type, [1, m, n], 0, offset);
            check(&cpu, &x, &w, &mut y);
            if matches!(cpu.isa(), Isa::Avx2 | Isa::Avx512) {
                by_integers.push(y);
            }
        }
        // Two rows of weights in a vector have what each has alone.
        for y in by_integers.iter().skip(1) {
            (0..m).for_each(|m| assert_eq!(y.row(0, m), by_integers[0].row(0, m)));
        }
    }

    #[test]
    fn several_products_are_those_of_each(
        formats in prop::collection::vec(formats(), 1..4),
        (m, same, k) in (1_usize..=20, any::<bool>(), 1_usize..=6),
        (x_type, w_type) in (dtypes(), dtypes()),
        seed in any::<u64>(),
    ) {
        let mut rng = Rng::new(seed);
        let k = 128 * k;
        let weights: Vec<_> = (0..3)
            .map(|i| {
                let format = formats[if same { 0 } else { i % formats.len() }];
                let rows = rng.bits() as usize % 70;
                Weights::random(&mut rng, format, rows, k, w_type, 1)
            })
            .collect();
        let x = Array::new(x_type, [1, m, k], 0, 2).fill(|| rng.normal());
        for cpu in cpus() {
            let empty = |w: &Weights| Array::new(Dtype::F32, [1, m, w.rows], 1, 3);
            let mut each: Vec<_> = weights.iter().map(empty).collect();
            for (w, y) in weights.iter().zip(&mut each) {
                quantized_matmul(&cpu, x.view(), &w.view(), y.view_mut()).unwrap();
            }
            let mut together: Vec<_> = weights.iter().map(empty).collect();
            let mut parts: Vec<_> =
                weights.iter().zip(&mut together).map(|(w, y)| (w.view(), y.view_mut())).collect();
            quantized_matmuls(&cpu, x.view(), &mut parts).unwrap();
            for (each, together) in each.iter().zip(&together) {
                together.check_gaps();
                for m in 0..m {
                    assert_eq!(each.row(0, m), together.row(0, m), "{:?}", cpu.isa());
                }
            }
        }
    }

    #[test]
    fn rows_are_dequantized(
        format in formats(),
        (n, groups) in (1_usize..=20, 1_usize..=8),
        (w_type, y_type) in (dtypes(), dtypes()),
        offset in 0_usize..5,
        seed in any::<u64>(),
    ) {
        let mut rng = Rng::new(seed);
        let w = Weights::random(&mut rng, format, n, groups * format.group_size(), w_type, offset);
        let picked: Vec<usize> = (0..7).map(|_| rng.bits() as usize % n).collect();
        for cpu in cpus() {
            let mut y = Array::new(y_type, [1, picked.len(), w.cols], 1, offset);
            dequantize(&cpu, &w.view(), &picked, y.view_mut()).unwrap();
            y.check_gaps();
            for (i, &row) in picked.iter().enumerate() {
                for (k, &want) in w.row(row).iter().enumerate() {
                    // An affine weight is the difference of parts of up to `2^bits` times the scale.
                    let parts = epsilon(Dtype::F32) * (want.abs() + 4.0);
                    let bound = epsilon(y_type) * want.abs() + parts + 2.0_f64.powi(-25);
                    close(y.get(0, i, k), want, bound, || format!("{:?}: [{row}, {k}]", cpu.isa()));
                }
            }
        }
    }
}

/// Every format, in one of its groups.
fn each_format() -> impl Iterator<Item = Format> {
    let affine = [(2, 32), (3, 64), (4, 64), (5, 128), (6, 32), (8, 64)];
    let affine = affine.map(|(bits, group)| Format::affine(bits, group).unwrap());
    affine
        .into_iter()
        .chain([Format::MXFP4, Format::MXFP8, Format::NVFP4])
}

/// A row with a single one takes a code out of the weights: each comes from its own place, and exactly.
#[test]
fn each_byte_is_itself() {
    for group in [32, 64, 128] {
        let (n, k) = (7, 3 * group);
        let codes: Vec<u8> = (0..n * k).map(|i| (i * 77 + i / 256) as u8).collect();
        let groups = n * k / group;
        let (scales, biases) = ([0x80, 0x3f].repeat(groups), vec![0; 2 * groups]);
        let scales = Scales::Affine {
            scales: &scales,
            biases: &biases,
            dtype: Dtype::Bf16,
        };
        let w = Quantized::new(Format::affine(8, group).unwrap(), n, k, &codes, scales).unwrap();
        for rows in [1, 2, 7, FEW] {
            for first in (0..k).step_by(rows) {
                let mut at = 0..;
                let x = Array::new(Dtype::Bf16, [1, rows, k], 0, 0).fill(|| {
                    let i = at.next().unwrap();
                    f64::from(i % k == (first + i / k) % k)
                });
                for cpu in cpus() {
                    let mut y = Array::new(Dtype::F32, [1, rows, n], 0, 0);
                    quantized_matmul(&cpu, x.view(), &w, y.view_mut()).unwrap();
                    for m in 0..rows {
                        let column = |row: usize| codes[row * k + (first + m) % k];
                        let want: Vec<f64> = (0..n).map(|row| f64::from(column(row))).collect();
                        assert_eq!(y.row(0, m), want, "{:?}, {first} + {m}", cpu.isa());
                    }
                }
            }
        }
    }
}

/// An element far larger than its neighbours takes their last places, but together no more than bfloat16 had
/// lost of it: half its last place, times how far a weight can be from the middle of its group's.
#[test]
fn outliers_cost_no_more_than_bfloat16_lost_of_them() {
    let mut rng = Rng::new(21);
    for format in each_format().filter(|format| format.mode() == Mode::Affine) {
        let (n, k) = (9, 384);
        let w = Weights::random(&mut rng, format, n, k, Dtype::F32, 0);
        let outlier = |i: usize| i % 64 == 13;
        for size in [100.0, 1000.0, 30_000.0] {
            let mut at = 0;
            let x = Array::new(Dtype::Bf16, [1, 1, k], 0, 0).fill(|| {
                at += 1;
                rng.normal() * if outlier(at - 1) { size } else { 1.0 }
            });
            let x_row = x.row(0, 0);
            for cpu in cpus() {
                let mut y = Array::new(Dtype::F32, [1, 1, n], 0, 0);
                quantized_matmul(&cpu, x.view(), &w.view(), y.view_mut()).unwrap();
                for row in 0..n {
                    let (sum, magnitude) = dot(&x_row, w.row(row));
                    let lost: f64 = (0..k)
                        .step_by(64)
                        .map(|first| {
                            let span = first..first + 64;
                            let of_span = |values: &[f64]| {
                                values[span.clone()]
                                    .iter()
                                    .fold(0.0_f64, |a, b| a.max(b.abs()))
                            };
                            2.0_f64.powi(-9) * of_span(&x_row) * of_span(w.row(row))
                        })
                        .sum();
                    let floats = 8.0 * (4.0 + (k as f64).sqrt()) * epsilon(Dtype::F32) * magnitude;
                    let what = || format!("{:?}, {format:?}, {size}: y[{row}]", cpu.isa());
                    close(y.get(0, 0, row), sum, lost + floats, what);
                }
            }
        }
    }
}

#[test]
fn what_is_no_number_stays_none() {
    let mut rng = Rng::new(9);
    for (format, rows) in each_format().flat_map(|format| [(format, 3), (format, FEW + 4)]) {
        let w = Weights::random(&mut rng, format, 5, 128, Dtype::Bf16, 0);
        for (row, bad) in [(0, f64::NAN), (1, f64::INFINITY), (2, f64::NEG_INFINITY)] {
            let mut at = 0;
            let x = Array::new(Dtype::Bf16, [1, rows, 128], 0, 0).fill(|| {
                at += 1;
                if at == 128 * row + 77 {
                    bad
                } else {
                    rng.normal()
                }
            });
            for cpu in cpus() {
                let mut y = Array::new(Dtype::F32, [1, rows, 5], 0, 0);
                quantized_matmul(&cpu, x.view(), &w.view(), y.view_mut()).unwrap();
                for m in 0..rows {
                    for n in 0..5 {
                        let got = y.get(0, m, n);
                        // An infinite element meets a weight of zero as no number, and others as infinity.
                        assert_eq!(
                            got.is_finite(),
                            m != row,
                            "{:?}, {format:?}: y[{m}, {n}] = {got}",
                            cpu.isa()
                        );
                    }
                }
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn nothing_beyond_a_matrix_is_read() {
    use crate::common::fenced::Fenced;
    let mut rng = Rng::new(12);
    for format in each_format() {
        for (n, groups) in [(1, 1), (2, 3), (3, 1), (5, 9), (9, 2)] {
            let k = groups * format.group_size();
            let w = Weights::random(&mut rng, format, n, k, Dtype::Bf16, 0);
            let [packed, scales, biases] =
                [&w.packed, &w.scales, &w.biases].map(|bytes| Fenced::new(bytes));
            let scales = match format.mode() {
                Mode::Affine => Scales::Affine {
                    scales: scales.bytes(),
                    biases: biases.bytes(),
                    dtype: Dtype::Bf16,
                },
                _ => Scales::Bytes(scales.bytes()),
            };
            let fenced = Quantized::new(format, n, k, packed.bytes(), scales).unwrap();
            for m in [1, 2, 4, 7, FEW, FEW + 1] {
                let x = Array::new(Dtype::Bf16, [1, m, k], 0, 0).fill(|| rng.normal());
                for cpu in cpus() {
                    let empty = || Array::new(Dtype::F32, [1, m, n], 0, 0);
                    let (mut y, mut same) = (empty(), empty());
                    quantized_matmul(&cpu, x.view(), &fenced, y.view_mut()).unwrap();
                    quantized_matmul(&cpu, x.view(), &w.view(), same.view_mut()).unwrap();
                    assert!((0..m).all(|m| y.row(0, m) == same.row(0, m)), "{format:?}");
                }
            }
        }
    }
}

#[test]
fn weights_are_what_mlx_makes_of_them() {
    let file = std::fs::read("tests/fixtures/mlx_quantized.safetensors").unwrap();
    let file = SafeTensors::deserialize(&file).unwrap();
    let mut formats = vec![
        ("mxfp4".to_owned(), Format::MXFP4),
        ("mxfp8".to_owned(), Format::MXFP8),
        ("nvfp4".to_owned(), Format::NVFP4),
    ];
    for bits in [2, 3, 4, 5, 6, 8] {
        for group in [32, 64, 128] {
            formats.push((
                format!("affine.{bits}.{group}"),
                Format::affine(bits, group).unwrap(),
            ));
        }
    }
    for (name, format) in formats {
        let part = |part: &str| file.tensor(&format!("{name}.{part}")).unwrap();
        let values = part("values");
        let (rows, cols) = (values.shape()[0], values.shape()[1]);
        let (packed, scales) = (part("w"), part("scales"));
        let biases = file.tensor(&format!("{name}.biases"));
        let scales = match &biases {
            Ok(biases) => Scales::Affine {
                scales: scales.data(),
                biases: biases.data(),
                dtype: match scales.dtype() {
                    safetensors::Dtype::F16 => Dtype::F16,
                    safetensors::Dtype::BF16 => Dtype::Bf16,
                    _ => Dtype::F32,
                },
            },
            Err(_) => Scales::Bytes(scales.data()),
        };
        let w = Quantized::new(format, rows, cols, packed.data(), scales).unwrap();
        for cpu in cpus() {
            let mut out = vec![0; rows * cols * 4];
            let y = ViewMut::new(&mut out, Layout::matrix(Dtype::F32, rows, cols)).unwrap();
            dequantize(&cpu, &w, &(0..rows).collect::<Vec<_>>(), y).unwrap();
            for (got, want) in out.chunks_exact(4).zip(values.data().chunks_exact(4)) {
                let got = f32::from_le_bytes(got.try_into().unwrap());
                let want = f32::from_le_bytes(want.try_into().unwrap());
                // MLX rounds the product before it adds the bias, which is up to 2^bits scales.
                let bound =
                    2.0_f32.powi(-22) * want.abs() + 2.0_f32.powi(-22) * largest(values.data());
                assert!(
                    (got - want).abs() <= bound,
                    "{name}, {:?}: {got}, not {want}",
                    cpu.isa()
                );
            }
        }
    }
}

fn largest(values: &[u8]) -> f32 {
    let value = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap()).abs();
    values.chunks_exact(4).map(value).fold(0.0, f32::max)
}

#[test]
fn sizes_that_disagree_are_refused() {
    let cpu = Cpu::new(Isa::Portable, 1).unwrap();
    assert!(Format::affine(7, 64).is_err());
    assert!(Format::affine(4, 16).is_err());
    let format = Format::affine(4, 64).unwrap();
    let bytes = vec![0; 4096];
    let scales = Scales::Affine {
        scales: &bytes[..16],
        biases: &bytes[..16],
        dtype: Dtype::Bf16,
    };
    let error = Quantized::new(format, 4, 128, &bytes[..255], scales).unwrap_err();
    assert!(
        error.to_string().contains("256 bytes of codes, not 255"),
        "{error}"
    );
    assert!(Quantized::new(format, 4, 96, &bytes[..192], scales).is_err());
    assert!(Quantized::new(Format::MXFP4, 4, 128, &bytes[..256], scales).is_err());
    let w = Quantized::new(format, 4, 128, &bytes[..256], scales).unwrap();
    let x = View::new(&bytes[..512], Layout::matrix(Dtype::F32, 1, 128)).unwrap();
    let mut out = vec![0; 64];
    let y = ViewMut::new(&mut out, Layout::matrix(Dtype::F32, 1, 5)).unwrap();
    let error = quantized_matmul(&cpu, x, &w, y).unwrap_err();
    assert!(matches!(error, Error::Shape { .. }), "{error}");
    let y = ViewMut::new(&mut out, Layout::matrix(Dtype::F32, 1, 4)).unwrap();
    assert!(dequantize(&cpu, &w, &[4], y).is_err());
}
