use mlx_core::random::{self, Key};
use mlx_core::{Array, Dtype, ops};

use crate::common::on_each_device;

fn mean_and_deviation(values: &[f32]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = values
        .iter()
        .map(|&v| (f64::from(v) - mean).powi(2))
        .sum::<f64>()
        / n;
    (mean, variance.sqrt())
}

/// Threefry-2x32 with 20 rounds, from Salmon et al. 2011, "Parallel random numbers: as easy as
/// 1, 2, 3".
fn threefry(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    let keys = [key[0], key[1], 0x1bd1_1bda ^ key[0] ^ key[1]];
    let mut x = [
        counter[0].wrapping_add(keys[0]),
        counter[1].wrapping_add(keys[1]),
    ];
    for (round, turn) in [13, 15, 26, 6, 17, 29, 16, 24]
        .into_iter()
        .cycle()
        .take(20)
        .enumerate()
    {
        x[0] = x[0].wrapping_add(x[1]);
        x[1] = x[1].rotate_left(turn) ^ x[0];
        if round % 4 == 3 {
            let injection = round / 4 + 1;
            x[0] = x[0].wrapping_add(keys[injection % 3]);
            x[1] = x[1]
                .wrapping_add(keys[(injection + 1) % 3])
                .wrapping_add(injection as u32);
        }
    }
    x
}

#[test]
fn threefry_here_is_that_of_its_paper() {
    // Known answers from the authors' Random123 library.
    assert_eq!(threefry([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
    let (counter, key) = ([0x243f_6a88, 0x85a3_08d3], [0x1319_8a2e, 0x0370_7344]);
    assert_eq!(threefry(key, counter), [0xc492_3a9c, 0x483d_f7a0]);
}

on_each_device! {
    fn a_key_gives_the_same_numbers_each_time_and_another_key_others() {
        let draw = |key: &Key| {
            random::uniform(key, 0.0, 1.0, &[50], Dtype::Float32).unwrap().to_vec::<f32>().unwrap()
        };
        let key = Key::new(7).unwrap();
        assert_eq!(draw(&key), draw(&Key::new(7).unwrap()));
        assert_ne!(draw(&key), draw(&Key::new(8).unwrap()));
        let (a, b) = key.split().unwrap();
        assert_ne!(draw(&a), draw(&b));
        assert_ne!(draw(&a), draw(&key));
        assert_eq!(draw(&a), draw(&key.split().unwrap().0));
    }

    fn keys_split_by_threefry() {
        let seed = 0x0000_0005_0000_0009;
        let key = Key::new(seed).unwrap();
        assert_eq!(key.array().to_vec::<u32>().unwrap(), [5, 9]);
        // MLX fills four words from the counters (0, 2) and (1, 3): first halves, then seconds.
        let blocks = [threefry([5, 9], [0, 2]), threefry([5, 9], [1, 3])];
        let (a, b) = key.split().unwrap();
        let words = [a, b].map(|key| key.array().to_vec::<u32>().unwrap());
        assert_eq!(words[0], [blocks[0][0], blocks[1][0]]);
        assert_eq!(words[1], [blocks[0][1], blocks[1][1]]);
    }

    fn draws_have_the_moments_of_their_distribution() {
        let key = Key::new(3).unwrap();
        let n = 40_000;
        let read = |a: Array| a.cast(Dtype::Float32).unwrap().to_vec::<f32>().unwrap();
        for dtype in [Dtype::Float32, Dtype::Float16] {
            let uniform = read(random::uniform(&key, -1.0, 3.0, &[n], dtype).unwrap());
            assert!(uniform.iter().all(|v| (-1.0..=3.0).contains(v)));
            let (mean, deviation) = mean_and_deviation(&uniform);
            assert!((mean - 1.0).abs() < 0.03 && (deviation - 4.0 / 12f64.sqrt()).abs() < 0.03);

            let normal = read(random::normal(&key, &[n], dtype, 2.0, 0.5).unwrap());
            let (mean, deviation) = mean_and_deviation(&normal);
            assert!((mean - 2.0).abs() < 0.02 && (deviation - 0.5).abs() < 0.02);
        }
        let gumbel = read(random::gumbel(&key, &[n], Dtype::Float32).unwrap());
        let (mean, deviation) = mean_and_deviation(&gumbel);
        let want = std::f64::consts::PI / 6f64.sqrt();
        assert!((mean - 0.577).abs() < 0.03 && (deviation - want).abs() < 0.04);
    }

    fn categorical_draws_by_the_softmax() {
        let probabilities = [0.1f32, 0.6, 0.3];
        let logits: Vec<f32> = probabilities.iter().map(|p| p.ln() + 5.0).collect();
        let n = 20_000;
        let logits = Array::from_slice(&logits, &[1, 3]).unwrap().broadcast_to(&[n, 3]).unwrap();
        let drawn = random::categorical(&Key::new(4).unwrap(), &logits, -1).unwrap();
        assert_eq!((drawn.shape(), drawn.dtype()), (&[n][..], Dtype::Uint32));
        let drawn = drawn.to_vec::<u32>().unwrap();
        for (i, p) in probabilities.into_iter().enumerate() {
            let share = drawn.iter().filter(|&&d| d == i as u32).count() as f32 / n as f32;
            assert!((share - p).abs() < 0.015, "{i}: {share} instead of {p}");
        }
    }

    fn adding_gumbel_and_taking_the_largest_draws_by_the_softmax() {
        let n = 20_000;
        let noise = random::gumbel(&Key::new(5).unwrap(), &[n, 2], Dtype::Float32).unwrap();
        let logits = Array::from_slice(&[0.8f32.ln(), 0.2f32.ln()], &[2]).unwrap();
        let drawn = ops::argmax(&ops::add(&noise, &logits).unwrap(), -1, false).unwrap();
        let ones = drawn.to_vec::<u32>().unwrap().iter().sum::<u32>();
        assert!((ones as f32 / n as f32 - 0.2).abs() < 0.015);
    }
}
