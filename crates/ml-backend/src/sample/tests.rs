//! Drawing, compared with probabilities computed by hand on the host.

use mlx_core::device::{self, Choice};

use super::*;

/// Unsorted on purpose; the sixth is negative and the most probable is in the middle.
const LOGITS: [f32; 6] = [1.0, 0.2, 1.7, 2.1, 0.9, -1.3];

fn logits() -> Array {
    device::open(Choice::Cpu).unwrap();
    Array::from_slice(&LOGITS, &[6]).unwrap()
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
    let mut sampler =
        Sampler::new(&Sampling::from_options(&options.clone().seed(11)), &[]).unwrap();
    let mut counts = vec![0_usize; LOGITS.len()];
    for _ in 0..DRAWS {
        counts[sampler.draw(&logits).unwrap().item::<i32>().unwrap() as usize] += 1;
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
    let mut sampler = Sampler::new(
        &Sampling::from_options(&Options::new().temperature(0.0)),
        &[],
    )
    .unwrap();
    for _ in 0..3 {
        let token = sampler.draw(&logits).unwrap();
        assert_eq!(
            (token.shape().to_vec(), token.item::<i32>().unwrap()),
            (vec![1], 3)
        );
    }
}

#[test]
fn a_repetition_penalty_divides_what_is_positive_and_multiplies_what_is_negative() {
    let logits = logits();
    let recent = Array::from_slice(&[3_i32, 5, 3], &[3]).unwrap();
    let penalized = penalize(&logits, &recent, 2.0)
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
    let mut sampler = Sampler::new(&Sampling::from_options(&options), &[1, 3, 2]).unwrap();
    let drawn: Vec<i32> = (0..4)
        .map(|_| sampler.draw(&logits).unwrap().item::<i32>().unwrap())
        .collect();
    assert_eq!(drawn, [0, 3, 2, 0]);
}

#[test]
fn an_unset_seed_is_another_one_each_time() {
    let seed = || Sampling::from_options(&Options::new()).seed;
    assert_ne!(seed(), seed());
}

#[test]
fn filters_that_filter_nothing_are_off() {
    let options = Options::new().top_p(1.0).min_p(0.0).repetition_penalty(1.0);
    let sampling = Sampling::from_options(&options);
    assert_eq!(
        (sampling.top_p, sampling.min_p, sampling.repetition),
        (None, None, None)
    );
}
