//! What is sent: the objects of each API, and how an answer's events become them.

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod infill;
mod logprobs;
pub(crate) mod messages;
pub(crate) mod responses;

use serde::Serialize;

use crate::run::{self, Finish};

/// Tokens, as OpenAI counts them.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: PromptDetails,
}

#[derive(Clone, Copy, Serialize)]
struct PromptDetails {
    cached_tokens: usize,
}

impl From<run::Usage> for Usage {
    fn from(usage: run::Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt,
            completion_tokens: usage.generated,
            total_tokens: usage.prompt + usage.generated,
            prompt_tokens_details: PromptDetails {
                cached_tokens: usage.cached,
            },
        }
    }
}

/// Why an answer ended, by OpenAI's words.
fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopText => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
    }
}

/// Usage of several answers to one prompt each; a prompt that `n` answers share counts once.
#[derive(Clone, Copy, Default)]
pub(crate) struct Total {
    usage: run::Usage,
    n: usize,
}

impl Total {
    pub(crate) fn new(n: usize) -> Self {
        let usage = run::Usage::default();
        Self { usage, n }
    }

    pub(crate) fn add(&mut self, index: usize, mut usage: run::Usage) {
        if !index.is_multiple_of(self.n.max(1)) {
            (usage.prompt, usage.cached) = (0, 0);
        }
        self.usage.add(usage);
    }

    pub(crate) fn usage(&self) -> Usage {
        self.usage.into()
    }
}
