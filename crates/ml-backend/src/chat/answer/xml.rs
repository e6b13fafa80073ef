//! Parameters as elements: `<tool_call><function=name><parameter=key>value</parameter></function></tool_call>`, of
//! Qwen3-Coder and Qwen3.5.
//!
//! A value stands between two line breaks that are not part of it and has no quotes, so the tool's schema says what
//! it is. A text is handed out while it comes; of anything else it is not known before its end what it is.

use super::json;
use super::out::Out;
use super::reader::{Closing, Reader, Taken, overlap};
use super::tags;
use super::tools::Kinds;

pub(super) const FUNCTION: &str = "<function=";
pub(super) const FUNCTION_END: &str = "</function>";
pub(super) const PARAMETER: &str = "<parameter=";
pub(super) const PARAMETER_END: &str = "</parameter>";
/// The same with the line break that belongs to it.
const VALUE_END: &str = "\n</parameter>";

#[derive(Debug)]
pub(super) struct Xml {
    at: At,
    /// What came of a marker, a name or a key.
    held: String,
    name: String,
    parameters: usize,
}

#[derive(Debug)]
enum At {
    Open,
    Name,
    /// A parameter, or the end.
    Body,
    Key,
    Value(Value),
    Closing(Closing),
}

#[derive(Debug)]
struct Value {
    kinds: Kinds,
    /// Whether its first character is still to come.
    first: bool,
    /// The end of what came, as far as it may belong to the marker.
    held: String,
    /// What is not known to be a text.
    written: String,
}

impl Xml {
    /// Behind `<tool_call>`.
    pub(super) fn new() -> Self {
        Self::at(At::Open)
    }

    /// Behind `<function=`, where a model forgot the other.
    pub(super) fn function() -> Self {
        Self::at(At::Name)
    }

    fn at(at: At) -> Self {
        Self {
            at,
            held: String::new(),
            name: String::new(),
            parameters: 0,
        }
    }

    /// Which of these the characters since the last step are; `Err` where they begin none.
    fn marker(&mut self, c: char, markers: &[&'static str]) -> Result<Option<&'static str>, ()> {
        if self.held.is_empty() && c.is_whitespace() {
            return Ok(None);
        }
        self.held.push(c);
        let found = markers.iter().find(|marker| **marker == self.held);
        if found.is_some() {
            self.held.clear();
        } else if !markers.iter().any(|marker| marker.starts_with(&self.held)) {
            return Err(());
        }
        Ok(found.copied())
    }

    /// A name or a key up to `>`; `Err` where it is none.
    fn word(&mut self, c: char) -> Result<Option<String>, ()> {
        match c {
            '>' if !self.held.is_empty() => Ok(Some(std::mem::take(&mut self.held))),
            '<' | '>' | '\n' => Err(()),
            _ => {
                self.held.push(c);
                Ok(None)
            }
        }
    }

    fn try_step(&mut self, c: char, out: &mut Out) -> Result<Taken, ()> {
        match &mut self.at {
            At::Open => {
                if self.marker(c, &[FUNCTION])?.is_some() {
                    self.at = At::Name;
                }
            }
            At::Name => {
                if let Some(name) = self.word(c)? {
                    if !out.begin(name.trim(), None) {
                        return Err(());
                    }
                    name.trim().clone_into(&mut self.name);
                    self.parameters = 0;
                    self.at = At::Body;
                }
            }
            At::Body => match self.marker(c, &[PARAMETER, FUNCTION_END])? {
                Some(PARAMETER) => self.at = At::Key,
                Some(_) => {
                    out.arguments(if self.parameters == 0 { "{}" } else { "}" });
                    if !out.end() {
                        return Err(());
                    }
                    self.at = At::Closing(Closing::new(tags::CLOSE));
                }
                None => {}
            },
            At::Key => {
                if let Some(key) = self.word(c)? {
                    out.arguments(if self.parameters == 0 { "{" } else { "," });
                    self.parameters += 1;
                    let key = key.trim();
                    out.arguments(&json::quoted(key));
                    out.arguments(":");
                    let value = Value::new(out.tools.kinds(&self.name, key));
                    if value.kinds.only_text() {
                        out.arguments("\"");
                    }
                    self.at = At::Value(value);
                }
            }
            At::Value(value) => {
                if value.step(c, out) {
                    self.at = At::Body;
                }
            }
            At::Closing(closing) => return Ok(closing.step(c)),
        }
        Ok(Taken::More)
    }
}

impl Value {
    fn new(kinds: Kinds) -> Self {
        Self {
            kinds,
            first: true,
            held: String::new(),
            written: String::new(),
        }
    }

    /// Whether it ended.
    fn step(&mut self, c: char, out: &mut Out) -> bool {
        if std::mem::take(&mut self.first) && c == '\n' {
            return false;
        }
        self.held.push(c);
        let Some(whole) = self.held.strip_suffix(PARAMETER_END) else {
            let keep = overlap(&self.held, [VALUE_END, PARAMETER_END]);
            let rest = self.held.split_off(self.held.len() - keep);
            let certain = std::mem::replace(&mut self.held, rest);
            self.put(&certain, out);
            return false;
        };
        let rest = whole.strip_suffix('\n').unwrap_or(whole).to_owned();
        self.put(&rest, out);
        match self.kinds.only_text() {
            true => out.arguments("\""),
            false => out.arguments(&self.kinds.json_of(&self.written)),
        }
        true
    }

    fn put(&mut self, text: &str, out: &mut Out) {
        if !self.kinds.only_text() {
            return self.written.push_str(text);
        }
        let mut json = String::with_capacity(text.len());
        text.chars().for_each(|c| json::push_plain(c, &mut json));
        out.arguments(&json);
    }
}

impl Reader for Xml {
    fn step(&mut self, c: char, out: &mut Out) -> Taken {
        self.try_step(c, out).unwrap_or(Taken::Bad)
    }

    fn finish(&mut self, _: &mut Out) -> bool {
        matches!(self.at, At::Closing(_))
    }
}
