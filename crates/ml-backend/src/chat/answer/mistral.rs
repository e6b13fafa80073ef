//! Mistral's: `[TOOL_CALLS][{"name": .., "arguments": {..}}, ..]`, and of newer models
//! `[TOOL_CALLS]name[ARGS]{..}`, with or without `[CALL_ID]id` before the arguments.

use super::call_list::CallList;
use super::json::{JsonValue, Step};
use super::out::Out;
use super::reader::{Reader, Taken};

pub(super) const OPEN: &str = "[TOOL_CALLS]";
const CALL_ID: &str = "[CALL_ID]";
pub(super) const ARGS: &str = "[ARGS]";

#[derive(Debug)]
pub(super) struct Mistral(At);

#[derive(Debug)]
enum At {
    Start,
    List(CallList),
    Name(String),
    Arguments(JsonValue),
}

impl Mistral {
    pub(super) fn new() -> Self {
        Self(At::Start)
    }
}

impl Reader for Mistral {
    fn step(&mut self, c: char, out: &mut Out) -> Taken {
        match &mut self.0 {
            At::Start if c.is_whitespace() => Taken::More,
            At::Start if matches!(c, '[' | '{') => {
                self.0 = At::List(CallList::new());
                self.step(c, out)
            }
            At::Start => {
                self.0 = At::Name(String::new());
                self.step(c, out)
            }
            At::List(list) => list.step(c, out).into(),
            At::Name(head) => {
                head.push(c);
                if let Some(head) = head.strip_suffix(ARGS) {
                    let (name, id) = match head.split_once(CALL_ID) {
                        Some((name, id)) => (name, Some(id.trim())),
                        None => (head, None),
                    };
                    if !out.begin(name.trim(), id) {
                        return Taken::Bad;
                    }
                    self.0 = At::Arguments(JsonValue::new());
                    return Taken::More;
                }
                // A name is short and has no line breaks, so prose is soon known.
                match c == '\n' || head.len() > 512 {
                    true => Taken::Bad,
                    false => Taken::More,
                }
            }
            At::Arguments(value) => {
                let mut json = String::new();
                let step = value.step(c, &mut json);
                out.arguments(&json);
                match step {
                    Step::Over if out.end() => Taken::Over,
                    Step::More => Taken::More,
                    _ => Taken::Bad,
                }
            }
        }
    }

    fn finish(&mut self, _: &mut Out) -> bool {
        matches!(&self.0, At::List(list) if list.between())
    }
}
