//! Packed matrices as plain numbers, on the device that `ML_TEST_DEVICE` names, or else the CPU.

use crate::common::{Rng, open_device};
use half::{bf16, f16};
use kernels::graph::{Packed, dequantized, dequantized_rows, unpacked};
use mlx_core::quant::{self, Mode, Scheme};
use mlx_core::{Array, DeviceKind, Dtype};

const DTYPES: [Dtype; 3] = [Dtype::Bfloat16, Dtype::Float16, Dtype::Float32];

/// What a matrix is made of, and its numbers before they are rounded.
struct Matrix {
    words: Array,
    scales: Array,
    biases: Array,
    scheme: Scheme,
    /// `scale * q` and `bias` of each number.
    exact: Vec<[f64; 2]>,
}

impl Matrix {
    fn random(rows: usize, columns: usize, scheme: Scheme, dtype: Dtype, rng: &mut Rng) -> Self {
        let (bits, group) = (scheme.bits as usize, scheme.group_size as usize);
        let words: Vec<u32> = (0..rows * columns * bits / 32)
            .map(|_| (rng.bits() >> 16) as u32)
            .collect();
        let groups = rows * columns / group;
        let mut floats = |spread: f64| -> Vec<f64> {
            let values = (0..groups).map(|_| rng.normal() * spread);
            values.map(|x| round(x, dtype)).collect()
        };
        let (scales, biases) = (floats(0.01), floats(0.1));
        // A number's lowest bit is this far from the lowest bit of the first word.
        let code = |i: usize| {
            let bit = |at: usize| u64::from(words[at / 32] >> (at % 32) & 1);
            (0..bits).fold(0, |q, b| q | bit(i * bits + b) << b)
        };
        let numbers = 0..rows * columns;
        let exact = numbers.map(|i| [scales[i / group] * code(i) as f64, biases[i / group]]);
        let floats = |values: &[f64]| {
            let values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
            let shape = [rows as i32, (columns / group) as i32];
            let array = Array::from_slice(&values, &shape).unwrap();
            array.cast(dtype).unwrap()
        };
        Self {
            exact: exact.collect(),
            scales: floats(&scales),
            biases: floats(&biases),
            words: Array::from_slice(&words, &[rows as i32, (columns * bits / 32) as i32]).unwrap(),
            scheme,
        }
    }

    fn packed(&self) -> Packed<'_> {
        Packed {
            weight: &self.words,
            scales: &self.scales,
            biases: Some(&self.biases),
            scheme: &self.scheme,
        }
    }

    /// These are the numbers of `rows`: each is within half a unit of its last place, with a product
    /// that may be rounded too.
    fn check(&self, got: &Array, rows: &[i32], dtype: Dtype) {
        assert_eq!(got.dtype(), dtype);
        let got = got.cast(Dtype::Float32).unwrap().to_vec::<f32>().unwrap();
        let columns = self.exact.len() / self.words.dim(0) as usize;
        assert_eq!(got.len(), rows.len() * columns);
        let row = |&id: &i32| &self.exact[id as usize * columns..][..columns];
        let exact: Vec<[f64; 2]> = rows.iter().flat_map(row).copied().collect();
        let half_unit = match dtype {
            Dtype::Bfloat16 => 2.0_f64.powi(-8),
            Dtype::Float16 => 2.0_f64.powi(-11),
            _ => 2.0_f64.powi(-24),
        };
        // Below this, the distance of float16 numbers no longer shrinks with them.
        let smallest = match dtype {
            Dtype::Float16 => 2.0_f64.powi(-14),
            _ => 0.0,
        };
        for (i, (&got, [product, bias])) in got.iter().zip(&exact).enumerate() {
            let want = product + bias;
            let allowed = half_unit * 1.001 * (product.abs() + want.abs()).max(smallest);
            let off = (f64::from(got) - want).abs();
            assert!(
                off <= allowed,
                "number {i} of {}: {got}, not {want}",
                self.scheme
            );
        }
    }
}

/// The nearest number of `dtype`.
fn round(x: f64, dtype: Dtype) -> f64 {
    match dtype {
        Dtype::Bfloat16 => bf16::from_f64(x).to_f64(),
        Dtype::Float16 => f16::from_f64(x).to_f64(),
        _ => f64::from(x as f32),
    }
}

fn scheme(bits: i32, group_size: i32) -> Scheme {
    Scheme {
        mode: Mode::Affine,
        group_size,
        bits,
    }
}

/// Every packing and dtype, with a matrix whose last block of numbers is not full.
fn each(mut test: impl FnMut(&Matrix, Dtype)) {
    let mut rng = Rng::new(7);
    for bits in [2, 3, 4, 5, 6, 8] {
        for group_size in [32, 64, 128] {
            for dtype in DTYPES {
                let scheme = scheme(bits, group_size);
                test(&Matrix::random(37, 384, scheme, dtype, &mut rng), dtype);
            }
        }
    }
}

/// The bits of floats.
fn bits_of(array: &Array) -> Vec<u32> {
    let floats = array.cast(Dtype::Float32).unwrap().to_vec::<f32>().unwrap();
    floats.into_iter().map(f32::to_bits).collect()
}

#[test]
fn numbers_are_scale_times_code_plus_bias() {
    open_device();
    let chosen = [36, 0, 5, 5, 17];
    let ids = Array::from_slice(&chosen, &[5]).unwrap();
    each(|matrix, dtype| {
        let rows = dequantized_rows(matrix.packed(), &ids, dtype).unwrap();
        matrix.check(&rows, &chosen, dtype);
        let all: Vec<i32> = (0..37).collect();
        let matrix_made = dequantized(matrix.packed(), dtype).unwrap();
        matrix.check(&matrix_made, &all, dtype);
    });
}

#[test]
fn a_gpu_gives_the_numbers_of_mlx_bit_for_bit() {
    if open_device() == DeviceKind::Cpu {
        eprintln!("skipped: ML_TEST_DEVICE names no GPU");
        return;
    }
    each(|matrix, dtype| {
        let ours = dequantized(matrix.packed(), dtype).unwrap();
        let Matrix {
            words,
            scales,
            biases,
            scheme,
            ..
        } = matrix;
        let mlx = quant::dequantize(words, scales, Some(biases), scheme, Some(dtype)).unwrap();
        assert_eq!(bits_of(&ours), bits_of(&mlx), "{scheme}, {dtype:?}");
    });
}

#[test]
fn what_the_kernel_lacks_is_left_to_mlx() {
    open_device();
    let mut rng = Rng::new(8);
    let scheme = Mode::Affine.defaults();
    let matrix = Matrix::random(5, 128, scheme, Dtype::Bfloat16, &mut rng);
    // Scales of another dtype than is asked for.
    let wide = dequantized(matrix.packed(), Dtype::Float32).unwrap();
    assert_eq!(wide.dtype(), Dtype::Float32);
    let narrow = wide.cast(Dtype::Bfloat16).unwrap();
    matrix.check(&narrow, &[0, 1, 2, 3, 4], Dtype::Bfloat16);
    // A mode without biases.
    let floats = Array::ones(&[4, 64], Dtype::Bfloat16).unwrap();
    let scheme = Mode::Mxfp4.defaults();
    let packed = quant::quantize(&floats, &scheme).unwrap();
    let packed = Packed {
        weight: &packed.weight,
        scales: &packed.scales,
        biases: None,
        scheme: &scheme,
    };
    let ones = dequantized(packed, Dtype::Bfloat16).unwrap();
    assert_eq!(bits_of(&ones), vec![1.0_f32.to_bits(); 256]);
    // Sizes that disagree are an error and no read beyond the end.
    let short = matrix.scales.slice(&[0, 0], &[5, 1]).unwrap();
    let wrong = Packed {
        scales: &short,
        ..matrix.packed()
    };
    assert!(dequantized(wrong, Dtype::Bfloat16).is_err());
}

#[test]
fn several_matrices_are_unpacked_together_on_a_gpu() {
    if open_device() == DeviceKind::Cpu {
        eprintln!("skipped: ML_TEST_DEVICE names no GPU");
        return;
    }
    let mut rng = Rng::new(10);
    let mut matrix = |rows, columns, bits| {
        Matrix::random(rows, columns, scheme(bits, 64), Dtype::Bfloat16, &mut rng)
    };
    // Packed alike but for the last, and of several shapes.
    let matrices = [
        matrix(37, 384, 4),
        matrix(1000, 640, 4),
        matrix(1, 128, 4),
        matrix(512, 512, 4),
        matrix(40, 384, 4),
        matrix(64, 256, 8),
    ];
    let x = Array::ones(&[1, 8, 384], Dtype::Bfloat16).unwrap();
    for range in [0..1, 0..2, 1..4, 0..4, 0..5, 3..6] {
        let matrices = &matrices[range.clone()];
        let packed: Vec<Packed<'_>> = matrices.iter().map(Matrix::packed).collect();
        let made = unpacked(&x, &packed).unwrap().unwrap();
        assert_eq!(made.len(), matrices.len());
        for (made, matrix) in made.iter().zip(matrices) {
            let alone = dequantized(matrix.packed(), Dtype::Bfloat16).unwrap();
            assert_eq!(made.shape(), alone.shape());
            assert!(bits_of(made) == bits_of(&alone), "{range:?}");
        }
    }
    let one = Array::ones(&[1, 1, 384], Dtype::Bfloat16).unwrap();
    let packed = [matrices[0].packed()];
    assert!(
        unpacked(&one, &packed).unwrap().is_none(),
        "a row needs none"
    );
}

#[test]
fn rows_of_a_view_are_unpacked() {
    open_device();
    let mut rng = Rng::new(9);
    let scheme = Mode::Affine.defaults();
    let matrix = Matrix::random(12, 256, scheme, Dtype::Bfloat16, &mut rng);
    let third = |a: &Array| a.slice_strided(&[1, 0], &[12, a.dim(1)], &[3, 1]).unwrap();
    let Matrix {
        words,
        scales,
        biases,
        ..
    } = &matrix;
    let [words, scales, biases] = [words, scales, biases].map(third);
    let view = Packed {
        weight: &words,
        scales: &scales,
        biases: Some(&biases),
        scheme: &scheme,
    };
    let got = dequantized(view, Dtype::Bfloat16).unwrap();
    let all = dequantized(matrix.packed(), Dtype::Bfloat16).unwrap();
    assert_eq!(got.shape(), [4, 256]);
    assert_eq!(bits_of(&got), bits_of(&third(&all)));
}
