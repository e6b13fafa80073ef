//! Many requests at once: what one gives does not depend on the others.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

#[path = "../common/mod.rs"]
mod common;
mod two_models;

use std::path::{Path, PathBuf};
use std::thread;

use ml_backend::{CancelToken, Error, MlxBackend, Options, Structure};

fn demo(name: &str) -> PathBuf {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/models");
    assets.join(name)
}

fn load(name: &str, at_once: usize) -> MlxBackend {
    let builder = MlxBackend::builder().device(common::device());
    builder.at_once(at_once).load(demo(name)).unwrap()
}

/// A small generator, so that each schedule is another one and still repeats.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }
}

/// A request without meaning, greedy or drawn, short or long.
fn request(rng: &mut Rng, vocab: usize) -> (Vec<u32>, Options) {
    let length = [3, 20, 90, 700][rng.below(4)];
    let prompt = (0..length).map(|_| rng.below(vocab) as u32).collect();
    let options = Options::new()
        .max_tokens(1 + rng.below(40))
        .ignore_eos(true);
    let options = match rng.below(4) {
        0 => options.temperature(0.0),
        1 => options.temperature(0.8).seed(rng.below(9) as u64),
        2 => options.temperature(1.0).seed(3).top_p(0.9),
        _ => options.temperature(0.7).seed(4).repetition_penalty(1.2),
    };
    (prompt, options)
}

#[test]
fn a_request_gives_the_same_alone_and_among_many() {
    let mut rng = Rng(5);
    for name in ["qwen3-demo", "gemma3-demo"] {
        let (alone, backend) = (load(name, 1), load(name, 24));
        let vocab = alone.info().model.vocab_size;
        let requests: Vec<_> = (0..64).map(|_| request(&mut rng, vocab)).collect();
        let ids = |backend: &MlxBackend, (prompt, options): &(Vec<u32>, Options)| {
            backend.generate_ids(prompt, options).unwrap().token_ids
        };
        let expected: Vec<Vec<u32>> = requests.iter().map(|r| ids(&alone, r)).collect();
        for threads in [3, 64] {
            thread::scope(|scope| {
                for worker in 0..threads {
                    let (requests, expected, backend) = (&requests, &expected, &backend);
                    scope.spawn(move || {
                        for i in (worker..requests.len()).step_by(threads) {
                            let found = ids(backend, &requests[i]);
                            assert_eq!(found, expected[i], "{name}, request {i} of {threads}");
                        }
                    });
                }
            });
        }
    }
}

/// There is memory for the prompts of four and the beginnings of their answers, and not for the answers.
#[test]
fn who_is_put_aside_for_others_gives_the_same() {
    let alone = load("qwen3-demo", 1);
    let model = &alone.info().model;
    let tokens_held = 5 * 768 + 100;
    let limit = model.weight_bytes + tokens_held * model.cache_bytes_per_token;
    let builder = MlxBackend::builder().device(common::device());
    let builder = builder.at_once(8).memory_limit(limit);
    let backend = builder.load(demo("qwen3-demo")).unwrap();
    let mut rng = Rng(8);
    let requests: Vec<_> = (0..6_u64)
        .map(|i| {
            let length = 1 + rng.below(20);
            let prompt: Vec<u32> = (0..length)
                .map(|_| rng.below(model.vocab_size) as u32)
                .collect();
            let options = Options::new().max_tokens(800);
            let free = options.clone().ignore_eos(true);
            let options = match i % 4 {
                0 => free.temperature(0.0),
                1 => free.temperature(0.8).seed(i),
                2 => options
                    .temperature(0.9)
                    .seed(i)
                    .structure(Structure::Regex("[a-z ,]{5000}".to_owned())),
                _ => free.temperature(0.7).seed(i).repetition_penalty(1.2),
            };
            (prompt, options)
        })
        .collect();
    let put_aside: usize = thread::scope(|scope| {
        let answer = |(prompt, options): &(Vec<u32>, Options)| {
            let found = backend.generate_ids(prompt, options).unwrap();
            let wanted = alone.generate_ids(prompt, options).unwrap();
            assert_eq!(found.token_ids, wanted.token_ids);
            found.metrics.put_aside
        };
        let workers: Vec<_> = requests
            .iter()
            .map(|request| scope.spawn(move || answer(request)))
            .collect();
        workers.into_iter().map(|w| w.join().unwrap()).sum()
    });
    assert!(put_aside > 0, "memory was never short");
}

#[test]
fn requests_that_are_cancelled_or_dropped_hurt_nobody() {
    let backend = load("qwen3-demo", 4);
    let vocab = backend.info().model.vocab_size;
    let long = Options::new().temperature(0.0).ignore_eos(true);
    let expected = backend.generate_ids(&[5, 6, 7], &long.clone().max_tokens(30));
    let expected = expected.unwrap().token_ids;
    thread::scope(|scope| {
        for worker in 0..6_u64 {
            let (backend, long, expected) = (&backend, &long, &expected);
            scope.spawn(move || {
                let mut rng = Rng(worker);
                for _ in 0..12 {
                    let cancel = CancelToken::new();
                    let prompt: Vec<u32> = (0..rng.below(600) + 1)
                        .map(|_| rng.below(vocab) as u32)
                        .collect();
                    let options = long.clone().max_tokens(200).cancel(cancel.clone());
                    let mut stream = backend.stream_ids(&prompt, &options).unwrap();
                    for _ in 0..rng.below(5) {
                        assert!(stream.next().unwrap().is_ok());
                    }
                    if rng.below(2) == 0 {
                        cancel.cancel();
                        let end = stream.by_ref().find_map(Result::err);
                        assert!(matches!(end, Some(Error::Cancelled { .. })), "{end:?}");
                    }
                    drop(stream);
                    let found = backend.generate_ids(&[5, 6, 7], &long.clone().max_tokens(30));
                    assert_eq!(found.unwrap().token_ids, *expected);
                }
            });
        }
    });
}
