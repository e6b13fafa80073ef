//! What the tests share: random arrays, and plain float64 references to compare with.
#[cfg(target_os = "linux")]
pub(crate) mod fenced;

use half::{bf16, f16};
use kernels::quantized_matmul::{Format, Mode, Quantized, Scales};
use kernels::{Cpu, Dtype, Isa, Layout, View, ViewMut};
use mlx_core::DeviceKind;
use mlx_core::device::{self, Choice};
use proptest::prelude::*;

/// A processor for each instruction set of this machine, alone and with company.
pub(crate) fn cpus() -> Vec<Cpu> {
    Isa::available()
        .flat_map(|isa| [1, 3].map(|threads| Cpu::new(isa, threads).unwrap()))
        .collect()
}

/// Opens the device that `ML_TEST_DEVICE` names, or else the CPU.
pub(crate) fn open_device() -> DeviceKind {
    let choice = std::env::var("ML_TEST_DEVICE").map_or(Choice::Cpu, |name| name.parse().unwrap());
    device::open(choice).unwrap().kind
}

/// The numbers of an array of the graph, in row-major order.
pub(crate) fn values(array: &mlx_core::Array) -> Vec<f64> {
    let floats = array.cast(mlx_core::Dtype::Float32).unwrap();
    let floats = floats.contiguous().unwrap().to_vec::<f32>().unwrap();
    floats.into_iter().map(f64::from).collect()
}

/// A generator of numbers that are the same at every run (xorshift).
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// In `-1..1`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    /// About normally distributed.
    pub(crate) fn normal(&mut self) -> f64 {
        (0..6).map(|_| self.unit()).sum::<f64>() / 2.0_f64.sqrt()
    }

    pub(crate) fn normals(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.normal()).collect()
    }
}

pub(crate) fn dtypes() -> impl Strategy<Value = Dtype> {
    prop::sample::select(Dtype::ALL.to_vec())
}

/// Half the distance between 1 and the next number.
pub(crate) fn epsilon(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F32 => 2.0_f64.powi(-24),
        Dtype::F16 => 2.0_f64.powi(-11),
        Dtype::Bf16 => 2.0_f64.powi(-8),
    }
}

pub(crate) fn encode(dtype: Dtype, x: f64) -> Vec<u8> {
    match dtype {
        Dtype::F32 => (x as f32).to_le_bytes().to_vec(),
        Dtype::F16 => f16::from_f64(x).to_le_bytes().to_vec(),
        Dtype::Bf16 => bf16::from_f64(x).to_le_bytes().to_vec(),
    }
}

pub(crate) fn decode(dtype: Dtype, bytes: &[u8]) -> f64 {
    match dtype {
        Dtype::F32 => f32::from_le_bytes(bytes.try_into().unwrap()).into(),
        Dtype::F16 => f16::from_le_bytes(bytes.try_into().unwrap()).into(),
        Dtype::Bf16 => bf16::from_le_bytes(bytes.try_into().unwrap()).into(),
    }
}

/// An array `[planes, rows, cols]` somewhere in a block of other bytes.
#[derive(Debug)]
pub(crate) struct Array {
    pub(crate) layout: Layout,
    offset: usize,
    bytes: Vec<u8>,
}

/// What surrounds an array; as any float, a NaN, so that it shows when it is used.
const AROUND: u8 = 0xff;

impl Array {
    /// An array of AROUND, `gap` elements between rows and planes, at an address that is
    /// `offset` bytes from an aligned one.
    pub(crate) fn new(
        dtype: Dtype,
        [planes, rows, cols]: [usize; 3],
        gap: usize,
        offset: usize,
    ) -> Self {
        let row_stride = cols + gap;
        let plane_stride = rows * row_stride + gap;
        let layout = Layout {
            dtype,
            planes,
            rows,
            cols,
            plane_stride,
            row_stride,
        };
        let len = layout.bytes().unwrap() + 256;
        let bytes = vec![AROUND; len];
        let offset = offset + bytes.as_ptr().align_offset(64);
        Self {
            layout,
            offset,
            bytes,
        }
    }

    pub(crate) fn fill(mut self, mut value: impl FnMut() -> f64) -> Self {
        let l = self.layout;
        for plane in 0..l.planes {
            for row in 0..l.rows {
                for col in 0..l.cols {
                    let at = self.at(plane, row, col);
                    let encoded = encode(l.dtype, value());
                    self.bytes[at..at + encoded.len()].copy_from_slice(&encoded);
                }
            }
        }
        self
    }

    fn at(&self, plane: usize, row: usize, col: usize) -> usize {
        let l = &self.layout;
        self.offset + (plane * l.plane_stride + row * l.row_stride + col) * l.dtype.size()
    }

    pub(crate) fn get(&self, plane: usize, row: usize, col: usize) -> f64 {
        let at = self.at(plane, row, col);
        decode(
            self.layout.dtype,
            &self.bytes[at..at + self.layout.dtype.size()],
        )
    }

    /// A row as float64.
    pub(crate) fn row(&self, plane: usize, row: usize) -> Vec<f64> {
        (0..self.layout.cols)
            .map(|col| self.get(plane, row, col))
            .collect()
    }

    pub(crate) fn view(&self) -> View<'_> {
        let len = self.layout.bytes().unwrap();
        View::new(&self.bytes[self.offset..][..len], self.layout).unwrap()
    }

    pub(crate) fn view_mut(&mut self) -> ViewMut<'_> {
        let len = self.layout.bytes().unwrap();
        ViewMut::new(&mut self.bytes[self.offset..][..len], self.layout).unwrap()
    }

    /// Nothing but the array's own elements was written.
    pub(crate) fn check_gaps(&self) {
        let l = self.layout;
        let mut own = vec![false; self.bytes.len()];
        for plane in 0..l.planes {
            for row in 0..l.rows {
                let at = self.at(plane, row, 0);
                own[at..at + l.cols * l.dtype.size()].fill(true);
            }
        }
        for (byte, own) in self.bytes.iter().zip(own) {
            assert!(own || *byte == AROUND, "wrote outside of {l:?}");
        }
    }
}

/// A random quantized matrix, and its weights in float64.
#[derive(Debug)]
pub(crate) struct Weights {
    pub(crate) format: Format,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) packed: Vec<u8>,
    pub(crate) scales: Vec<u8>,
    pub(crate) biases: Vec<u8>,
    pub(crate) dtype: Dtype,
    /// Bytes before each array's first.
    pub(crate) offset: usize,
    pub(crate) values: Vec<f64>,
}

pub(crate) fn e2m1(code: u8) -> f64 {
    let (exponent, mantissa) = (i32::from(code >> 1 & 3), f64::from(code & 1));
    let value = if exponent == 0 {
        mantissa / 2.0
    } else {
        (1.0 + mantissa / 2.0) * 2_f64.powi(exponent - 1)
    };
    if code & 8 == 0 { value } else { -value }
}

pub(crate) fn e4m3(code: u8) -> f64 {
    let (exponent, mantissa) = (i32::from(code >> 3 & 15), f64::from(code & 7));
    let value = if exponent == 0 {
        mantissa / 8.0 * 2_f64.powi(-6)
    } else {
        (1.0 + mantissa / 8.0) * 2_f64.powi(exponent - 7)
    };
    if code & 0x80 == 0 { value } else { -value }
}

impl Weights {
    pub(crate) fn random(
        rng: &mut Rng,
        format: Format,
        rows: usize,
        cols: usize,
        dtype: Dtype,
        offset: usize,
    ) -> Self {
        let groups = rows * cols / format.group_size();
        let bytes = |n: usize, rng: &mut Rng| -> Vec<u8> {
            (0..offset + n).map(|_| (rng.bits() >> 24) as u8).collect()
        };
        let packed = bytes(rows * cols / 8 * format.bits(), rng);
        let (mut scales, mut biases) = (vec![AROUND; offset], vec![AROUND; offset]);
        for _ in 0..groups {
            match format.mode() {
                Mode::Affine => {
                    // As quantizing gives them: the codes' range is about centred.
                    let scale = rng.normal() / (1 << format.bits()) as f64;
                    let centre = (1 << (format.bits() - 1)) as f64 * (1.0 + 0.3 * rng.unit());
                    scales.extend(encode(dtype, scale));
                    biases.extend(encode(dtype, -scale * centre));
                }
                Mode::Nvfp4 => scales.push((rng.bits() >> 24) as u8 & 0x7f),
                _ => scales.push(118 + (rng.bits() >> 24) as u8 % 12),
            }
        }
        let mut weights = Self {
            format,
            rows,
            cols,
            packed,
            scales,
            biases,
            dtype,
            offset,
            values: Vec::new(),
        };
        weights.values = (0..rows * cols).map(|i| weights.value(i)).collect();
        weights
    }

    /// The weight at position `i` of the rows laid end to end.
    fn value(&self, i: usize) -> f64 {
        let bits = self.format.bits();
        let code = (0..bits).fold(0, |code, b| {
            let at = i * bits + b;
            code | (self.packed[self.offset + at / 8] >> (at % 8) & 1) << b
        });
        let group = i / self.format.group_size();
        let float = |from: &[u8]| {
            let size = self.dtype.size();
            decode(self.dtype, &from[self.offset + group * size..][..size])
        };
        match self.format.mode() {
            Mode::Affine => f64::from(code) * float(&self.scales) + float(&self.biases),
            Mode::Nvfp4 => e2m1(code) * e4m3(self.scales[self.offset + group]),
            mode => {
                let scale = 2_f64.powi(i32::from(self.scales[self.offset + group]) - 127);
                scale
                    * if mode == Mode::Mxfp8 {
                        e4m3(code)
                    } else {
                        e2m1(code)
                    }
            }
        }
    }

    pub(crate) fn view(&self) -> Quantized<'_> {
        let (packed, scales) = (&self.packed[self.offset..], &self.scales[self.offset..]);
        let scales = match self.format.mode() {
            Mode::Affine => Scales::Affine {
                scales,
                biases: &self.biases[self.offset..],
                dtype: self.dtype,
            },
            _ => Scales::Bytes(scales),
        };
        Quantized::new(self.format, self.rows, self.cols, packed, scales).unwrap()
    }

    pub(crate) fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.cols..][..self.cols]
    }
}

pub(crate) fn formats() -> impl Strategy<Value = Format> {
    let affine = (
        prop::sample::select(vec![2, 3, 4, 4, 4, 5, 6, 8, 8]),
        prop::sample::select(vec![32, 64, 128]),
    )
        .prop_map(|(bits, group)| Format::affine(bits, group).unwrap());
    prop_oneof![
        6 => affine,
        1 => Just(Format::MXFP4),
        1 => Just(Format::MXFP8),
        1 => Just(Format::NVFP4),
    ]
}

/// The dot product, and the same of magnitudes: what rounding errors are measured by.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> (f64, f64) {
    a.iter().zip(b).fold((0.0, 0.0), |(sum, size), (a, b)| {
        (sum + a * b, size + (a * b).abs())
    })
}

/// Fails unless `got` is within `bound` of `want`, both of which are not NaN.
#[track_caller]
pub(crate) fn close(got: f64, want: f64, bound: f64, what: impl FnOnce() -> String) {
    assert!(
        (got - want).abs() <= bound,
        "{}: got {got}, want {want} within {bound:e}",
        what()
    );
}

/// Checks that no row of a product `y` of `x`, if it has at most `few`, depends on the others by a bit: decoding
/// several sequences together must not change what each gives.
pub(crate) fn apart(x: &Array, y: &Array, few: usize, product: impl Fn(View<'_>, ViewMut<'_>)) {
    let [_, rows, cols] = y.layout.shape();
    if rows > few || rows < 2 {
        return;
    }
    for row in 0..rows {
        let mut alone = Array::new(y.layout.dtype, [1, 1, cols], 0, 0);
        product(x.view().slice_rows(row..row + 1).unwrap(), alone.view_mut());
        for col in 0..cols {
            let [found, alone] = [y.get(0, row, col), alone.get(0, 0, col)].map(f64::to_bits);
            assert_eq!(found, alone, "y[{row}, {col}] depends on the other rows");
        }
    }
}
