//! `text_completion`, whole and in chunks of the same form.

use serde::Serialize;

use super::chat::raw;
use super::{Total, Usage, finish_reason};
use crate::errors::{ApiError, Style};
use crate::run::{Event, Whole};
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
    logprobs: Option<()>,
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
}

impl Completions {
    pub(crate) fn new(model: String, n: usize, usage: bool, echoes: Vec<Option<String>>) -> Self {
        let each = echoes
            .into_iter()
            .flat_map(|echo| std::iter::repeat_n(echo, n));
        Self {
            id: ids::new("cmpl-"),
            created: ids::now(),
            model,
            usage,
            total: Total::new(n),
            echoes: each.collect(),
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
            logprobs: None,
            finish_reason,
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
