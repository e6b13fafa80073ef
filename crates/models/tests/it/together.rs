//! Several sequences at once: what one gives does not depend, not by a bit, on which others there are.

use crate::common::{
    Expected, cases, fixture, load, load_with, logits_in_chunks, on_both_paths, open_device,
    relative_error,
};
use mlx_core::{Array, DeviceKind, Dtype, device};
use models::cache::Cache;
use models::{LoadOptions, Logits, Model};

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

    fn ids(&mut self, model: &Model, count: usize) -> Vec<i32> {
        let vocab = model.info().vocab_size;
        (0..count).map(|_| self.below(vocab) as i32).collect()
    }
}

fn int32(ids: &[i32]) -> Array {
    Array::from_slice(ids, &[ids.len() as i32]).unwrap()
}

fn bits(logits: &Array) -> Vec<u32> {
    let floats = logits
        .cast(Dtype::Float32)
        .unwrap()
        .to_vec::<f32>()
        .unwrap();
    floats.into_iter().map(f32::to_bits).collect()
}

/// Sequences that go on now and then, some at a time, each with a twin that goes on alone.
fn check(model: &Model, sequences: usize, steps: usize, rng: &mut Rng) {
    let vocab = model.info().vocab_size;
    let mut pairs: Vec<[Cache; 2]> = (0..sequences)
        .map(|_| [model.new_cache(), model.new_cache()])
        .collect();
    for pair in &mut pairs {
        let length = 1 + rng.below(30);
        let prompt = int32(&rng.ids(model, length));
        for cache in pair {
            model.forward(&prompt, cache, Logits::Last).unwrap();
        }
    }
    for step in 0..steps {
        let chosen: Vec<bool> = (0..sequences).map(|_| rng.below(3) > 0).collect();
        let count = chosen.iter().filter(|is| **is).count();
        if count == 0 {
            continue;
        }
        let ids = rng.ids(model, count);
        let together = pairs.iter_mut().zip(&chosen).filter(|(_, is)| **is);
        let (mut caches, mut twins): (Vec<&mut Cache>, Vec<&mut Cache>) =
            together.map(|([cache, twin], _)| (cache, twin)).unzip();
        let found = model.forward_each(&int32(&ids), &mut caches).unwrap();
        assert_eq!(found.shape(), [count as i32, vocab as i32]);
        let found = bits(&found);
        for (i, twin) in twins.iter_mut().enumerate() {
            let id = int32(&ids[i..=i]);
            let alone = model.forward(&id, twin, Logits::Last).unwrap().unwrap();
            let row = &found[i * vocab..][..vocab];
            assert_eq!(row, bits(&alone), "step {step}, sequence {i} of {count}");
            assert_eq!(caches[i].offset(), twin.offset());
        }
    }
}

#[test]
fn a_sequence_does_not_depend_on_the_others() {
    open_device();
    let mut rng = Rng(7);
    for name in cases("") {
        // Every way in which a matrix is stored, and every kind of cache; not every configuration.
        let counts = [
            "-q", "-mx", "-nv", "-wide", "-hub", "-f16", "-bf16", "-long",
        ];
        if !counts.iter().any(|part| name.contains(part)) {
            continue;
        }
        println!("{name}");
        let model = load_with(&fixture(&name), &LoadOptions::new());
        // On a GPU there is a kernel for few, and several for many.
        let many = match device::current().unwrap() {
            DeviceKind::Cuda => &[40, 90][..],
            _ => &[],
        };
        for &sequences in [2, 7, 19].iter().chain(many) {
            check(&model, sequences, 6, &mut rng);
        }
    }
}

#[test]
fn other_paths_take_several_sequences_too() {
    on_both_paths(|| {
        for name in [
            "qwen3-tied",
            "gemma2-hub",
            "qwen2-window-hub",
            "qwen2_moe-v5",
            "qwen3_5-hub",
            "qwen3_next-only",
            "gemma3n-e2b-hub",
            "gemma4-e2b-hub",
            "gemma4-26b_moe-hub",
            "gpt_oss-hub",
        ] {
            let model = load_with(&fixture(name), &LoadOptions::new());
            check(&model, 5, 12, &mut Rng(3));
        }
    });
}

#[test]
fn what_cannot_be_run_changes_no_sequence() {
    open_device();
    let model = load_with(&fixture("gemma3-between"), &LoadOptions::new());
    let mut caches = [model.new_cache(), model.new_cache()];
    let [one, other] = &mut caches;
    model
        .forward(&int32(&[1, 2, 3]), one, Logits::None)
        .unwrap();
    for wrong in [int32(&[1]), int32(&[1, 2, 3]), int32(&[])] {
        let error = model.forward_each(&wrong, &mut [&mut *one, &mut *other]);
        assert!(error.unwrap_err().to_string().contains("[2]"));
    }
    assert_eq!((one.offset(), other.offset()), (3, 0));
}

/// Caches that begin alike, in pages or buffers, and each goes on by itself: what one is told the other does not know.
#[test]
fn a_copy_goes_on_by_itself() {
    on_both_paths(|| {
        for name in ["qwen3-long", "gemma3-long", "qwen3_5-long"] {
            let expected = Expected::read(name);
            let (ids, logits) = (expected.ints("input_ids"), expected.floats("logits"));
            let model = load(name, Some(Dtype::Float32));
            let vocab = model.info().vocab_size;
            let half = ids.len() / 2;
            let mut cache = model.new_cache();
            logits_in_chunks(&model, &mut cache, &ids[..half], &[64, 1]);
            let mut other = cache.fork().unwrap();
            assert_eq!(other.offset(), cache.offset());
            logits_in_chunks(&model, &mut other, &[5; 70], &[1]);
            let mut third = cache.fork().unwrap();
            for (cache, sizes) in [(&mut cache, &[1][..]), (&mut third, &[7, 64])] {
                let found = logits_in_chunks(&model, cache, &ids[half..], sizes);
                let error = relative_error(&found, &logits[half * vocab..], vocab);
                assert!(error <= 1e-4, "{name} in chunks of {sizes:?}: {error:.2e}");
            }
        }
    });
}
