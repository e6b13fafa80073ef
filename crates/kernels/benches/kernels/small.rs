//! Attention, and what is neither bound by weights nor by products.

use std::time::Duration;

use kernels::attention::{MaskView, attention};
use kernels::gated::{Activation, gated};
use kernels::rms_norm::{Addend, NormView, add_rms_norm, rms_norm};
use kernels::rope::{RotationView, rope};
use kernels::{Dtype, Layout, View, ViewMut};

use crate::Run;
use crate::decode::{bf16s, compare};
use crate::peaks::multiply;
use crate::timing::Times;

/// Key heads, query heads that share one, and elements of a head.
const HEADS: [(&str, usize, usize, usize); 2] =
    [("Qwen3-0.6B", 8, 2, 128), ("Gemma 3 1B", 1, 4, 256)];

fn heads(planes: usize, rows: usize, cols: usize) -> Layout {
    Layout {
        dtype: Dtype::Bf16,
        planes,
        rows,
        cols,
        plane_stride: rows * cols,
        row_stride: cols,
    }
}

pub(crate) fn report(run: &Run) {
    rows(run, 1);
    rows(run, 512);
    for (model, kv, group, dim) in HEADS {
        for keys in [512, 4096] {
            let name = format!("attention: decode, {model}, {keys} keys");
            if run.wants(&name) {
                decode(run, &name, [kv, group, keys, dim]);
            }
            let name = format!("attention: prefill, {model}, {keys} keys");
            if run.wants(&name) {
                prefill(run, &name, [kv, group, keys, dim]);
            }
        }
    }
}

/// The operations between products, on as many positions.
fn rows(run: &Run, rows: usize) {
    let (wide, hidden, head) = (3072, 1024, 128);
    let (x, w) = (bf16s(2 * rows * wide), bf16s(wide));
    let (mut sum, mut y) = (vec![0; 2 * rows * wide], vec![0; 2 * rows * wide]);
    let matrix = |cols| Layout::matrix(Dtype::Bf16, rows, cols);
    let view = |cols| View::new(&x, matrix(cols)).expect("x");
    let weight = |cols| View::new(&w, Layout::matrix(Dtype::Bf16, 1, cols)).expect("weight");
    let norm = |cols| NormView {
        weight: Some(weight(cols)),
        epsilon: 1e-6,
    };
    let cpu = &run.cpu;
    time(
        run,
        &format!("rows: rms_norm, {rows} x {hidden}"),
        rows * hidden,
        || {
            let y = ViewMut::new(&mut y, matrix(hidden)).expect("y");
            rms_norm(cpu, view(hidden), norm(hidden), y).expect("rms_norm");
        },
    );
    time(
        run,
        &format!("rows: add_rms_norm, {rows} x {hidden}"),
        rows * hidden,
        || {
            let sum = ViewMut::new(&mut sum, matrix(hidden)).expect("sum");
            let y = ViewMut::new(&mut y, matrix(hidden)).expect("y");
            let addend = Addend {
                x: view(hidden),
                norm: None,
            };
            add_rms_norm(cpu, view(hidden), addend, sum, norm(hidden), y).expect("add_rms_norm");
        },
    );
    for activation in [Activation::Silu, Activation::GeluTanh] {
        time(
            run,
            &format!("rows: {activation:?}, {rows} x {wide}"),
            rows * wide,
            || {
                let y = ViewMut::new(&mut y, matrix(wide)).expect("y");
                gated(cpu, activation, view(wide), view(wide), y).expect("gated");
            },
        );
    }
    let periods: Vec<f32> = (0..head / 2)
        .map(|i| 1e6_f32.powf(2.0 * i as f32 / head as f32))
        .collect();
    let heads = Layout {
        dtype: Dtype::Bf16,
        planes: 16,
        rows,
        cols: head,
        plane_stride: head,
        row_stride: 16 * head,
    };
    time(
        run,
        &format!("rows: norm and rope, {rows} x 16 heads of {head}"),
        rows * 16 * head,
        || {
            let x = View::new(&x, heads).expect("x");
            let y = ViewMut::new(&mut y, heads).expect("y");
            let rotation = RotationView {
                periods: &periods,
                scale: 1.0,
                offset: 100,
            };
            rope(cpu, x, Some(norm(head)), rotation, y).expect("rope");
        },
    );
}

/// Prints the time of a call that makes so many elements.
fn time(run: &Run, name: &str, elements: usize, mut call: impl FnMut()) {
    if run.wants(name) {
        let times = Times::of(Duration::from_millis(50), &mut call);
        let quick = times.percentile(10);
        let cost = 1e9 * quick / elements as f64;
        println!(
            "{name}: {:.2} us, at best {:.2} us, {cost:.3} ns an element",
            1e6 * times.percentile(50),
            1e6 * quick
        );
    }
}

fn decode(run: &Run, name: &str, [kv, group, keys, dim]: [usize; 4]) {
    let cache = kv * keys * dim;
    let bytes = 2 * 2 * cache;
    let sets: Vec<_> = (0..(128_usize << 20).div_ceil(bytes))
        .map(|_| bf16s(2 * cache))
        .collect();
    let q = bf16s(kv * group * dim);
    let mut out = vec![0; q.len()];
    let (queries, layout) = (heads(kv * group, 1, dim), heads(kv, keys, dim));
    compare(
        run,
        name,
        bytes,
        &sets,
        |set| {
            let (k, v) = set.split_at(2 * cache);
            let k = View::new(k, layout).expect("k");
            let v = View::new(v, layout).expect("v");
            let q = View::new(&q, queries).expect("q");
            let out = ViewMut::new(&mut out, queries).expect("out");
            attention(&run.cpu, q, k, v, 0.1, MaskView::None, out).expect("attention");
        },
        |set| set,
    );
}

fn prefill(run: &Run, name: &str, [kv, group, keys, dim]: [usize; 4]) {
    let (queries, layout) = (heads(kv * group, keys, dim), heads(kv, keys, dim));
    let (q, kv_bytes) = (bf16s(kv * group * keys * dim), bf16s(kv * keys * dim));
    let mut out = vec![0; q.len()];
    let times = Times::of(Duration::from_millis(300), || {
        let q = View::new(&q, queries).expect("q");
        let k = View::new(&kv_bytes, layout).expect("k");
        let out = ViewMut::new(&mut out, queries).expect("out");
        attention(&run.cpu, q, k, k, 0.1, MaskView::Causal, out).expect("attention");
    });
    // Half of all scores are seen.
    let work = (2 * kv * group * keys * keys * dim) as f64 / 1e9;
    let (median, quick) = (work / times.percentile(50), work / times.percentile(0));
    match multiply(&run.cpu, false) {
        Some(peak) => println!(
            "{name}: {median:.0} GFLOP/s, at best {quick:.0} of {peak:.0} ({:.0}%)",
            100.0 * quick / peak
        ),
        None => println!("{name}: {median:.1} GFLOP/s, at best {quick:.1}"),
    }
}
