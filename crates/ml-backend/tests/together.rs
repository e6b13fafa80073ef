//! Many requests at once: what one gives does not depend on the others.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

mod common;

use std::path::{Path, PathBuf};
use std::thread;

use ml_backend::{CancelToken, Error, MlxBackend, Options};

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
        let (alone, backend) = (load(name, 1), load(name, 8));
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
