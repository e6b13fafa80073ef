//! Gemma's own syntax: `<|tool_call>call:name{key:<|"|>text<|"|>,other:3}<tool_call|>`, and with other words that of
//! FunctionGemma.

use super::json::Step;
use super::loose::{Dialect, LooseValue};
use super::out::Out;
use super::reader::{Closing, Reader, Taken};

/// The words of one generation of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) open: &'static str,
    pub(super) close: &'static str,
    pub(super) quote: &'static str,
}

pub(super) const GEMMA4: Words = Words {
    open: "<|tool_call>",
    close: "<tool_call|>",
    quote: "<|\"|>",
};
pub(super) const FUNCTION_GEMMA: Words = Words {
    open: "<start_function_call>",
    close: "<end_function_call>",
    quote: "<escape>",
};

pub(super) const CALL: &str = "call:";

#[derive(Debug)]
pub(super) struct Gemma {
    words: Words,
    at: At,
}

#[derive(Debug)]
enum At {
    /// Bytes of `call:` that came.
    Call(usize),
    Name(String),
    Arguments(LooseValue),
    Closing(Closing),
}

impl Gemma {
    pub(super) fn new(words: Words) -> Self {
        Self {
            words,
            at: At::Call(0),
        }
    }
}

impl Reader for Gemma {
    fn step(&mut self, c: char, out: &mut Out) -> Taken {
        match &mut self.at {
            At::Call(0) if c.is_whitespace() => {}
            At::Call(seen) if CALL[*seen..].starts_with(c) => {
                *seen += 1;
                if *seen == CALL.len() {
                    self.at = At::Name(String::new());
                }
            }
            At::Call(_) => return Taken::Bad,
            At::Name(name) if c == '{' => {
                if !out.begin(name, None) {
                    return Taken::Bad;
                }
                self.at = At::Arguments(LooseValue::new(Dialect::Marked(self.words.quote)));
                return self.step(c, out);
            }
            At::Name(name) if c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/') => {
                name.push(c)
            }
            At::Name(_) => return Taken::Bad,
            At::Arguments(value) => {
                let mut json = String::new();
                let step = value.step(c, &mut json);
                out.arguments(&json);
                match step {
                    Step::Over if out.end() => {
                        self.at = At::Closing(Closing::new(self.words.close))
                    }
                    Step::More => {}
                    _ => return Taken::Bad,
                }
            }
            At::Closing(closing) => return closing.step(c),
        }
        Taken::More
    }

    fn finish(&mut self, _: &mut Out) -> bool {
        matches!(self.at, At::Closing(_))
    }
}
