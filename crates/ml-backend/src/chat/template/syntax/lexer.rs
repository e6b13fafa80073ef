//! From source to tokens, with the whitespace control that transformers sets up: `trim_blocks`,
//! `lstrip_blocks`, and one line end less at the end.

use std::fmt;

use super::super::failure::{Failure, Outcome};
use super::literal;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// What stands outside of tags.
    Data(String),
    OutputBegin,
    OutputEnd,
    BlockBegin,
    BlockEnd,
    Name(String),
    Str(String),
    Int(i128),
    Float(f64),
    Operator(&'static str),
    End,
}

#[derive(Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) line: u32,
}

/// Longer ones first.
const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}",
    ">", "<", "=", ".", ":", "|", ",", ";",
];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(_) => f.write_str("text"),
            Self::OutputBegin => f.write_str("'{{'"),
            Self::OutputEnd => f.write_str("'}}'"),
            Self::BlockBegin => f.write_str("'{%'"),
            Self::BlockEnd => f.write_str("'%}'"),
            Self::Name(name) => write!(f, "'{name}'"),
            Self::Str(_) => f.write_str("a string"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::Operator(operator) => write!(f, "'{operator}'"),
            Self::End => f.write_str("the end of the template"),
        }
    }
}

pub(super) fn tokens(source: &str) -> Outcome<Vec<Token>> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = source.strip_suffix('\n').unwrap_or(&source);
    let mut lexer = Lexer {
        source,
        at: 0,
        line: 1,
        counted: 0,
        at_line_start: true,
        tokens: Vec::new(),
    };
    lexer.run()?;
    Ok(lexer.tokens)
}

struct Lexer<'source> {
    source: &'source str,
    at: usize,
    line: u32,
    /// Up to where lines were counted.
    counted: usize,
    /// Whether the last tag ended with a line end.
    at_line_start: bool,
    tokens: Vec<Token>,
}

impl<'source> Lexer<'source> {
    fn rest(&self) -> &'source str {
        &self.source[self.at..]
    }

    /// The line of the current place.
    fn here(&mut self) -> u32 {
        let passed = self.source.as_bytes()[self.counted..self.at].iter();
        let lines = passed.filter(|byte| **byte == b'\n').count();
        self.line = self
            .line
            .saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        self.counted = self.at;
        self.line
    }

    fn wrong<T>(&mut self, problem: impl Into<String>) -> Outcome<T> {
        let line = self.here();
        Err(Failure::new(problem).at(line))
    }

    fn push(&mut self, kind: Kind) {
        let line = self.here();
        self.tokens.push(Token { kind, line });
    }

    fn run(&mut self) -> Outcome<()> {
        loop {
            let rest = self.rest();
            let starts = rest.match_indices('{').map(|(start, _)| start);
            let start = starts
                .into_iter()
                .find(|start| matches!(rest.as_bytes().get(start + 1), Some(b'{' | b'%' | b'#')));
            let Some(start) = start else {
                self.data(rest);
                return Ok(());
            };
            let tag = &rest[start..];
            let kind = tag.as_bytes()[1];
            let sign = tag
                .as_bytes()
                .get(2)
                .copied()
                .filter(|it| matches!(it, b'-' | b'+'));
            let text = &rest[..start];
            let kept = match sign {
                Some(b'-') => text.trim_end_matches(literal::is_space),
                None if kind != b'{' => self.without_indentation(text),
                _ => text,
            };
            self.data(kept);
            self.at += start;
            let opened = self.at;
            self.at += 2 + usize::from(sign.is_some());
            match kind {
                b'#' => self.comment()?,
                b'{' => {
                    self.push(Kind::OutputBegin);
                    self.tag("}}")?;
                }
                _ if self.raw()? => {}
                _ => {
                    self.push(Kind::BlockBegin);
                    self.tag("%}")?;
                }
            }
            let matched = &self.source[opened..self.at];
            self.at_line_start = matched.ends_with('\n');
        }
    }

    /// Whitespace between a line's start and a block goes.
    fn without_indentation(&self, text: &'source str) -> &'source str {
        let line = text.rfind('\n').map_or(0, |end| end + 1);
        let whole = line > 0 || self.at_line_start;
        if whole && text[line..].chars().all(literal::is_space) {
            &text[..line]
        } else {
            text
        }
    }

    fn data(&mut self, text: &str) {
        if !text.is_empty() {
            self.push(Kind::Data(text.to_owned()));
        }
    }

    /// After the end of a block or a comment: the line end goes, or with a minus all whitespace.
    fn trim(&mut self, sign: Option<u8>) {
        match sign {
            Some(b'-') => self.skip_space(),
            Some(b'+') => {}
            _ => self.at += usize::from(self.rest().starts_with('\n')),
        }
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches(literal::is_space).len();
    }

    fn comment(&mut self) -> Outcome<()> {
        let Some(end) = self.rest().find("#}") else {
            return self.wrong("missing end of comment tag");
        };
        let sign = self.rest().as_bytes()[..end].last().copied();
        self.at += end + 2;
        self.trim(sign);
        Ok(())
    }

    /// Takes a raw block, in which nothing is a tag but its end. Returns whether there is one.
    fn raw(&mut self) -> Outcome<bool> {
        let name = self.rest().trim_start_matches(literal::is_space);
        let Some(after) = name.strip_prefix("raw") else {
            return Ok(false);
        };
        let after = after.trim_start_matches(literal::is_space);
        let inside = match (after.strip_prefix("%}"), after.strip_prefix("-%}")) {
            (Some(inside), _) => inside,
            (_, Some(inside)) => inside.trim_start_matches(literal::is_space),
            _ => return Ok(false),
        };
        self.at = self.source.len() - inside.len();
        self.at_line_start = self.source[..self.at].ends_with('\n');
        for (start, _) in inside.match_indices("{%") {
            let tag = &inside[start + 2..];
            let sign = tag
                .as_bytes()
                .first()
                .copied()
                .filter(|it| matches!(it, b'-' | b'+'));
            let name = tag[usize::from(sign.is_some())..].trim_start_matches(literal::is_space);
            let Some(end) = name.strip_prefix("endraw") else {
                continue;
            };
            let end = end.trim_start_matches(literal::is_space);
            let closing = end
                .as_bytes()
                .first()
                .copied()
                .filter(|it| matches!(it, b'-' | b'+'));
            let Some(end) = end[usize::from(closing.is_some())..].strip_prefix("%}") else {
                continue;
            };
            let text = &inside[..start];
            let kept = match sign {
                Some(b'-') => text.trim_end_matches(literal::is_space),
                None => self.without_indentation(text),
                _ => text,
            };
            self.data(kept);
            self.at = self.source.len() - end.len();
            self.trim(closing);
            return Ok(true);
        }
        self.wrong("missing end of raw directive")
    }

    /// Takes the inside of a tag up to its end, which counts only outside of brackets.
    fn tag(&mut self, end: &str) -> Outcome<()> {
        let mut open = Vec::new();
        loop {
            self.skip_space();
            let rest = self.rest();
            if rest.is_empty() {
                return self.wrong(format!("the tag is not closed by '{end}'"));
            }
            if open.is_empty() {
                let sign = rest.as_bytes()[0];
                let signed = sign == b'-' || (sign == b'+' && end == "%}");
                let after = rest[usize::from(signed)..].strip_prefix(end);
                if let Some(after) = after {
                    self.push(if end == "}}" {
                        Kind::OutputEnd
                    } else {
                        Kind::BlockEnd
                    });
                    self.at = self.source.len() - after.len();
                    match end {
                        "%}" => self.trim(signed.then_some(sign)),
                        _ if signed => self.skip_space(),
                        _ => {}
                    }
                    return Ok(());
                }
            }
            let before = self
                .at
                .checked_sub(1)
                .map(|before| self.source.as_bytes()[before]);
            let (kind, length) = match literal::read(rest, before == Some(b'.')) {
                Ok(Some(literal)) => literal,
                Ok(None) => match OPERATORS.iter().find(|it| rest.starts_with(**it)) {
                    Some(operator) => (Kind::Operator(operator), operator.len()),
                    None => {
                        let character = rest.chars().next().unwrap_or_default();
                        return self.wrong(format!("unexpected char '{character}'"));
                    }
                },
                Err(problem) => return self.wrong(problem),
            };
            if let Kind::Operator(operator) = kind {
                match operator {
                    "(" => open.push(")"),
                    "[" => open.push("]"),
                    "{" => open.push("}"),
                    ")" | "]" | "}" if open.pop() != Some(operator) => {
                        return self.wrong(format!("unexpected '{operator}'"));
                    }
                    _ => {}
                }
            }
            self.push(kind);
            self.at += length;
        }
    }
}
