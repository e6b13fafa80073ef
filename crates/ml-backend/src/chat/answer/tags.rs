//! JSON in tags: `<tool_call>{"name": .., "arguments": {..}}</tool_call>`, of Qwen and Hermes.
//!
//! Several calls in one pair of tags, and a forgotten closing tag behind a whole call, are taken.

use super::call_list::CallList;
use super::json::Step;
use super::out::Out;
use super::reader::{Closing, Reader, Taken};

pub(super) const OPEN: &str = "<tool_call>";
pub(super) const CLOSE: &str = "</tool_call>";

#[derive(Debug)]
pub(super) struct Tags {
    calls: CallList,
    /// Behind a whole call.
    closing: Option<Closing>,
}

impl Tags {
    pub(super) fn new() -> Self {
        Self {
            calls: CallList::new(),
            closing: None,
        }
    }
}

impl Reader for Tags {
    fn step(&mut self, c: char, out: &mut Out) -> Taken {
        if let Some(closing) = &mut self.closing {
            if !(c == '{' && closing.untouched()) {
                return closing.step(c);
            }
            *self = Self::new();
        }
        match self.calls.step(c, out) {
            Step::Over => {
                self.closing = Some(Closing::new(CLOSE));
                Taken::More
            }
            step => step.into(),
        }
    }

    fn finish(&mut self, _: &mut Out) -> bool {
        self.closing.is_some() || self.calls.between()
    }
}
