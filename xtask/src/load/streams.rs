//! What HTTP costs: the same streams through a server, and from the engine alone.
//!
//! By turns, each in a process of its own after a warm-up, with random weights; what counts is the time until all have
//! ended.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::client::{Events, Said, post};
use super::server::{self, Served};
use crate::process::{cargo, root, run};

const SHAPE: &str = "qwen3-0.6b";
const WEIGHTS: &str = "q4";
/// Tokens of each prompt and of each answer.
const PROMPT: usize = 128;
const ANSWER: usize = 64;
/// Ids below are in every vocabulary of the shapes, and above are no special ones.
const IDS: std::ops::Range<u64> = 1000..100_000;
/// What HTTP may cost, of the engine's time.
const MOST: f64 = 1.02;

/// Times `streams` at once, so many times each way.
///
/// # Errors
/// What cannot be built or asked, and HTTP that costs more than it may.
pub(super) fn compare(streams: usize, rounds: usize, program: Option<&Path>) -> Result<()> {
    let program = program.map_or_else(server::build, |program| Ok(program.to_owned()))?;
    let example = [
        "build",
        "--release",
        "-p",
        "ml-backend",
        "--example",
        "bench_run",
    ];
    run(&mut cargo(&example))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    let target = root().join(target);
    let runner = target.join("release/examples/bench_run");
    let model = target.join(format!("bench/models/{SHAPE}-{WEIGHTS}"));
    if !model.join("config.json").exists() {
        let mut write = Command::new(&runner);
        run(write
            .args(["--shape", SHAPE, "--weights", WEIGHTS, "--write"])
            .arg(&model))?;
    }
    let (mut http, mut alone) = (Vec::new(), Vec::new());
    for round in 0..rounds.max(1) {
        alone.push(engine(&runner, &model, streams)?);
        let at_once = streams.to_string();
        let served = Served::start(&program, &model, &["--at-once", &at_once])?;
        http.push(through_http(served.address, streams, round)?);
        ensure!(served.end()?, "the server did not end with exit code 0");
        println!(
            "round {round}: engine alone {:.3} s, through HTTP {:.3} s",
            alone.last().copied().unwrap_or_default(),
            http.last().copied().unwrap_or_default()
        );
    }
    let (http, alone) = (median(http), median(alone));
    let tokens = (streams * ANSWER) as f64;
    println!(
        "{streams} streams of {SHAPE} {WEIGHTS}, prompt {PROMPT}, {ANSWER} generated: {:.1} tokens/s through HTTP, \
         {:.1} from the engine alone, {:+.1} %",
        tokens / http,
        tokens / alone,
        (http / alone - 1.0) * 100.0
    );
    ensure!(http <= alone * MOST, "HTTP costs more than 2 %");
    Ok(())
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Seconds until all have ended, as the engine alone takes them.
fn engine(runner: &Path, model: &Path, streams: usize) -> Result<f64> {
    let mut command = Command::new(runner);
    command.arg(model).args(["--device", "cpu"]);
    // It generates one more than it counts.
    for (name, value) in [
        ("--streams", streams),
        ("--prompt", PROMPT),
        ("--gen", ANSWER - 1),
    ] {
        command.args([name, &value.to_string()]);
    }
    let output = command.output().context("bench_run does not start")?;
    let text = String::from_utf8(output.stdout)?;
    let last = text.lines().last().context("bench_run printed nothing")?;
    let line: Value = serde_json::from_str(last)?;
    line["wall_s"].as_f64().context("no time")
}

fn through_http(address: SocketAddr, streams: usize, round: usize) -> Result<f64> {
    let prompt = |stream: usize| -> Vec<u64> {
        let first = (round * streams + stream) as u64 * PROMPT as u64;
        let span = IDS.end - IDS.start;
        let ids = (first..first + PROMPT as u64).map(|at| at.wrapping_mul(7919) % span + IDS.start);
        ids.collect()
    };
    // As the other side has it: the first prompt, and a few tokens.
    ask(address, &prompt(0), 8)?;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..streams)
            .map(|stream| scope.spawn(move || ask(address, &prompt(stream), ANSWER)))
            .collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        let ended =
            ended.map(|outcome| outcome.map_err(|_| anyhow::anyhow!("a client panicked"))?);
        ended.collect::<Result<Vec<_>>>()
    })?;
    Ok(began.elapsed().as_secs_f64())
}

/// Streams an answer to its end.
fn ask(address: SocketAddr, prompt: &[u64], tokens: usize) -> Result<()> {
    let body = json!({
        "prompt": prompt, "max_tokens": tokens, "ignore_eos": true, "temperature": 0, "stream": true,
    });
    let mut answer = post(address, "/v1/completions", &body)?;
    ensure!(answer.status == 200, "status {}", answer.status);
    let (mut events, mut ended) = (Events::default(), false);
    while let Some(piece) = answer.piece()? {
        events.push(&piece)?;
        while let Some(said) = events.next()? {
            ended |= matches!(said, Said::End);
        }
    }
    ensure!(ended, "a stream without its end");
    Ok(())
}
