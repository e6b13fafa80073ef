//! One row of activations by the weights of Qwen3-0.6B and Gemma 3 1B, and as many rows as decode together.

use kernels::bf12::{Bf12, bf12_matmuls};
use kernels::matmul::matmul;
use kernels::quantized_matmul::{Format, Mode, Quantized, Scales, quantized_matmul};
use kernels::{Dtype, Layout, View, ViewMut};

use crate::Run;
use crate::peaks::{multiply, read};
use crate::timing::Times;

/// Outputs and inputs of a layer's products.
pub(crate) const SHAPES: [(usize, usize); 6] = [
    (1024, 3072),
    (3072, 1024),
    (2048, 1024),
    (151_936, 1024),
    (6912, 1152),
    (1152, 6912),
];

/// Bytes of bfloat16 numbers as those of a trained matrix are distributed: normally, to a few thousandths.
fn normals(n: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut uniform = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (((state >> 40) as f32) + 0.5) / 16_777_216.0
    };
    (0..n)
        .flat_map(|_| {
            let radius = (-2.0 * uniform().ln()).sqrt();
            let value = radius * (std::f32::consts::TAU * uniform()).cos() / 30.0;
            half::bf16::from_f32(value).to_le_bytes()
        })
        .collect()
}

/// More than the last-level cache.
const SET: usize = 128 << 20;

/// Bytes of bfloat16 numbers around one.
pub(crate) fn bf16s(n: usize) -> Vec<u8> {
    (0..n)
        .flat_map(|i| [(i * 37) as u8, if i % 3 == 0 { 0xbf } else { 0x3f }])
        .collect()
}

/// Formats: bits and group of the affine mode, and the others by name.
const AFFINE: [(usize, usize); 8] = [
    (4, 64),
    (4, 32),
    (4, 128),
    (8, 64),
    (2, 64),
    (3, 64),
    (5, 64),
    (6, 64),
];
const OTHERS: [(&str, Format); 3] = [
    ("mxfp4", Format::MXFP4),
    ("mxfp8", Format::MXFP8),
    ("nvfp4", Format::NVFP4),
];

pub(crate) fn report(run: &Run) {
    for (n, k) in SHAPES {
        for (bits, group) in AFFINE {
            let name = format!("decode: {n}x{k}, {bits} bits, group {group}");
            let format = Format::affine(bits, group).expect("a format");
            if run.wants(&name) {
                quantized(run, &name, n, k, format, 1);
            }
            for rows in [2, 4, 8, 16] {
                let name = format!("decode: {rows} rows, {n}x{k}, {bits} bits, group {group}");
                if group == 64 && bits >= 4 && run.wants(&name) {
                    quantized(run, &name, n, k, format, rows);
                }
            }
        }
        for (format_name, format) in OTHERS {
            let name = format!("decode: {n}x{k}, {format_name}");
            if run.wants(&name) {
                quantized(run, &name, n, k, format, 1);
            }
        }
        let name = format!("decode: {n}x{k}, bf16");
        if run.wants(&name) {
            dense(run, &name, n, k);
        }
        let name = format!("decode: {n}x{k}, bf16 in 12 bits");
        if run.wants(&name) {
            encoded(run, &name, n, k);
        }
    }
}

fn quantized(run: &Run, name: &str, n: usize, k: usize, format: Format, rows: usize) {
    let codes = n * k / 8 * format.bits();
    let groups = n * k / format.group_size();
    let affine = format.mode() == Mode::Affine;
    let scale_bytes = if affine { 2 * groups } else { groups };
    let copies = SET.div_ceil(codes);
    let sets: Vec<_> = (0..copies)
        .map(|i| {
            (
                vec![i as u8 ^ 0x5a; codes],
                vec![0x3c; scale_bytes],
                vec![0x3c; scale_bytes],
            )
        })
        .collect();
    let sets: Vec<_> = sets
        .iter()
        .map(|(codes, scales, biases)| {
            let scales = match affine {
                true => Scales::Affine {
                    scales,
                    biases,
                    dtype: Dtype::Bf16,
                },
                false => Scales::Bytes(scales),
            };
            (
                codes,
                Quantized::new(format, n, k, codes, scales).expect("a matrix"),
            )
        })
        .collect();
    let x = bf16s(rows * k);
    let mut y = vec![0; 2 * rows * n];
    let x = View::new(&x, Layout::matrix(Dtype::Bf16, rows, k)).expect("x");
    let bytes = sets[0].1.bytes();
    let mut product = |(_, w): &(_, Quantized<'_>)| {
        let y = ViewMut::new(&mut y, Layout::matrix(Dtype::Bf16, rows, n)).expect("y");
        quantized_matmul(&run.cpu, x, w, y).expect("a product");
    };
    if rows == 1 {
        return compare(run, name, bytes, &sets, product, |(codes, _)| codes);
    }
    let mut times = Times::default();
    for set in sets.iter().cycle().take(5 * sets.len()) {
        times.add(|| product(set));
    }
    let peak = multiply(&run.cpu, false).unwrap_or(f64::NAN);
    let (median, quick) = times.rates((2 * rows * n * k) as f64);
    println!(
        "{name}: {median:.0} GFLOP/s of {peak:.0} in float32 ({:.0}%), at best {quick:.0} ({:.0}%)",
        100.0 * median / peak,
        100.0 * quick / peak,
    );
}

/// Matrices whose bytes are those of a plain one in three quarters, and what is read beside them.
fn encoded(run: &Run, name: &str, n: usize, k: usize) {
    let w = normals(n * k);
    let w = View::new(&w, Layout::matrix(Dtype::Bf16, n, k)).expect("w");
    let encode = || Bf12::encode(&run.cpu, w).map(|encoded| (encoded, vec![0x5a; n * k / 2 * 3]));
    let Some(first) = encode() else {
        println!("{name}: rows of {k} are no whole blocks");
        return;
    };
    let copies = SET.div_ceil(first.0.nbytes());
    let sets: Vec<_> = std::iter::once(first)
        .chain((1..copies).filter_map(|_| encode()))
        .collect();
    let x = bf16s(k);
    let mut y = vec![0; 2 * n];
    let x = View::new(&x, Layout::matrix(Dtype::Bf16, 1, k)).expect("x");
    compare(
        run,
        name,
        sets[0].0.nbytes(),
        &sets,
        |(w, _)| {
            let y = ViewMut::new(&mut y, Layout::matrix(Dtype::Bf16, 1, n)).expect("y");
            bf12_matmuls(&run.cpu, x, &mut [(w, y)]).expect("a product");
        },
        |(_, bytes)| bytes,
    );
}

fn dense(run: &Run, name: &str, n: usize, k: usize) {
    let bytes = 2 * n * k;
    let sets: Vec<_> = (0..SET.div_ceil(bytes)).map(|_| bf16s(n * k)).collect();
    let x = bf16s(k);
    let mut y = vec![0; 2 * n];
    let x = View::new(&x, Layout::matrix(Dtype::Bf16, 1, k)).expect("x");
    compare(
        run,
        name,
        bytes,
        &sets,
        |w| {
            let w = View::new(w, Layout::matrix(Dtype::Bf16, n, k)).expect("w");
            let y = ViewMut::new(&mut y, Layout::matrix(Dtype::Bf16, 1, n)).expect("y");
            matmul(&run.cpu, x, w, y).expect("a product");
        },
        |w| w,
    );
}

/// Times `call` with each of `sets`, and reading the same memory.
pub(crate) fn compare<T>(
    run: &Run,
    name: &str,
    bytes: usize,
    sets: &[T],
    mut call: impl FnMut(&T),
    memory: impl Fn(&T) -> &Vec<u8>,
) {
    let (mut times, mut reads) = (Times::default(), Times::default());
    for _ in 0..5 {
        for set in sets {
            times.add(|| call(set));
        }
        for set in sets {
            reads.add(|| read(&run.cpu, memory(set)));
        }
    }
    let (median, quick) = times.rates(bytes as f64);
    let (read_median, read_quick) = reads.rates(memory(&sets[0]).len() as f64);
    println!(
        "{name}: {median:.1} GB/s of {read_median:.1} ({:.0}%), at best {quick:.1} of {read_quick:.1} ({:.0}%)",
        100.0 * median / read_median,
        100.0 * quick / read_quick,
    );
}
