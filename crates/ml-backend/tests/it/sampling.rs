//! How tokens are chosen and what is told of them, through the public API.

use std::path::{Path, PathBuf};

use ml_backend::{
    Dry, Dtype, Error, FinishReason, Generation, LogitsProcessor, MlxBackend, Options,
    TokenLogprobs, Xtc,
};
use safetensors::SafeTensors;

fn demo(plain_mlx: bool, at_once: usize) -> MlxBackend {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/models/qwen3-demo");
    let builder = MlxBackend::builder().device(crate::common::device());
    let builder = builder.dtype(Some(Dtype::Float32)).plain_mlx(plain_mlx);
    builder.at_once(at_once).load(dir).unwrap()
}

/// A small random model with the logits that transformers computed of it in float64.
struct Reference {
    backend: MlxBackend,
    ids: Vec<u32>,
    logits: Vec<f32>,
}

impl Reference {
    fn load(name: &str) -> Self {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/fixtures");
        let dir: PathBuf = models.join(name);
        let builder = MlxBackend::builder().device(crate::common::device());
        let backend = builder.dtype(Some(Dtype::Float32)).load(&dir).unwrap();
        let file = std::fs::read(dir.join("expected.safetensors")).unwrap();
        let expected = SafeTensors::deserialize(&file).unwrap();
        let words = |name: &str| -> Vec<[u8; 4]> {
            let data = expected.tensor(name).unwrap().data().to_vec();
            data.chunks_exact(4)
                .map(|word| word.try_into().unwrap())
                .collect()
        };
        let ids = words("input_ids")
            .into_iter()
            .map(u32::from_le_bytes)
            .collect();
        let logits = words("logits")
            .into_iter()
            .map(f32::from_le_bytes)
            .collect();
        Self {
            backend,
            ids,
            logits,
        }
    }

    /// The log-softmax of a position.
    fn log_softmax(&self, position: usize) -> Vec<f64> {
        let vocab = self.backend.info().model.vocab_size;
        let row = &self.logits[position * vocab..(position + 1) * vocab];
        let max = row
            .iter()
            .fold(f64::NEG_INFINITY, |max, &x| max.max(x.into()));
        let sum: f64 = row.iter().map(|&x| (f64::from(x) - max).exp()).sum();
        row.iter().map(|&x| f64::from(x) - max - sum.ln()).collect()
    }

    /// Of the token at `at`, made of the logits before it: the largest difference.
    fn check(&self, at: usize, found: &TokenLogprobs, alternatives: usize) -> f64 {
        let wanted = self.log_softmax(at - 1);
        assert_eq!(found.id, self.ids[at]);
        let mut worst = (f64::from(found.logprob) - wanted[found.id as usize]).abs();
        let mut sorted = wanted.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        assert_eq!(found.top.len(), alternatives);
        for (rank, one) in found.top.iter().enumerate() {
            let own = (f64::from(one.logprob) - wanted[one.id as usize]).abs();
            let by_rank = (f64::from(one.logprob) - sorted[rank]).abs();
            worst = worst.max(own).max(by_rank);
        }
        worst
    }
}

/// What one may rely on.
const BOUND: f64 = 1e-3;

#[test]
fn probabilities_are_the_log_softmax_of_transformers_logits() {
    let mut worst = 0.0_f64;
    for name in [
        "qwen3-linear-hub",
        "llama-llama3-hub",
        "gemma2-hub",
        "gemma3-long",
    ] {
        let reference = Reference::load(name);
        let ids = &reference.ids;
        for chunk in [1, 7, 2048] {
            // Of the prompt.
            let options = Options::new()
                .temperature(0.0)
                .max_tokens(1)
                .prefill_chunk(chunk);
            let options = options.prompt_logprobs(5).ignore_eos(true);
            let answer = reference.backend.generate_ids(ids, &options).unwrap();
            assert_eq!(answer.prompt_logprobs.len(), ids.len() - 1);
            for (at, found) in (1..).zip(&answer.prompt_logprobs) {
                worst = worst.max(reference.check(at, found, 5));
            }
            let mut plain = options;
            plain.prompt_logprobs = None;
            let same = reference.backend.generate_ids(ids, &plain).unwrap();
            assert_eq!(same.token_ids, answer.token_ids);
            assert!(same.prompt_logprobs.is_empty() && same.logprobs.is_empty());
        }
        // Of an answer that a processor makes the reference's tokens: what it does is not in the probabilities, nor
        // is what penalties, biases and the temperature do.
        let wanted = ids.clone();
        let says = LogitsProcessor::new(move |ids, logits| {
            logits.fill(f32::NEG_INFINITY);
            logits[wanted[ids.len()] as usize] = 0.0;
            Ok(())
        });
        let options = Options::new()
            .temperature(0.7)
            .logits_processor(says)
            .logprobs(20);
        let options = options.max_tokens(ids.len() - 3).ignore_eos(true);
        let options = options
            .repetition_penalty(1.7)
            .presence_penalty(1.0)
            .logit_bias(5, 3.0);
        let mut pieces = Vec::new();
        let mut stream = reference.backend.stream_ids(&ids[..3], &options).unwrap();
        for piece in &mut stream {
            let piece = piece.unwrap();
            assert_eq!(piece.logprobs.len(), piece.token_ids.len());
            pieces.extend(piece.logprobs);
        }
        let answer = stream.generation().unwrap();
        assert_eq!(answer.token_ids, ids[3..]);
        assert_eq!(answer.logprobs, pieces);
        for (at, found) in (3..).zip(&answer.logprobs) {
            worst = worst.max(reference.check(at, found, 20));
        }
    }
    eprintln!("largest difference of a log-probability: {worst:.2e}");
    assert!(worst <= BOUND, "{worst:e}");
}

/// Every stage by itself and together, each request with another seed.
fn requests() -> Vec<(Vec<u32>, Options)> {
    let base = || {
        Options::new()
            .max_tokens(24)
            .ignore_eos(true)
            .temperature(1.1)
    };
    let says = LogitsProcessor::new(|ids, logits| {
        logits[*ids.last().unwrap() as usize] -= 2.0;
        Ok(())
    });
    let all = [
        base().temperature(0.0),
        base().typical_p(0.8),
        base().xtc(Xtc::new(0.7)),
        base().presence_penalty(0.7).frequency_penalty(0.3),
        base()
            .frequency_penalty(0.3)
            .penalty_context(6)
            .temperature(0.0),
        base().dry(Dry::new(0.8)),
        base().logit_bias(7, 2.5).ban(9).top_k(5),
        base().allowed_ids([3, 5, 8, 13, 21]).top_p(0.9),
        base()
            .temperature_first(true)
            .top_p(0.8)
            .min_p(0.05)
            .top_k(30),
        base().logits_processor(says).logprobs(3),
        base()
            .repetition_penalty(1.3)
            .typical_p(0.9)
            .top_p(0.95)
            .min_p(0.01)
            .xtc(Xtc::new(0.5)),
    ];
    let with_seed = |(seed, options): (u64, Options)| {
        let prompt = (0..9 + seed as u32)
            .map(|i| (i * 37 + 11) % 90 + 3)
            .collect();
        (prompt, options.seed(seed))
    };
    (0..).zip(all).map(with_seed).collect()
}

#[test]
fn what_is_drawn_does_not_depend_on_the_others() {
    let (alone, together) = (demo(false, 1), demo(false, 16));
    let requests = requests();
    let run = |backend: &MlxBackend, (prompt, options): &(Vec<u32>, Options)| -> Generation {
        backend.generate_ids(prompt, options).unwrap()
    };
    let wanted: Vec<Generation> = requests.iter().map(|one| run(&alone, one)).collect();
    let again = run(&alone, &requests[1]);
    assert_eq!(again.token_ids, wanted[1].token_ids);
    for _ in 0..3 {
        let found: Vec<Generation> = std::thread::scope(|scope| {
            let (run, together) = (&run, &together);
            let workers = requests
                .iter()
                .map(|one| scope.spawn(move || run(together, one)));
            let workers: Vec<_> = workers.collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap())
                .collect()
        });
        for (i, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
            assert_eq!(found.token_ids, wanted.token_ids, "request {i}");
            assert_eq!(found.logprobs, wanted.logprobs, "request {i}");
        }
    }
    for id in &wanted[7].token_ids {
        assert!([3, 5, 8, 13, 21].contains(id), "{id}");
    }
    assert!(!wanted[6].token_ids.contains(&9));
}

/// Where MLX's operations serve the model, the host draws what they cannot: the same seed gives the same.
#[test]
fn the_host_draws_where_the_device_has_no_operation() {
    let (own, plain) = (demo(false, 4), demo(true, 4));
    for (i, (prompt, options)) in requests().iter().enumerate() {
        let wanted = own.generate_ids(prompt, options).unwrap().token_ids;
        let found = plain.generate_ids(prompt, options).unwrap().token_ids;
        assert_eq!(found, wanted, "request {i}");
    }
}

#[test]
fn answers_to_one_prompt_are_what_each_seed_gives_alone() {
    let (alone, together) = (demo(false, 1), demo(false, 4));
    let prompt: Vec<u32> = (0..700).map(|i| (i * 53 + 7) % 90 + 3).collect();
    let options = Options::new()
        .temperature(1.2)
        .max_tokens(20)
        .ignore_eos(true)
        .seed(40);
    let wanted: Vec<Vec<u32>> = (0..6)
        .map(|i| {
            let options = options.clone().seed(40 + i);
            alone.generate_ids(&prompt, &options).unwrap().token_ids
        })
        .collect();
    assert!(wanted.windows(2).all(|two| two[0] != two[1]), "{wanted:?}");
    // More than there are places, beside another one.
    let other = together.stream_ids(&prompt[..50], &options).unwrap();
    let streams = together.stream_ids_n(&prompt, &options, 6).unwrap();
    let mut reused = 0;
    for (stream, wanted) in streams.into_iter().zip(&wanted) {
        let answer = finish(stream).unwrap();
        assert_eq!(answer.token_ids, *wanted);
        reused += usize::from(answer.metrics.reused_tokens == prompt.len());
    }
    let other = finish(other).unwrap().token_ids;
    assert_eq!(
        other,
        alone
            .generate_ids(&prompt[..50], &options)
            .unwrap()
            .token_ids
    );
    if crate::common::device() == ml_backend::Device::Cpu {
        assert!(reused >= 2, "the prompt was read for {} of 6", 6 - reused);
    }
    let none = together.stream_ids_n(&prompt, &options, 0).err().unwrap();
    assert!(none.to_string().contains("option n is 0"), "{none}");
}

fn finish(mut stream: ml_backend::GenerationStream) -> Result<Generation, Error> {
    for piece in &mut stream {
        piece?;
    }
    Ok(stream.generation().unwrap().clone())
}

#[test]
fn a_stop_id_ends_an_answer_and_is_not_part_of_it() {
    let backend = demo(false, 2);
    let options = Options::new()
        .temperature(0.0)
        .max_tokens(12)
        .ignore_eos(true);
    let whole = backend
        .generate_ids(&[5, 6, 7], &options)
        .unwrap()
        .token_ids;
    let stop = whole[whole.len() - 1];
    let first = whole.iter().position(|id| *id == stop).unwrap();
    let answer = backend
        .generate_ids(&[5, 6, 7], &options.stop_id(stop))
        .unwrap();
    assert_eq!(answer.token_ids, whole[..first]);
    assert_eq!(answer.finish_reason, FinishReason::Stop);
}

#[test]
fn a_processor_that_fails_ends_its_own_request() {
    let backend = demo(false, 4);
    let plain = Options::new()
        .temperature(0.0)
        .max_tokens(30)
        .ignore_eos(true);
    let wanted = backend.generate_ids(&[5, 6, 7], &plain).unwrap().token_ids;
    let fails = LogitsProcessor::new(|ids, _| match ids.len() {
        8 => Err("no more than eight".into()),
        _ => Ok(()),
    });
    let panics = LogitsProcessor::new(|ids, _| {
        assert!(ids.len() < 6, "a panic of a processor");
        Ok(())
    });
    std::thread::scope(|scope| {
        let failing = [
            (fails, 5, "no more than eight"),
            (panics, 3, "a panic of a processor"),
        ];
        for (processor, count, message) in failing {
            let options = plain.clone().logits_processor(processor);
            let (backend, wanted) = (&backend, &wanted);
            scope.spawn(move || {
                let error = backend.generate_ids(&[5, 6, 7], &options).unwrap_err();
                let Error::Interrupted { partial, source } = error else {
                    panic!("{error}")
                };
                assert_eq!(partial.token_ids, wanted[..count]);
                let Error::Processor { source } = *source else {
                    panic!("{source}")
                };
                assert!(source.to_string().contains(message), "{source}");
            });
        }
        let others = backend.generate_ids(&[5, 6, 7], &plain).unwrap().token_ids;
        assert_eq!(others, wanted);
    });
}

#[test]
fn nothing_allowed_is_an_error_and_foreign_ids_are_refused() {
    let backend = demo(false, 1);
    let options = Options::new().temperature(0.0).allowed_ids([5]).ban(5);
    let error = backend.generate_ids(&[5, 6, 7], &options).unwrap_err();
    let Error::Interrupted { source, .. } = error else {
        panic!("{error}")
    };
    assert!(matches!(*source, Error::NothingAllowed), "{source}");
    let vocab = backend.info().model.vocab_size as u32;
    for options in [
        Options::new().logit_bias(vocab, 1.0),
        Options::new().allowed_ids([vocab]),
        Options::new().stop_id(vocab),
    ] {
        let error = backend.generate_ids(&[5], &options).unwrap_err();
        assert!(matches!(error, Error::TokenOutOfRange { .. }), "{error}");
    }
}
