//! A call as bare JSON: `{"name": .., "parameters": {..}}`, of Llama 3.1 and later, with or without `<|python_tag|>`
//! before it. Several calls stand behind each other, or have `;` between.
//!
//! Without the tag nothing says that it is a call, so only an object at the beginning of an answer is read, and it is
//! a call only if it names a tool of the request.

use super::call_object::CallObject;
use super::json::Step;
use super::out::Out;
use super::reader::{Reader, Taken};

pub(super) const TAG: &str = "<|python_tag|>";
pub(super) const OBJECT: &str = "{";

#[derive(Debug)]
pub(super) struct Llama {
    unmarked: bool,
    /// The call under way.
    object: Option<CallObject>,
    /// Whether a call is to come.
    first: bool,
}

impl Llama {
    /// Behind the tag.
    pub(super) fn tag() -> Self {
        Self {
            unmarked: false,
            object: None,
            first: true,
        }
    }

    /// Behind a brace.
    pub(super) fn object(out: &mut Out) -> Self {
        let mut object = CallObject::new(true);
        object.step('{', out);
        Self {
            unmarked: true,
            object: Some(object),
            first: false,
        }
    }
}

impl Reader for Llama {
    fn step(&mut self, c: char, out: &mut Out) -> Taken {
        if self.object.is_none() {
            match c {
                '{' => self.object = Some(CallObject::new(self.unmarked)),
                c if c.is_whitespace() => return Taken::More,
                _ if self.first => return Taken::Bad,
                ';' => return Taken::More,
                c => return Taken::OverBefore(c.len_utf8()),
            }
            self.first = false;
        }
        let step = self.object.as_mut().map(|object| object.step(c, out));
        match step {
            Some(Step::Over) => {
                self.object = None;
                Taken::More
            }
            Some(step) => step.into(),
            None => Taken::Bad,
        }
    }

    fn finish(&mut self, _: &mut Out) -> bool {
        self.object.is_none() && !self.first
    }
}
