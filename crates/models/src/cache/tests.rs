//! Caches against the definition: which positions does each query see?

use kernels::graph::{Heads, KvBuffers, Slot};
use mlx_core::device::{self, Choice};
use mlx_core::{Array, Dtype};

use super::{AttentionMask, KvCache, LayerCache, RotatingKvCache};
use crate::Result;

/// A small generator, so that each sequence of updates is another one and still repeats.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: i32) -> i32 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((self.0 >> 33) % n as u64) as i32
    }
}

/// Two heads of width four, each element naming its position: keys `p`, values `-p`.
fn tokens_at(start: i32, count: i32) -> (Array, Array) {
    let positions: Vec<f32> = (0..2)
        .flat_map(|_| (start..start + count).flat_map(|p| [p as f32; 4]))
        .collect();
    let negative: Vec<f32> = positions.iter().map(|p| -p).collect();
    let shape = [1, 2, count, 4];
    (
        Array::from_slice(&positions, &shape).unwrap(),
        Array::from_slice(&negative, &shape).unwrap(),
    )
}

/// Adds the next tokens, and gives what attention reads then.
fn update_rotating(cache: &mut RotatingKvCache, keys: &Array, values: &Array) -> (Array, Array) {
    let count = keys.dim(2);
    let mut slot = cache.take_room(count, Heads::of(keys)).unwrap();
    let seen = write(&mut slot, keys, values);
    cache.shorten(&mut slot).unwrap();
    cache.put_back(slot, count);
    seen
}

/// As [`update_rotating`].
fn update_full(cache: &mut KvCache, keys: &Array, values: &Array) -> (Array, Array) {
    let mut slot = cache.take_room(keys.dim(2), Heads::of(keys)).unwrap();
    let seen = write(&mut slot, keys, values);
    cache.put_back(slot);
    seen
}

fn write(slot: &mut Slot, keys: &Array, values: &Array) -> (Array, Array) {
    slot.buffers.write(keys, values, slot.start).unwrap();
    slot.buffers.first(slot.visible).unwrap().into()
}

/// Puts other tokens into the room for the next ones, and then asks for an operation that MLX refuses.
fn add_and_fail(cache: &mut LayerCache, count: i32) {
    let (keys, values) = tokens_at(9000, count);
    let made = cache.add(count, Heads::of(&keys), |slot| {
        write(slot, &keys, &values);
        Ok(keys.reshape(&[7919])?)
    });
    assert!(made.is_err());
}

/// Puts other tokens into the cache in a pass that fails behind it; false where older ones went for them.
fn add_and_undo(cache: &mut LayerCache, count: i32) -> bool {
    let (keys, values) = tokens_at(9000, count);
    let written = |slot: &mut Slot| -> Result<()> {
        write(slot, &keys, &values);
        Ok(())
    };
    cache.add(count, Heads::of(&keys), written).unwrap();
    cache.undo(count)
}

/// What `change` does to a rotating cache as a layer's.
fn as_layer<T>(cache: &mut RotatingKvCache, change: impl FnOnce(&mut LayerCache) -> T) -> T {
    let own = std::mem::replace(cache, RotatingKvCache::new(1, 0));
    let mut layer = LayerCache::Rotating(own);
    let result = change(&mut layer);
    if let LayerCache::Rotating(own) = layer {
        *cache = own;
    }
    result
}

#[test]
fn new_buffers_are_announced_with_their_bytes() {
    device::open(Choice::Cpu).unwrap();
    let mut rng = Rng(4);
    let mut cache = KvCache::new();
    cache.expect(300);
    for _ in 0..20 {
        let (keys, values) = tokens_at(cache.offset(), 1 + rng.below(200));
        let bytes = |cache: &KvCache| cache.buffers().map_or(0, KvBuffers::nbytes);
        let before = bytes(&cache);
        let announced = cache.new_bytes(keys.dim(2), Heads::of(&keys));
        update_full(&mut cache, &keys, &values);
        let made = Some(bytes(&cache)).filter(|now| *now != before);
        assert_eq!(announced, made.unwrap_or(0));
        // Two heads of four floats, keys and values.
        assert!(bytes(&cache) >= 64 * cache.offset() as usize);
    }
}

/// The positions in an array that a cache returned, having checked all heads and elements.
fn positions(keys: &Array, values: &Array) -> Vec<i32> {
    let (count, keys, values) = (
        keys.dim(2) as usize,
        keys.to_vec::<f32>().unwrap(),
        values.to_vec::<f32>().unwrap(),
    );
    let first_head: Vec<i32> = (0..count).map(|t| keys[t * 4] as i32).collect();
    for (i, (k, v)) in keys.iter().zip(&values).enumerate() {
        assert_eq!(*k, -*v);
        assert_eq!(*k as i32, first_head[i / 4 % count]);
    }
    first_head
}

/// What each of `count` queries sees, in ascending order.
fn seen(keys: &[i32], mask: &AttentionMask, count: usize) -> Vec<Vec<i32>> {
    let table = match mask {
        AttentionMask::Array(array) | AttentionMask::Window { array, .. } => {
            assert_eq!(array.dtype(), Dtype::Bool);
            Some(array.to_vec::<bool>().unwrap())
        }
        _ => None,
    };
    (0..count)
        .map(|query| {
            let last = keys.len() - count + query;
            let visible = |j: usize| match (mask, &table) {
                (AttentionMask::None, _) => true,
                (AttentionMask::Causal, _) => j <= last,
                (_, Some(table)) => table[query * keys.len() + j],
                _ => unreachable!(),
            };
            let mut row: Vec<i32> = keys
                .iter()
                .enumerate()
                .filter(|(j, _)| visible(*j))
                .map(|(_, k)| *k)
                .collect();
            row.sort();
            row
        })
        .collect()
}

#[test]
fn a_rotating_cache_shows_each_query_its_window_and_what_is_kept() {
    device::open(Choice::Cpu).unwrap();
    for seed in 0..60 {
        let mut rng = Rng(seed);
        let window = 1 + rng.below(12) + if seed % 7 == 0 { 256 } else { 0 };
        let keep = rng.below(3).min(window - 1);
        let mut cache = RotatingKvCache::new(window, keep);
        let mut next = 0;
        for _ in 0..25 {
            if rng.below(8) == 0 {
                let trimmed = cache.trim(1 + rng.below(3));
                next -= trimmed;
                assert_eq!(cache.offset(), next);
            }
            let decode = rng.below(2) == 0;
            let count = if decode {
                1
            } else {
                1 + rng.below(2 * window.min(20))
            };
            // Attempts that failed leave no trace, but that a window may be empty after one.
            let other = 1 + rng.below(2 * window.min(20));
            match rng.below(6) {
                0 => as_layer(&mut cache, |layer| add_and_fail(layer, other)),
                1 => as_layer(&mut cache, |layer| add_and_fail(layer, 1)),
                2 => assert!(as_layer(&mut cache, |layer| add_and_undo(layer, 1))),
                3 if !as_layer(&mut cache, |layer| add_and_undo(layer, other)) => {
                    cache.reset();
                    next = 0;
                }
                _ => {}
            }
            assert_eq!(cache.offset(), next);
            let mask = cache.mask(count).unwrap();
            let (keys, values) = tokens_at(next, count);
            let (keys, values) = update_rotating(&mut cache, &keys, &values);
            let found = seen(&positions(&keys, &values), &mask, count as usize);
            for (i, row) in found.iter().enumerate() {
                let query = next + i as i32;
                let expected: Vec<i32> = (0..=query)
                    .filter(|p| *p < keep || *p > query - (window - keep))
                    .collect();
                assert_eq!(
                    *row, expected,
                    "seed {seed}, window {window}, keep {keep}, query {query}"
                );
            }
            next += count;
            assert_eq!(cache.offset(), next);
            assert!(cache.held() <= window);
        }
    }
}

#[test]
fn a_full_cache_returns_every_token_across_growth_and_trim() {
    device::open(Choice::Cpu).unwrap();
    let mut rng = Rng(7);
    let mut cache = KvCache::new();
    let mut next = 0;
    for _ in 0..80 {
        next -= if rng.below(4) == 0 {
            cache.trim(rng.below(40))
        } else {
            0
        };
        // Single tokens go to two sets of buffers by turns, several to one.
        let single = rng.below(2) == 0;
        let count = if single { 1 } else { 1 + rng.below(60) };
        let mut layer = LayerCache::Full(std::mem::take(&mut cache));
        match rng.below(3) {
            0 => add_and_fail(&mut layer, 1 + rng.below(300)),
            1 => assert!(add_and_undo(&mut layer, 1 + rng.below(300))),
            _ => {}
        }
        if let LayerCache::Full(own) = layer {
            cache = own;
        }
        let (keys, values) = tokens_at(next, count);
        let (keys, values) = update_full(&mut cache, &keys, &values);
        next += count;
        assert_eq!(positions(&keys, &values), (0..next).collect::<Vec<_>>());
        assert_eq!(cache.offset(), next);
        let capacity = cache.buffers().unwrap().capacity();
        assert!(
            capacity >= next && capacity % 256 == 0,
            "capacity {capacity} for {next}"
        );
    }
    assert!(next > 512, "the growth step was not crossed twice");
    cache.reset();
    assert_eq!((cache.offset(), cache.buffers().is_none()), (0, true));
}
