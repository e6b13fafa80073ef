//! A model's kernel with the memory that it reads and writes.

use half::bf16;

use super::compile::Library;
use super::model::{Memory, Model, TARGET};
use super::reference::Spot;
use crate::common::Rng;

/// A token, and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Token {
    pub(super) id: usize,
    pub(super) position: usize,
}

/// Keys and values of a layer.
pub(super) type Buffers = [Memory; 2];

pub(super) struct Decoder<'a> {
    pub(super) model: &'a Model,
    library: Library,
    tokens: usize,
    /// Places of the buffers of layers without a window.
    capacity: usize,
    table: Memory,
    scratch: Memory,
    seed: u64,
}

impl<'a> Decoder<'a> {
    /// Of so many tokens; `mutate` may change the kernel's source. `name` is the test's.
    pub(super) fn new(
        compiler: &str,
        name: &str,
        model: &'a Model,
        tokens: usize,
        capacity: usize,
        mutate: impl FnOnce(String) -> String,
    ) -> Self {
        let source = mutate(model.sizes.source(TARGET, tokens));
        let name = format!("{name}_{tokens}");
        Self {
            library: Library::compile(compiler, &name, &source, &[kernel(tokens)]),
            table: model.table(),
            scratch: Memory::of_words(&vec![0; model.sizes.scratch_words(tokens)]),
            seed: 1,
            model,
            tokens,
            capacity,
        }
    }

    /// Buffers of a sequence, a pair a layer, with random numbers in all places.
    pub(super) fn caches(&self, rng: &mut Rng) -> Vec<Buffers> {
        let sizes = &self.model.sizes;
        let spots = self.spots(0);
        let layers = spots.iter().map(|spot| {
            [(); 2].map(|()| {
                let count = sizes.kv_heads * spot.capacity * sizes.head_dim;
                let halves = (0..count).map(|_| bf16::from_f64(rng.normal()));
                Memory::of_halves(&halves.collect::<Vec<_>>())
            })
        });
        layers.collect()
    }

    /// Of each layer, for a token at `position`.
    pub(super) fn spots(&self, position: usize) -> Vec<Spot> {
        let in_window = self.in_window(position);
        let full = Spot {
            place: position,
            held: position + 1,
            capacity: self.capacity,
        };
        let sliding = self.model.sizes.sliding.iter();
        sliding
            .map(|&sliding| if sliding { in_window } else { full })
            .collect()
    }

    /// In layers with a window, which has room, is about to be full, or has come round to a place that differs from
    /// `position`'s.
    fn in_window(&self, position: usize) -> Spot {
        let window = self.model.window.max(1);
        Spot {
            place: if position < window {
                position
            } else {
                (position * 7 + 3) % window
            },
            held: window.min(position + 1),
            capacity: window,
        }
    }

    /// The logits of each token, each with the caches of its sequence; `None` is no token, and what stands in its
    /// place then is not a number. An error where the threads wait for each other.
    pub(super) fn launch(
        &mut self,
        tokens: &[Option<Token>],
        caches: &mut [Vec<Buffers>],
    ) -> Result<Vec<Vec<f32>>, String> {
        assert_eq!((tokens.len(), caches.len()), (self.tokens, self.tokens));
        let vocab = self.model.sizes.vocab;
        let ids: Vec<u32> = tokens
            .iter()
            .map(|t| t.map_or(0, |t| t.id as u32))
            .collect();
        let ids = Memory::of_words(&ids);
        let buffers = caches.iter_mut().flatten().flatten();
        let buffers: Vec<u64> = buffers.map(Memory::address_mut).collect();
        let buffers = Memory::of_addresses(&buffers);
        let mut logits = Memory::of_floats(&vec![f32::NAN; self.tokens * vocab]);
        let mut done = Memory::new(&[0]);
        let mut arguments = vec![
            ids.address(),
            self.table.address(),
            buffers.address(),
            self.scratch.address_mut(),
            ids.address(),
            logits.address_mut(),
            done.address_mut(),
        ];
        // As many places as the kernel takes.
        let places = if self.tokens == 1 {
            1
        } else {
            self.tokens.max(8)
        };
        for place in 0..places {
            let token = tokens.get(place).copied().flatten();
            let spot = self.in_window(token.map_or(0, |token| token.position));
            let position = token.map_or(-1, |token| token.position as i64);
            arguments.push(position as u64);
            arguments
                .extend([self.capacity, spot.place, spot.held, spot.capacity].map(|x| x as u64));
        }
        self.seed += 1;
        // SAFETY: the arguments are those of the kernel of so many tokens; the memory behind them is of the model's
        // sizes, is there until the kernel has run, and nobody else uses it.
        let ran = unsafe {
            self.library
                .launch(kernel(self.tokens), self.seed, &arguments)
        };
        if !ran {
            return Err("every thread waits for another".into());
        }
        let logits = logits.floats();
        let rows = logits[..self.tokens * vocab].chunks(vocab);
        Ok(rows.map(<[f32]>::to_vec).collect())
    }
}

/// The name of the kernel of so many tokens.
fn kernel(tokens: usize) -> &'static str {
    match tokens {
        1 => "decode_token",
        2..=8 => "decode_tokens",
        _ => "decode_rows",
    }
}
