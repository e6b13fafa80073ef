//! Drawing, compared with probabilities computed by hand on the host.

use mlx_core::Dtype;
use mlx_core::device::{self, Choice};

use crate::Error;

use super::*;

/// Unsorted on purpose; the sixth is negative and the most probable is in the middle.
const LOGITS: [f32; 6] = [1.0, 0.2, 1.7, 2.1, 0.9, -1.3];

fn advised(options: &Options, advice: GenerationDefaults) -> Sampling {
    let limits = ModelLimits {
        advice,
        ..crate::testing::limits()
    };
    Sampling::new(options, &limits)
}

/// For a model whose files advise nothing.
fn unadvised(options: &Options) -> Sampling {
    advised(options, GenerationDefaults::default())
}

fn logits() -> Array {
    device::open(Choice::Cpu).unwrap();
    Array::from_slice(&LOGITS, &[6]).unwrap()
}

/// What the host reads.
fn drawn(sampler: &mut Sampler, logits: &Array) -> Option<u32> {
    let token = sampler.draw(logits).unwrap();
    token.settle(|logits| sampler.draw_now(logits));
    token.read().unwrap()
}

/// Probabilities of `LOGITS` divided by `temperature`, of the tokens that `keep` names.
fn probabilities(temperature: f64, keep: &[usize]) -> Vec<f64> {
    let weight = |i: usize| {
        if keep.contains(&i) {
            (f64::from(LOGITS[i]) / temperature).exp()
        } else {
            0.0
        }
    };
    let total: f64 = (0..LOGITS.len()).map(weight).sum();
    (0..LOGITS.len()).map(|i| weight(i) / total).collect()
}

/// Draws often and compares with what is expected, which is certain to hold within five standard
/// deviations; the seed is fixed, so the outcome is too. By the kernel, and by MLX's operations.
fn assert_draws(options: &Options, expected: &[f64]) {
    for plain_mlx in [false, true] {
        graph::force_mlx(plain_mlx);
        assert_draws_here(options, expected);
    }
    graph::force_mlx(false);
}

fn assert_draws_here(options: &Options, expected: &[f64]) {
    const DRAWS: usize = 1500;
    let logits = logits();
    let mut sampler = Sampler::new(&unadvised(&options.clone().seed(11)), &[]).unwrap();
    let mut counts = vec![0_usize; LOGITS.len()];
    for _ in 0..DRAWS {
        counts[drawn(&mut sampler, &logits).unwrap() as usize] += 1;
    }
    for (token, (&count, &p)) in counts.iter().zip(expected).enumerate() {
        let mean = p * DRAWS as f64;
        let deviation = (mean * (1.0 - p)).sqrt();
        assert!(
            (count as f64 - mean).abs() <= 5.0 * deviation,
            "token {token}: {count} draws, expected {mean:.1} ± {deviation:.1}; {options:?}"
        );
    }
}

#[test]
fn a_temperature_divides_the_logits() {
    let all = [0, 1, 2, 3, 4, 5];
    for temperature in [0.5, 1.0, 2.0] {
        let options = Options::new().temperature(temperature as f32);
        assert_draws(&options, &probabilities(temperature, &all));
    }
}

#[test]
fn top_k_keeps_the_most_probable() {
    assert_draws(
        &Options::new().temperature(1.0).top_k(3),
        &probabilities(1.0, &[0, 2, 3]),
    );
    let all = [0, 1, 2, 3, 4, 5];
    assert_draws(
        &Options::new().temperature(1.0).top_k(600),
        &probabilities(1.0, &all),
    );
}

#[test]
fn top_p_keeps_the_fewest_that_reach_it() {
    // 3, 2, 0 and 4 have 0.396, 0.265, 0.132 and 0.119: three reach 0.7, two do not.
    let p = probabilities(1.0, &[0, 1, 2, 3, 4, 5]);
    assert!(p[3] + p[2] < 0.7 && p[3] + p[2] + p[0] > 0.7, "{p:?}");
    assert_draws(
        &Options::new().temperature(1.0).top_p(0.7),
        &probabilities(1.0, &[0, 2, 3]),
    );
}

#[test]
fn top_p_looks_at_the_probabilities_before_the_temperature() {
    // As mlx-lm does. After it, 0.7 would take four.
    let p = probabilities(3.0, &[0, 1, 2, 3, 4, 5]);
    assert!(p[3] + p[2] + p[0] < 0.7, "{p:?}");
    assert_draws(
        &Options::new().temperature(3.0).top_p(0.7),
        &probabilities(3.0, &[0, 2, 3]),
    );
}

#[test]
fn min_p_keeps_what_is_near_the_most_probable() {
    let p = probabilities(1.0, &[0, 1, 2, 3, 4, 5]);
    assert!(p[0] > 0.32 * p[3] && p[4] < 0.32 * p[3], "{p:?}");
    assert_draws(
        &Options::new().temperature(1.0).min_p(0.32),
        &probabilities(1.0, &[0, 2, 3]),
    );
}

#[test]
fn filters_work_together() {
    let options = Options::new().temperature(1.0);
    let both = options.clone().top_p(0.9).top_k(2);
    assert_draws(&both, &probabilities(1.0, &[2, 3]));
    let three = options.top_p(0.9).top_k(3).min_p(0.5);
    assert_draws(&three, &probabilities(1.0, &[2, 3]));
}

#[test]
fn greedy_takes_the_largest() {
    let logits = logits();
    let mut sampler = Sampler::new(&unadvised(&Options::new().temperature(0.0)), &[]).unwrap();
    for _ in 0..3 {
        let token = sampler.draw(&logits).unwrap();
        let id = Token::ids(&[&token]).unwrap();
        assert_eq!((id.shape(), id.item::<i32>().unwrap()), (&[1][..], 3));
    }
}

#[test]
fn a_repetition_penalty_divides_what_is_positive_and_multiplies_what_is_negative() {
    let logits = logits();
    let recent = Array::from_slice(&[3_i32, 5, 3], &[3]).unwrap();
    let penalized = mlx::penalize(&logits, &recent, 2.0)
        .unwrap()
        .to_vec::<f32>()
        .unwrap();
    assert_eq!(penalized, [1.0, 0.2, 1.7, 1.05, 0.9, -2.6]);
}

#[test]
fn a_repetition_penalty_looks_back_at_prompt_and_answer_and_no_further() {
    let logits = logits();
    let options = Options::new()
        .temperature(0.0)
        .repetition_penalty(10.0)
        .repetition_context(2);
    // With 3 and 2 in view, 0 is the largest; then 2 and 0 are, so 3 is again.
    let mut sampler = Sampler::new(&unadvised(&options), &[1, 3, 2]).unwrap();
    let drawn: Vec<u32> = (0..4)
        .map(|_| drawn(&mut sampler, &logits).unwrap())
        .collect();
    assert_eq!(drawn, [0, 3, 2, 0]);
}

#[test]
fn an_unset_seed_is_another_one_each_time() {
    let seed = || unadvised(&Options::new()).seed;
    assert_ne!(seed(), seed());
}

#[test]
fn filters_that_filter_nothing_are_off() {
    let options = Options::new().top_p(1.0).min_p(0.0).repetition_penalty(1.0);
    let sampling = unadvised(&options);
    assert_eq!(
        (sampling.top_p, sampling.min_p, sampling.repetition),
        (None, None, None)
    );
}

#[test]
fn each_value_is_the_callers_else_the_advised_else_the_default() {
    let mut advice = GenerationDefaults::default();
    advice.temperature = Some(0.6);
    advice.top_k = Some(20);
    advice.top_p = Some(0.95);
    advice.min_p = Some(0.05);
    advice.repetition_penalty = Some(1.5);
    let of = |options: Options| {
        let s = advised(&options, advice.clone());
        let penalty = s.repetition.map(|r| r.penalty);
        (s.temperature, s.top_k, s.top_p, s.min_p, penalty)
    };
    let all = (0.6, Some(20), Some(0.95), Some(0.05), Some(1.5));
    assert_eq!(of(Options::new()), all);
    let set = Options::new().temperature(0.9).min_p(0.0);
    assert_eq!(of(set), (0.9, all.1, all.2, None, all.4));
    let set = Options::new().top_k(3).top_p(1.0).repetition_penalty(1.0);
    assert_eq!(of(set), (0.6, Some(3), None, all.3, None));
    let none = (0.1, None, None, None, None);
    assert_eq!(of(Options::new().no_advice(true)), none);
    let set = Options::new().no_advice(true).top_k(3);
    assert_eq!(of(set), (0.1, Some(3), None, None, None));
}

#[test]
fn advice_not_to_sample_is_greedy() {
    let mut advice = GenerationDefaults::default();
    advice.do_sample = Some(false);
    advice.temperature = Some(0.6);
    assert!(advised(&Options::new(), advice.clone()).is_greedy());
    let asked = advised(&Options::new().temperature(0.5), advice.clone());
    assert_eq!(asked.temperature, 0.5);
    advice.do_sample = Some(true);
    assert_eq!(advised(&Options::new(), advice.clone()).temperature, 0.6);
    advice.temperature = None;
    assert_eq!(advised(&Options::new(), advice.clone()).temperature, 0.1);
}

/// By the kernel and by MLX's operations, greedy and at random: the host sees -1, the next step a token.
#[test]
fn logits_that_are_no_numbers_are_marked_and_the_id_stays_a_token() {
    device::open(Choice::Cpu).unwrap();
    let usual = LOGITS.to_vec();
    let with = |at: usize, value: f32| {
        let mut row = usual.clone();
        row[at] = value;
        row
    };
    let rows = [
        (usual.clone(), true),
        (with(3, f32::NEG_INFINITY), true),
        (with(0, f32::NAN), false),
        (with(5, f32::NAN), false),
        (with(2, f32::INFINITY), false),
        (vec![f32::NAN; 6], false),
        (vec![f32::NEG_INFINITY; 6], false),
    ];
    let asked = [
        Options::new().temperature(0.0),
        Options::new().temperature(0.0).repetition_penalty(1.3),
        Options::new(),
        Options::new().top_k(3),
        Options::new().top_p(0.9).min_p(0.01),
    ];
    for plain_mlx in [false, true] {
        graph::force_mlx(plain_mlx);
        for (row, good) in &rows {
            let row = Array::from_slice(row, &[6]).unwrap();
            for dtype in [Dtype::Float32, Dtype::Float16, Dtype::Bfloat16] {
                let logits = row.cast(dtype).unwrap();
                for options in &asked {
                    let mut sampler = Sampler::new(&unadvised(options), &[1, 2]).unwrap();
                    let token = sampler.draw(&logits).unwrap();
                    let id = Token::ids(&[&token]).unwrap().item::<i32>().unwrap();
                    let seen = token.read().unwrap();
                    assert!((0..6).contains(&id), "{id}");
                    let wanted = good.then_some(id as u32);
                    assert_eq!(seen, wanted, "{row:?} {options:?}");
                }
            }
        }
    }
    graph::force_mlx(false);
}

/// Allows what its list says, a token after the other, and ends behind the last.
#[derive(Debug)]
struct OneOf(Vec<Vec<u32>>);

struct Following {
    left: Vec<Vec<u32>>,
    words: Vec<u32>,
}

impl Constrain for OneOf {
    fn start(&self) -> Result<Box<dyn Constraint>> {
        let mut left = self.0.clone();
        left.reverse();
        let words = Vec::new();
        Ok(Box::new(Following { left, words }))
    }
}

impl Constraint for Following {
    fn mask(&mut self) -> Result<Option<&[u32]>> {
        let allowed = self.left.pop().expect("nothing is asked after the end");
        self.words = vec![allowed.iter().fold(0, |word, id| word | 1 << id)];
        Ok(Some(&self.words))
    }

    fn accept(&mut self, id: u32) -> Result<Accepted> {
        assert!(self.words[0] >> id & 1 == 1, "{id} was not allowed");
        match (id, self.left.is_empty()) {
            (5, _) => panic!("a scripted panic"),
            (_, true) => Ok(Accepted::Ends),
            (_, false) => Ok(Accepted::GoesOn),
        }
    }
}

fn constrained(options: &Options, allowed: &[&[u32]]) -> Sampling {
    let allowed = allowed.iter().map(|ids| ids.to_vec()).collect();
    Sampling {
        constraint: Some(Arc::new(OneOf(allowed))),
        ..unadvised(options)
    }
}

/// In MLX's graph, and where the logits come to the host.
#[test]
fn a_constraint_is_asked_before_each_token_and_told_it() {
    for plain_mlx in [false, true] {
        graph::force_mlx(plain_mlx);
        for options in [Options::new().temperature(0.0), Options::new().top_k(1)] {
            let sampling = constrained(&options, &[&[0, 4], &[1, 5, 0], &[4, 1]]);
            let logits = logits();
            let mut sampler = Sampler::new(&sampling, &[]).unwrap();
            // Two are submitted before the first is read.
            let tokens: Vec<Token> = (0..3).map(|_| sampler.draw(&logits).unwrap()).collect();
            let read: Vec<_> = tokens
                .iter()
                .map(|token| {
                    token.settle(|logits| sampler.draw_now(logits));
                    let id = token.read().unwrap();
                    let outcome = sampler.outcome();
                    assert!(outcome.failed.is_none());
                    (id, outcome.ends)
                })
                .collect();
            let wanted = [(Some(0), false), (Some(0), false), (Some(4), true)];
            assert_eq!(read, wanted, "{options:?}");
        }
    }
    graph::force_mlx(false);
}

/// The others' tokens are what they are alone.
#[test]
fn a_constraint_that_fails_ends_its_own_request_and_no_other() {
    let greedy = Options::new().temperature(0.0);
    for plain_mlx in [false, true] {
        graph::force_mlx(plain_mlx);
        for (allowed, message) in [(&[][..], "no token may be drawn"), (&[5], "scripted panic")] {
            let samplings = [
                unadvised(&greedy),
                constrained(&greedy, &[allowed]),
                constrained(&greedy, &[&[1, 5, 4]]),
            ];
            let row = logits().reshape(&[1, 6]).unwrap();
            let mut samplers = samplings.map(|sampling| Sampler::new(&sampling, &[]).unwrap());
            let rows = mlx_core::ops::concatenate(&[&row, &row, &row], 0).unwrap();
            let tokens = draw_each(samplers.iter_mut().collect(), &rows);
            let mut ids = Vec::new();
            for (token, sampler) in tokens.into_iter().zip(&mut samplers) {
                let token = token.unwrap();
                token.settle(|logits| sampler.draw_now(logits));
                let failed = sampler.outcome().failed.map(|error| error.to_string());
                ids.push((token.read().unwrap(), failed));
            }
            assert_eq!((ids[0].0, ids[2].0), (Some(3), Some(4)));
            assert_eq!((ids[0].1.as_ref(), ids[2].1.as_ref()), (None, None));
            assert_eq!(ids[1].0, None);
            assert!(ids[1].1.as_ref().unwrap().contains(message), "{ids:?}");
        }
    }
    graph::force_mlx(false);
}

#[test]
fn a_processor_sees_prompt_and_answer_and_writes_logits() {
    let processor = LogitsProcessor::new(|ids, logits| {
        // What was there stays away, and the last but one token is lifted by what its place says.
        for id in ids {
            logits[*id as usize] = f32::NEG_INFINITY;
        }
        match ids.len() {
            5 => Err("five are enough".into()),
            4 => {
                logits[5] = f32::NAN;
                Ok(())
            }
            _ => Ok(()),
        }
    });
    for plain_mlx in [false, true] {
        graph::force_mlx(plain_mlx);
        let logits = logits();
        let options = Options::new()
            .temperature(0.0)
            .logits_processor(processor.clone());
        let mut sampler = Sampler::new(&unadvised(&options), &[3]).unwrap();
        let drawn_ids: Vec<_> = (0..3).map(|_| drawn(&mut sampler, &logits)).collect();
        assert_eq!(drawn_ids, [Some(2), Some(0), Some(4)]);
        assert_eq!(drawn(&mut sampler, &logits), None);
        let outcomes: Vec<_> = (0..4).map(|_| sampler.outcome()).collect();
        assert!(outcomes[..3].iter().all(|outcome| outcome.failed.is_none()));
        let error = outcomes[3].failed.as_ref().unwrap();
        let Error::Processor { source } = error else {
            panic!("{error}")
        };
        assert!(source.to_string().contains("not numbers"), "{source}");
        let mut sampler = Sampler::new(&unadvised(&options), &[0, 1, 2, 3, 4]).unwrap();
        assert_eq!(drawn(&mut sampler, &logits), None);
        let failed = sampler.outcome().failed.unwrap();
        let Error::Processor { source } = failed else {
            panic!("{failed}")
        };
        assert_eq!(source.to_string(), "five are enough");
    }
    graph::force_mlx(false);
}
