//! A model of [`models`] behind the loop's trait: caches, sampler and MLX's memory figures.

use std::sync::Arc;

use kernels::graph::Drawn;
use mlx_core::{Array, DeviceKind, Dtype, cuda, device, memory};
use models::cache::Cache;
use models::{Logits, Model};

use crate::account::Share;
use crate::language_model::{LanguageModel, MemoryUse};
use crate::memory::{Kept, Wired};
use crate::plan::Plan;
use crate::sample::Sampler;
use crate::{Error, Result};

/// Positions whose logits are computed at once for [`LanguageModel::logits`]: a float32 row of a
/// large vocabulary is a megabyte.
const LOGITS_CHUNK: usize = 256;

/// Generated tokens that caches have room for from the start. Few answers are longer, and a limit
/// may be far larger than what is generated.
const EXPECTED_TOKENS: usize = 512;

/// Bytes of a block of scratch memory that the kernels keep between requests: enough for decode steps and
/// for prompts of some dozen tokens, whose time it would be to map them again.
const SCRATCH_BETWEEN_REQUESTS: usize = 4 << 20;

/// A model, its one set of caches, and the sampler of the generation under way.
pub(crate) struct MlxModel {
    model: Model,
    cache: Cache,
    /// The prompt and what was read since: the caches hold the first of these tokens.
    tokens: Vec<u32>,
    sampler: Option<Sampler>,
    kept: Kept,
    /// Bytes of the weights.
    weights: u64,
    share: Share,
    /// As long as the model is there.
    _wired: Option<Wired>,
}

impl MlxModel {
    /// `share` is what the weights take.
    pub(crate) fn new(model: Model, kept: Kept, share: Share, wired: Option<Wired>) -> Self {
        let cache = model.new_cache();
        Self {
            kept,
            weights: share.bytes(),
            share,
            _wired: wired,
            model,
            cache,
            tokens: Vec::new(),
            sampler: None,
        }
    }

    /// Submits the forward pass of `ids` and the drawing of the token after them.
    fn submit(&mut self, ids: &Array) -> Result<Drawn> {
        let logits = self.model.forward(ids, &mut self.cache, Logits::Last)?;
        let logits = logits.expect("a pass that was asked for logits gives them");
        let sampler = self
            .sampler
            .as_mut()
            .expect("begin comes before the first step");
        let token = sampler.draw(&logits)?;
        mlx_core::async_eval(&[&token.id, &token.seen])?;
        Ok(token)
    }

    /// Makes the caches hold a beginning of `prompt` and nothing else, without running any of it: the
    /// number of tokens. The last one is to be run, for its logits.
    fn keep_prefix_of(&mut self, prompt: &[u32]) -> usize {
        let held = self.cache.offset().unsigned_abs() as usize;
        let Some(held) = self.tokens.get(..held) else {
            return 0;
        };
        let same = held.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        let same = same.min(prompt.len().saturating_sub(1));
        // Fewer than `held`, which came from an `i32`.
        let surplus = (held.len() - same) as i32;
        if self.cache.trim(surplus) == surplus {
            same
        } else {
            0
        }
    }

    /// See [`LanguageModel::logits`]. Leaves the caches filled.
    fn all_logits(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        let mut rows = Vec::new();
        let count = ids.len().saturating_mul(self.model.info().vocab_size);
        rows.try_reserve_exact(count)
            .map_err(|_| Error::TooManyLogits {
                bytes: 4 * count as u64,
                available: None,
            })?;
        for chunk in ids.chunks(LOGITS_CHUNK) {
            let logits = self
                .model
                .forward(&ids_array(chunk)?, &mut self.cache, Logits::All)?;
            let logits = logits.expect("a pass that was asked for logits gives them");
            rows.extend(logits.cast(Dtype::Float32)?.to_vec::<f32>()?);
        }
        Ok(rows)
    }

    fn reset(&mut self) {
        self.cache.reset();
        self.tokens.clear();
    }
}

impl LanguageModel for MlxModel {
    /// As it was drawn, so is it the next step's input.
    type Token = Drawn;

    fn begin(&mut self, plan: &Plan) -> Result<usize> {
        let prompt = &plan.prompt;
        let kept = match plan.reuse_prefix {
            true => self.keep_prefix_of(prompt),
            false => 0,
        };
        if kept == 0 {
            self.reset();
        }
        self.tokens.clone_from(prompt);
        let expected = prompt.len() + plan.max_tokens.min(EXPECTED_TOKENS);
        self.cache.expect(i32::try_from(expected).unwrap_or(0));
        memory::reset_peak()?;
        self.sampler = Some(Sampler::new(&plan.sampling, prompt)?);
        Ok(kept)
    }

    fn prefill(&mut self, ids: &[u32]) -> Result<()> {
        self.model
            .forward(&ids_array(ids)?, &mut self.cache, Logits::None)?;
        mlx_core::eval(&self.cache.arrays())?;
        Ok(())
    }

    fn first(&mut self, ids: &[u32]) -> Result<Drawn> {
        self.submit(&ids_array(ids)?)
    }

    fn next(&mut self, token: &Drawn) -> Result<Drawn> {
        self.submit(&token.id)
    }

    fn read(&mut self, token: Drawn) -> Result<u32> {
        let Ok(id) = u32::try_from(token.seen.item::<i32>()?) else {
            let dtype = crate::Dtype::of(self.model.info().dtype);
            return Err(Error::NotNumbers { dtype });
        };
        self.tokens.push(id);
        Ok(id)
    }

    fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        self.reset();
        let rows = self.all_logits(ids);
        // After a failure too: nobody knows what the caches hold.
        self.reset();
        memory::clear_cache()?;
        rows
    }

    fn memory(&mut self) -> Result<MemoryUse> {
        let caches = self.cache.nbytes() + self.cache.resting_bytes();
        self.share.set(self.weights + caches as u64);
        Ok(MemoryUse {
            active: memory::active()? as u64,
            peak: memory::peak()? as u64,
            accounted: Share::total(),
        })
    }

    fn release_buffers(&mut self) -> Result<()> {
        match self
            .kept
            .allows(memory::cache()? as u64, memory::active()? as u64)
        {
            true => Ok(()),
            false => Ok(memory::clear_cache()?),
        }
    }

    fn rest(&mut self) {
        kernels::release_kept(SCRATCH_BETWEEN_REQUESTS);
        // On a GPU this memory is the driver's.
        if device::current().is_ok_and(|kind| kind == DeviceKind::Cpu) {
            memory::trim_heap();
        }
    }

    fn released() {
        // A step that nobody waited for may still be at work, on a CPU in the scratch memory. Where the
        // device never opened there is nothing to wait for, and no cache.
        let _ = device::synchronize();
        kernels::release_kept(0);
        let _ = memory::clear_cache();
        memory::trim_heap();
    }

    fn drop_caches(&mut self) -> Result<()> {
        // An evaluation that failed leaves work on a GPU's stream that may still use the buffers.
        let finished = device::synchronize();
        self.cache = self.model.new_cache();
        self.tokens.clear();
        self.sampler = None;
        // There may be too little memory.
        memory::clear_cache()?;
        Ok(finished?)
    }
}

/// Ids were checked against the vocabulary, so they fit.
fn ids_array(ids: &[u32]) -> Result<Array> {
    let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    let shape = [ids.len() as i32];
    // After a failure MLX's wait for a copy to the GPU may fail, whatever becomes of the copy.
    let copies = device::current()? == DeviceKind::Cuda && cuda::failures() == 0;
    if ids.len() == 1 || !copies {
        return Ok(Array::from_slice(&ids, &shape)?);
    }
    // The GPU would read the host's memory, page by page: 0.2 ms for a prompt of 2048 tokens.
    let bytes: Vec<u8> = ids.into_iter().flat_map(i32::to_ne_bytes).collect();
    let range = 0..bytes.len();
    Ok(Array::from_owned_bytes(
        Arc::new(bytes),
        range,
        &shape,
        Dtype::Int32,
    )?)
}
