//! One process of `cargo xtask bench`: what it measures is this process and nothing else. It needs
//! neither cargo nor a checkpoint, so it can be taken to another machine.
//!
//!     bench_run MODEL --prompt 512 --gen 64 [--device cpu] [--threads 2]          # one repetition
//!     bench_run --shape qwen3-8b --weights q4 --prompt 512 --gen 64 --device cuda # of random weights
//!     bench_run MODEL --prompt 2048 --gen 4096 --streams 32 --arrivals 64 --over 10   # prompts among answers
//!     bench_run --bandwidth [--device cuda] [--threads 2]                         # memory, read only
//!     bench_run --shape qwen3-8b --weights q4 --write DIR                         # the same for other engines
//!
//! Prints one JSON line a repetition. The first follows a warm-up, which reads every weight and fills every
//! buffer once. Random weights are drawn on the device.

mod arrivals;
mod stages;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bench_shapes::{Shape, Weights, checkpoint, decode_bytes};
use clap::Parser;
use kernels::{Cpu, Isa};
use ml_backend::{Device, DeviceInfo, DeviceKind, MlxBackend, Options};
use serde_json::{Value, json};
use stages::Stage;

#[derive(Parser)]
struct Args {
    /// A model directory
    #[arg(required_unless_present_any = ["bandwidth", "shape"])]
    model: Option<PathBuf>,
    /// Random weights of these published dimensions
    #[arg(long, conflicts_with = "model")]
    shape: Option<Shape>,
    /// Types of the random weights
    #[arg(long, default_value = "bf16", requires = "shape")]
    weights: Weights,
    /// Write random weights into this directory, with their dimensions as `shape.json`, and run no model
    #[arg(long, value_name = "DIR", requires = "shape")]
    write: Option<PathBuf>,
    /// Measure how fast memory is read, and run no model
    #[arg(long, conflicts_with_all = ["model", "shape"])]
    bandwidth: bool,
    #[arg(long, default_value_t = 512)]
    prompt: usize,
    #[arg(long = "gen", default_value_t = 64)]
    gen_tokens: usize,
    /// Repetitions, with the weights loaded once
    #[arg(long, default_value_t = 1)]
    repeat: usize,
    /// Tokens by which the prompt of each repetition is longer than that of the one before, as prompts
    /// of a chat are; 0 is a prompt of one length
    #[arg(long, default_value_t = 0)]
    longer_by: usize,
    #[arg(long, default_value = "auto")]
    device: Device,
    /// MLX's own operations only
    #[arg(long)]
    plain_mlx: bool,
    /// Whether bfloat16 matrices are held in 12 bits; left out, where that makes decoding faster
    #[arg(long)]
    encode_bf16: Option<bool>,
    /// Threads on the CPU; 0 is one a physical core
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Requests at the same time, each with a prompt of its own
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// Prompt tokens that are run at once
    #[arg(long)]
    prefill_chunk: Option<usize>,
    /// Stages between logits and tokens, by name, separated by commas; or `all`. Left out, decoding is greedy
    #[arg(long, value_enum, value_delimiter = ',')]
    sampling: Vec<Stage>,
    /// Measure the first request of the process too
    #[arg(long)]
    no_warm_up: bool,
    /// Prompts that arrive while the streams decode
    #[arg(long, default_value_t = 0)]
    arrivals: usize,
    /// Seconds over which they arrive
    #[arg(long, default_value_t = 10.0)]
    over: f64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(lines) => {
            for line in lines {
                println!("{line}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<Vec<Value>> {
    match (&args.model, &args.shape) {
        (Some(model), _) => repetitions(model, args),
        (None, Some(shape)) => {
            if let Some(dir) = &args.write {
                checkpoint::write(dir, shape, args.weights)?;
                std::fs::write(dir.join("shape.json"), serde_json::to_string(shape)?)?;
                return Ok(Vec::new());
            }
            // A config and headers; the values are drawn.
            let dir = tempfile::tempdir()?;
            checkpoint::write_hollow(dir.path(), shape, args.weights)?;
            let mut lines = repetitions(dir.path(), args)?;
            for line in &mut lines {
                line["shape"] = json!(shape.name);
                line["weights"] = json!(args.weights);
                line["bytes_per_token"] = json!(bytes_per_token(shape, args, line));
            }
            Ok(lines)
        }
        (None, None) => Ok(vec![bandwidth(args)?]),
    }
}

/// Bytes that a decode step reads with half of the tokens generated, `line` telling how the weights
/// are held.
fn bytes_per_token(shape: &Shape, args: &Args, line: &Value) -> u64 {
    let tokens = args.prompt + args.gen_tokens / 2;
    let stored = decode_bytes(&shape.tensors(args.weights), shape.vocab());
    let held = stored as f64 * line["held_share"].as_f64().unwrap_or(1.0);
    held as u64 + shape.cache_bytes(tokens as u64)
}

fn cpu(threads: usize) -> &'static Cpu {
    let cpu = Cpu::shared();
    if threads > 0 {
        cpu.pool().set_threads(threads);
    }
    cpu
}

fn repetitions(model: &Path, args: &Args) -> Result<Vec<Value>> {
    ensure!(args.prompt > 0, "--prompt needs at least one token");
    let cpu = cpu(args.threads);
    // Each run reads its prompt.
    let mut builder = MlxBackend::builder()
        .prefix_cache(0)
        .device(args.device)
        .plain_mlx(args.plain_mlx)
        .random_weights(args.shape.is_some());
    if let Some(encode) = args.encode_bf16 {
        builder = builder.encode_bf16(encode);
    }
    if args.streams + args.arrivals > 1 {
        builder = builder.at_once(args.streams + args.arrivals);
    }
    let backend = builder.load(model)?;
    let repeat = args.repeat.max(1);
    let longest = args.prompt + args.longer_by * repeat;
    let ids = random_ids(longest, backend.info().model.vocab_size);
    // One more than is counted: decode tokens are those after the first.
    let options = |tokens: usize| {
        let mut options = stages::options(&args.sampling).ignore_eos(true);
        if let Some(chunk) = args.prefill_chunk {
            options = options.prefill_chunk(chunk);
        }
        options.max_tokens(tokens + 1)
    };
    if !args.no_warm_up {
        backend.generate_ids(&ids[..args.prompt], &options(args.gen_tokens.min(8)))?;
    }
    let one = |i: usize| -> Result<Value> {
        let prompt = &ids[..args.prompt + args.longer_by * i];
        let metrics = backend
            .generate_ids(prompt, &options(args.gen_tokens))?
            .metrics;
        let first = metrics.time_to_first_token.context("no token came")?;
        let device = &backend.info().device;
        // A GPU's memory is what counts where there is one, else what the process had resident.
        let resident = peak_resident_bytes().filter(|_| device.kind == DeviceKind::Cpu);
        Ok(json!({
            "engine": "ours",
            "device": device.kind.to_string(),
            "device_name": device.name,
            "threads": cpu.pool().threads(),
            "prompt": prompt.len(),
            "gen": args.gen_tokens,
            "plain_mlx": args.plain_mlx,
            "streams": args.streams,
            "sampling": stages::names(&args.sampling),
            "prefill_tps": metrics.prefill_tokens_per_second,
            "ttft_s": first.as_secs_f64(),
            "decode_tps": metrics.decode_tokens_per_second,
            // Of the bytes of the weights as they are stored.
            "held_share": backend.info().held_bytes as f64 / backend.info().model.weight_bytes as f64,
            "load_s": backend.info().load_time.as_secs_f64(),
            "peak_memory_bytes": resident.unwrap_or(metrics.peak_memory_bytes),
            "mlx_peak_memory_bytes": metrics.peak_memory_bytes,
        }))
    };
    if args.arrivals > 0 {
        let each = |_| arrivals::measure(&backend, args, &options(args.gen_tokens));
        return (0..repeat).map(each).collect();
    }
    if args.streams > 1 {
        let each = |_| together(&backend, args, &options(args.gen_tokens));
        return (0..repeat).map(each).collect();
    }
    (1..=repeat).map(one).collect()
}

/// Several requests at the same time: how fast all of them decode while none has ended and each has begun.
fn together(backend: &MlxBackend, args: &Args, options: &Options) -> Result<Value> {
    let ids = random_ids(args.streams * args.prompt, backend.info().model.vocab_size);
    let started = Instant::now();
    // When each token of each came.
    let times: Vec<Vec<f64>> = std::thread::scope(|scope| {
        let streams: Vec<_> = ids
            .chunks(args.prompt)
            .map(|prompt| {
                scope.spawn(move || -> Result<Vec<f64>> {
                    let mut times = Vec::new();
                    for piece in backend.stream_ids(prompt, options)? {
                        let count = piece?.token_ids.len();
                        times.extend(vec![started.elapsed().as_secs_f64(); count]);
                    }
                    Ok(times)
                })
            })
            .collect();
        let joined = streams.into_iter().map(|stream| stream.join());
        joined
            .map(|times| times.map_err(|_| anyhow::anyhow!("a stream panicked"))?)
            .collect::<Result<_>>()
    })?;
    let wall = started.elapsed().as_secs_f64();
    let firsts = times.iter().filter_map(|times| times.first().copied());
    let lasts = times.iter().filter_map(|times| times.last().copied());
    let (from, to) = (
        firsts.fold(0.0, f64::max),
        lasts.fold(f64::INFINITY, f64::min),
    );
    ensure!(
        to > from,
        "the first of {} requests ended before the last began; raise --gen",
        args.streams
    );
    let inside = times
        .iter()
        .flatten()
        .filter(|at| (from..=to).contains(*at));
    // Those of the first moment took their time before it.
    let tokens = inside.count().saturating_sub(args.streams);
    let prompts = (args.streams * args.prompt) as f64;
    Ok(json!({
        "engine": "ours",
        "device": backend.info().device.kind.to_string(),
        "device_name": backend.info().device.name,
        "threads": Cpu::shared().pool().threads(),
        "prompt": args.prompt,
        "gen": args.gen_tokens,
        "streams": args.streams,
        "prefill_tps": prompts / from,
        "decode_tps": tokens as f64 / (to - from),
        // Until the last one ended.
        "wall_s": wall,
        "held_share": backend.info().held_bytes as f64 / backend.info().model.weight_bytes as f64,
        "peak_memory_bytes": peak_resident_bytes(),
    }))
}

/// How fast the memory that a model's weights are in is read.
fn bandwidth(args: &Args) -> Result<Value> {
    let cpu = cpu(args.threads);
    if args.device == Device::Cuda {
        return gpu_bandwidth(&ml_backend::device_info(args.device)?, cpu);
    }
    // A block many times larger than any cache, with one thread and with all. Every page is written:
    // untouched ones would all be the same page of zeros.
    let threads = cpu.pool().threads();
    let block: Vec<u8> = (0..1_usize << 30).map(|i| (i >> 6) as u8).collect();
    let all = kernels::bandwidth::best_read_rate(cpu, &block);
    cpu.pool().set_threads(1);
    let one = kernels::bandwidth::best_read_rate(cpu, &block);
    Ok(json!({
        "device": "cpu",
        "threads": threads,
        "isa": cpu.isa().name(),
        "best_isa": Isa::best().name(),
        "bytes_per_second": all,
        "bytes_per_second_one_thread": one,
    }))
}

fn gpu_bandwidth(device: &DeviceInfo, cpu: &Cpu) -> Result<Value> {
    Ok(json!({
        "device": device.kind.to_string(),
        "device_name": device.name,
        "threads": cpu.pool().threads(),
        "bytes_per_second": kernels::bandwidth::best_gpu_read_rate()?,
    }))
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
