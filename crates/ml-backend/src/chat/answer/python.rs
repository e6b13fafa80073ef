//! Calls in Python's form: `[name(town="Bern", days=3), other()]`, of Llama 3.2 and 4 and LFM2, and in a fence
//! ` ```tool_code `, of Gemma 3, where each may stand on a line of its own or in a `print()`.
//!
//! An argument without a name has that of the tool's parameter in its place. A list without a marker is read at the
//! beginning of an answer only, and only with names of the request's tools.

use super::json::{self, Step};
use super::loose::{Dialect, LooseValue};
use super::out::Out;
use super::reader::{Closing, Reader, Taken};

pub(super) const LIST: &str = "[";
pub(super) const FENCE: &str = "```tool_code";
pub(super) const TAG: &str = "<|tool_call_start|>";

/// What stands around the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Around {
    /// A list and nothing else.
    List,
    Fence,
    Tag,
}

impl Around {
    pub(super) fn close(self) -> &'static str {
        match self {
            Self::List => "]",
            Self::Fence => "```",
            Self::Tag => "<|tool_call_end|>",
        }
    }
}

#[derive(Debug)]
pub(super) struct Python {
    around: Around,
    at: At,
    in_list: bool,
    /// Inside of `print(`.
    printed: bool,
    name: String,
    arguments: usize,
    calls: usize,
}

#[derive(Debug)]
enum At {
    /// A call, or the end.
    Item,
    Name(String),
    Argument,
    /// A name or the beginning of a value, and whether white space followed it.
    Word(String, bool),
    Value(LooseValue),
    AfterValue,
    /// The parenthesis of `print(`.
    AfterPrinted,
    Closing(Closing),
}

impl Python {
    pub(super) fn new(around: Around) -> Self {
        Self {
            around,
            at: At::Item,
            in_list: around == Around::List,
            printed: false,
            name: String::new(),
            arguments: 0,
            calls: 0,
        }
    }

    fn item(&mut self, c: char) -> Taken {
        let close = self.around.close();
        match c {
            _ if c.is_whitespace() => {}
            ',' | ';' if self.calls > 0 && !self.printed => {}
            '[' if !self.in_list && !self.printed => self.in_list = true,
            ']' if self.in_list && !self.printed && self.calls > 0 => {
                self.in_list = false;
                if self.around == Around::List {
                    return Taken::Over;
                }
            }
            _ if is_first(c) => self.at = At::Name(c.to_string()),
            _ if !self.in_list && !self.printed && self.calls > 0 && close.starts_with(c) => {
                let mut closing = Closing::new(close);
                let taken = closing.step(c);
                self.at = At::Closing(closing);
                return taken;
            }
            _ => return Taken::Bad,
        }
        Taken::More
    }

    fn named(&mut self, name: &str, out: &mut Out) -> Taken {
        if name == "print" && !self.printed && !out.tools.knows(name) {
            self.printed = true;
            self.at = At::Item;
            return Taken::More;
        }
        let known = self.around != Around::List || out.tools.knows(name);
        if !known || !out.begin(name, None) {
            return Taken::Bad;
        }
        name.clone_into(&mut self.name);
        self.arguments = 0;
        self.at = At::Argument;
        Taken::More
    }

    /// A value begins, under this name or that of its place.
    fn value(&mut self, key: Option<&str>, out: &mut Out) -> bool {
        let key = match key {
            Some(key) => key.to_owned(),
            None => match out.tools.parameter_at(&self.name, self.arguments) {
                Some(key) => key,
                None => return false,
            },
        };
        out.arguments(if self.arguments == 0 { "{" } else { "," });
        out.arguments(&json::quoted(&key));
        out.arguments(":");
        self.arguments += 1;
        self.at = At::Value(LooseValue::new(Dialect::Python));
        true
    }

    fn call_over(&mut self, out: &mut Out) -> Taken {
        out.arguments(if self.arguments == 0 { "{}" } else { "}" });
        if !out.end() {
            return Taken::Bad;
        }
        self.calls += 1;
        self.at = if self.printed {
            At::AfterPrinted
        } else {
            At::Item
        };
        Taken::More
    }

    /// A word that is no name is the beginning of a value.
    fn replay(&mut self, word: &str, c: char, out: &mut Out) -> Taken {
        if !self.value(None, out) {
            return Taken::Bad;
        }
        for c in word.chars().chain([c]) {
            match self.step(c, out) {
                Taken::More => {}
                taken => return taken,
            }
        }
        Taken::More
    }
}

impl Reader for Python {
    fn step(&mut self, c: char, out: &mut Out) -> Taken {
        match &mut self.at {
            At::Item => return self.item(c),
            At::Name(name) if is_first(c) || c.is_ascii_digit() || c == '.' => name.push(c),
            At::Name(name) => {
                let name = std::mem::take(name);
                return match c {
                    '(' => self.named(&name, out),
                    _ => Taken::Bad,
                };
            }
            At::Argument => match c {
                _ if c.is_whitespace() => {}
                ')' => return self.call_over(out),
                _ if is_first(c) => self.at = At::Word(c.to_string(), false),
                _ if !self.value(None, out) => return Taken::Bad,
                _ => return self.step(c, out),
            },
            At::Word(word, spaced) => match c {
                _ if c.is_whitespace() => *spaced = true,
                '=' => {
                    let key = std::mem::take(word);
                    if !self.value(Some(&key), out) {
                        return Taken::Bad;
                    }
                }
                _ if !*spaced && (is_first(c) || c.is_ascii_digit()) => word.push(c),
                _ => {
                    let word = std::mem::take(word);
                    return self.replay(&word, c, out);
                }
            },
            At::Value(value) => {
                let mut json = String::new();
                let step = value.step(c, &mut json);
                out.arguments(&json);
                match step {
                    Step::More => {}
                    Step::Over => self.at = At::AfterValue,
                    Step::Before => {
                        self.at = At::AfterValue;
                        return self.step(c, out);
                    }
                    Step::Bad => return Taken::Bad,
                }
            }
            At::AfterValue => match c {
                _ if c.is_whitespace() => {}
                ',' => self.at = At::Argument,
                ')' => return self.call_over(out),
                _ => return Taken::Bad,
            },
            At::AfterPrinted => match c {
                _ if c.is_whitespace() => {}
                ')' => {
                    self.printed = false;
                    self.at = At::Item;
                }
                _ => return Taken::Bad,
            },
            At::Closing(closing) => return closing.step(c),
        }
        Taken::More
    }

    fn finish(&mut self, _: &mut Out) -> bool {
        self.calls > 0 && matches!(self.at, At::Item | At::AfterPrinted | At::Closing(_))
    }
}

pub(super) fn is_first(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}
