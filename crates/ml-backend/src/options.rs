//! What a caller may ask of one generation.
//!
//! Every field has a meaning when it is left alone, so a caller names only what matters to it:
//! `Options::new().max_tokens(64)`. The struct is `#[non_exhaustive]`: an option that is
//! added later breaks nobody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::chat::Variables;
use crate::sample::check_stages;
use crate::{Dry, Error, LogitsProcessor, Result, Structure, Xtc};

/// The temperature of [`Options`] that name none, for a model whose files advise none.
pub const DEFAULT_TEMPERATURE: f32 = 0.1;
/// The most tokens that are generated for [`Options`] that name no number.
pub const DEFAULT_MAX_TOKENS: usize = 2048;
/// Prompt tokens that a GPU runs at once for [`Options`] that name no number.
pub const DEFAULT_PREFILL_CHUNK: usize = 2048;
/// The same of a processor, for which more are no faster, and others wait for them.
pub const DEFAULT_PREFILL_CHUNK_ON_CPU: usize = 512;
/// The most prompt tokens that are run at once, whatever [`Options`] say: activations and masks grow
/// with them, and beyond this no device gains.
pub const MAX_PREFILL_CHUNK: usize = 8192;

/// How to generate.
///
/// Where nothing is said of `temperature`, `top_k`, `top_p`, `min_p` or `repetition_penalty`, what the
/// model's `generation_config.json` advises counts, each by itself; its `do_sample` of `false` is a
/// temperature of zero. [`no_advice`](Self::no_advice) asks for none of that.
///
/// ```
/// use ml_backend::Options;
/// let options = Options::new().temperature(0.7).top_p(0.9).seed(1);
/// assert_eq!(options.max_tokens, None); // 2048
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Divides the logits before a token is drawn. Unset is what the model's files advise, else 0.1;
    /// zero is greedy: always the most probable token.
    pub temperature: Option<f32>,
    /// The most tokens to generate. Unset is 2048.
    pub max_tokens: Option<usize>,
    /// Seed of the random numbers. The same seed, prompt, model and device give the same text.
    /// Unset is another seed each time.
    pub seed: Option<u64>,
    /// Draw only from this many most probable tokens. Unset is what the model's files advise, else all;
    /// `usize::MAX` is all.
    pub top_k: Option<usize>,
    /// Draw only from the most probable tokens that together reach this probability, in (0, 1]. Unset is
    /// what the model's files advise, else 1.
    pub top_p: Option<f32>,
    /// Draw only from tokens at least this many times as probable as the most probable, in [0, 1]. Unset
    /// is what the model's files advise, else 0.
    pub min_p: Option<f32>,
    /// Makes tokens that occurred lately less probable (above 1) or more (below 1): positive
    /// logits are divided by it, negative ones multiplied. Unset is what the model's files advise, else
    /// 1, which is none. <https://arxiv.org/abs/1909.05858>
    pub repetition_penalty: Option<f32>,
    /// How many of the last tokens, prompt included, `repetition_penalty` looks at. Unset is 20.
    pub repetition_context: Option<usize>,
    /// Makes tokens that occurred less probable (above 0) or more (below 0): this is taken from their logits.
    pub presence_penalty: Option<f32>,
    /// The same, as many times as they occurred.
    pub frequency_penalty: Option<f32>,
    /// How many of the last tokens, prompt included, `presence_penalty` and `frequency_penalty` look at. Unset is all
    /// of the answer and nothing of the prompt.
    pub penalty_context: Option<usize>,
    /// Makes tokens less probable that would go on with a repetition. Unset is none of that.
    pub dry: Option<Dry>,
    /// What is added to the logits of tokens, before the penalties; negative infinity bans a token.
    pub logit_bias: BTreeMap<u32, f32>,
    /// The only tokens that may be drawn, and those that end the answer if they are among them. Empty is all.
    pub allowed_ids: Vec<u32>,
    /// Draw only from the tokens whose information is nearest to what is expected, and which together reach this
    /// probability, in (0, 1]. Unset is 1, which is all. <https://arxiv.org/abs/2202.00666>
    pub typical_p: Option<f32>,
    /// Leaves out the most probable tokens now and then. Unset is never.
    pub xtc: Option<Xtc>,
    /// Divide by the temperature before the filters and not after them, and have these in the order that transformers
    /// has.
    pub temperature_first: bool,
    /// Tell how probable each generated token was, and so many most probable ones of its place, at most 20: see
    /// [`TokenLogprobs`](crate::TokenLogprobs). Unset is nothing of that.
    pub logprobs: Option<usize>,
    /// The same of the prompt's tokens, of all but the first: in [`Generation`](crate::Generation)`::prompt_logprobs`.
    pub prompt_logprobs: Option<usize>,
    /// Tokens that end the answer, beside the model's own end-of-sequence tokens; they are not part of it.
    pub stop_ids: Vec<u32>,
    /// Change the logits before each token is drawn, in their order, after penalties and biases and before all
    /// filters.
    pub logits_processors: Vec<LogitsProcessor>,
    /// What the answer has to be, such as a JSON text under a schema: no other tokens are drawn. What cannot be held
    /// to is refused before anything runs. Beside [`tools`](Self::tools) an answer to a chat has the form of JSON, or is
    /// calls of them; other forms leave calls no room.
    pub structure: Option<Structure>,
    /// The text behind which the answer begins that has the [`structure`](Self::structure), such as `</think>`, which
    /// ends a model's reasoning; what comes before it is free. Unset is the beginning, or with
    /// [`enable_thinking`](Self::enable_thinking) `</think>` where the vocabulary has that token. A prompt that ends
    /// with it counts.
    pub structure_after: Option<String>,
    /// Texts that end the generation. They are not part of the result, and no piece of a stream
    /// holds a part of one.
    pub stop: Vec<String>,
    /// Go on after an end-of-sequence token.
    pub ignore_eos: bool,
    /// Leave out what the model's `generation_config.json` advises for sampling.
    pub no_advice: bool,
    /// Prompt tokens to run at once: fewer need less memory, and answers that are under way wait for them;
    /// more are faster on a GPU. Unset is 512 on a CPU and 2048 elsewhere; more than [`MAX_PREFILL_CHUNK`]
    /// counts as that.
    pub prefill_chunk: Option<usize>,
    /// Begin where this prompt parts from the tokens of the generation that ended last, its answer among them, whose
    /// caches are kept until the next one begins. What prompts made is reused in any case, where that changes no bit
    /// ([`prefix_cache`](crate::MlxBackendBuilder::prefix_cache)); this is for what decoding made, and for GPUs: the
    /// next turn of a chat then costs no more than what is new in it. A sliding
    /// window that is full goes back by 256 tokens at the least on a CPU, and elsewhere not at all; a prompt that
    /// parts earlier is run from its beginning. Tokens that are run in other chunks are rounded otherwise, so in rare cases the text depends on what was
    /// generated before, and on whether it was put aside in between; unset, it never does.
    pub reuse_prefix: bool,
    /// For chat templates that know the variable `enable_thinking` (Qwen3): whether the model may
    /// reason before it answers. Unset leaves it to the template.
    pub enable_thinking: Option<bool>,
    /// The most tokens of reasoning in an answer to a chat: after them the marker that ends it is put there, and the
    /// model answers. A model whose reasoning has no known markers thinks as it likes. Unset is no bound.
    pub reasoning_budget: Option<usize>,
    /// Tools that the model may call, as chat APIs write them: objects with a `function` of a name, a description
    /// and a JSON schema of its parameters. They go into the chat template; a built-in format knows none.
    pub tools: Vec<serde_json::Value>,
    /// Whether the model may call [`tools`](Self::tools), or has to, in answers to chats.
    pub tool_choice: ToolChoice,
    /// Whether an answer may have several calls. `Some(false)` ends it with the first one.
    pub parallel_tool_calls: Option<bool>,
    /// Documents for chat templates that know the variable `documents`.
    pub documents: Vec<serde_json::Value>,
    /// Further variables of the chat template, which count before all others: what chat APIs call
    /// `chat_template_kwargs`.
    pub template_variables: Variables,
    /// Stops the generation from another thread.
    pub cancel: CancelToken,
}

macro_rules! setters {
    ($($(#[$doc:meta])* $setter:ident($field:ident: $type:ty);)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $setter(mut self, $field: $type) -> Self {
            self.$field = Some($field);
            self
        }
    )*};
}

impl Options {
    /// Every option left alone.
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        /// Sets [`temperature`](Self::temperature); zero is greedy.
        temperature(temperature: f32);
        /// Sets [`max_tokens`](Self::max_tokens).
        max_tokens(max_tokens: usize);
        /// Sets [`seed`](Self::seed).
        seed(seed: u64);
        /// Sets [`top_k`](Self::top_k).
        top_k(top_k: usize);
        /// Sets [`top_p`](Self::top_p).
        top_p(top_p: f32);
        /// Sets [`min_p`](Self::min_p).
        min_p(min_p: f32);
        /// Sets [`repetition_penalty`](Self::repetition_penalty).
        repetition_penalty(repetition_penalty: f32);
        /// Sets [`repetition_context`](Self::repetition_context).
        repetition_context(repetition_context: usize);
        /// Sets [`presence_penalty`](Self::presence_penalty).
        presence_penalty(presence_penalty: f32);
        /// Sets [`frequency_penalty`](Self::frequency_penalty).
        frequency_penalty(frequency_penalty: f32);
        /// Sets [`penalty_context`](Self::penalty_context).
        penalty_context(penalty_context: usize);
        /// Sets [`dry`](Self::dry).
        dry(dry: Dry);
        /// Sets [`typical_p`](Self::typical_p).
        typical_p(typical_p: f32);
        /// Sets [`xtc`](Self::xtc).
        xtc(xtc: Xtc);
        /// Sets [`logprobs`](Self::logprobs).
        logprobs(logprobs: usize);
        /// Sets [`prompt_logprobs`](Self::prompt_logprobs).
        prompt_logprobs(prompt_logprobs: usize);
        /// Sets [`prefill_chunk`](Self::prefill_chunk).
        prefill_chunk(prefill_chunk: usize);
        /// Sets [`structure`](Self::structure).
        structure(structure: Structure);
        /// Sets [`enable_thinking`](Self::enable_thinking).
        enable_thinking(enable_thinking: bool);
        /// Sets [`reasoning_budget`](Self::reasoning_budget).
        reasoning_budget(reasoning_budget: usize);
        /// Sets [`parallel_tool_calls`](Self::parallel_tool_calls).
        parallel_tool_calls(parallel_tool_calls: bool);
    }

    /// Adds a text to [`stop`](Self::stop).
    #[must_use]
    pub fn stop(mut self, stop: impl Into<String>) -> Self {
        self.stop.push(stop.into());
        self
    }

    /// Adds a token to [`logit_bias`](Self::logit_bias).
    #[must_use]
    pub fn logit_bias(mut self, id: u32, bias: f32) -> Self {
        self.logit_bias.insert(id, bias);
        self
    }

    /// Adds a token that is never drawn: a [`logit_bias`](Self::logit_bias) of negative infinity.
    #[must_use]
    pub fn ban(self, id: u32) -> Self {
        self.logit_bias(id, f32::NEG_INFINITY)
    }

    /// Sets [`allowed_ids`](Self::allowed_ids).
    #[must_use]
    pub fn allowed_ids(mut self, ids: impl Into<Vec<u32>>) -> Self {
        self.allowed_ids = ids.into();
        self
    }

    /// Sets [`temperature_first`](Self::temperature_first).
    #[must_use]
    pub fn temperature_first(mut self, temperature_first: bool) -> Self {
        self.temperature_first = temperature_first;
        self
    }

    /// Adds a token to [`stop_ids`](Self::stop_ids).
    #[must_use]
    pub fn stop_id(mut self, id: u32) -> Self {
        self.stop_ids.push(id);
        self
    }

    /// Adds one to [`logits_processors`](Self::logits_processors).
    #[must_use]
    pub fn logits_processor(mut self, processor: LogitsProcessor) -> Self {
        self.logits_processors.push(processor);
        self
    }

    /// Sets [`structure_after`](Self::structure_after).
    #[must_use]
    pub fn structure_after(mut self, marker: impl Into<String>) -> Self {
        self.structure_after = Some(marker.into());
        self
    }

    /// Sets [`ignore_eos`](Self::ignore_eos).
    #[must_use]
    pub fn ignore_eos(mut self, ignore_eos: bool) -> Self {
        self.ignore_eos = ignore_eos;
        self
    }

    /// Sets [`no_advice`](Self::no_advice).
    #[must_use]
    pub fn no_advice(mut self, no_advice: bool) -> Self {
        self.no_advice = no_advice;
        self
    }

    /// Sets [`reuse_prefix`](Self::reuse_prefix).
    #[must_use]
    pub fn reuse_prefix(mut self, reuse_prefix: bool) -> Self {
        self.reuse_prefix = reuse_prefix;
        self
    }

    /// Adds a tool to [`tools`](Self::tools).
    #[must_use]
    pub fn tool(mut self, tool: serde_json::Value) -> Self {
        self.tools.push(tool);
        self
    }

    /// Sets [`tool_choice`](Self::tool_choice).
    #[must_use]
    pub fn tool_choice(mut self, tool_choice: ToolChoice) -> Self {
        self.tool_choice = tool_choice;
        self
    }

    /// Adds a document to [`documents`](Self::documents).
    #[must_use]
    pub fn document(mut self, document: serde_json::Value) -> Self {
        self.documents.push(document);
        self
    }

    /// Adds a variable to [`template_variables`](Self::template_variables).
    #[must_use]
    pub fn template_variable(
        mut self,
        name: impl Into<String>,
        value: impl Into<serde_json::Value>,
    ) -> Self {
        self.template_variables.insert(name.into(), value.into());
        self
    }

    /// Sets [`cancel`](Self::cancel): the caller keeps a clone and cancels through it.
    #[must_use]
    pub fn cancel(mut self, cancel: CancelToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// What a chat template is told beside the messages.
    pub(crate) fn variables(&self) -> Variables {
        let mut variables = Variables::new();
        if let Some(thinking) = self.enable_thinking {
            variables.insert("enable_thinking".to_owned(), thinking.into());
        }
        let no_tools = Vec::new();
        let tools = match self.tool_choice {
            ToolChoice::None => &no_tools,
            _ => &self.tools,
        };
        for (name, values) in [("tools", tools), ("documents", &self.documents)] {
            if !values.is_empty() {
                variables.insert(name.to_owned(), values.clone().into());
            }
        }
        variables.extend(self.template_variables.clone());
        variables
    }

    /// The tools that an answer may call: what its template is told of.
    pub(crate) fn tools_to_call(&self) -> Vec<serde_json::Value> {
        match self.variables().remove("tools") {
            Some(serde_json::Value::Array(tools)) => tools,
            _ => Vec::new(),
        }
    }

    /// The tools of which an answer has to call one; `None` where it need not.
    pub(crate) fn forced_tools(&self) -> Option<Vec<serde_json::Value>> {
        let named = |name: &String, tool: &serde_json::Value| {
            let function = tool.get("function").unwrap_or(tool);
            function.get("name").and_then(|name| name.as_str()) == Some(name)
        };
        let mut tools = self.tools_to_call();
        match &self.tool_choice {
            ToolChoice::Auto | ToolChoice::None => return None,
            ToolChoice::Required => {}
            ToolChoice::Tool(name) => tools.retain(|tool| named(name, tool)),
        }
        Some(tools)
    }

    /// The schema of an answer that calls none of its tools, where it has to be JSON.
    pub(crate) fn form_without_call(&self) -> Option<serde_json::Value> {
        if self.tool_choice != ToolChoice::Auto || self.tools_to_call().is_empty() {
            return None;
        }
        match &self.structure {
            Some(Structure::JsonSchema(schema)) => Some(schema.clone()),
            Some(Structure::JsonObject) => Some(serde_json::json!({"type": "object"})),
            _ => None,
        }
    }

    /// Refuses a choice of a tool that there is not, and what leaves a call no room.
    fn check_choice(&self) -> Result<()> {
        let refuse = |name, value: String, expected| {
            Err(Error::InvalidOption {
                name,
                value,
                expected,
            })
        };
        let Some(tools) = self.forced_tools() else {
            return Ok(());
        };
        if tools.is_empty() {
            return match &self.tool_choice {
                ToolChoice::Tool(name) => {
                    refuse("tool_choice", name.clone(), "the name of one of the tools")
                }
                _ => refuse("tool_choice", "required".to_owned(), "tools to choose from"),
            };
        }
        if self.ignore_eos {
            let value = "set beside a call that has to be made".to_owned();
            return refuse(
                "ignore_eos",
                value,
                "left alone: the answer ends behind its calls",
            );
        }
        match self.structure {
            Some(_) => refuse(
                "structure",
                "set beside a call that has to be made".to_owned(),
                "left out: the answer is that call",
            ),
            None => Ok(()),
        }
    }

    /// Refuses values that no generation can use, with the option's name.
    pub(crate) fn check(&self) -> Result<()> {
        let temperature = |t: f32| t.is_finite() && t >= 0.0;
        let share = |p: f32| (0.0..=1.0).contains(&p);
        let positive = |p: f32| p.is_finite() && p > 0.0;
        check(
            "temperature",
            self.temperature,
            temperature,
            "a finite number, 0 or more",
        )?;
        check("top_k", self.top_k, |k| k > 0, "1 or more")?;
        check(
            "top_p",
            self.top_p,
            |p| share(p) && p > 0.0,
            "above 0 and at most 1",
        )?;
        check("min_p", self.min_p, share, "from 0 to 1")?;
        check(
            "repetition_penalty",
            self.repetition_penalty,
            positive,
            "above 0",
        )?;
        check(
            "repetition_context",
            self.repetition_context,
            |n| n > 0,
            "1 or more",
        )?;
        check("prefill_chunk", self.prefill_chunk, |n| n > 0, "1 or more")?;
        check_stages(self)?;
        for (name, values) in [("tools", &self.tools), ("documents", &self.documents)] {
            if let Some(other) = values.iter().find(|value| !value.is_object()) {
                return Err(Error::InvalidOption {
                    name,
                    value: other.to_string(),
                    expected: "objects",
                });
            }
        }
        // What a conversation itself is told by.
        for name in ["messages", "add_generation_prompt"] {
            if let Some(value) = self.template_variables.get(name) {
                return Err(Error::InvalidOption {
                    name: "template_variables",
                    value: format!("{name} = {value}"),
                    expected: "another name",
                });
            }
        }
        if self.structure_after.as_deref() == Some("") {
            return Err(Error::InvalidOption {
                name: "structure_after",
                value: "an empty text".to_owned(),
                expected: "at least one character",
            });
        }
        if self.structure.is_some() && self.ignore_eos {
            return Err(Error::InvalidOption {
                name: "ignore_eos",
                value: "set beside a structure".to_owned(),
                expected: "left alone: an answer that has a form ends where that ends",
            });
        }
        self.check_choice()?;
        if self.stop.iter().any(String::is_empty) {
            return Err(Error::InvalidOption {
                name: "stop",
                value: "an empty text".to_owned(),
                expected: "at least one character",
            });
        }
        Ok(())
    }
}

pub(crate) fn check<T: Copy + ToString>(
    name: &'static str,
    value: Option<T>,
    good: impl Fn(T) -> bool,
    expected: &'static str,
) -> Result<()> {
    match value {
        Some(value) if !good(value) => Err(Error::InvalidOption {
            name,
            value: value.to_string(),
            expected,
        }),
        _ => Ok(()),
    }
}

/// Whether a model may call tools, or has to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ToolChoice {
    /// As it sees fit.
    #[default]
    Auto,
    /// It is told of no tools, and what looks like a call is text.
    None,
    /// It has to call at least one of them: the answer is held to the form of its calls, with arguments that follow
    /// the tool's schema. It may reason before.
    Required,
    /// It has to call this one.
    Tool(String),
}

/// Asks a generation to stop; clones share the request.
///
/// It is looked at before each token and before each chunk of the prompt. What was generated so
/// far comes back with [`Error::Cancelled`].
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that nobody has cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops every generation that was started with this token, and those that will be.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether somebody called [`cancel`](Self::cancel).
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_make_no_sense_are_refused_by_name() {
        let base = Options::new;
        let bad = [
            ("temperature", base().temperature(-0.5)),
            ("temperature", base().temperature(f32::NAN)),
            ("temperature", base().temperature(f32::INFINITY)),
            ("top_k", base().top_k(0)),
            ("top_p", base().top_p(0.0)),
            ("top_p", base().top_p(1.5)),
            ("min_p", base().min_p(-0.1)),
            ("repetition_penalty", base().repetition_penalty(0.0)),
            ("repetition_context", base().repetition_context(0)),
            ("prefill_chunk", base().prefill_chunk(0)),
            ("stop", base().stop("")),
            ("typical_p", base().typical_p(0.0)),
            ("xtc.probability", base().xtc(Xtc::new(1.5))),
            (
                "xtc.threshold",
                base().xtc(Xtc {
                    threshold: 0.6,
                    ..Xtc::new(0.5)
                }),
            ),
            ("dry.multiplier", base().dry(Dry::new(0.0))),
            (
                "dry.base",
                base().dry(Dry {
                    base: 0.5,
                    ..Dry::new(1.0)
                }),
            ),
            ("presence_penalty", base().presence_penalty(f32::NAN)),
            ("frequency_penalty", base().frequency_penalty(f32::INFINITY)),
            ("penalty_context", base().penalty_context(0)),
            ("logit_bias", base().logit_bias(3, f32::INFINITY)),
            ("logprobs", base().logprobs(21)),
            ("prompt_logprobs", base().prompt_logprobs(21)),
            ("structure_after", base().structure_after("")),
            (
                "ignore_eos",
                base().structure(Structure::JsonObject).ignore_eos(true),
            ),
        ];
        for (name, options) in bad {
            let error = options.check().expect_err(name).to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn the_edges_that_make_sense_are_taken() {
        let options = Options::new()
            .temperature(0.0)
            .top_p(1.0)
            .min_p(0.0)
            .top_k(1);
        assert!(options.check().is_ok());
    }

    #[test]
    fn a_cancel_token_is_shared_by_its_clones() {
        let token = CancelToken::new();
        let options = Options::new().cancel(token.clone());
        assert!(!options.cancel.is_cancelled());
        token.cancel();
        assert!(options.clone().cancel.is_cancelled());
    }
}
