//! A model of [`models`] behind the loop's trait: caches, sampler and MLX's memory figures.

use mlx_core::{Array, Dtype, device, memory};
use models::cache::Cache;
use models::{Logits, Model};

use crate::Result;
use crate::language_model::LanguageModel;
use crate::memory::MemoryUse;
use crate::sample::{Sampler, Sampling};

/// Positions whose logits are computed at once for [`LanguageModel::logits`]: a float32 row of a
/// large vocabulary is a megabyte.
const LOGITS_CHUNK: usize = 256;

/// Generated tokens that caches have room for from the start. Few answers are longer, and a limit
/// may be far larger than what is generated.
const EXPECTED_TOKENS: usize = 512;

/// A model, its one set of caches, and the sampler of the generation under way.
pub(crate) struct MlxModel {
    model: Model,
    cache: Cache,
    sampler: Option<Sampler>,
}

impl MlxModel {
    pub(crate) fn new(model: Model) -> Self {
        let cache = model.new_cache();
        Self {
            model,
            cache,
            sampler: None,
        }
    }

    /// Submits the forward pass of `ids` and the drawing of the token after them.
    fn submit(&mut self, ids: &Array) -> Result<Array> {
        let logits = self.model.forward(ids, &mut self.cache, Logits::Last)?;
        let logits = logits.expect("a pass that was asked for logits gives them");
        let sampler = self
            .sampler
            .as_mut()
            .expect("begin comes before the first step");
        let token = sampler.draw(&logits)?;
        mlx_core::async_eval(&[&token])?;
        Ok(token)
    }
}

impl LanguageModel for MlxModel {
    /// Int32 `[1]`: as it was drawn, so is it the next step's input.
    type Token = Array;

    fn begin(&mut self, prompt: &[u32], max_tokens: usize, sampling: &Sampling) -> Result<()> {
        self.cache.reset();
        let expected = prompt.len() + max_tokens.min(EXPECTED_TOKENS);
        self.cache.expect(i32::try_from(expected).unwrap_or(0));
        memory::reset_peak()?;
        self.sampler = Some(Sampler::new(sampling, prompt)?);
        Ok(())
    }

    fn prefill(&mut self, ids: &[u32]) -> Result<()> {
        self.model
            .forward(&ids_array(ids)?, &mut self.cache, Logits::None)?;
        mlx_core::eval(&self.cache.arrays())?;
        Ok(())
    }

    fn first(&mut self, ids: &[u32]) -> Result<Array> {
        self.submit(&ids_array(ids)?)
    }

    fn next(&mut self, token: &Array) -> Result<Array> {
        self.submit(token)
    }

    fn read(&mut self, token: Array) -> Result<u32> {
        Ok(token.item::<i32>()? as u32)
    }

    fn logits(&mut self, ids: &[u32]) -> Result<Vec<f32>> {
        self.cache.reset();
        let mut rows = Vec::new();
        for chunk in ids.chunks(LOGITS_CHUNK) {
            let logits = self
                .model
                .forward(&ids_array(chunk)?, &mut self.cache, Logits::All)?;
            let logits = logits.expect("a pass that was asked for logits gives them");
            rows.extend(logits.cast(Dtype::Float32)?.to_vec::<f32>()?);
        }
        self.cache.reset();
        memory::clear_cache()?;
        Ok(rows)
    }

    fn memory(&mut self) -> Result<MemoryUse> {
        Ok(MemoryUse {
            active: memory::active()? as u64,
            peak: memory::peak()? as u64,
        })
    }

    fn release_buffers(&mut self) -> Result<()> {
        Ok(memory::clear_cache()?)
    }

    fn drop_caches(&mut self) -> Result<()> {
        // An evaluation that failed leaves work on a GPU's stream that may still use the buffers.
        let finished = device::synchronize();
        self.cache = self.model.new_cache();
        self.sampler = None;
        Ok(finished?)
    }
}

/// Ids were checked against the vocabulary, so they fit.
fn ids_array(ids: &[u32]) -> Result<Array> {
    let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    Ok(Array::from_slice(&ids, &[ids.len() as i32])?)
}
