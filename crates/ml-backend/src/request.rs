//! A request, checked against the model and with every default filled in.
//!
//! This happens on the caller's thread, so that a request that cannot work fails at once and does
//! not wait its turn.

use models::{GenerationDefaults, ModelInfo};

use crate::options::{
    DEFAULT_MAX_TOKENS, DEFAULT_PREFILL_CHUNK, DEFAULT_PREFILL_CHUNK_ON_CPU, MAX_PREFILL_CHUNK,
};
use crate::sample::Sampling;
use crate::{DeviceKind, Error, FinishReason, Options, Result};

/// What the model says about itself that a request must respect.
#[derive(Clone, Debug)]
pub(crate) struct ModelLimits {
    /// Ids below this have a row in the embedding.
    pub(crate) vocab_size: usize,
    /// Prompt and answer together.
    pub(crate) context: Option<usize>,
    /// Tokens that end an answer.
    pub(crate) eos: Vec<u32>,
    /// How the model's files advise to sample.
    pub(crate) advice: GenerationDefaults,
    /// Prompt tokens that are run at once, unless a request says otherwise.
    pub(crate) prefill_chunk: usize,
}

impl ModelLimits {
    /// `tokenizer_eos` are the ids that the tokenizer's own files name.
    pub(crate) fn new(info: &ModelInfo, tokenizer_eos: &[u32], device: DeviceKind) -> Self {
        let mut eos = info.eos_token_ids.clone();
        eos.extend_from_slice(tokenizer_eos);
        eos.sort_unstable();
        eos.dedup();
        Self {
            vocab_size: info.vocab_size,
            context: info.context,
            eos,
            advice: info.generation.clone(),
            prefill_chunk: match device {
                DeviceKind::Cpu => DEFAULT_PREFILL_CHUNK_ON_CPU,
                _ => DEFAULT_PREFILL_CHUNK,
            },
        }
    }

    /// Refuses a text of so many bytes if its tokens, none of more than `longest` bytes, leave no room
    /// for an answer. `None` is a tokenizer of which nobody knows.
    pub(crate) fn check_bytes(&self, bytes: usize, longest: Option<usize>) -> Result<()> {
        let (Some(context), Some(longest)) = (self.context, longest) else {
            return Ok(());
        };
        let least_tokens = bytes.div_ceil(longest.max(1));
        match least_tokens >= context {
            true => Err(Error::PromptTooLarge {
                bytes,
                least_tokens,
                context,
            }),
            false => Ok(()),
        }
    }

    /// Refuses more tokens than the context holds, and more logits than `available` bytes.
    pub(crate) fn check_logits(&self, tokens: usize, available: Option<u64>) -> Result<()> {
        self.check_context(tokens)?;
        let bytes = (tokens as u64).saturating_mul(4 * self.vocab_size as u64);
        match available {
            Some(available) if bytes > available => Err(Error::TooManyLogits {
                bytes,
                available: Some(available),
            }),
            _ => Ok(()),
        }
    }

    /// Refuses more tokens than the context holds.
    pub(crate) fn check_context(&self, tokens: usize) -> Result<()> {
        match self.context {
            Some(context) if tokens > context => Err(Error::PromptTooLong {
                prompt_tokens: tokens,
                context,
            }),
            _ => Ok(()),
        }
    }

    /// Refuses ids that the model cannot look up.
    pub(crate) fn check_ids(&self, ids: &[u32]) -> Result<()> {
        if ids.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        ids.iter().try_for_each(|&id| self.check_id(id))
    }

    /// Refuses options that name tokens which the model has not.
    fn check_named(&self, options: &Options) -> Result<()> {
        let named = options.allowed_ids.iter().chain(&options.stop_ids);
        let mut named = named.chain(options.logit_bias.keys());
        named.try_for_each(|&id| self.check_id(id))
    }

    fn check_id(&self, id: u32) -> Result<()> {
        match (id as usize) < self.vocab_size {
            true => Ok(()),
            false => Err(Error::TokenOutOfRange {
                id,
                vocab_size: self.vocab_size,
            }),
        }
    }
}

/// Everything that the generate loop needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The prompt, at least one token.
    pub(crate) prompt: Vec<u32>,
    /// The most tokens to generate.
    pub(crate) max_tokens: usize,
    /// The reason to give when `max_tokens` are there.
    pub(crate) at_max: FinishReason,
    /// Tokens that end the answer; none with `ignore_eos`.
    pub(crate) eos: Vec<u32>,
    pub(crate) stop: Vec<String>,
    pub(crate) prefill_chunk: usize,
    /// How many alternatives are told of each token of the prompt, where that is asked for.
    pub(crate) prompt_logprobs: Option<usize>,
    /// Whether there are further answers to its prompt.
    pub(crate) has_copies: bool,
    /// Whether the caches' tokens may stand for the beginning of the prompt.
    pub(crate) reuse_prefix: bool,
    pub(crate) sampling: Sampling,
}

impl Request {
    pub(crate) fn new(prompt: Vec<u32>, options: &Options, limits: &ModelLimits) -> Result<Self> {
        options.check()?;
        limits.check_ids(&prompt)?;
        limits.check_named(options)?;
        let mut max_tokens = options.max_tokens.unwrap_or(DEFAULT_MAX_TOKENS);
        let mut at_max = FinishReason::Length;
        if let Some(context) = limits.context {
            if prompt.len() >= context {
                return Err(Error::PromptTooLong {
                    prompt_tokens: prompt.len(),
                    context,
                });
            }
            let room = context - prompt.len();
            if room < max_tokens {
                max_tokens = room;
                at_max = FinishReason::Context;
            }
        }
        Ok(Self {
            prompt,
            max_tokens,
            at_max,
            eos: match options.ignore_eos {
                true => options.stop_ids.clone(),
                false => [&limits.eos[..], &options.stop_ids].concat(),
            },
            prompt_logprobs: options.prompt_logprobs,
            has_copies: false,
            stop: options.stop.clone(),
            prefill_chunk: options
                .prefill_chunk
                .unwrap_or(limits.prefill_chunk)
                .min(MAX_PREFILL_CHUNK),
            // What is not run has no probabilities.
            reuse_prefix: options.reuse_prefix && options.prompt_logprobs.is_none(),
            sampling: Sampling::new(options, limits),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(context: Option<usize>) -> ModelLimits {
        ModelLimits {
            vocab_size: 10,
            context,
            eos: vec![1, 2],
            advice: GenerationDefaults::default(),
            prefill_chunk: DEFAULT_PREFILL_CHUNK,
        }
    }

    #[test]
    fn what_is_unset_has_the_documented_value() {
        let request = Request::new(vec![3], &Options::new(), &limits(None)).unwrap();
        assert_eq!(request.max_tokens, 2048);
        assert_eq!(request.prefill_chunk, 2048);
        assert_eq!(request.sampling.temperature, 0.1);
        assert_eq!(request.eos, [1, 2]);
    }

    #[test]
    fn a_zero_that_was_asked_for_is_greedy_and_no_default() {
        let options = Options::new().temperature(0.0);
        assert!(
            Request::new(vec![3], &options, &limits(None))
                .unwrap()
                .sampling
                .is_greedy()
        );
    }

    #[test]
    fn the_context_bounds_prompt_and_answer_together() {
        let options = Options::new().max_tokens(5);
        let request = Request::new(vec![3; 6], &options, &limits(Some(8))).unwrap();
        assert_eq!(
            (request.max_tokens, request.at_max),
            (2, FinishReason::Context)
        );
        let request = Request::new(vec![3; 3], &options, &limits(Some(8))).unwrap();
        assert_eq!(
            (request.max_tokens, request.at_max),
            (5, FinishReason::Length)
        );
        let error = Request::new(vec![3; 8], &options, &limits(Some(8))).unwrap_err();
        assert!(
            matches!(
                error,
                Error::PromptTooLong {
                    prompt_tokens: 8,
                    context: 8
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn a_text_is_refused_only_if_no_tokenization_of_it_fits() {
        let refused = limits(Some(8)).check_bytes(36, Some(5)).unwrap_err();
        let Error::PromptTooLarge {
            bytes: 36,
            least_tokens: 8,
            context: 8,
        } = refused
        else {
            panic!("{refused}")
        };
        // Seven tokens leave room for one.
        assert!(limits(Some(8)).check_bytes(35, Some(5)).is_ok());
        assert!(limits(Some(8)).check_bytes(1 << 40, None).is_ok());
        assert!(limits(None).check_bytes(1 << 40, Some(5)).is_ok());
    }

    #[test]
    fn logits_are_bounded_by_the_context_and_the_memory() {
        assert!(limits(Some(8)).check_logits(8, None).is_ok());
        let long = limits(Some(8)).check_logits(9, None).unwrap_err();
        assert!(matches!(
            long,
            Error::PromptTooLong {
                prompt_tokens: 9,
                context: 8
            }
        ));
        // 40 bytes a token.
        assert!(limits(None).check_logits(9, Some(360)).is_ok());
        let large = limits(None).check_logits(9, Some(359)).unwrap_err();
        assert!(
            large
                .to_string()
                .contains("360 bytes and 359 are available"),
            "{large}"
        );
        let huge = limits(None).check_logits(usize::MAX, Some(u64::MAX - 1));
        assert!(matches!(huge, Err(Error::TooManyLogits { .. })));
    }

    #[test]
    fn prompts_are_run_in_chunks_of_bounded_size() {
        let options = Options::new().prefill_chunk(usize::MAX);
        let request = Request::new(vec![3], &options, &limits(None)).unwrap();
        assert_eq!(request.prefill_chunk, 8192);
    }

    #[test]
    fn an_empty_prompt_and_a_foreign_id_are_refused() {
        let empty = Request::new(vec![], &Options::new(), &limits(None)).unwrap_err();
        assert!(matches!(empty, Error::EmptyPrompt));
        let foreign = Request::new(vec![9, 10], &Options::new(), &limits(None)).unwrap_err();
        assert!(matches!(foreign, Error::TokenOutOfRange { id: 10, .. }));
        assert!(foreign.to_string().contains("end at 9"), "{foreign}");
    }

    #[test]
    fn ignore_eos_ignores_all_of_them() {
        let options = Options::new().ignore_eos(true);
        assert!(
            Request::new(vec![3], &options, &limits(None))
                .unwrap()
                .eos
                .is_empty()
        );
    }
}
