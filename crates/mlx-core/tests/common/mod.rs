//! What the tests share: the devices, a seeded source of numbers, and plain arrays to compare with.

#![allow(
    dead_code,
    unused_macros,
    unreachable_pub,
    reason = "each test program uses its own part"
)]

use mlx_core::device::{self, Choice};
use mlx_core::{Array, DeviceKind, Dtype};

/// The devices of this machine. They share one library, so the accelerator is opened first.
pub fn devices() -> Vec<Choice> {
    let best = device::open(Choice::Auto).unwrap();
    let accelerator = match best.kind {
        DeviceKind::Cpu => None,
        DeviceKind::Cuda => Some(Choice::Cuda),
        DeviceKind::Metal => Some(Choice::Metal),
    };
    std::iter::once(Choice::Cpu).chain(accelerator).collect()
}

/// Makes a test of each function, which then runs on every device of this machine.
macro_rules! on_each_device {
    ($($(#[$doc:meta])* fn $name:ident() $body:block)*) => {$(
        $(#[$doc])*
        #[test]
        fn $name() {
            for choice in crate::common::devices() {
                mlx_core::device::open(choice).unwrap();
                eprintln!("on {choice:?}");
                $body
            }
        }
    )*};
}
#[allow(unused_imports, reason = "each test program uses its own part")]
pub(crate) use on_each_device;

/// How much coarser than float32's a product may be: a CUDA device multiplies in TF32, whose
/// significand has 11 bits.
pub fn product_tolerance() -> f64 {
    match device::current().unwrap() {
        DeviceKind::Cpu => 2e-6,
        DeviceKind::Cuda | DeviceKind::Metal => 2e-3,
    }
}

/// SplitMix64.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `low..high`.
    pub fn int(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() % (high - low) as u64) as i64
    }

    pub fn size(&mut self, low: usize, high: usize) -> usize {
        self.int(low as i64, high as i64) as usize
    }

    pub fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    /// Uniform, and a float32.
    pub fn float(&mut self, low: f64, high: f64) -> f64 {
        let unit = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        (low + (high - low) * unit) as f32 as f64
    }

    /// A shape of `rank` axes, each of 1 to 5.
    pub fn shape(&mut self, rank: usize) -> Vec<usize> {
        (0..rank).map(|_| self.size(1, 6)).collect()
    }

    /// An axis of an array of this rank, counted from either end.
    pub fn axis(&mut self, rank: usize) -> (usize, i32) {
        let axis = self.size(0, rank);
        (
            axis,
            if self.coin() {
                axis as i32
            } else {
                axis as i32 - rank as i32
            },
        )
    }
}

/// A dense array of plain numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Nd {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

impl Nd {
    pub fn from_fn(shape: &[usize], mut f: impl FnMut(&[usize]) -> f64) -> Nd {
        let data = indices(shape).map(|index| f(&index)).collect();
        Nd {
            shape: shape.to_vec(),
            data,
        }
    }

    /// Uniform float32 numbers.
    pub fn random(rng: &mut Rng, shape: &[usize], low: f64, high: f64) -> Nd {
        Nd::from_fn(shape, |_| rng.float(low, high))
    }

    /// Small whole numbers, many of them equal.
    pub fn random_ints(rng: &mut Rng, shape: &[usize], low: i64, high: i64) -> Nd {
        Nd::from_fn(shape, |_| rng.int(low, high) as f64)
    }

    pub fn at(&self, index: &[usize]) -> f64 {
        let flat = index
            .iter()
            .zip(&self.shape)
            .fold(0, |flat, (i, n)| flat * n + i);
        self.data[flat]
    }

    /// The elements along the last axis at an index of the others.
    pub fn row(&self, front: &[usize]) -> &[f64] {
        let width = self.shape[front.len()];
        let flat = front
            .iter()
            .zip(&self.shape)
            .fold(0, |flat, (i, n)| flat * n + i);
        &self.data[flat * width..][..width]
    }

    /// The element of this array, broadcast, at an index of the wider shape.
    pub fn at_broadcast(&self, index: &[usize]) -> f64 {
        let own = &index[index.len() - self.shape.len()..];
        let own: Vec<usize> = own
            .iter()
            .zip(&self.shape)
            .map(|(&i, &n)| if n == 1 { 0 } else { i })
            .collect();
        self.at(&own)
    }

    pub fn shape_i32(&self) -> Vec<i32> {
        self.shape.iter().map(|&n| n as i32).collect()
    }

    pub fn array(&self) -> Array {
        let data: Vec<f32> = self.data.iter().map(|&v| v as f32).collect();
        Array::from_slice(&data, &self.shape_i32()).unwrap()
    }

    /// This array rounded to `dtype` and back, with MLX's array of it.
    pub fn rounded(&self, dtype: Dtype) -> (Nd, Array) {
        let array = self.array().cast(dtype).unwrap();
        (nd(&array), array)
    }
}

/// An MLX array's numbers, whatever its dtype.
pub fn nd(array: &Array) -> Nd {
    let shape = array.shape().iter().map(|&n| n as usize).collect();
    let data = array.cast(Dtype::Float32).unwrap().to_vec::<f32>().unwrap();
    Nd {
        shape,
        data: data.into_iter().map(f64::from).collect(),
    }
}

/// Every index of a shape, in row-major order.
pub fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + use<'_> {
    let total: usize = shape.iter().product();
    (0..total).map(move |mut flat| {
        let mut index = vec![0; shape.len()];
        for (i, &n) in index.iter_mut().zip(shape).rev() {
            *i = flat % n;
            flat /= n;
        }
        index
    })
}

/// Checks shape and elements; an element may be off by `rel` of its size plus `abs`.
#[track_caller]
pub fn assert_close(got: &Array, want: &Nd, rel: f64, abs: f64) {
    let got = nd(got);
    assert_eq!(got.shape, want.shape);
    for (i, (g, w)) in got.data.iter().zip(&want.data).enumerate() {
        let close = (g - w).abs() <= rel * w.abs() + abs || g == w || (g.is_nan() && w.is_nan());
        assert!(
            close,
            "element {i} of {:?}: got {g}, expected {w}",
            want.shape
        );
    }
}
