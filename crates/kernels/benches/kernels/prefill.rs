//! Many rows of activations.

use std::time::Duration;

use kernels::matmul::matmul;
use kernels::quantized_matmul::{Format, Quantized, Scales, quantized_matmul};
use kernels::{Dtype, Layout, View, ViewMut};

use crate::Run;
use crate::decode::{SHAPES, bf16s};
use crate::peaks::multiply;
use crate::timing::Times;

pub(crate) fn report(run: &Run) {
    for (n, k) in SHAPES {
        if n > 100_000 {
            continue; // Logits are wanted for one position only.
        }
        for m in [32, 128, 512] {
            let name = format!("prefill: {m} rows, {n}x{k}, bf16");
            if run.wants(&name) {
                let w = bf16s(n * k);
                let w = View::new(&w, Layout::matrix(Dtype::Bf16, n, k)).expect("w");
                time(run, &name, [m, n, k], |x, y| {
                    matmul(&run.cpu, x, w, y).expect("a product")
                });
            }
            for bits in [4, 8] {
                let name = format!("prefill: {m} rows, {n}x{k}, {bits} bits");
                if run.wants(&name) {
                    let codes = vec![0x5a; n * k / 8 * bits];
                    let scales = vec![0x3c; n * k / 64 * 2];
                    let scales = Scales::Affine {
                        scales: &scales,
                        biases: &scales,
                        dtype: Dtype::Bf16,
                    };
                    let format = Format::affine(bits, 64).expect("a format");
                    let w = Quantized::new(format, n, k, &codes, scales).expect("w");
                    time(run, &name, [m, n, k], |x, y| {
                        quantized_matmul(&run.cpu, x, &w, y).expect("a product");
                    });
                }
            }
        }
    }
}

fn time(run: &Run, name: &str, [m, n, k]: [usize; 3], mut call: impl FnMut(View<'_>, ViewMut<'_>)) {
    let x = bf16s(m * k);
    let x = View::new(&x, Layout::matrix(Dtype::Bf16, m, k)).expect("x");
    let mut y = vec![0; 2 * m * n];
    let times = Times::of(Duration::from_millis(200), || {
        call(
            x,
            ViewMut::new(&mut y, Layout::matrix(Dtype::Bf16, m, n)).expect("y"),
        );
    });
    let work = (2 * m * n * k) as f64 / 1e9;
    // Calls of milliseconds are interrupted on a shared machine: the quickest one was not.
    let (median, quick) = (work / times.percentile(50), work / times.percentile(0));
    match multiply(&run.cpu, true) {
        Some(peak) => println!(
            "{name}: {median:.0} GFLOP/s, at best {quick:.0} of {peak:.0} ({:.0}%)",
            100.0 * quick / peak
        ),
        None => println!("{name}: {median:.1} GFLOP/s, at best {quick:.1}"),
    }
}
