//! What it takes to draw a token, against taking the most probable: in microseconds.

use std::time::Duration;

use kernels::argmax::argmax;
use kernels::draw::{Filters, Row, Xtc};
use kernels::{Dtype, Layout, View};

use crate::Run;
use crate::timing::Times;

/// Rows of Qwen3's embedding.
const VOCABULARY: usize = 151_936;

const NONE: Filters<'static> = Filters {
    temperature: 0.8,
    temperature_first: false,
    top_k: None,
    top_p: None,
    min_p: None,
    typical_p: None,
    xtc: None,
};

pub(crate) fn report(run: &Run) {
    let xtc = Some(Xtc {
        threshold: 0.1,
        spared: &[],
    });
    let chains = [
        ("temperature", NONE),
        (
            "top-k",
            Filters {
                top_k: Some(40),
                ..NONE
            },
        ),
        (
            "top-p",
            Filters {
                top_p: Some(0.95),
                ..NONE
            },
        ),
        (
            "min-p",
            Filters {
                min_p: Some(0.05),
                ..NONE
            },
        ),
        (
            "typical",
            Filters {
                typical_p: Some(0.95),
                ..NONE
            },
        ),
        ("XTC", Filters { xtc, ..NONE }),
        (
            "top-k, top-p, min-p",
            Filters {
                top_k: Some(20),
                top_p: Some(0.95),
                min_p: Some(0.01),
                ..NONE
            },
        ),
        (
            "all",
            Filters {
                top_k: Some(4000),
                top_p: Some(0.95),
                min_p: Some(0.01),
                typical_p: Some(0.95),
                xtc,
                ..NONE
            },
        ),
    ];
    // Of a model of random weights, and as trained ones are.
    for (kind, spread, peak) in [("flat", 1.0_f32, 0.0_f32), ("peaked", 2.5, 12.0)] {
        let logits = logits(spread, peak);
        let view = || View::new(&logits, Layout::matrix(Dtype::F32, 1, VOCABULARY)).expect("a row");
        let name = format!("draw: greedy, {kind}");
        time(run, &name, || {
            argmax(&run.cpu, view()).expect("argmax");
        });
        for (chain, filters) in &chains {
            let mut uniform = 0.0;
            time(run, &format!("draw: {chain}, {kind}"), || {
                uniform = (uniform + 0.618_034_f64) % 1.0;
                let mut row = Row::read(&run.cpu, view()).expect("a row");
                row.draw(filters, uniform);
            });
        }
        time(
            run,
            &format!("draw: 500 penalties, 20 probabilities, {kind}"),
            || {
                let mut row = Row::read(&run.cpu, view()).expect("a row");
                std::hint::black_box((row.log_sum(), row.largest(20)));
                row.change(|logits| (0..500).for_each(|i| logits.change(i * 301, |x| x - 0.5)));
                row.argmax();
            },
        );
        let mask: Vec<u32> = (0..VOCABULARY.div_ceil(32))
            .map(|i| 0x9249_2492 << (i % 3))
            .collect();
        time(run, &format!("draw: a mask, {kind}"), || {
            let mut row = Row::read(&run.cpu, view()).expect("a row");
            row.allow(&mask);
            row.argmax();
        });
    }
}

fn time(run: &Run, name: &str, call: impl FnMut()) {
    if run.wants(name) {
        let times = Times::of(Duration::from_millis(300), call);
        let (half, tenth) = (times.percentile(50), times.percentile(10));
        println!("{name:48} {:8.0} µs, {:8.0}", half * 1e6, tenth * 1e6);
    }
}

/// Normal logits, the first of some hundred raised.
fn logits(spread: f32, peak: f32) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let one = |i: usize| {
        let normal = (0..12).map(|_| uniform()).sum::<f32>() - 6.0;
        let raised = if i.is_multiple_of(1500) {
            peak * uniform()
        } else {
            0.0
        };
        normal * spread + raised
    };
    (0..VOCABULARY)
        .map(one)
        .flat_map(f32::to_le_bytes)
        .collect()
}
