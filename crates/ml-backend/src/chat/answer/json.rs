//! One JSON value, read a character at a time.
//!
//! It says where the value ends and whether it is one, so that arguments can be handed out while they come. Line
//! breaks and other control characters inside of texts, which models write and JSON forbids, are escaped. What it
//! accepts is JSON in form; numbers beyond all bounds and halves of surrogate pairs are found when a call ends.

use std::fmt::Write as _;

/// Containers within containers: serde_json reads a few more.
pub(super) const DEEPEST: usize = 100;

/// What a character did to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is more to come.
    More,
    /// The value ended with it.
    Over,
    /// The value ended before it.
    Before,
    /// It has no place there.
    Bad,
}

/// A value on its way.
#[derive(Debug)]
pub(super) struct JsonValue {
    /// The containers that are open: whether each is an object.
    open: Vec<bool>,
    at: At,
}

#[derive(Debug)]
enum At {
    Value,
    ValueOrClose,
    Key,
    KeyOrClose,
    Colon,
    Next,
    Text {
        key: bool,
        escape: Escape,
    },
    /// A number, `true`, `false` or `null`, as far as it has come.
    Word(String),
}

#[derive(Clone, Copy, Debug)]
enum Escape {
    None,
    Begun,
    Hex(u8),
}

impl JsonValue {
    pub(super) fn new() -> Self {
        Self {
            open: Vec::new(),
            at: At::Value,
        }
    }

    /// Takes a character and appends it to `out`, unless the value ended before it.
    pub(super) fn step(&mut self, c: char, out: &mut String) -> Step {
        if let At::Word(word) = &mut self.at {
            if c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.') {
                word.push(c);
                out.push(c);
                return Step::More;
            }
            if serde_json::from_str::<serde_json::Value>(word).is_err() {
                return Step::Bad;
            }
            if self.open.is_empty() {
                return Step::Before;
            }
            self.at = At::Next;
        }
        let step = match &mut self.at {
            At::Text { .. } => return self.in_text(c, out),
            _ if matches!(c, ' ' | '\t' | '\n' | '\r') => Step::More,
            _ => self.structure(c),
        };
        if step != Step::Bad {
            out.push(c);
        }
        step
    }

    fn in_text(&mut self, c: char, out: &mut String) -> Step {
        let At::Text { key, escape } = &mut self.at else {
            return Step::Bad;
        };
        *escape = match (*escape, c) {
            (Escape::None, '"') => {
                out.push(c);
                if *key {
                    self.at = At::Colon;
                    return Step::More;
                }
                return self.value_ended();
            }
            (Escape::None, '\\') => Escape::Begun,
            (Escape::None, _) => {
                push_escaped(c, out);
                return Step::More;
            }
            (Escape::Begun, 'u') => Escape::Hex(4),
            (Escape::Begun, '"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => Escape::None,
            (Escape::Hex(1), _) if c.is_ascii_hexdigit() => Escape::None,
            (Escape::Hex(left), _) if c.is_ascii_hexdigit() => Escape::Hex(left - 1),
            _ => return Step::Bad,
        };
        out.push(c);
        Step::More
    }

    fn structure(&mut self, c: char) -> Step {
        match (&self.at, c) {
            (At::Value | At::ValueOrClose, '{') => return self.opened(true, At::KeyOrClose),
            (At::Value | At::ValueOrClose, '[') => return self.opened(false, At::ValueOrClose),
            (At::Value | At::ValueOrClose, '"') => self.at = text(false),
            (At::Value | At::ValueOrClose, '-' | '0'..='9' | 't' | 'f' | 'n') => {
                self.at = At::Word(c.to_string());
            }
            (At::Key | At::KeyOrClose, '"') => self.at = text(true),
            (At::Colon, ':') => self.at = At::Value,
            (At::Next, ',') => {
                let object = self.open.last() == Some(&true);
                self.at = if object { At::Key } else { At::Value };
            }
            (At::KeyOrClose, '}') | (At::ValueOrClose, ']') => return self.closed(),
            (At::Next, '}' | ']') if self.open.last() == Some(&(c == '}')) => return self.closed(),
            _ => return Step::Bad,
        }
        Step::More
    }

    fn opened(&mut self, object: bool, at: At) -> Step {
        if self.open.len() == DEEPEST {
            return Step::Bad;
        }
        self.open.push(object);
        self.at = at;
        Step::More
    }

    fn closed(&mut self) -> Step {
        self.open.pop();
        self.value_ended()
    }

    fn value_ended(&mut self) -> Step {
        self.at = At::Next;
        match self.open.is_empty() {
            true => Step::Over,
            false => Step::More,
        }
    }
}

fn text(key: bool) -> At {
    At::Text {
        key,
        escape: Escape::None,
    }
}

/// A character inside of a JSON text that was not escaped, with control characters escaped.
pub(super) fn push_escaped(c: char, out: &mut String) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if c < ' ' => {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        }
        c => out.push(c),
    }
}

/// A character of a plain text inside of a JSON text.
pub(super) fn push_plain(c: char, out: &mut String) {
    if matches!(c, '"' | '\\') {
        out.push('\\');
    }
    push_escaped(c, out);
}

/// A plain text as JSON.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    text.chars().for_each(|c| push_plain(c, &mut out));
    out.push('"');
    out
}
