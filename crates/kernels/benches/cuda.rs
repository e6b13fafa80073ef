//! What decides the form of an operation on an NVIDIA GPU.
//!
//!     cargo bench -p kernels --bench cuda
//!
//! Products of packed weights as MLX has them, and unpacked first: from how many rows on is the
//! latter faster? And unpacking alone, by our kernel and by MLX's. Each time is the median of several
//! evaluations of ten products that do not depend on each other, over ten.

use std::time::Instant;

use kernels::graph::{Packed, dequantized};
use mlx_core::device::{self, Choice};
use mlx_core::quant::{self, Mode, Quantized, Scheme};
use mlx_core::random::{self, Key};
use mlx_core::{Array, Dtype, Result, ops};

const SHAPES: [(i32, i32); 3] = [(4096, 4096), (12_288, 4096), (3072, 1024)];
/// Products in one evaluation.
const AT_ONCE: usize = 10;

fn main() -> Result<()> {
    // `cargo test` runs benchmarks too, on machines without a GPU.
    if device::open(Choice::Cuda).is_err() {
        println!("there is no NVIDIA GPU");
        return Ok(());
    }
    println!("| [N, K] | bits | rows | packed µs | unpacked µs | dense µs |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for (n, k) in SHAPES {
        for bits in [4, 8] {
            products(n, k, bits)?;
        }
    }
    println!("\n| [N, K] | bits | unpacked by us µs | by MLX µs | TB/s |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (n, k) in SHAPES {
        for bits in [4, 8] {
            unpacking(n, k, bits)?;
        }
    }
    Ok(())
}

fn scheme(bits: i32) -> Scheme {
    Scheme {
        mode: Mode::Affine,
        group_size: 64,
        bits,
    }
}

fn products(n: i32, k: i32, bits: i32) -> Result<()> {
    let scheme = scheme(bits);
    let w = normal(1, &[n, k])?;
    let packed = quant::quantize(&w, &scheme)?;
    let Quantized {
        weight,
        scales,
        biases,
    } = &packed;
    for rows in [8, 16, 32, 64, 128, 256, 512, 2048] {
        let xs: Vec<Array> = (0..AT_ONCE)
            .map(|i| normal(2 + i as u64, &[rows, k]))
            .collect::<Result<_>>()?;
        let of_packed = microseconds(&xs, |x| {
            quant::quantized_matmul(x, weight, scales, biases.as_ref(), true, &scheme)
        })?;
        let unpacked = microseconds(&xs, |x| {
            let biases = biases.as_ref();
            let packed = Packed {
                weight,
                scales,
                biases,
                scheme: &scheme,
            };
            ops::matmul(x, &dequantized(packed, Dtype::Bfloat16)?.t()?)
        })?;
        let dense = microseconds(&xs, |x| ops::matmul(x, &w.t()?))?;
        println!("| [{n}, {k}] | {bits} | {rows} | {of_packed:.1} | {unpacked:.1} | {dense:.1} |");
    }
    Ok(())
}

fn unpacking(n: i32, k: i32, bits: i32) -> Result<()> {
    let scheme = scheme(bits);
    let matrices: Vec<Quantized> = (0..AT_ONCE)
        .map(|i| quant::quantize(&normal(1 + i as u64, &[n, k])?, &scheme))
        .collect::<Result<_>>()?;
    let ours = microseconds(&matrices, |w| {
        let packed = Packed {
            weight: &w.weight,
            scales: &w.scales,
            biases: w.biases.as_ref(),
            scheme: &scheme,
        };
        dequantized(packed, Dtype::Bfloat16)
    })?;
    let mlx = microseconds(&matrices, |w| {
        quant::dequantize(&w.weight, &w.scales, w.biases.as_ref(), &scheme, None)
    })?;
    let numbers = f64::from(n) * f64::from(k);
    // Codes, scale and bias, and what is written.
    let bytes = numbers * (f64::from(bits) / 8.0 + 4.0 / 64.0 + 2.0);
    let rate = bytes / ours / 1e6;
    println!("| [{n}, {k}] | {bits} | {ours:.1} | {mlx:.1} | {rate:.2} |");
    Ok(())
}

fn normal(seed: u64, shape: &[i32]) -> Result<Array> {
    let array = random::normal(&Key::new(seed)?, shape, Dtype::Bfloat16, 0.0, 1.0)?;
    array.eval()?;
    Ok(array)
}

/// The median time of one operation.
fn microseconds<T>(xs: &[T], operation: impl Fn(&T) -> Result<Array>) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..12 {
        let made: Vec<Array> = xs.iter().map(&operation).collect::<Result<_>>()?;
        let begun = Instant::now();
        mlx_core::eval(&made.iter().collect::<Vec<_>>())?;
        times.push(begun.elapsed().as_secs_f64() * 1e6 / xs.len() as f64);
    }
    // The first ones compile and allocate.
    let mut times = times.split_off(3);
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
