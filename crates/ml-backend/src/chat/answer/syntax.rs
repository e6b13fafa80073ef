//! How a model writes calls and thoughts, told by the words of its chat template.
//!
//! A template shows the model its own earlier calls and thoughts, and most show it how to write them; what a template
//! does not say is what models of its family are known to write.

use models::tokenizer::Tokenizer;

use super::gemma::{FUNCTION_GEMMA, GEMMA4};
use super::{harmony, llama, mistral, python, tags, xml};

/// How calls of tools are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallSyntax {
    /// `<tool_call>{"name": .., "arguments": {..}}</tool_call>`: Qwen, Hermes.
    Tags,
    /// `<tool_call><function=name><parameter=key>value</parameter></function></tool_call>`: Qwen3-Coder, Qwen3.5.
    Xml,
    /// `<|tool_call>call:name{key:<|"|>text<|"|>}<tool_call|>`: Gemma 4.
    Gemma4,
    /// `<start_function_call>call:name{key:<escape>text<escape>}<end_function_call>`: FunctionGemma.
    FunctionGemma,
    /// `[name(key="text")]`, or the same in a fence of `tool_code`: Llama 3.2 and 4, LFM2, Gemma 3.
    Python,
    /// `{"name": .., "parameters": {..}}`: Llama 3.1 and later.
    Llama,
    /// `[TOOL_CALLS][{..}]` and `[TOOL_CALLS]name[ARGS]{..}`: Mistral.
    Mistral,
    /// Messages to `functions.name`: gpt-oss.
    Harmony,
}

/// How thoughts are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReasoningSyntax {
    /// `<think>..</think>` at the beginning of an answer.
    Think,
    /// `<|channel>thought .. <channel|>`: Gemma 4.
    Gemma4,
    /// `[THINK]..[/THINK]`: Mistral.
    Mistral,
    /// The channel `analysis`: gpt-oss.
    Harmony,
}

/// How a model writes what is no text for the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Syntax {
    /// Calls; `None` where nothing is known of them.
    pub calls: Option<CallSyntax>,
    /// Thoughts; `None` where the model has none.
    pub reasoning: Option<ReasoningSyntax>,
}

impl Syntax {
    /// The syntax of a model by the source of its chat template, if it has one, and the `model_type` of its
    /// `config.json`.
    #[must_use]
    pub fn of(template: Option<&str>, model_type: &str) -> Self {
        let template = template.unwrap_or_default();
        let has = |word: &str| template.contains(word);
        if [harmony::TOKENS[0], harmony::TOKENS[1], harmony::TOKENS[3]]
            .iter()
            .all(|token| has(token))
        {
            return Self {
                calls: Some(CallSyntax::Harmony),
                reasoning: Some(ReasoningSyntax::Harmony),
            };
        }
        let family = |names: &[&str]| names.iter().any(|name| model_type.starts_with(name));
        let calls = if has(GEMMA4.open) {
            Some(CallSyntax::Gemma4)
        } else if has(FUNCTION_GEMMA.open) {
            Some(CallSyntax::FunctionGemma)
        } else if has(mistral::OPEN) {
            Some(CallSyntax::Mistral)
        } else if has(xml::FUNCTION) && has(xml::PARAMETER) {
            Some(CallSyntax::Xml)
        } else if has("<arg_key>") {
            // Calls of GLM, which nothing here reads.
            None
        } else if has(tags::OPEN) {
            Some(CallSyntax::Tags)
        } else if has("tool_code") || has("func_name1(") || has("func_name(") || has(python::TAG) {
            Some(CallSyntax::Python)
        } else if has(llama::TAG) || (has("{\"name\": ") && has("\"parameters\": ")) {
            Some(CallSyntax::Llama)
        } else if family(&["qwen"]) {
            Some(CallSyntax::Tags)
        } else if family(&["llama"]) {
            Some(CallSyntax::Llama)
        } else if family(&["mistral", "ministral"]) {
            Some(CallSyntax::Mistral)
        } else if family(&["gemma4"]) {
            Some(CallSyntax::Gemma4)
        } else if family(&["gemma", "lfm2"]) {
            Some(CallSyntax::Python)
        } else {
            None
        };
        let reasoning = if has(ReasoningSyntax::Gemma4.tokens()[0]) {
            Some(ReasoningSyntax::Gemma4)
        } else if has(ReasoningSyntax::Mistral.open()) {
            Some(ReasoningSyntax::Mistral)
        } else if has(ReasoningSyntax::Think.open()) || (template.is_empty() && family(&["qwen3"]))
        {
            Some(ReasoningSyntax::Think)
        } else if template.is_empty() && family(&["gemma4"]) {
            Some(ReasoningSyntax::Gemma4)
        } else {
            None
        };
        Self { calls, reasoning }
    }

    /// The ids of its markers that are special tokens, which a text leaves out and a parser has to see.
    pub(crate) fn special_tokens(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let tokens = self.tokens().into_iter();
        let ids = tokens.filter_map(|token| tokenizer.token_id(token));
        ids.filter(|id| tokenizer.is_special(*id)).collect()
    }

    /// The markers that a tokenizer may have as tokens.
    fn tokens(&self) -> Vec<&'static str> {
        let calls: &[&str] = match self.calls {
            Some(CallSyntax::Tags | CallSyntax::Xml) => &[tags::OPEN, tags::CLOSE],
            Some(CallSyntax::Gemma4) => &[GEMMA4.open, GEMMA4.close, GEMMA4.quote],
            Some(CallSyntax::FunctionGemma) => &[
                FUNCTION_GEMMA.open,
                FUNCTION_GEMMA.close,
                FUNCTION_GEMMA.quote,
            ],
            Some(CallSyntax::Python) => &[python::TAG, "<|tool_call_end|>", llama::TAG],
            Some(CallSyntax::Llama) => &[llama::TAG],
            Some(CallSyntax::Mistral) => &[mistral::OPEN, "[ARGS]", "[CALL_ID]"],
            Some(CallSyntax::Harmony) => &harmony::TOKENS,
            None => &[],
        };
        let reasoning = self.reasoning.map_or(&[][..], ReasoningSyntax::tokens);
        [calls, reasoning].concat()
    }

    /// Tokens behind which the model waits for a tool: an answer ends there.
    pub(crate) fn ends(&self) -> &'static [&'static str] {
        match self.calls {
            Some(CallSyntax::Gemma4) => &["<|tool_response>"],
            Some(CallSyntax::FunctionGemma) => &["<start_function_response>"],
            Some(CallSyntax::Harmony) => &["<|call|>", "<|return|>"],
            _ => &[],
        }
    }

    /// Whether a prompt ends inside of a thought, which its template opened.
    pub(crate) fn opened_by(&self, prompt: &str) -> bool {
        let open = self.reasoning.map(ReasoningSyntax::open);
        open.is_some_and(|open| !open.is_empty() && prompt.trim_end().ends_with(open))
    }
}

impl ReasoningSyntax {
    pub(super) fn open(self) -> &'static str {
        match self {
            Self::Think => "<think>",
            Self::Gemma4 => "<|channel>thought",
            Self::Mistral => "[THINK]",
            Self::Harmony => "",
        }
    }

    pub(crate) fn close(self) -> &'static str {
        match self {
            Self::Think => "</think>",
            Self::Gemma4 => "<channel|>",
            Self::Mistral => "[/THINK]",
            Self::Harmony => "<|end|>",
        }
    }

    /// What ends a thought and begins the answer, as templates write it; `calls` has to be its first part.
    pub(crate) fn closing(self, calls: bool) -> &'static str {
        match self {
            Self::Think => "\n</think>\n\n",
            Self::Gemma4 => "\n<channel|>",
            Self::Mistral => "[/THINK]",
            Self::Harmony if calls => self.close(),
            Self::Harmony => "<|end|><|start|>assistant<|channel|>final<|message|>",
        }
    }

    /// The token that begins a thought.
    pub(crate) fn opener(self) -> &'static str {
        match self {
            Self::Think => "<think>",
            Self::Gemma4 => "<|channel>",
            Self::Mistral => "[THINK]",
            Self::Harmony => "<|channel|>",
        }
    }

    /// Whether a thought may begin behind text: the marker is a token that nobody writes by chance.
    pub(super) fn anywhere(self) -> bool {
        self != Self::Think
    }

    fn tokens(self) -> &'static [&'static str] {
        match self {
            Self::Think => &["<think>", "</think>"],
            Self::Gemma4 => &["<|channel>", "<channel|>"],
            Self::Mistral => &["[THINK]", "[/THINK]"],
            Self::Harmony => &[],
        }
    }
}
