//! One call as an object, or several in a list or one behind the other.

use super::call_object::CallObject;
use super::json::Step;
use super::out::Out;

/// `{..}` or `[{..}, {..}]`.
#[derive(Debug)]
pub(super) struct CallList {
    list: bool,
    at: At,
}

#[derive(Debug)]
enum At {
    Start,
    /// In a list, behind `[` or `,`.
    Item,
    Object(Box<CallObject>),
    Next,
}

impl CallList {
    pub(super) fn new() -> Self {
        Self {
            list: false,
            at: At::Start,
        }
    }

    pub(super) fn step(&mut self, c: char, out: &mut Out) -> Step {
        match &mut self.at {
            At::Object(object) => match object.step(c, out) {
                Step::Over if self.list => self.at = At::Next,
                step => return step,
            },
            _ if c.is_whitespace() => {}
            At::Start if c == '[' => {
                self.list = true;
                self.at = At::Item;
            }
            At::Start | At::Item if c == '{' => {
                let mut object = Box::new(CallObject::new(false));
                let step = object.step(c, out);
                self.at = At::Object(object);
                return step;
            }
            At::Next if c == ',' => self.at = At::Item,
            At::Next if c == ']' => return Step::Over,
            _ => return Step::Bad,
        }
        Step::More
    }

    /// Whether no call is under way and one was whole.
    pub(super) fn between(&self) -> bool {
        matches!(self.at, At::Next)
    }
}
