//! Values that are nearly JSON, read a character at a time and written as JSON.
//!
//! Gemma 4 writes keys bare and quotes texts by a token; Python has its own words, quotes, escapes and tuples. What
//! comes is handed on at once, but for bare words, which end by what follows them.

use super::json::{self, DEEPEST, Step};

/// Whose values they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Keys bare, texts between two of this marker; words that are nothing else are texts.
    Marked(&'static str),
    /// Literals of Python, dictionaries, lists and tuples.
    Python,
}

/// A value on its way.
#[derive(Debug)]
pub(super) struct LooseValue {
    dialect: Dialect,
    /// What closes the containers that are open.
    open: Vec<char>,
    at: At,
    /// Whether the text or word is a key.
    key: bool,
    /// A comma came, which is none where the container ends behind it: Python takes one there.
    comma: bool,
}

#[derive(Debug)]
enum At {
    Value,
    ValueOrClose,
    KeyOrClose,
    Colon,
    Next,
    Word(String),
    /// As far as an opening marker has come.
    Marker(String),
    /// In a text between markers; the end of what came that may be one.
    Marked(String),
    Quoted(Quoted),
}

/// A text in quotes.
#[derive(Debug)]
struct Quoted {
    quote: char,
    /// Quotes in a row: at the beginning, or in a text of three quotes.
    run: usize,
    begun: bool,
    long: bool,
    raw: bool,
    escape: Escape,
}

#[derive(Debug)]
enum Escape {
    None,
    Begun,
    /// Digits to come, and the code so far.
    Hex(u8, u32),
}

impl LooseValue {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            open: Vec::new(),
            at: At::Value,
            key: false,
            comma: false,
        }
    }

    /// Takes a character and appends what is known of the value to `out`, as JSON.
    pub(super) fn step(&mut self, c: char, out: &mut String) -> Step {
        match &mut self.at {
            At::Word(word) => {
                let more = match self.dialect {
                    Dialect::Python => c.is_alphanumeric() || matches!(c, '_' | '.' | '+' | '-'),
                    Dialect::Marked(_) => {
                        !(matches!(c, ',' | '}' | ']' | '\n') || self.key && c == ':')
                    }
                };
                if more {
                    word.push(c);
                    return Step::More;
                }
                let word = std::mem::take(word);
                if matches!(c, '"' | '\'') && matches!(word.as_str(), "r" | "R" | "u" | "U") {
                    return self.quoted(c, word.eq_ignore_ascii_case("r"), out);
                }
                let Some(json) = self.word(&word) else {
                    return Step::Bad;
                };
                out.push_str(&json);
                if self.ended() == Step::Over {
                    return Step::Before;
                }
                self.structure(c, out)
            }
            At::Marker(seen) => {
                seen.push(c);
                let Dialect::Marked(marker) = self.dialect else {
                    return Step::Bad;
                };
                if marker == seen {
                    out.push('"');
                    self.at = At::Marked(String::new());
                } else if !marker.starts_with(seen.as_str()) {
                    return Step::Bad;
                }
                Step::More
            }
            At::Marked(held) => {
                held.push(c);
                let Dialect::Marked(marker) = self.dialect else {
                    return Step::Bad;
                };
                if let Some(rest) = held.strip_suffix(marker) {
                    rest.chars().for_each(|c| json::push_plain(c, out));
                    out.push('"');
                    return self.ended();
                }
                let keep = super::reader::overlap(held, [marker]);
                let rest = held.split_off(held.len() - keep);
                let certain = std::mem::replace(held, rest);
                certain.chars().for_each(|c| json::push_plain(c, out));
                Step::More
            }
            At::Quoted(quoted) => match quoted.step(c, out) {
                Step::Over => self.ended(),
                Step::Before => match self.ended() {
                    Step::Over => Step::Before,
                    _ => self.structure(c, out),
                },
                step => step,
            },
            _ => self.structure(c, out),
        }
    }

    fn structure(&mut self, c: char, out: &mut String) -> Step {
        match (&self.at, c) {
            (_, c) if c.is_whitespace() => return Step::More,
            (At::Colon, ':') => {
                out.push(':');
                self.at = At::Value;
                return Step::More;
            }
            (At::Next, ',') => {
                self.comma = true;
                self.at = match self.open.last() {
                    Some('}') => At::KeyOrClose,
                    _ => At::ValueOrClose,
                };
                return Step::More;
            }
            (At::KeyOrClose | At::ValueOrClose | At::Next, '}' | ']' | ')')
                if self.open.last() == Some(&c) =>
            {
                self.comma = false;
                self.open.pop();
                out.push(if c == '}' { '}' } else { ']' });
                return self.ended();
            }
            (At::KeyOrClose | At::Value | At::ValueOrClose, _) => {}
            _ => return Step::Bad,
        }
        if std::mem::take(&mut self.comma) {
            out.push(',');
        }
        self.key = matches!(self.at, At::KeyOrClose);
        match c {
            _ if self.key => self.scalar(c, out),
            '{' => self.opened('}', At::KeyOrClose, '{', out),
            '[' => self.opened(']', At::ValueOrClose, '[', out),
            '(' if self.dialect == Dialect::Python => self.opened(')', At::ValueOrClose, '[', out),
            _ => self.scalar(c, out),
        }
    }

    fn opened(&mut self, close: char, at: At, json: char, out: &mut String) -> Step {
        if self.open.len() == DEEPEST {
            return Step::Bad;
        }
        self.open.push(close);
        out.push(json);
        self.at = at;
        Step::More
    }

    /// A text or a word begins.
    fn scalar(&mut self, c: char, out: &mut String) -> Step {
        match self.dialect {
            Dialect::Marked(marker) if marker.starts_with(c) => {
                self.at = At::Marker(c.to_string());
                Step::More
            }
            Dialect::Marked(_) if c == '"' => self.quoted(c, false, out),
            Dialect::Python if matches!(c, '"' | '\'') => self.quoted(c, false, out),
            Dialect::Python if !(c.is_alphanumeric() || matches!(c, '_' | '.' | '+' | '-')) => {
                Step::Bad
            }
            Dialect::Marked(_) if matches!(c, ',' | ':' | '{' | '}' | '[' | ']') => Step::Bad,
            _ => {
                self.at = At::Word(c.to_string());
                Step::More
            }
        }
    }

    fn quoted(&mut self, quote: char, raw: bool, out: &mut String) -> Step {
        out.push('"');
        self.at = At::Quoted(Quoted {
            quote,
            run: 0,
            begun: false,
            long: false,
            raw,
            escape: Escape::None,
        });
        Step::More
    }

    fn ended(&mut self) -> Step {
        self.at = match std::mem::take(&mut self.key) {
            true => At::Colon,
            false => At::Next,
        };
        match self.open.is_empty() {
            true => Step::Over,
            false => Step::More,
        }
    }

    /// The JSON of a bare word; `None` where it has no meaning.
    fn word(&self, word: &str) -> Option<String> {
        let word = word.trim();
        if self.key {
            let bare = matches!(self.dialect, Dialect::Marked(_)) || python_number(word).is_some();
            return bare.then(|| json::quoted(word));
        }
        let json = match word {
            "true" | "True" => "true".to_owned(),
            "false" | "False" => "false".to_owned(),
            "null" | "None" => "null".to_owned(),
            _ => match (python_number(word), self.dialect) {
                (Some(number), _) => number,
                (None, Dialect::Marked(_)) => json::quoted(word),
                (None, Dialect::Python) => return None,
            },
        };
        Some(json)
    }
}

/// The JSON of a number as Python writes it.
fn python_number(word: &str) -> Option<String> {
    let is_number =
        |text: &str| matches!(serde_json::from_str(text), Ok(serde_json::Value::Number(_)));
    if is_number(word) {
        return Some(word.to_owned());
    }
    let word = word.replace('_', "");
    let word = word.strip_prefix('+').unwrap_or(&word);
    if is_number(word) {
        return Some(word.to_owned());
    }
    // `.5` and `1.`
    let looks_like_one = word.contains(|c: char| c.is_ascii_digit())
        && word
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    let number: f64 = word.parse().ok().filter(|_| looks_like_one)?;
    serde_json::Number::from_f64(number).map(|number| number.to_string())
}

impl Quoted {
    /// Over with the character, or before it where an empty text turned out to be one.
    fn step(&mut self, c: char, out: &mut String) -> Step {
        if let Escape::Hex(left, code) = self.escape {
            let Some(digit) = c.to_digit(16) else {
                return Step::Bad;
            };
            let code = code * 16 + digit;
            self.escape = match left {
                1 => match char::from_u32(code) {
                    Some(c) => {
                        json::push_plain(c, out);
                        Escape::None
                    }
                    None => return Step::Bad,
                },
                left => Escape::Hex(left - 1, code),
            };
            return Step::More;
        }
        if matches!(self.escape, Escape::Begun) {
            self.escape = Escape::None;
            return self.escaped(c, out);
        }
        if !self.begun {
            // `''` is empty, `'''` begins a long one.
            match (c == self.quote, self.run) {
                (true, 1) => (self.begun, self.long, self.run) = (true, true, 0),
                (true, _) => self.run = 1,
                (false, 1) => {
                    out.push('"');
                    return Step::Before;
                }
                (false, _) => self.begun = true,
            }
            if !self.begun || self.long {
                return Step::More;
            }
        }
        if c == self.quote {
            self.run += 1;
            if !self.long || self.run == 3 {
                out.push('"');
                return Step::Over;
            }
            return Step::More;
        }
        for _ in 0..std::mem::take(&mut self.run) {
            json::push_plain(self.quote, out);
        }
        match c {
            '\\' if !self.raw => self.escape = Escape::Begun,
            c => json::push_plain(c, out),
        }
        Step::More
    }

    fn escaped(&mut self, c: char, out: &mut String) -> Step {
        let plain = match c {
            '\n' => return Step::More,
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'a' => '\u{7}',
            'v' => '\u{b}',
            '0' => '\0',
            '\\' | '\'' | '"' | '/' => c,
            'x' | 'u' | 'U' => {
                let digits = [('x', 2), ('u', 4), ('U', 8)];
                let digits = digits.iter().find(|(it, _)| *it == c);
                self.escape = Escape::Hex(digits.map_or(4, |(_, digits)| *digits), 0);
                return Step::More;
            }
            c => {
                json::push_plain('\\', out);
                c
            }
        };
        json::push_plain(plain, out);
        Step::More
    }
}
