//! From logits to one token.
//!
//! On a processor all stages are a [`Chain`], which runs where the model does. On CUDA kernels have them ([`cuda`]), and
//! elsewhere those for which MLX has operations run on the GPU ([`mlx`]); a request that asks for others has its logits
//! brought to the host, where the same chain draws.

mod chain;
mod constraint;
mod cuda;
mod lookback;
mod mlx;
mod processor;
mod random;
mod stages;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kernels::graph;
use mlx_core::Array;
use models::GenerationDefaults;
use models::tokenizer::Tokenizer;

pub(crate) use chain::{Chain, Outcome};
pub(crate) use constraint::{Accepted, Constrain, Constraint};
pub use processor::LogitsProcessor;
pub(crate) use stages::check_stages;
pub use stages::{Dry, Xtc};

use crate::options::{DEFAULT_MAX_TOKENS, DEFAULT_TEMPERATURE};
use crate::request::ModelLimits;
use crate::token::Token;
use crate::{Options, Result};

/// Tokens that the repetition penalty looks back at, unless told.
const DEFAULT_REPETITION_CONTEXT: usize = 20;

/// How to draw a token; defaults filled in.
#[derive(Clone, Debug)]
pub(crate) struct Sampling {
    pub(crate) temperature: f32,
    pub(crate) seed: u64,
    pub(crate) top_k: Option<usize>,
    pub(crate) top_p: Option<f32>,
    pub(crate) min_p: Option<f32>,
    pub(crate) repetition: Option<Repetition>,
    pub(crate) penalties: Penalties,
    pub(crate) dry: Option<DryOfIds>,
    /// What is added to logits.
    pub(crate) biases: Vec<(u32, f32)>,
    /// A bit a token, where not all may be drawn.
    pub(crate) allowed: Option<Vec<u32>>,
    pub(crate) typical_p: Option<f32>,
    pub(crate) xtc: Option<Xtc>,
    /// Tokens that XTC leaves alone.
    pub(crate) spared: Vec<u32>,
    pub(crate) temperature_first: bool,
    /// The most tokens that may be drawn.
    pub(crate) max_tokens: usize,
    /// How many alternatives are told of each token.
    pub(crate) logprobs: Option<usize>,
    /// In their order.
    pub(crate) processors: Vec<LogitsProcessor>,
    /// What may be drawn, where the answer has a form.
    pub(crate) constraint: Option<Arc<dyn Constrain>>,
}

/// Tokens among the last `context` are made less probable by `penalty`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Repetition {
    pub(crate) penalty: f32,
    pub(crate) context: usize,
}

/// What is taken from the logits of tokens that are there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Penalties {
    pub(crate) presence: f32,
    pub(crate) frequency: f32,
    /// Tokens that are looked at; `None` is the answer.
    pub(crate) context: Option<usize>,
}

/// A [`Dry`] by token.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DryOfIds {
    pub(crate) multiplier: f32,
    pub(crate) base: f32,
    pub(crate) allowed_length: usize,
    pub(crate) context: usize,
    pub(crate) breakers: Vec<u32>,
}

impl Sampling {
    /// What chooses among the tokens that are left, with XTC where it takes part.
    fn filters(&self, xtc: Option<Xtc>) -> kernels::draw::Filters<'_> {
        kernels::draw::Filters {
            temperature: self.temperature,
            temperature_first: self.temperature_first,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical_p,
            xtc: xtc.map(|xtc| kernels::draw::Xtc {
                threshold: xtc.threshold,
                spared: &self.spared,
            }),
        }
    }

    /// Each value is the caller's, else the one that the checkpoint advises, else the default.
    pub(crate) fn new(options: &Options, limits: &ModelLimits) -> Self {
        let none = GenerationDefaults::default();
        let advice = match options.no_advice {
            true => &none,
            false => &limits.advice,
        };
        let temperature = match advice.do_sample {
            Some(false) => Some(0.0),
            _ => advice.temperature,
        };
        let context = options
            .repetition_context
            .unwrap_or(DEFAULT_REPETITION_CONTEXT);
        Self {
            temperature: options
                .temperature
                .or(temperature)
                .unwrap_or(DEFAULT_TEMPERATURE),
            seed: options.seed.unwrap_or_else(fresh_seed),
            top_k: options.top_k.or(advice.top_k),
            top_p: options.top_p.or(advice.top_p).filter(|&p| p < 1.0),
            min_p: options.min_p.or(advice.min_p).filter(|&p| p > 0.0),
            repetition: options
                .repetition_penalty
                .or(advice.repetition_penalty)
                .filter(|&penalty| penalty != 1.0)
                .map(|penalty| Repetition { penalty, context }),
            penalties: Penalties {
                presence: options.presence_penalty.unwrap_or(0.0),
                frequency: options.frequency_penalty.unwrap_or(0.0),
                context: options.penalty_context,
            },
            dry: options.dry.as_ref().map(|dry| DryOfIds {
                multiplier: dry.multiplier,
                base: dry.base,
                allowed_length: dry.allowed_length,
                context: dry.context.unwrap_or(usize::MAX),
                breakers: Vec::new(),
            }),
            biases: options.logit_bias.iter().map(|(&id, &x)| (id, x)).collect(),
            allowed: match &options.allowed_ids[..] {
                [] => None,
                ids => Some(bits(ids)),
            },
            typical_p: options.typical_p.filter(|&p| p < 1.0),
            xtc: options.xtc.filter(|xtc| xtc.probability > 0.0),
            spared: [&limits.eos[..], &options.stop_ids].concat(),
            temperature_first: options.temperature_first,
            max_tokens: options.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS),
            logprobs: options.logprobs,
            processors: options.logits_processors.clone(),
            constraint: None,
        }
    }

    /// Fills in what only a tokenizer knows: which tokens stand for the texts that stages are told by. Without one,
    /// none do.
    pub(crate) fn look_up(
        &mut self,
        options: &Options,
        tokenizer: Option<&Tokenizer>,
    ) -> Result<()> {
        let Some(tokenizer) = tokenizer else {
            return Ok(());
        };
        if let (Some(ids), Some(dry)) = (&mut self.dry, &options.dry) {
            for breaker in &dry.breakers {
                // Behind a letter, as it stands in texts.
                let text = tokenizer.encode(&format!("a{breaker}"), false)?;
                ids.breakers.extend(text.last());
            }
        }
        if self.xtc.is_some() {
            self.spared.extend(tokenizer.encode("\n", false)?);
        }
        Ok(())
    }

    /// Always the most probable token.
    pub(crate) fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Always the most probable token of the model's own, and nothing else is looked at.
    fn takes_the_largest(&self) -> bool {
        self.is_greedy() && self.repetition.is_none() && !self.needs_chain()
    }

    /// Whether a stage is asked for that MLX's operations have not.
    fn needs_chain(&self) -> bool {
        let lessens = self.penalties.presence != 0.0 || self.penalties.frequency != 0.0;
        let draws = self.typical_p.is_some() || self.xtc.is_some() || self.temperature_first;
        let changes = self.dry.is_some() || !self.biases.is_empty() || self.allowed.is_some();
        lessens || draws || changes || self.tells()
    }

    /// Whether prompt and answer are looked at.
    fn looks_back(&self) -> bool {
        let penalties = self.penalties != Penalties::default() || self.repetition.is_some();
        penalties || self.dry.is_some() || !self.processors.is_empty()
    }

    /// Whether there is more to say of a token than its id.
    fn tells(&self) -> bool {
        self.constraint.is_some() || !self.processors.is_empty() || self.logprobs.is_some()
    }
}

/// Words with a bit for each of `ids`.
fn bits(ids: &[u32]) -> Vec<u32> {
    let most = ids.iter().max().map_or(0, |&id| id as usize);
    let mut words = vec![0; most / 32 + 1];
    for &id in ids {
        words[id as usize / 32] |= 1 << (id % 32);
    }
    words
}

/// A seed that differs each time: the standard library keys its hashers from the system's
/// randomness.
fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0_u8)
}

/// A [`Sampling`] under way.
pub(crate) struct Sampler {
    takes_the_largest: bool,
    /// Where CUDA kernels do it all.
    cuda: Option<cuda::OnGpu>,
    /// Where MLX's operations do it all.
    mlx: Option<mlx::Draws>,
    chain: Arc<Mutex<Chain>>,
}

impl Sampler {
    /// `prompt` is what is looked back at before there is an answer.
    pub(crate) fn new(sampling: &Sampling, prompt: &[u32]) -> Result<Self> {
        let cuda = cuda::OnGpu::new(sampling, prompt)?;
        let on_device = cuda.is_none() && !graph::on_cpu()? && mlx::serves(sampling);
        let mlx = match on_device {
            true => Some(mlx::Draws::new(sampling, prompt)?),
            false => None,
        };
        Ok(Self {
            takes_the_largest: sampling.takes_the_largest(),
            cuda,
            mlx,
            chain: Arc::new(Mutex::new(Chain::new(sampling, prompt)?)),
        })
    }

    /// Draws from `logits` `[V]` or `[1, V]`; nothing is evaluated.
    pub(crate) fn draw(&mut self, logits: &Array) -> Result<Token> {
        let logits = logits.reshape(&[1, -1])?;
        draw_each(vec![self], &logits).remove(0)
    }

    /// Draws from the logits of a token that was left for [later](Token::later), waiting for them.
    pub(crate) fn draw_now(&mut self, logits: &Array) -> Option<u32> {
        let mut chain = lock(&self.chain);
        let drawn = graph::on_host(logits, |row| chain.draw(row));
        let id = drawn.unwrap_or_else(|error| {
            chain.fail(error.into());
            None
        });
        id.and_then(|id| u32::try_from(id).ok())
    }

    /// What there is to say of the token that is read now.
    pub(crate) fn outcome(&mut self) -> Outcome {
        lock(&self.chain).outcome()
    }
}

fn lock(chain: &Mutex<Chain>) -> MutexGuard<'_, Chain> {
    chain.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Draws for each of `samplers` from its row of `logits` `[N, V]`; nothing is evaluated. On a processor and on CUDA as
/// one operation, and anywhere at once where all take the most probable token, which is the same.
pub(crate) fn draw_each(mut samplers: Vec<&mut Sampler>, logits: &Array) -> Vec<Result<Token>> {
    let count = samplers.len();
    if samplers.iter().all(|sampler| sampler.takes_the_largest)
        && let Ok(drawn) = graph::argmax(logits)
    {
        return Token::each(drawn, count).into_iter().map(Ok).collect();
    }
    let on_gpu = samplers
        .iter_mut()
        .map(|sampler| sampler.cuda.as_mut())
        .collect();
    if let Some::<Vec<_>>(mut on_gpu) = on_gpu
        && let Ok(drawn) = cuda::draw(&mut on_gpu, logits)
    {
        return Token::each(drawn, count).into_iter().map(Ok).collect();
    }
    if samplers.iter().all(|sampler| sampler.mlx.is_none()) {
        let chains = samplers.iter().map(|sampler| Arc::clone(&sampler.chain));
        let chains: Vec<_> = chains.collect();
        if let Ok(Some(drawn)) = graph::draw_each(logits, move |row, i| lock(&chains[i]).draw(row))
        {
            return Token::each(drawn, count).into_iter().map(Ok).collect();
        }
    }
    let vocab = logits.dim(1);
    let draw = |(i, sampler): (i32, &mut Sampler)| {
        let row = logits.slice(&[i, 0], &[i + 1, vocab])?;
        if let Some(cuda) = &mut sampler.cuda {
            return Ok(Token::alone(cuda::draw(&mut [cuda], &row)?));
        }
        let row = row.reshape(&[vocab])?;
        match &mut sampler.mlx {
            Some(mlx) => mlx.draw(&row).map(Token::alone),
            None => Ok(Token::later(row)),
        }
    };
    (0..).zip(samplers).map(draw).collect()
}

#[cfg(test)]
mod tests;
