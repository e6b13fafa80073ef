//! Conversations of mixed lengths at the same time, some of which are broken off, on a model that has too little
//! memory for all of them.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ml_backend::{CancelToken, Device, Error, MlxBackend, Options};
use mlx_core::memory;
use models::states::live_pages;

use crate::run::{Held, Random, pages_left};

/// Tokens after which a conversation is over.
const LONGEST: usize = 1000;
/// Conversations for whose longest there is memory.
const ROOM: u64 = 6;

/// What came of all conversations.
#[derive(Default)]
struct Counts {
    answers: AtomicUsize,
    tokens: AtomicUsize,
    cancelled: AtomicUsize,
    dropped: AtomicUsize,
    put_aside: AtomicUsize,
}

/// Holds `count` conversations with the model of `dir` for so long. Fails where one was answered wrongly, or where
/// in the end more is held than the caches that the last one leaves.
pub(crate) fn run(dir: &Path, device: Device, count: usize, time: Duration) -> Result<()> {
    let alone = MlxBackend::builder().device(device).load(dir)?;
    let model = &alone.info().model;
    let of_longest = 1024 * model.cache_bytes_per_token;
    let limit = model.weight_bytes + ROOM * of_longest;
    let builder = MlxBackend::builder().device(device).memory_limit(limit);
    let backend = builder.at_once(16).load(dir)?;
    let (counts, begun) = (Counts::default(), Instant::now());
    let before = memory::active()?;
    let seeds = 0..count as u64;
    let outcomes: Vec<Result<()>> = thread::scope(|scope| {
        let (backend, alone, counts) = (&backend, &alone, &counts);
        let talk = move |seed| {
            let mut random = Random(seed);
            while begun.elapsed() < time {
                conversation(backend, alone, &mut random, counts)?;
            }
            Ok(())
        };
        let threads: Vec<_> = seeds.map(|seed| scope.spawn(move || talk(seed))).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended
            .map(|end| end.unwrap_or_else(|_| anyhow::bail!("a conversation panicked")))
            .collect()
    });
    outcomes.into_iter().collect::<Result<()>>()?;
    // Of each model the last caches are left.
    let short = Options::new().max_tokens(1);
    backend.generate_ids(&[1], &short)?;
    alone.generate_ids(&[1], &short)?;
    let held = memory::active()?.saturating_sub(before);
    let get = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    println!(
        "{count} conversations, {} s: {} answers of {} tokens, {} cancelled, {} dropped, {} times put aside; in the \
         end {held} bytes beyond the beginning's; {}",
        begun.elapsed().as_secs(),
        get(&counts.answers),
        get(&counts.tokens),
        get(&counts.cancelled),
        get(&counts.dropped),
        get(&counts.put_aside),
        Held::now()?,
    );
    ensure!(held as u64 <= of_longest, "caches are left");
    ensure!(get(&counts.put_aside) > 0, "memory was never short");
    // Of each model the two tokens of the last request, in a page of each kind of layer.
    let pages = live_pages();
    ensure!(pages <= 4, "{pages} pages are left");
    drop((backend, alone));
    let pages = pages_left();
    ensure!(
        pages == 0,
        "{pages} pages are left of models that have gone"
    );
    Ok(())
}

/// A conversation to its end, or until its other side goes away.
fn conversation(
    backend: &MlxBackend,
    alone: &MlxBackend,
    random: &mut Random,
    counts: &Counts,
) -> Result<()> {
    let vocabulary = backend.info().model.vocab_size;
    let add = |count: &AtomicUsize, n| count.fetch_add(n, Ordering::Relaxed);
    let mut said: Vec<u32> = Vec::new();
    loop {
        let asked = 1 + random.below(60);
        said.extend((0..asked).map(|_| random.below(vocabulary) as u32));
        let cancel = CancelToken::new();
        // The caches of a long answer grow beyond what they begin with.
        let wanted = match random.below(3) {
            0 => 600 + random.below(300),
            _ => 1 + random.below(150),
        };
        let options = Options::new().temperature(0.0).ignore_eos(true);
        let options = options.max_tokens(wanted).cancel(cancel.clone());
        if said.len() + wanted > LONGEST {
            return Ok(());
        }
        let mut stream = backend.stream_ids(&said, &options)?;
        match random.below(10) {
            0 => {
                stream
                    .by_ref()
                    .take(random.below(20))
                    .try_for_each(|piece| piece.map(drop))?;
                cancel.cancel();
                let end = stream.find_map(Result::err);
                let is_cancelled = matches!(end, Some(Error::Cancelled { .. }));
                // The last token may have been there already.
                ensure!(is_cancelled || end.is_none(), "{end:?}");
                add(&counts.cancelled, 1);
            }
            1 => {
                stream
                    .by_ref()
                    .take(random.below(20))
                    .try_for_each(|piece| piece.map(drop))?;
                add(&counts.dropped, 1);
                return Ok(());
            }
            _ => {
                stream.by_ref().try_for_each(|piece| piece.map(drop))?;
                let answer = stream.generation().context("an answer has an end")?;
                ensure!(answer.token_ids.len() == wanted, "an answer is cut off");
                add(&counts.answers, 1);
                add(&counts.tokens, wanted);
                add(&counts.put_aside, answer.metrics.put_aside);
                // Some are asked again by themselves.
                if random.below(20) == 0 || answer.metrics.put_aside > 0 {
                    let found = alone.generate_ids(&said, &options)?;
                    ensure!(
                        found.token_ids == answer.token_ids,
                        "another answer than alone"
                    );
                }
                said.extend(&answer.token_ids);
            }
        }
    }
}
