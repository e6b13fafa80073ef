//! `text_completion`, whole and in chunks of the same form.

use serde::Serialize;

use super::chat::raw;
use super::{Total, Usage, finish_reason, logprobs};
use crate::errors::{ApiError, Style};
use crate::run::{Event, Probable, Whole};
use crate::sse::{Writer, data};
use crate::{ids, json};

#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [Choice],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

#[derive(Serialize)]
struct Choice {
    index: usize,
    text: String,
    logprobs: Option<logprobs::Completion>,
    finish_reason: Option<&'static str>,
}

/// Writes completions. `echoes` stand before the answers, one for each prompt; `n` answers share one.
pub(crate) struct Completions {
    id: String,
    created: u64,
    model: String,
    usage: bool,
    total: Total,
    /// What is still to be put before each answer.
    echoes: Vec<Option<String>>,
    /// Characters of each answer that are told, where it is told how probable tokens were.
    offsets: Vec<usize>,
    /// What is to be told with the next text of each.
    probable: Vec<Option<logprobs::Completion>>,
}

impl Completions {
    pub(crate) fn new(model: String, n: usize, usage: bool, echoes: Vec<Option<String>>) -> Self {
        let each = echoes
            .into_iter()
            .flat_map(|echo| std::iter::repeat_n(echo, n));
        let echoes: Vec<_> = each.collect();
        Self {
            offsets: vec![0; echoes.len()],
            probable: echoes.iter().map(|_| None).collect(),
            id: ids::new("cmpl-"),
            created: ids::now(),
            model,
            usage,
            total: Total::new(n),
            echoes,
        }
    }

    fn object<'a>(&'a self, choices: &'a [Choice], usage: Option<Usage>) -> Completion<'a> {
        Completion {
            id: &self.id,
            object: "text_completion",
            created: self.created,
            model: &self.model,
            choices,
            usage,
        }
    }

    fn choice(
        &mut self,
        index: usize,
        text: String,
        finish_reason: Option<&'static str>,
    ) -> Choice {
        let echo = self.echoes.get_mut(index).and_then(Option::take);
        Choice {
            index,
            text: echo.unwrap_or_default() + &text,
            logprobs: self.probable.get_mut(index).and_then(Option::take),
            finish_reason,
        }
    }

    /// Keeps how probable tokens were for the next text.
    fn tell(&mut self, index: usize, first: Option<String>, tokens: Vec<Probable>) {
        let slots = (self.offsets.get_mut(index), self.probable.get_mut(index));
        if let (Some(offset), Some(probable)) = slots {
            let probable = probable.get_or_insert_default();
            if let Some(first) = first {
                probable.first(first, offset);
            }
            probable.add(tokens, offset);
        }
    }

    /// The whole of it.
    pub(crate) fn response(
        mut self,
        answers: Vec<Whole>,
    ) -> axum::http::Response<axum::body::Body> {
        let mut choices = Vec::new();
        for (index, answer) in answers.into_iter().enumerate() {
            self.total.add(index, answer.end.usage);
            let reason = finish_reason(answer.end.finish);
            if let Some((first, rest)) = answer.prompt {
                self.tell(index, Some(first), rest);
            }
            if !answer.probable.is_empty() {
                self.tell(index, None, answer.probable);
            }
            choices.push(self.choice(index, answer.text, Some(reason)));
        }
        json::response(&self.object(&choices, Some(self.total.usage())))
    }
}

impl Writer for Completions {
    fn begin(&mut self, _out: &mut String) {}

    fn event(&mut self, index: usize, event: Event, out: &mut String) {
        let choice = match event {
            Event::Text(text) => self.choice(index, text, None),
            // A text that is continued has no parts but itself.
            Event::Reasoning(_)
            | Event::Call { .. }
            | Event::Arguments { .. }
            | Event::Undone { .. } => return,
            Event::Probable(tokens) => return self.tell(index, None, tokens),
            Event::Prompt { first, rest } => return self.tell(index, Some(first), rest),
            Event::End(end) => {
                self.total.add(index, end.usage);
                self.choice(index, String::new(), Some(finish_reason(end.finish)))
            }
        };
        data(out, &self.object(&[choice], None));
    }

    fn end(&mut self, out: &mut String) {
        if self.usage {
            data(out, &self.object(&[], Some(self.total.usage())));
        }
        out.push_str("data: [DONE]\n\n");
    }

    fn error(&mut self, error: &ApiError, out: &mut String) {
        raw(out, &error.body(Style::OpenAi));
        out.push_str("data: [DONE]\n\n");
    }
}
