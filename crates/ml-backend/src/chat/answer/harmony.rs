//! Harmony, of gpt-oss: an answer is several messages, each with a header that says what it is.
//!
//! `<|channel|>analysis<|message|>..<|end|>` is reasoning, `final` the answer; `commentary` with `to=functions.name`
//! is a call, whose arguments are JSON, and without it a word to the user before one. `<|start|>assistant` begins the
//! next message; of the first one the prompt has it. <https://github.com/openai/harmony>

use super::json::{JsonValue, Step};
use super::out::Out;
use super::reader::overlap;

pub(super) const START: &str = "<|start|>";
pub(super) const MESSAGE: &str = "<|message|>";
pub(super) const CHANNEL: &str = "<|channel|>";
const CONSTRAIN: &str = "<|constrain|>";
/// What ends a body.
const ENDS: [&str; 4] = ["<|end|>", "<|call|>", "<|return|>", START];
pub(super) const TOKENS: [&str; 7] = [
    START, CHANNEL, CONSTRAIN, MESSAGE, ENDS[0], ENDS[1], ENDS[2],
];
/// No header is as long.
const LONGEST_HEADER: usize = 512;

#[derive(Debug)]
pub(super) struct Harmony {
    /// Whether calls are read; else they are text.
    calls: bool,
    at: At,
    /// The header, or the end of a body as far as it may be a marker.
    held: String,
    /// Whether no header came yet, so that a model that writes none is understood.
    first: bool,
}

#[derive(Debug)]
enum At {
    Header,
    Reasoning,
    Text,
    Call(JsonValue),
    /// Behind the arguments.
    CallOver,
    /// Behind a message, before `<|start|>`.
    Between,
}

impl Harmony {
    pub(super) fn new(calls: bool) -> Self {
        Self {
            calls,
            at: At::Header,
            held: String::new(),
            first: true,
        }
    }

    pub(super) fn in_reasoning(&self) -> bool {
        matches!(self.at, At::Reasoning)
    }

    pub(super) fn step(&mut self, c: char, out: &mut Out) {
        self.held.push(c);
        match self.at {
            At::Header => self.header(out),
            _ => self.body(out),
        }
    }

    fn header(&mut self, out: &mut Out) {
        if let Some(header) = self.held.strip_suffix(MESSAGE) {
            let (channel, recipient) = parts(header);
            let kind = match recipient {
                Some(name) if self.calls && out.begin(name, None) => {
                    out.raw.clone_from(&self.held);
                    At::Call(JsonValue::new())
                }
                Some(_) => {
                    self.plain(out);
                    return;
                }
                None if channel == "analysis" => {
                    out.thought();
                    At::Reasoning
                }
                None => {
                    out.new_line();
                    At::Text
                }
            };
            self.at = kind;
            self.first = false;
            self.held.clear();
            return;
        }
        let begun = self.held.trim_start();
        let begins = |with: &&str| begun.starts_with(with) || with.starts_with(begun);
        let may_be = !self.first
            || [CHANNEL, START, CONSTRAIN, MESSAGE, "to="]
                .iter()
                .any(begins);
        if !may_be || self.held.len() > LONGEST_HEADER {
            self.plain(out);
        }
    }

    /// What came as a header is text, and what follows it.
    fn plain(&mut self, out: &mut Out) {
        self.at = At::Text;
        self.first = false;
        std::mem::take(&mut self.held)
            .chars()
            .for_each(|c| out.text(c));
    }

    fn body(&mut self, out: &mut Out) {
        if let Some(marker) = ENDS.iter().find(|marker| self.held.ends_with(**marker)) {
            self.held.truncate(self.held.len() - marker.len());
            self.put(out);
            self.message_over(out);
            self.at = match *marker {
                START => At::Header,
                _ => At::Between,
            };
            return;
        }
        let keep = overlap(&self.held, ENDS);
        let rest = self.held.split_off(self.held.len() - keep);
        self.put(out);
        self.held = rest;
    }

    /// Puts what is held where it belongs.
    fn put(&mut self, out: &mut Out) {
        let text = std::mem::take(&mut self.held);
        for c in text.chars() {
            match &mut self.at {
                At::Reasoning => out.reasoning(c),
                At::Call(value) => {
                    out.raw.push(c);
                    let mut json = String::new();
                    let step = value.step(c, &mut json);
                    out.arguments(&json);
                    match step {
                        Step::More => {}
                        Step::Over if out.end() => self.at = At::CallOver,
                        _ => {
                            out.give_back();
                            self.at = At::Text;
                        }
                    }
                }
                At::CallOver if c.is_whitespace() => {}
                At::Between if c.is_whitespace() => {}
                At::CallOver | At::Between => {
                    self.at = At::Text;
                    out.text(c);
                }
                At::Text | At::Header => out.text(c),
            }
        }
    }

    fn message_over(&mut self, out: &mut Out) {
        match self.at {
            At::Call(_) => out.give_back(),
            At::Reasoning => out.thought_over(),
            _ => {}
        }
    }

    /// No more comes.
    pub(super) fn finish(&mut self, out: &mut Out) {
        match self.at {
            // A header says nothing, but for a call's.
            At::Header if parts(&self.held).1.is_some() => self.plain(out),
            At::Header if self.first && !self.held.trim_start().starts_with("<|") => {
                self.plain(out)
            }
            At::Header => {}
            _ => {
                self.put(out);
                self.message_over(out);
            }
        }
    }
}

/// The channel of a header, and the tool that it is for.
fn parts(header: &str) -> (&str, Option<&str>) {
    let word = |text: &'_ str| {
        text.find(|c: char| c.is_whitespace() || c == '<')
            .unwrap_or(text.len())
    };
    let channel = header
        .split_once(CHANNEL)
        .map_or("", |(_, rest)| &rest[..word(rest)]);
    let recipient = header
        .split_once("to=")
        .map(|(_, rest)| &rest[..word(rest)]);
    let recipient = recipient.map(|name| name.strip_prefix("functions.").unwrap_or(name));
    (channel, recipient)
}
