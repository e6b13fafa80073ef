//! A token through a model in float64, written from the formulas.

use half::bf16;

use super::model::Model;

/// What is rounded to bfloat16 on the way.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Rounding {
    Nothing,
    /// What enters a product, as in the kernel.
    Inputs,
    /// The result of every operation, as of a bfloat16 model that runs operation by operation.
    All,
}

/// Where a token's key goes in a layer, keys that are valid then, and places of the buffer.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    pub(super) place: usize,
    pub(super) held: usize,
    pub(super) capacity: usize,
}

/// Keys and values of a layer, `[kv_heads, capacity, head_dim]` each.
pub(super) type Cache = [Vec<f64>; 2];

pub(super) fn rounded(x: f64) -> f64 {
    bf16::from_f64(x).to_f64()
}

pub(super) struct Reference<'a> {
    pub(super) model: &'a Model,
    pub(super) rounding: Rounding,
}

impl Reference<'_> {
    /// Logits of `token` at `position`; its key and value go into `caches`, in bfloat16.
    pub(super) fn step(
        &self,
        token: usize,
        position: usize,
        spots: &[Spot],
        caches: &mut [Cache],
    ) -> Vec<f64> {
        let sizes = &self.model.sizes;
        let row = token * sizes.hidden..(token + 1) * sizes.hidden;
        let factor = f64::from(sizes.embed_scale);
        let row = self.model.numbers("embed")[row].iter().map(|x| x * factor);
        let mut x = self.results(row.collect());
        for (layer, cache) in caches.iter_mut().enumerate() {
            let h = self.norm(&format!("{layer}.input_norm"), &x);
            let mixed = self.attend(layer, position, spots[layer], &h, cache);
            let out = self.product(&format!("{layer}.o"), &mixed);
            x = self.add(x, &out, &format!("{layer}.attention_out_norm"));
            let h = self.norm(&format!("{layer}.mlp_norm"), &x);
            let gate = self.product(&format!("{layer}.gate"), &h);
            let up = self.product(&format!("{layer}.up"), &h);
            let gate = self.results(gate.into_iter().map(|x| self.activate(x)).collect());
            let inside: Vec<f64> = gate.iter().zip(&up).map(|(a, b)| a * b).collect();
            let out = self.product(&format!("{layer}.down"), &inside);
            x = self.add(x, &out, &format!("{layer}.mlp_out_norm"));
        }
        let logits = self.product("head", &self.norm("norm", &x));
        let cap = f64::from(sizes.softcap);
        logits.into_iter().map(|x| capped(x, cap)).collect()
    }

    /// What attention mixes for the normalized stream `h`.
    fn attend(
        &self,
        layer: usize,
        position: usize,
        spot: Spot,
        h: &[f64],
        cache: &mut Cache,
    ) -> Vec<f64> {
        let sizes = &self.model.sizes;
        let dim = sizes.head_dim;
        let sliding = sizes.sliding[layer];
        let [score_scale, position_scale] = if sliding { sizes.windowed } else { sizes.full };
        let periods = &self.model.periods[usize::from(sliding)];
        let angle = position as f64 * f64::from(position_scale);
        let turned = |name: &str| -> Vec<f64> {
            let heads = self.biased(layer, name, h);
            let heads = heads.chunks(dim).flat_map(|head| {
                let head = match sizes.head_norms {
                    true => self.norm(&format!("{layer}.{name}_norm"), head),
                    false => head.to_vec(),
                };
                self.results(rope(&head, angle, periods))
            });
            heads.collect()
        };
        let (q, k, v) = (turned("q"), turned("k"), self.biased(layer, "v", h));
        for (to, new) in cache.iter_mut().zip([k, v]) {
            for (head, new) in new.chunks(dim).enumerate() {
                let at = (head * spot.capacity + spot.place) * dim;
                for (to, x) in to[at..at + dim].iter_mut().zip(new) {
                    *to = rounded(*x);
                }
            }
        }
        let [keys, values] = cache;
        let heads = q.chunks(dim).enumerate().flat_map(|(head, q)| {
            let first = head / (sizes.heads / sizes.kv_heads) * spot.capacity * dim;
            let range = first..first + spot.held * dim;
            let scores = keys[range.clone()].chunks(dim).map(|k| {
                let score = dot(q, k) * f64::from(score_scale);
                capped(score, f64::from(sizes.score_cap)).exp()
            });
            let scores: Vec<f64> = scores.collect();
            let sum: f64 = scores.iter().sum();
            let mut mixed = vec![0.0; dim];
            for (p, v) in scores.iter().zip(values[range].chunks(dim)) {
                for (to, v) in mixed.iter_mut().zip(v) {
                    *to += p / sum * v;
                }
            }
            mixed
        });
        heads.collect()
    }

    fn add(&self, x: Vec<f64>, out: &[f64], norm: &str) -> Vec<f64> {
        let out = match self.model.sizes.norms_behind {
            true => self.norm(norm, out),
            false => out.to_vec(),
        };
        self.results(x.iter().zip(&out).map(|(a, b)| a + b).collect())
    }

    fn activate(&self, x: f64) -> f64 {
        if self.model.sizes.gelu {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        } else {
            x / (1.0 + (-x).exp())
        }
    }

    fn results(&self, x: Vec<f64>) -> Vec<f64> {
        match self.rounding {
            Rounding::All => x.into_iter().map(rounded).collect(),
            _ => x,
        }
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let mean = dot(x, x) / x.len() as f64;
        let scale = 1.0 / (mean + f64::from(self.model.sizes.eps)).sqrt();
        let weight = self.model.numbers(name);
        self.results(x.iter().zip(weight).map(|(x, w)| x * scale * w).collect())
    }

    fn product(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let x: Vec<f64> = match self.rounding {
            Rounding::Nothing => x.to_vec(),
            _ => x.iter().map(|&x| rounded(x)).collect(),
        };
        let rows = self.model.numbers(name).chunks(x.len());
        self.results(rows.map(|row| dot(row, &x)).collect())
    }

    fn biased(&self, layer: usize, name: &str, h: &[f64]) -> Vec<f64> {
        let out = self.product(&format!("{layer}.{name}"), h);
        if !self.model.sizes.qkv_biases {
            return out;
        }
        let biases = self.model.numbers(&format!("{layer}.{name}_bias"));
        self.results(out.iter().zip(biases).map(|(a, b)| a + b).collect())
    }
}

fn rope(head: &[f64], position: f64, periods: &[f32]) -> Vec<f64> {
    let half = head.len() / 2;
    let (mut a, mut b) = (head[..half].to_vec(), head[half..].to_vec());
    for ((a, b), &period) in a.iter_mut().zip(&mut b).zip(periods) {
        let (sin, cos) = (position / f64::from(period)).sin_cos();
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
    [a, b].concat()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn capped(x: f64, cap: f64) -> f64 {
    if cap == 0.0 {
        x
    } else {
        cap * (x / cap).tanh()
    }
}
