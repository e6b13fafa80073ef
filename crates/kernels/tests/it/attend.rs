//! Attention over a cache as one operation, on the device that `ML_TEST_DEVICE` names, or else the CPU:
//! compared with float64 over what the cache then holds.

use crate::common::{Rng, open_device, values};
use kernels::graph::{
    Columns, Entry, Heads, KvBuffers, Mask, Norm, Rotation, Scores, Sinks, Slot, attend, into_cache,
};
use mlx_core::{Array, Dtype};

/// What a query sees.
#[derive(Clone, Copy, Debug)]
enum Sees {
    All,
    UpToItself,
    TheLast(usize),
    Around(usize),
}

#[derive(Clone, Copy, Debug)]
struct Case {
    heads: usize,
    kv_heads: usize,
    dim: usize,
    sees: Sees,
    /// Whether queries and keys are normalized.
    norms: bool,
    softcap: Option<f32>,
    /// Whether a score of each head joins those of the keys.
    sinks: bool,
}

fn random(shape: &[i32], dtype: Dtype, rng: &mut Rng) -> Array {
    let count: i32 = shape.iter().product();
    let floats: Vec<f32> = rng
        .normals(count as usize)
        .iter()
        .map(|x| *x as f32)
        .collect();
    let array = Array::from_slice(&floats, shape).unwrap();
    array.cast(dtype).unwrap()
}

impl Case {
    /// Whether query `i` of `tokens` sees key `j` of `visible`.
    fn sees(&self, i: usize, j: usize, tokens: usize, visible: usize) -> bool {
        let own = i + visible - tokens;
        match self.sees {
            Sees::All => true,
            Sees::UpToItself => j <= own,
            Sees::TheLast(width) => j <= own && j + width > own,
            Sees::Around(width) => j + width > own && own + width > j,
        }
    }

    /// `softmax(scale · q kᵀ + mask) v` of q `[heads, tokens, dim]` and k, v `[kv_heads, visible, dim]`, as
    /// `[tokens, heads, dim]`.
    fn attention(
        &self,
        [q, k, v]: [&[f64]; 3],
        sinks: &[f64],
        tokens: usize,
        scale: f64,
    ) -> Vec<f64> {
        let Self {
            heads,
            kv_heads,
            dim,
            ..
        } = *self;
        let visible = k.len() / (kv_heads * dim);
        let mut out = vec![0.0; tokens * heads * dim];
        for head in 0..heads {
            let kv = head / (heads / kv_heads) * visible;
            for i in 0..tokens {
                let query = &q[(head * tokens + i) * dim..][..dim];
                let to = &mut out[(i * heads + head) * dim..][..dim];
                let seen: Vec<usize> = (0..visible)
                    .filter(|&j| self.sees(i, j, tokens, visible))
                    .collect();
                let score = |j: &usize| {
                    let key = &k[(kv + j) * dim..][..dim];
                    let score = scale * query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>();
                    let squash = |cap| f64::from(cap) * (score / f64::from(cap)).tanh();
                    self.softcap.map_or(score, squash)
                };
                let scores: Vec<f64> = seen.iter().map(score).collect();
                let sink = match self.sinks {
                    true => sinks[head],
                    false => f64::NEG_INFINITY,
                };
                let highest = scores.iter().copied().fold(sink, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - highest).exp()).collect();
                let total: f64 = weights.iter().sum::<f64>() + (sink - highest).exp();
                for (j, weight) in seen.iter().zip(weights) {
                    let value = &v[(kv + j) * dim..][..dim];
                    to.iter_mut()
                        .zip(value)
                        .for_each(|(y, x)| *y += weight / total * x);
                }
            }
        }
        out
    }

    /// Puts `lengths` tokens into a cache, one call each, and compares what each gives.
    fn run(&self, lengths: &[usize], dtype: Dtype, rng: &mut Rng) {
        let [heads, kv_heads, dim] = [self.heads, self.kv_heads, self.dim].map(|n| n as i32);
        let norms = [random(&[dim], dtype, rng), random(&[dim], dtype, rng)];
        let [query_norm, key_norm] = norms
            .each_ref()
            .map(|weight| self.norms.then_some(Norm { weight, eps: 1e-6 }));
        let periods: Vec<f32> = (0..dim / 2).map(|i| 10.0 + i as f32).collect();
        let periods = Array::from_slice(&periods, &[dim / 2]).unwrap();
        let sinks = random(&[heads], dtype, rng);
        let numbers = values(&sinks);
        let as_floats = numbers.iter().map(|x| *x as f32).collect::<Vec<_>>().into();
        let kind = Heads {
            count: kv_heads,
            dim,
            dtype,
        };
        let capacity = lengths.iter().sum::<usize>() as i32 + 37;
        // One for the operation, and one to see what it is to compute.
        let [mut one, mut other] = [(); 2].map(|()| KvBuffers::new(kind, capacity));
        let unused = vec![f32::NAN; (kv_heads * capacity * dim) as usize];
        let unused = Array::from_slice(&unused, &[1, kv_heads, capacity, dim]).unwrap();
        let unused = unused.cast(dtype).unwrap();
        let mut offset = 0;
        for &tokens in lengths {
            let rows = tokens as i32;
            let joint = random(&[rows, (heads + 2 * kv_heads) * dim], dtype, rng);
            let part = |at: i32, count: i32| Columns::of(&joint, at * dim, count * dim);
            let entry = Entry {
                queries: part(0, heads),
                keys: part(heads, kv_heads),
                values: part(heads + kv_heads, kv_heads),
                query_norm,
                key_norm,
            };
            let by = Rotation {
                periods: &periods,
                scale: 1.0,
                offset,
            };
            let slot = |buffers| Slot {
                buffers,
                start: offset,
                visible: offset + rows,
            };
            let visible = (offset + rows) as usize;
            let mut allowed = Vec::new();
            for i in 0..tokens {
                allowed.extend((0..visible).map(|j| self.sees(i, j, tokens, visible)));
            }
            let allowed: Vec<u8> = allowed.into_iter().map(u8::from).collect();
            let allowed = Array::from_slice(&allowed, &[rows, visible as i32]).unwrap();
            let allowed = allowed.cast(Dtype::Bool).unwrap();
            let mask = match self.sees {
                Sees::All => Mask::None,
                Sees::UpToItself => Mask::Causal,
                Sees::TheLast(width) => Mask::Window {
                    width: width as i32,
                    array: &allowed,
                },
                Sees::Around(width) => Mask::Around {
                    width: width as i32,
                    array: &allowed,
                },
            };
            let scale = 1.5 / (dim as f32).sqrt();
            let scores = Scores {
                scale,
                softcap: self.softcap,
            };
            let mut slots = [slot(one), slot(other)];
            let sinks = self.sinks.then_some(Sinks {
                numbers: &as_floats,
                array: &sinks,
            });
            let mixed = attend(&entry, by, &mut slots[0], scores, sinks, mask).unwrap();
            mixed.eval().unwrap();
            let seen = into_cache(&entry, by, &mut slots[1]).unwrap();
            let parts = [&seen.queries, &seen.keys, &seen.values].map(values);
            [one, other] = slots.map(|slot| slot.buffers);
            offset += rows;
            // What is behind the tokens may be anything.
            let behind = [1, kv_heads, capacity - offset, dim];
            let behind = unused.slice(&[0; 4], &behind).unwrap();
            one.write(&behind, &behind, offset).unwrap();

            assert_eq!(mixed.shape(), [rows, heads * dim]);
            let parts = parts.each_ref().map(|p| &p[..]);
            let want = self.attention(parts, &numbers, tokens, scale.into());
            let got = values(&mixed);
            let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
            let wrong = norm(&mut got.iter().zip(&want).map(|(a, b)| a - b));
            let error = wrong / norm(&mut want.iter().copied());
            // Weights and sums are rounded once each.
            let allowed = match dtype {
                Dtype::Bfloat16 => 4e-3,
                Dtype::Float16 => 5e-4,
                _ => 1e-5,
            };
            assert!(
                error < allowed,
                "{self:?}, {tokens} tokens of {visible}, {dtype:?}: {error:e}"
            );
        }
    }
}

#[test]
fn queries_attend_to_what_the_cache_holds() {
    open_device();
    let mut rng = Rng::new(6);
    for dtype in [Dtype::Bfloat16, Dtype::Float16, Dtype::Float32] {
        for (heads, kv_heads, dim) in [
            (4, 2, 128),
            (4, 1, 256),
            (3, 3, 64),
            (2, 1, 80),
            (6, 2, 16),
            (2, 2, 144),
        ] {
            for sees in [Sees::UpToItself, Sees::TheLast(50), Sees::TheLast(9)] {
                // As Qwen3 and Gemma 3, as Gemma 2, and as gpt-oss have it.
                for (norms, softcap, sinks) in [
                    (true, None, false),
                    (false, Some(2.0), false),
                    (false, None, true),
                ] {
                    let case = Case {
                        heads,
                        kv_heads,
                        dim,
                        sees,
                        norms,
                        softcap,
                        sinks,
                    };
                    // Not a whole tile, several tiles of keys, one token, few behind many.
                    case.run(&[37, 225, 1, 5], dtype, &mut rng);
                }
            }
            for sees in [Sees::All, Sees::Around(9), Sees::Around(60)] {
                let case = Case {
                    heads,
                    kv_heads,
                    dim,
                    sees,
                    norms: true,
                    softcap: None,
                    sinks: false,
                };
                case.run(&[1, 1, 70], dtype, &mut rng);
                case.run(&[150], dtype, &mut rng);
            }
        }
    }
}

/// So many heads that a GPU has its larger blocks for them.
#[test]
fn many_heads_attend_as_few_do() {
    open_device();
    let mut rng = Rng::new(7);
    for (dim, sees) in [
        (128, Sees::UpToItself),
        (64, Sees::TheLast(100)),
        (64, Sees::Around(40)),
    ] {
        let case = Case {
            heads: 256,
            kv_heads: 64,
            dim,
            sees,
            norms: false,
            softcap: None,
            sinks: dim == 64,
        };
        case.run(&[30, 140], Dtype::Bfloat16, &mut rng);
    }
}

/// The cache is read where it lies, so what is submitted first has to read what was there then.
#[test]
fn what_is_written_later_is_not_seen() {
    open_device();
    let mut rng = Rng::new(8);
    let dtype = Dtype::Bfloat16;
    let (heads, dim, rows) = (4, 128, 200);
    let norms = [
        random(&[dim], dtype, &mut rng),
        random(&[dim], dtype, &mut rng),
    ];
    let [query_norm, key_norm] = norms
        .each_ref()
        .map(|weight| Some(Norm { weight, eps: 1e-6 }));
    let periods: Vec<f32> = (0..dim / 2).map(|i| 10.0 + i as f32).collect();
    let periods = Array::from_slice(&periods, &[dim / 2]).unwrap();
    let kind = Heads {
        count: heads,
        dim,
        dtype,
    };
    let inputs: Vec<Array> = (0..6)
        .map(|_| random(&[rows, 3 * heads * dim], dtype, &mut rng))
        .collect();
    let run = |wait: bool| {
        let mut buffers = KvBuffers::new(kind, rows);
        let mut results = Vec::new();
        // Each overwrites all keys and values of the one before.
        for joint in &inputs {
            let part = |i: i32| Columns::of(joint, i * heads * dim, heads * dim);
            let [queries, keys, values] = [0, 1, 2].map(part);
            let entry = Entry {
                queries,
                keys,
                values,
                query_norm,
                key_norm,
            };
            let by = Rotation {
                periods: &periods,
                scale: 1.0,
                offset: 0,
            };
            let mut slot = Slot {
                buffers,
                start: 0,
                visible: rows,
            };
            let mixed = attend(&entry, by, &mut slot, 0.1, None, Mask::Causal).unwrap();
            buffers = slot.buffers;
            mlx_core::async_eval(&[&mixed]).unwrap();
            if wait {
                mixed.eval().unwrap();
            }
            results.push(mixed);
        }
        results.iter().map(values).collect::<Vec<_>>()
    };
    assert!(run(false) == run(true));
}
