//! A call written as an object: `{"name": .., "arguments": {..}}`, in the words that models have for it.
//!
//! `parameters` are arguments, a `function` may be the name or hold both, and the order is free: arguments that come
//! before the name wait for it. They may be the text of an object, as in chat APIs.

use serde_json::Value;

use super::json::{JsonValue, Step};
use super::out::Out;

/// One call on its way.
#[derive(Debug)]
pub(super) struct CallObject {
    /// Whether an object of other keys, or of a tool that nobody has, is none: nothing else marks it as a call.
    unmarked: bool,
    at: At,
    /// Inside of `function`.
    inside: bool,
    key: String,
    /// The text or the other value that is being read, and its beginning.
    value: JsonValue,
    text: String,
    id: Option<String>,
    begun: bool,
    arguments: Arguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Start,
    KeyOrClose,
    Key,
    InKey,
    Colon,
    Value,
    InArguments,
    InValue,
    Next,
}

#[derive(Debug, PartialEq, Eq)]
enum Arguments {
    None,
    /// They came before the name.
    Waiting(String),
    Given,
}

impl CallObject {
    pub(super) fn new(unmarked: bool) -> Self {
        Self {
            unmarked,
            at: At::Start,
            inside: false,
            key: String::new(),
            value: JsonValue::new(),
            text: String::new(),
            id: None,
            begun: false,
            arguments: Arguments::None,
        }
    }

    /// Takes a character; the call is begun, goes on and ends in `out`.
    pub(super) fn step(&mut self, c: char, out: &mut Out) -> Step {
        match self.at {
            At::InKey => return self.in_key(c),
            At::InArguments => return self.in_arguments(c, out),
            At::InValue => match self.value.step(c, &mut self.text) {
                Step::Over => return self.value_over(out),
                // A number ends by what follows it.
                Step::Before => match self.value_over(out) {
                    Step::More => {}
                    bad => return bad,
                },
                step => return step,
            },
            _ => {}
        }
        match (self.at, c) {
            (_, ' ' | '\t' | '\n' | '\r') => {}
            (At::Start, '{') => self.at = At::KeyOrClose,
            (At::Key | At::KeyOrClose, '"') => {
                self.read(At::InKey);
                return self.in_key(c);
            }
            (At::Colon, ':') => self.at = At::Value,
            (At::Value, _) => return self.value_begins(c, out),
            (At::Next, ',') => self.at = At::Key,
            (At::Next | At::KeyOrClose, '}') if self.inside => {
                self.inside = false;
                self.at = At::Next;
            }
            (At::Next | At::KeyOrClose, '}') => return self.over(out),
            _ => return Step::Bad,
        }
        Step::More
    }

    fn read(&mut self, at: At) {
        self.at = at;
        self.value = JsonValue::new();
        self.text.clear();
    }

    fn in_key(&mut self, c: char) -> Step {
        match self.value.step(c, &mut self.text) {
            Step::Over => {}
            step => return step,
        }
        self.key = plain(&self.text);
        const USUAL: [&str; 7] = [
            "name",
            "arguments",
            "parameters",
            "function",
            "type",
            "id",
            "index",
        ];
        if self.unmarked && !USUAL.contains(&self.key.as_str()) {
            return Step::Bad;
        }
        self.at = At::Colon;
        Step::More
    }

    fn value_begins(&mut self, c: char, out: &mut Out) -> Step {
        match (self.key.as_str(), c) {
            ("function", '{') if !self.inside => {
                self.inside = true;
                self.at = At::KeyOrClose;
                return Step::More;
            }
            ("arguments" | "parameters", _) if self.arguments != Arguments::None => {
                return Step::Bad;
            }
            ("arguments" | "parameters", '{') => {
                self.arguments = match self.begun {
                    true => Arguments::Given,
                    false => Arguments::Waiting(String::new()),
                };
                self.read(At::InArguments);
                return self.in_arguments(c, out);
            }
            ("arguments" | "parameters", '"' | 'n') | ("name" | "function", '"') => {}
            ("arguments" | "parameters" | "name", _) => return Step::Bad,
            _ => {}
        }
        self.read(At::InValue);
        self.value.step(c, &mut self.text)
    }

    fn in_arguments(&mut self, c: char, out: &mut Out) -> Step {
        self.text.clear();
        let step = self.value.step(c, &mut self.text);
        match &mut self.arguments {
            Arguments::Waiting(early) => early.push_str(&self.text),
            _ => out.arguments(&self.text),
        }
        match step {
            Step::Over => {
                self.at = At::Next;
                Step::More
            }
            step => step,
        }
    }

    fn value_over(&mut self, out: &mut Out) -> Step {
        self.at = At::Next;
        match self.key.as_str() {
            "name" | "function" => {
                let name = plain(&self.text);
                if self.begun || (self.unmarked && !out.tools.knows(&name)) {
                    return Step::Bad;
                }
                if !out.begin(&name, self.id.as_deref()) {
                    return Step::Bad;
                }
                self.begun = true;
                if let Arguments::Waiting(early) = &self.arguments {
                    out.arguments(early);
                    self.arguments = Arguments::Given;
                }
            }
            "arguments" | "parameters" => {
                // The text of an object, or `null`.
                let text = match plain(&self.text) {
                    text if text.trim().is_empty() => "{}".to_owned(),
                    text => text,
                };
                self.arguments = match self.begun {
                    true => {
                        out.arguments(&text);
                        Arguments::Given
                    }
                    false => Arguments::Waiting(text),
                };
            }
            "id" => self.id = Some(plain(&self.text)),
            _ => {}
        }
        Step::More
    }

    fn over(&mut self, out: &mut Out) -> Step {
        if self.arguments == Arguments::None {
            out.arguments("{}");
        }
        match self.begun && out.end() {
            true => Step::Over,
            false => Step::Bad,
        }
    }
}

/// A text without its quotes; nothing where it is no text.
fn plain(json: &str) -> String {
    match serde_json::from_str(json) {
        Ok(Value::String(text)) => text,
        _ => String::new(),
    }
}
