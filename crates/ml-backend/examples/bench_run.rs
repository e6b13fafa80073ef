//! One process of `cargo xtask bench`: what it measures is this process and nothing else.
//!
//!     bench_run MODEL --prompt 512 --gen 64 [--device cpu] [--threads 2]   # one repetition
//!     bench_run --bandwidth [--threads 2]                                  # memory, read only
//!
//! Prints one JSON line. A repetition follows a warm-up, which reads every weight and fills every
//! buffer once.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use kernels::Cpu;
use ml_backend::{Device, MlxBackend, Options};
use serde_json::json;

#[derive(Parser)]
struct Args {
    /// A model directory
    #[arg(required_unless_present = "bandwidth")]
    model: Option<std::path::PathBuf>,
    /// Measure how fast memory is read, and run no model
    #[arg(long, conflicts_with = "model")]
    bandwidth: bool,
    #[arg(long, default_value_t = 512)]
    prompt: usize,
    #[arg(long = "gen", default_value_t = 64)]
    gen_tokens: usize,
    #[arg(long, default_value = "auto")]
    device: Device,
    /// Threads on the CPU; 0 is one a physical core
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.model {
        Some(model) => repetition(model, &args),
        None => Ok(bandwidth(&args)),
    };
    match result {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn cpu(threads: usize) -> &'static Cpu {
    let cpu = Cpu::shared();
    if threads > 0 {
        cpu.pool().set_threads(threads);
    }
    cpu
}

fn repetition(model: &std::path::Path, args: &Args) -> Result<serde_json::Value> {
    ensure!(args.prompt > 0, "--prompt needs at least one token");
    let cpu = cpu(args.threads);
    let backend = MlxBackend::builder().device(args.device).load(model)?;
    let prompt = random_ids(args.prompt, backend.info().model.vocab_size);
    // One more than is counted: decode tokens are those after the first.
    let options = |tokens: usize| {
        let options = Options::new().temperature(0.0).ignore_eos(true);
        options.max_tokens(tokens + 1)
    };
    backend.generate_ids(&prompt, &options(args.gen_tokens.min(8)))?;
    let metrics = backend
        .generate_ids(&prompt, &options(args.gen_tokens))?
        .metrics;
    let first = metrics.time_to_first_token.context("no token came")?;
    let peak = peak_resident_bytes();
    Ok(json!({
        "engine": "ours",
        "device": backend.info().device.kind.to_string(),
        "threads": cpu.pool().threads(),
        "prompt": args.prompt,
        "gen": args.gen_tokens,
        "prefill_tps": metrics.prefill_tokens_per_second,
        "ttft_s": first.as_secs_f64(),
        "decode_tps": metrics.decode_tokens_per_second,
        "load_s": backend.info().load_time.as_secs_f64(),
        "peak_memory_bytes": peak.unwrap_or(metrics.peak_memory_bytes),
        "mlx_peak_memory_bytes": metrics.peak_memory_bytes,
    }))
}

/// Reads a block many times larger than any cache, with one thread and with all.
fn bandwidth(args: &Args) -> serde_json::Value {
    let cpu = cpu(args.threads);
    let threads = cpu.pool().threads();
    // Every page is written: untouched ones would all be the same page of zeros.
    let block: Vec<u8> = (0..1_usize << 30).map(|i| (i >> 6) as u8).collect();
    let all = kernels::bandwidth::best_read_rate(cpu, &block);
    cpu.pool().set_threads(1);
    let one = kernels::bandwidth::best_read_rate(cpu, &block);
    json!({
        "threads": threads,
        "isa": format!("{:?}", cpu.isa()),
        "bytes_per_second": all,
        "bytes_per_second_one_thread": one,
    })
}

/// The most memory that this process had resident, the pages of mapped weights among them. `None`
/// where the system does not tell.
fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Ids of a prompt without meaning, the same each time (a 64-bit linear congruential generator).
fn random_ids(count: usize, vocabulary: usize) -> Vec<u32> {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        ((state >> 33) % vocabulary.max(1) as u64) as u32
    };
    (0..count).map(|_| next()).collect()
}
