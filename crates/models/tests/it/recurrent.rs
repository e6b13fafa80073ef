//! Sequences of models with gated delta nets go back: to checkpoints, and where a pass could not be built.

use crate::common::{
    Expected, fixture, load, logits_in_chunks, on_both_paths, open_device, relative_error,
};
use mlx_core::{Array, DeviceKind, Dtype, device};
use models::cache::Cache;
use models::{Logits, Model, ModelInfo};

const BOUND: f64 = 1e-4;

/// The logits of the tokens from `from` on equal the reference's, in chunks of `size`.
fn check_from(model: &Model, cache: &mut Cache, expected: &Expected, from: usize, size: usize) {
    let (ids, logits) = (expected.ints("input_ids"), expected.floats("logits"));
    let vocab = model.info().vocab_size;
    let found = logits_in_chunks(model, cache, &ids[from..], &[size]);
    let error = relative_error(&found, &logits[from * vocab..], vocab);
    assert!(
        error <= BOUND,
        "from {from} in chunks of {size}: {error:.2e}"
    );
    assert_eq!(cache.offset() as usize, ids.len());
}

#[test]
fn a_sequence_goes_back_to_a_checkpoint_and_on() {
    on_both_paths(|| {
        let expected = Expected::read("qwen3_5-long");
        let ids = expected.ints("input_ids");
        let model = load("qwen3_5-long", Some(Dtype::Float32));
        let mut cache = model.new_cache();
        // Of a prompt a checkpoint stays at the last multiple of 64, and the state in front of the last pass.
        logits_in_chunks(&model, &mut cache, &ids[..210], &[2048]);
        for (to, reached) in [(209, 192), (192, 192), (191, 0)] {
            let from = cache.offset() as usize;
            logits_in_chunks(&model, &mut cache, &ids[from..210], &[2048]);
            assert_eq!(cache.rewind(to), reached, "to {to}");
            assert_eq!(cache.offset(), reached);
            check_from(&model, &mut cache, &expected, reached as usize, 2048);
            cache.reset();
        }
        // An answer leaves one each 256 tokens; the last token can always be taken back.
        logits_in_chunks(&model, &mut cache, &ids, &[1]);
        assert_eq!(cache.rewind(259), 259);
        check_from(&model, &mut cache, &expected, 259, 1);
        assert_eq!(cache.rewind(258), 256);
        check_from(&model, &mut cache, &expected, 256, 1);
        assert_eq!(cache.trim(5), 260, "no checkpoint but that at 256");
        check_from(&model, &mut cache, &expected, 0, 64);
        // What others said in between is gone with it.
        assert_eq!(cache.rewind(200), 192);
        let other = Array::from_slice(&[7; 40], &[40]).unwrap();
        model.forward(&other, &mut cache, Logits::None).unwrap();
        cache.eval().unwrap();
        assert_eq!(cache.rewind(200), 192);
        check_from(&model, &mut cache, &expected, 192, 30);
    });
}

/// Chunks that end at multiples of 64 do not change a bit of the state that they hand over.
#[test]
fn a_prompt_cut_at_multiples_has_the_same_bits() {
    on_both_paths(|| {
        let ids = Expected::read("qwen3_5-long").ints("input_ids");
        let model = load("qwen3_5-long", Some(Dtype::Float32));
        let last = |sizes: &[usize], from: usize| {
            let mut cache = model.new_cache();
            logits_in_chunks(&model, &mut cache, &ids[..from], sizes);
            let ids = Array::from_slice(&ids[from..], &[(ids.len() - from) as i32]).unwrap();
            let logits = model.forward(&ids, &mut cache, Logits::Last).unwrap();
            let logits = logits.unwrap().cast(Dtype::Float32).unwrap();
            logits.to_vec::<f32>().unwrap()
        };
        let whole = last(&[192], 192);
        for sizes in [&[64][..], &[128, 64], &[64, 128]] {
            let found = last(sizes, 192);
            assert_eq!(found, whole, "{sizes:?}");
        }
    });
}

/// Sequences that begin alike have the same pages, and each goes on by itself: the pages that one has no use for any
/// more are not written while the other has one.
#[test]
fn sequences_that_part_do_not_touch_each_other() {
    open_device();
    if device::current().unwrap() != DeviceKind::Cpu {
        return;
    }
    let expected = Expected::read("qwen3_5-long");
    let ids = expected.ints("input_ids");
    let model = load("qwen3_5-long", Some(Dtype::Float32));
    let mut cache = model.new_cache();
    logits_in_chunks(&model, &mut cache, &ids[..100], &[64, 1]);
    let mut second = cache.fork().unwrap();
    logits_in_chunks(&model, &mut second, &[5; 70], &[1]);
    check_from(&model, &mut cache, &expected, 100, 1);
    assert_eq!((second.offset(), second.rewind(110)), (170, 64));
    check_from(&model, &mut second, &expected, 64, 7);
    drop(cache);
    assert_eq!(second.rewind(100), 64);
    check_from(&model, &mut second, &expected, 64, 2048);
}

#[test]
fn memory_counts_states_and_checkpoints() {
    on_both_paths(|| {
        let model = load("qwen3_5-long", Some(Dtype::Float32));
        let ids = Expected::read("qwen3_5-long").ints("input_ids");
        let mut cache = model.new_cache();
        logits_in_chunks(&model, &mut cache, &ids[..64], &[64]);
        cache.eval().unwrap();
        let few = cache.nbytes() as u64;
        logits_in_chunks(&model, &mut cache, &ids[64..], &[32]);
        cache.eval().unwrap();
        let held = cache.nbytes() as u64;
        assert!(few < held, "{few} of {held}");
        let info = ModelInfo::read(&fixture("qwen3_5-long")).unwrap();
        let room = info.cache_bytes(512);
        assert!(held <= room, "{held} of {room}");
        assert!(info.cache_bytes(0) > 0);
        // One layer of two heads of 16, keys and values, four bytes each.
        assert_eq!(info.cache_bytes_per_token(), 2 * 2 * 16 * 4);
    });
}

#[test]
fn draft_heads_are_named_and_left_out() {
    let info = ModelInfo::read(&fixture("qwen3_5-hub")).unwrap();
    assert_eq!(info.draft_tensors, 3);
    let info = ModelInfo::read(&fixture("qwen3_5-text")).unwrap();
    assert_eq!(info.draft_tensors, 0);
}
