//! What HTTP costs: the same streams through a server, and from the engine alone, and what another server makes of them.
//!
//! By turns, each in a process of its own after a warm-up, with random weights; what counts is the time until all have
//! ended.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use super::client::{Events, Said, post};
use super::figures::times;
use super::peer::Peer;
use super::server::Served;
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
/// How much faster than the other server this one has to be.
const LEAST: f64 = 1.5;

/// Another server, and the weights that it reads.
pub(super) struct Other<'a> {
    pub(super) program: &'a Path,
    pub(super) weights: &'a Path,
}

/// Times `streams` at once, so many times each way.
///
/// # Errors
/// What cannot be built or asked, HTTP that costs more than it may, and another server that is not as much slower as it
/// has to be.
pub(super) fn compare(
    streams: usize,
    rounds: usize,
    program: Option<&Path>,
    other: Option<&Other<'_>>,
) -> Result<()> {
    // Of one build, so that both have the same code.
    let both = [
        "build",
        "--release",
        "-p",
        "ml-cli",
        "-p",
        "ml-backend",
        "--bin",
        "ml",
        "--example",
        "bench_run",
    ];
    run(&mut cargo(&both))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    let target = root().join(target);
    let program = program.map_or_else(|| target.join("release/ml"), Path::to_owned);
    let runner = target.join("release/examples/bench_run");
    let model = target.join(format!("bench/models/{SHAPE}-{WEIGHTS}"));
    if !model.join("config.json").exists() {
        let mut write = Command::new(&runner);
        run(write
            .args(["--shape", SHAPE, "--weights", WEIGHTS, "--write"])
            .arg(&model))?;
    }
    write_tokenizer(&model)?;
    let at_once = streams.to_string();
    let (mut http, mut alone, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds.max(1) {
        let engine = engine(&runner, &model, streams)?;
        let served = Served::start(&program, &model, &["--at-once", &at_once])?;
        let timed = through_http(served.address, streams, round)?;
        ensure!(served.end()?, "the server did not end with exit code 0");
        print!(
            "round {round}: engine alone {engine:.3} s, through HTTP {:.3} s",
            timed.wall
        );
        alone.push(engine);
        http.push(timed);
        if let Some(Other { program, weights }) = other {
            // Some tokens more than are asked: a place that is full ends an answer.
            let peer = Peer::start(program, weights, streams, PROMPT + ANSWER + 8)?;
            let timed = through_http(peer.address, streams, round)?;
            print!(", the other {:.3} s", timed.wall);
            others.push(timed);
        }
        println!();
    }
    println!(
        "{streams} streams of {SHAPE} {WEIGHTS}, prompt {PROMPT}, {ANSWER} generated, medians of {rounds} rounds"
    );
    let alone = median(alone);
    let rate = |name: &str, wall: f64| {
        println!("{name}: {:.1} tokens/s", (streams * ANSWER) as f64 / wall)
    };
    rate("the engine alone", alone);
    let walls = |timed: &[Timed]| median(timed.iter().map(|timed| timed.wall).collect());
    let show = |name: &str, timed: &[Timed]| {
        rate(name, walls(timed));
        let all = |of: fn(&Timed) -> &[Duration]| -> Vec<_> {
            timed.iter().flat_map(of).copied().collect()
        };
        times("  to the first token", &all(|timed| &timed.firsts));
        times("  between tokens", &all(|timed| &timed.gaps));
    };
    show("through HTTP", &http);
    let cost = walls(&http) / alone;
    println!("HTTP costs {:+.1} %", (cost - 1.0) * 100.0);
    if other.is_some() {
        show("the other server", &others);
        let ratio = walls(&others) / walls(&http);
        println!("{ratio:.2} times the other server");
        ensure!(ratio >= LEAST, "less than {LEAST} times the other server");
    }
    ensure!(cost <= MOST, "HTTP costs more than 2 %");
    Ok(())
}

/// Gives the model words, so that it says something: a text for each token, as the other server's file has them.
fn write_tokenizer(model: &Path) -> Result<()> {
    let config = std::fs::read_to_string(model.join("config.json"))?;
    let config: Value = serde_json::from_str(&config)?;
    let vocabulary = config["vocab_size"].as_u64().context("no vocab_size")?;
    let words = (0..vocabulary).map(|id| (format!("t{id}"), id.into()));
    let tokenizer = json!({
        "version": "1.0",
        "model": {"type": "WordLevel", "vocab": words.collect::<Map<_, _>>(), "unk_token": "t0"},
        "pre_tokenizer": {"type": "Whitespace"},
    });
    let path = model.join("tokenizer.json");
    std::fs::write(&path, tokenizer.to_string()).with_context(|| path.display().to_string())
}

/// What came of a round.
struct Timed {
    /// Seconds until all have ended.
    wall: f64,
    firsts: Vec<Duration>,
    gaps: Vec<Duration>,
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

fn through_http(address: SocketAddr, streams: usize, round: usize) -> Result<Timed> {
    let prompt = |stream: usize| -> Vec<u64> {
        let first = (round * streams + stream) as u64 * PROMPT as u64;
        let span = IDS.end - IDS.start;
        let ids = (first..first + PROMPT as u64).map(|at| at.wrapping_mul(7919) % span + IDS.start);
        ids.collect()
    };
    // As the other side has it: the first prompt, and a few tokens.
    ask(address, &prompt(0), 8)?;
    let began = Instant::now();
    let ended = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..streams)
            .map(|stream| scope.spawn(move || ask(address, &prompt(stream), ANSWER)))
            .collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        let ended =
            ended.map(|outcome| outcome.map_err(|_| anyhow::anyhow!("a client panicked"))?);
        ended.collect::<Result<Vec<_>>>()
    })?;
    let wall = began.elapsed().as_secs_f64();
    let (mut firsts, mut gaps) = (Vec::new(), Vec::new());
    for texts in ended {
        firsts.extend(texts.first().map(|first| *first - began));
        gaps.extend(texts.windows(2).map(|pair| pair[1] - pair[0]));
    }
    Ok(Timed { wall, firsts, gaps })
}

/// Streams an answer to its end; gives when each of its texts came.
fn ask(address: SocketAddr, prompt: &[u64], tokens: usize) -> Result<Vec<Instant>> {
    let body = json!({
        "prompt": prompt, "max_tokens": tokens, "ignore_eos": true, "temperature": 0, "stream": true,
        "stream_options": {"include_usage": true},
    });
    let mut answer = post(address, "/v1/completions", &body)?;
    ensure!(answer.status == 200, "status {}", answer.status);
    let (mut events, mut ended, mut texts) = (Events::default(), false, Vec::new());
    let mut generated = None;
    while let Some(piece) = answer.piece()? {
        events.push(&piece)?;
        while let Some(said) = events.next()? {
            match said {
                Said::Text(_) => texts.push(Instant::now()),
                Said::Tokens(count) => generated = Some(count),
                Said::End => ended = true,
                Said::Nothing => {}
            }
        }
    }
    ensure!(ended, "a stream without its end");
    ensure!(!texts.is_empty(), "a stream without a text");
    ensure!(
        generated == Some(tokens as u64),
        "{generated:?} tokens were generated, and not {tokens}"
    );
    Ok(texts)
}
