//! A pass that cannot be built, in the midst of it, and what comes after it.

use std::path::Path;

use kernels::graph::{self, Heads};
use mlx_core::device::{self, Choice, stand_in};
use mlx_core::{Array, Dtype};

use super::*;
use crate::cache::LayerCache;

/// A family with windows, of which some layers have none, and one without any.
const CASES: [&str; 2] = ["gemma3-between", "qwen3-tied"];

fn load(name: &str) -> Model {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    Model::load(&fixtures.join(name), &LoadOptions::new(), &mut |_| ()).unwrap()
}

/// `count` tokens that say nothing.
fn ids(model: &Model, count: i32, seed: i32) -> Array {
    let vocabulary = model.info().vocab_size as i32;
    let ids: Vec<i32> = (0..count)
        .map(|i| (i * 31 + seed * 17 + i * i) % vocabulary)
        .collect();
    Array::from_slice(&ids, &[count]).unwrap()
}

fn logits(model: &Model, ids: &Array, cache: &mut Cache) -> Vec<f32> {
    let logits = model.forward(ids, cache, Logits::Last).unwrap().unwrap();
    logits.to_vec().unwrap()
}

fn assert_same(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() < 1e-4, "{what}: {got} instead of {want}");
    }
}

/// Tries to run `count` tokens through `cache` in a way that fails; true if it holds what it held.
type Fail = fn(&Model, i32, &mut Cache) -> bool;

/// All layers give out their room, tokens are put there, and then an operation is refused.
fn behind_the_last_layer(model: &Model, count: i32, cache: &mut Cache) -> bool {
    let states = &model.config().model.states;
    let keys = states[0].keys().unwrap();
    let (heads, dim) = (keys.heads as i32, keys.head_dim as i32);
    let junk = Array::full(&[1, heads, count, dim], 7.0, Dtype::Float32).unwrap();
    let of_all = vec![Heads::of(&junk); states.len()];
    let made = Cache::add(&mut [cache], count, &of_all, |slots| {
        for slot in &mut slots[0] {
            slot.buffers.write(&junk, &junk, slot.start)?;
        }
        Ok(junk.reshape(&[7919])?)
    });
    assert!(made.is_err());
    true
}

/// The blocks run and write their pages, and then the pass is given up, as where the head cannot be built.
fn behind_the_blocks(model: &Model, count: i32, cache: &mut Cache) -> bool {
    let ids = ids(model, count, 9);
    let mut pass = model.decoder.begin(&ids, cache, 1).unwrap();
    let hidden = model.decoder.go_on(&mut pass, cache, &mut || true).unwrap();
    hidden.unwrap().eval().unwrap();
    true
}

/// The last layer has buffers of other heads, which its keys do not fit into: the layers before it have
/// taken their tokens by then.
fn in_the_last_layer(model: &Model, count: i32, cache: &mut Cache) -> bool {
    let held = cache.offset();
    let last = model.config().model.states.len() - 1;
    let mut other = model.new_cache();
    let narrow = Array::zeros(&[1, 1, held, 3], Dtype::Float32).unwrap();
    let filled = other.layer_mut(last).add(held, Heads::of(&narrow), |slot| {
        Ok(slot.buffers.write(&narrow, &narrow, slot.start)?)
    });
    filled.unwrap();
    let swap = |cache: &mut Cache, other: &mut Cache| {
        std::mem::swap(cache.layer_mut(last), other.layer_mut(last));
    };
    swap(cache, &mut other);
    let made = model.forward(&ids(model, count, 9), cache, Logits::Last);
    assert!(made.is_err());
    if cache.offset() == 0 {
        let all_empty = cache.layers().iter().all(|layer| layer.offset() == 0);
        assert!(all_empty, "the layers hold different tokens");
        return false;
    }
    swap(cache, &mut other);
    true
}

#[test]
fn a_pass_that_could_not_be_built_changes_nothing() {
    device::open(Choice::Cpu).unwrap();
    // Our kernels take what they are given; MLX's operations look at it when they are built.
    let ways: [(bool, Fail); 3] = [
        (false, behind_the_blocks),
        (true, behind_the_last_layer),
        (true, in_the_last_layer),
    ];
    for ((plain, fail), name) in ways
        .into_iter()
        .flat_map(|way| CASES.map(|name| (way, name)))
    {
        graph::force_mlx(plain);
        let model = load(name);
        let states = &model.config().model.states;
        let windows = states.iter().any(|state| state.window().is_some());
        // Shorter than the window of eight, and longer.
        for (prompt, failing, next) in [(3, 1, 1), (3, 4, 1), (20, 1, 1), (20, 1, 5), (20, 5, 1)] {
            let what = format!("{name}, {prompt} then {failing} fail then {next}, plain {plain}");
            let (mut cache, mut twin) = (model.new_cache(), model.new_cache());
            let prompt_ids = ids(&model, prompt, 1);
            let first = logits(&model, &prompt_ids, &mut cache);
            assert_same(&logits(&model, &prompt_ids, &mut twin), &first, &what);
            if !fail(&model, failing, &mut cache) {
                // Allowed where a full window has given up tokens for several new ones.
                assert!(plain && windows && failing > 1, "{what}: was emptied");
                logits(&model, &prompt_ids, &mut cache);
            }
            assert_eq!(cache.offset(), prompt, "{what}");
            let next_ids = ids(&model, next, 2);
            for _ in 0..3 {
                let got = logits(&model, &next_ids, &mut cache);
                assert_same(&got, &logits(&model, &next_ids, &mut twin), &what);
            }
        }
    }
    graph::force_mlx(false);
}

/// Recurrent states go back to what they were in front of the pass, too.
#[test]
fn a_pass_that_could_not_be_built_leaves_recurrent_states_as_they_were() {
    device::open(Choice::Cpu).unwrap();
    let ways: [(bool, Fail); 2] = [(false, behind_the_blocks), (true, in_the_last_layer)];
    for (plain, fail) in ways {
        graph::force_mlx(plain);
        let model = load("qwen3_5-text");
        for (prompt, failing, next) in [(3, 1, 1), (20, 5, 1), (70, 1, 5), (70, 80, 70)] {
            let (mut cache, mut twin) = (model.new_cache(), model.new_cache());
            let first = ids(&model, prompt, 1);
            logits(&model, &first, &mut cache);
            logits(&model, &first, &mut twin);
            assert!(fail(&model, failing, &mut cache));
            assert_eq!(cache.offset(), prompt);
            let next = ids(&model, next, 2);
            let after = logits(&model, &next, &mut cache);
            let what = format!("{prompt} then {failing} fail, plain {plain}");
            assert_same(&after, &logits(&model, &next, &mut twin), &what);
        }
    }
    graph::force_mlx(false);
}

/// Runs `ids` as far as the first pause.
fn until_it_pauses(model: &Model, ids: &Array, cache: &mut Cache) -> Pass {
    let pass = model.begin(ids, cache, Logits::Last).unwrap();
    match model.go_on(pass, cache, &mut || false).unwrap() {
        Passed::Part(pass) => pass,
        Passed::Whole(_) => panic!("it did not pause"),
    }
}

#[test]
fn a_pass_that_pauses_gives_what_a_whole_one_gives() {
    stand_in::play(Some(stand_in::Mac {
        memory_bytes: 32 << 30,
        recommended_working_set: 24 << 30,
    }));
    device::open(Choice::Metal).unwrap();
    for name in CASES
        .into_iter()
        .chain(["gemma4-e2b-hub", "gemma3n-e2b-hub", "qwen3_5-hub"])
    {
        let model = load(name);
        let (mut cache, mut twin, mut other) =
            (model.new_cache(), model.new_cache(), model.new_cache());
        // Long enough to be submitted on the way, and longer than the window.
        let (first, second, next) = (ids(&model, 70, 1), ids(&model, 90, 2), ids(&model, 1, 3));
        let whole = logits(&model, &first, &mut twin);

        let mut pass = until_it_pauses(&model, &first, &mut cache);
        let of_other = logits(&model, &second, &mut other);
        let mut pauses = 1;
        let paused = loop {
            match model.go_on(pass, &mut cache, &mut || false).unwrap() {
                Passed::Part(part) => pass = part,
                Passed::Whole(logits) => break logits.unwrap(),
            }
            pauses += 1;
            assert!(pauses < 10);
        };
        assert_eq!(paused.to_vec::<f32>().unwrap(), whole, "{name}");
        assert_eq!(
            logits(&model, &next, &mut cache),
            logits(&model, &next, &mut twin),
            "{name}"
        );

        // One that is given up is as if it had not begun, or, where a window has lost tokens, nothing is held.
        let held = cache.offset();
        until_it_pauses(&model, &second, &mut cache).give_up(&mut cache);
        if cache.offset() == 0 {
            assert!(
                model
                    .config()
                    .model
                    .states
                    .iter()
                    .any(|state| state.window().is_some())
            );
            assert_eq!(logits(&model, &second, &mut cache), of_other, "{name}");
        } else {
            assert_eq!(cache.offset(), held);
            let after = logits(&model, &next, &mut cache);
            assert_same(&after, &logits(&model, &next, &mut twin), name);
        }
    }
    device::open(Choice::Cpu).unwrap();
}

#[test]
fn layers_are_of_the_kind_that_the_tests_take_them_for() {
    device::open(Choice::Cpu).unwrap();
    let model = load("gemma3-between");
    let kinds: Vec<bool> = Cache::new(&model.config().model.states)
        .layers()
        .iter()
        .map(|layer| matches!(layer, LayerCache::Rotating(_)))
        .collect();
    assert_eq!(kinds, [true, false, true, false]);
}

/// A sequence, and the calls that filled it, one after the other.
struct Sequence {
    cache: Cache,
    calls: Vec<Vec<i32>>,
}

impl Sequence {
    fn run(&mut self, model: &Model, call: Vec<i32>) -> Vec<u32> {
        let ids = Array::from_slice(&call, &[call.len() as i32]).unwrap();
        self.calls.push(call);
        bits(&logits(model, &ids, &mut self.cache))
    }
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

/// Sequences that fork, go back, go on together and end give, to the bit, what the same calls give in a sequence of
/// their own; and all pages are free in the end.
#[test]
fn forks_and_rewinds_change_no_bit() {
    device::open(Choice::Cpu).unwrap();
    // With windows of eight tokens, and without any.
    for (name, seed) in [
        ("gemma3-between", 1),
        ("gemma3-between", 2),
        ("qwen3-tied", 3),
        // With keys that layers share.
        ("gemma4-e2b-hub", 4),
        ("gemma4-e4b-v5", 5),
        ("gemma3n-e2b-hub", 6),
    ] {
        let model = load(name);
        let vocabulary = model.info().vocab_size as u64;
        let mut state: u64 = seed;
        let mut below = move |n: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        let mut all = vec![Sequence {
            cache: model.new_cache(),
            calls: Vec::new(),
        }];
        for step in 0..60 {
            let at = below(all.len() as u64) as usize;
            match below(8) {
                0 if all.len() < 5 => {
                    let cache = all[at].cache.fork().unwrap();
                    let calls = all[at].calls.clone();
                    all.push(Sequence { cache, calls });
                }
                1 if all.len() > 1 => drop(all.swap_remove(at)),
                2 | 3 => {
                    let one = &mut all[at];
                    let kept = one.calls.len().saturating_sub(1 + below(3) as usize);
                    let gone: usize = one.calls[kept..].iter().map(Vec::len).sum();
                    let trimmed = one.cache.trim(gone as i32);
                    if trimmed == gone as i32 {
                        one.calls.truncate(kept);
                    } else {
                        assert!(gone > 256, "{trimmed} of {gone}");
                        one.cache.reset();
                        one.calls.clear();
                    }
                }
                4 if all.iter().all(|one| !one.calls.is_empty()) => {
                    let ids: Vec<i32> = all.iter().map(|_| below(vocabulary) as i32).collect();
                    let mut caches: Vec<&mut Cache> =
                        all.iter_mut().map(|one| &mut one.cache).collect();
                    let given = Array::from_slice(&ids, &[ids.len() as i32]).unwrap();
                    model
                        .forward_each(&given, &mut caches)
                        .unwrap()
                        .eval()
                        .unwrap();
                    for (one, id) in all.iter_mut().zip(ids) {
                        one.calls.push(vec![id]);
                    }
                }
                _ => {
                    let count = [1, 1, 5, 30, 120, 270][below(6) as usize];
                    let call = (0..count).map(|_| below(vocabulary) as i32).collect();
                    all[at].run(&model, call);
                }
            }
            if step % 6 != 5 {
                continue;
            }
            let call = vec![below(vocabulary) as i32];
            let at = at.min(all.len() - 1);
            let found = all[at].run(&model, call);
            let mut twin = Sequence {
                cache: model.new_cache(),
                calls: Vec::new(),
            };
            let calls = all[at].calls.clone();
            let wanted = calls.into_iter().map(|call| twin.run(&model, call)).last();
            assert_eq!(Some(found), wanted, "{name}, step {step}");
        }
        drop(all);
        assert_eq!(model.states().map(|states| states.pages()), Some(0));
    }
}
