//! Prompts that arrive while others decode: how long an answer waits for a token at the most, and how fast the
//! prompts are read all the same.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use ml_backend::{MlxBackend, Options};
use serde_json::{Value, json};

use crate::{Args, random_ids};

/// Tokens of the prompts of those that decode.
const BEFORE: usize = 512;

/// `args.arrivals` prompts arrive one after the other in `args.over` seconds while `args.streams` answers go on.
pub(crate) fn measure(backend: &MlxBackend, args: &Args, options: &Options) -> Result<Value> {
    let vocabulary = backend.info().model.vocab_size;
    let one = options.clone().max_tokens(1);
    let prompts = random_ids(args.arrivals * args.prompt, vocabulary);
    let idle = idle_rate(backend, args, &prompts, &one)?;

    let (over, begun) = (AtomicBool::new(false), AtomicUsize::new(0));
    let before = random_ids(args.streams * BEFORE, vocabulary);
    let (gaps, spans) = thread::scope(|scope| -> Result<_> {
        let streams: Vec<_> = before
            .chunks(BEFORE)
            .map(|prompt| scope.spawn(|| decode(backend, prompt, options, &begun, &over)))
            .collect();
        // Until all of them decode, and what is compiled when they first meet is there.
        while begun.load(Ordering::Relaxed) < args.streams {
            ensure!(
                !streams.iter().any(|stream| stream.is_finished()),
                "a stream ended early; raise --gen"
            );
            thread::sleep(Duration::from_millis(10));
        }
        let began = Instant::now();
        let between = Duration::from_secs_f64(args.over / args.arrivals.max(1) as f64);
        let mut arriving = Vec::new();
        for (i, prompt) in (0..).zip(prompts.chunks(args.prompt)) {
            thread::sleep((between * i).saturating_sub(began.elapsed()));
            let one = &one;
            arriving.push(scope.spawn(move || -> Result<[Duration; 2]> {
                let arrived = began.elapsed();
                backend.generate_ids(prompt, one)?;
                Ok([arrived, began.elapsed()])
            }));
        }
        let spans: Result<Vec<_>> = arriving.into_iter().map(joined).collect();
        let read = began.elapsed();
        over.store(true, Ordering::Relaxed);
        let mut gaps = Vec::new();
        for stream in streams {
            let times = joined(stream)?;
            let during = times
                .windows(2)
                .filter(|pair| pair[0] >= began && pair[1] <= began + read);
            gaps.extend(during.map(|pair| pair[1] - pair[0]));
        }
        Ok((gaps, spans?))
    })?;
    let rate = (args.arrivals * args.prompt) as f64 / busy(spans).as_secs_f64();
    report(args, gaps, rate, idle)
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a request panicked"))?
}

/// Tokens after which an answer is under way.
const BEGUN: usize = 4;

/// When each token of an answer came, until it is `over`; counts those that have `begun`.
fn decode(
    backend: &MlxBackend,
    prompt: &[u32],
    options: &Options,
    begun: &AtomicUsize,
    over: &AtomicBool,
) -> Result<Vec<Instant>> {
    let mut times = Vec::new();
    for piece in backend.stream_ids(prompt, options)? {
        piece?;
        times.push(Instant::now());
        if times.len() == BEGUN {
            begun.fetch_add(1, Ordering::Relaxed);
        }
        if over.load(Ordering::Relaxed) {
            return Ok(times);
        }
    }
    Err(anyhow!(
        "an answer ended before the prompts were read; raise --gen"
    ))
}

/// Prompt tokens a second where nobody decodes.
fn idle_rate(backend: &MlxBackend, args: &Args, prompts: &[u32], one: &Options) -> Result<f64> {
    let mut times = Vec::new();
    for prompt in prompts.chunks(args.prompt).cycle().take(5) {
        let began = Instant::now();
        backend.generate_ids(prompt, one)?;
        times.push(began.elapsed());
    }
    times.sort();
    let median = times.get(times.len() / 2).context("no prompts")?;
    Ok(args.prompt as f64 / median.as_secs_f64())
}

/// How long there was a prompt to read: the union of `spans`, which are in the order of their beginnings.
fn busy(spans: Vec<[Duration; 2]>) -> Duration {
    let (mut sum, mut until) = (Duration::ZERO, Duration::ZERO);
    for [from, to] in spans {
        sum += to.saturating_sub(from.max(until));
        until = until.max(to);
    }
    sum
}

fn report(args: &Args, mut gaps: Vec<Duration>, rate: f64, idle: f64) -> Result<Value> {
    ensure!(!gaps.is_empty(), "no token came while prompts were read");
    gaps.sort();
    let at = |share: f64| {
        let place = (gaps.len() - 1) as f64 * share;
        gaps[place as usize].as_secs_f64()
    };
    Ok(json!({
        "engine": "ours",
        "prompt": args.prompt,
        "streams": args.streams,
        "arrivals": args.arrivals,
        "over_s": args.over,
        "token_median_s": at(0.5),
        "token_p99_s": at(0.99),
        "token_longest_s": at(1.0),
        "prefill_tps": rate,
        "idle_prefill_tps": idle,
        "of_idle": rate / idle,
    }))
}
