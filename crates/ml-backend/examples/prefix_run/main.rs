//! What it saves that a prompt is read once: the time to the first token of a long prompt that is sent again with some
//! tokens at its end. On a model of random weights, on the CPU.
//!
//!     prefix_run --shape qwen3-0.6b --weights q4 --prompt 20000 --more 200 [--threads 2] [--repeat 3]
//!
//! Prints one JSON line: seconds to the first token of the prompt read anew (`anew`); of the longer one after it
//! (`again`); of the same tokens behind a sequence that was never left (`held`); of the prompt in the next process, as far
//! as files go (`from_disk`, behind the time that the model takes to load); and bytes of the files.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bench_shapes::{Shape, Weights, checkpoint};
use clap::Parser;
use ml_backend::{Device, Generation, MlxBackend, MlxBackendBuilder, Options};
use serde_json::json;

#[derive(Parser)]
struct Args {
    #[arg(long, default_value = "qwen3-0.6b")]
    shape: Shape,
    #[arg(long, default_value = "q4")]
    weights: Weights,
    #[arg(long, default_value_t = 4000)]
    prompt: usize,
    /// Tokens at its end that are new
    #[arg(long, default_value_t = 200)]
    more: usize,
    /// Threads on the CPU; 0 is one a physical core
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Of `again` and `held`, by turns
    #[arg(long, default_value_t = 3)]
    repeat: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let (model, files) = (tempfile::tempdir()?, tempfile::tempdir()?);
    checkpoint::write_hollow(model.path(), &args.shape, args.weights)?;
    let vocabulary = args.shape.vocab();
    let ids = |seed: u64, count: usize| -> Vec<u32> {
        let mut state = seed;
        let next = |_| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            ((state >> 33) % vocabulary) as u32
        };
        (0..count).map(next).collect()
    };
    let prompt = ids(1, args.prompt);
    let longer = |seed| [&prompt[..], &ids(seed, args.more)].concat();

    let plain = load(&args, model.path(), |builder| builder.prefix_cache(0))?;
    run(&plain, &ids(9, 600), false)?;
    let anew = run(&plain, &prompt, false)?;
    let with = load(&args, model.path(), |builder| {
        builder.prefix_dir(files.path())
    })?;
    run(&with, &prompt, false)?;
    let (mut again, mut held) = (Vec::new(), Vec::new());
    for seed in 2..2 + args.repeat as u64 {
        let longer = longer(seed);
        run(&plain, &prompt, true)?;
        let one = run(&plain, &longer, true)?;
        ensure!(one.metrics.reused_tokens == args.prompt, "it was not held");
        held.push(first(&one)?.as_secs_f64());
        let other = run(&with, &longer, false)?;
        again.push(first(&other)?.as_secs_f64());
        ensure!(
            other.metrics.reused_tokens + 512 > args.prompt,
            "it was read again"
        );
    }
    drop(with);
    let began = Instant::now();
    let next = load(&args, model.path(), |builder| {
        builder.prefix_dir(files.path())
    })?;
    // Its digest is known.
    std::thread::sleep(Duration::from_millis(200));
    let load = began.elapsed();
    let disk = run(&next, &prompt, false)?;
    ensure!(disk.token_ids == anew.token_ids, "another text");
    println!(
        "{}",
        json!({
            "shape": args.shape.name, "weights": args.weights, "prompt": args.prompt, "more": args.more,
            "anew": first(&anew)?.as_secs_f64(), "again": again, "held": held,
            "from_disk": first(&disk)?.as_secs_f64(), "known_from_disk": disk.metrics.reused_tokens,
            "load": load.as_secs_f64(), "megabytes": bytes(files.path())? >> 20,
        })
    );
    Ok(())
}

fn load(
    args: &Args,
    model: &Path,
    more: impl FnOnce(MlxBackendBuilder<'static>) -> MlxBackendBuilder<'static>,
) -> Result<MlxBackend> {
    let mut builder = MlxBackend::builder()
        .device(Device::Cpu)
        .random_weights(true);
    if args.threads > 0 {
        builder = builder.threads(args.threads);
    }
    Ok(more(builder).load(model)?)
}

fn run(backend: &MlxBackend, prompt: &[u32], reuse: bool) -> Result<Generation> {
    let options = Options::new().temperature(0.0).ignore_eos(true);
    let options = options.max_tokens(1).reuse_prefix(reuse);
    Ok(backend.generate_ids(prompt, &options)?)
}

fn first(generation: &Generation) -> Result<Duration> {
    generation.metrics.time_to_first_token.context("no token")
}

fn bytes(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        sum += match entry.file_type()?.is_dir() {
            true => bytes(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(sum)
}
