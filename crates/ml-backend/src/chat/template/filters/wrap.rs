//! `wordwrap`, by the rules of Python's `textwrap`.

use super::super::failure::{Outcome, fail};
use super::super::meter;
use super::super::python::{split, unicode};
use super::super::run::Run;
use super::super::run::arguments::{Args, given, integer, text};
use super::super::value::{Draft, Value};
use super::text::is_word;

/// `wordwrap(width=79, break_long_words=True, wrapstring='\n', break_on_hyphens=True)`.
pub(super) fn word_wrap(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let parameters = [
        "width",
        "break_long_words",
        "wrapstring",
        "break_on_hyphens",
    ];
    let [width, long_words, wrap, hyphens] = args.bind("wordwrap", parameters)?;
    let width = integer(width.as_ref(), 79)?;
    let wrap = given(wrap);
    let wrap = match &wrap {
        Some(wrap) => text(wrap)?,
        None => "\n",
    };
    let holds = |flag: Option<Value>| flag.is_none_or(|flag| flag.truth());
    let options = Options {
        width: usize::try_from(width).unwrap_or(0),
        long_words: holds(long_words),
        hyphens: holds(hyphens),
    };
    let of = text(&value)?;
    // Its characters, its parts, and its lines.
    meter::ensure(of.len().saturating_mul(64))?;
    meter::spend_text(of.len().saturating_mul(64))?;
    let mut draft = Draft::new();
    let mut first = true;
    for paragraph in split::lines(of, false)? {
        if options.width == 0 && !paragraph.is_empty() {
            return fail(format!("invalid width {width} (must be > 0)"));
        }
        let lines = options.wrap(paragraph);
        // A paragraph without lines still is one.
        let empty = [String::new()];
        for line in if lines.is_empty() { &empty[..] } else { &lines } {
            if !first {
                draft.push_str(wrap)?;
            }
            first = false;
            draft.push_str(line)?;
        }
    }
    draft.text().map(Value::Str)
}

struct Options {
    width: usize,
    long_words: bool,
    hyphens: bool,
}

fn is_blank(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\x0b' | '\x0c' | '\r' | ' ')
}

fn is_letter(character: char) -> bool {
    is_word(character) && unicode::decimal(character).is_none()
}

/// What may stand before a dash that ends a word.
fn is_punctuation(character: char) -> bool {
    is_word(character) || matches!(character, '!' | '"' | '\'' | '&' | '.' | ',' | '?')
}

impl Options {
    fn wrap(&self, paragraph: &str) -> Vec<String> {
        let text: Vec<char> = paragraph.chars().collect();
        let mut chunks = self.chunks(&text);
        chunks.reverse();
        let mut lines = Vec::new();
        while let Some(next) = chunks.last() {
            if !lines.is_empty() && next.iter().all(|it| it.is_whitespace()) {
                chunks.pop();
            }
            let mut line: Vec<&[char]> = Vec::new();
            let mut length = 0;
            while let Some(chunk) = chunks.pop_if(|chunk| length + chunk.len() <= self.width) {
                length += chunk.len();
                line.push(chunk);
            }
            if let Some(long) = chunks.pop_if(|chunk| chunk.len() > self.width) {
                if self.long_words {
                    let (part, rest) = long.split_at(self.end_of_part(long, self.width - length));
                    line.push(part);
                    chunks.push(rest);
                } else if line.is_empty() {
                    line.push(long);
                } else {
                    chunks.push(long);
                }
            }
            if line
                .last()
                .is_some_and(|last| last.iter().all(|it| it.is_whitespace()))
            {
                line.pop();
            }
            if !line.is_empty() {
                lines.push(line.concat().iter().collect());
            }
        }
        lines
    }

    /// Where a word that is too long is broken: after its last hyphen, if that leaves something.
    fn end_of_part(&self, word: &[char], room: usize) -> usize {
        let hyphen = word[..room].iter().rposition(|it| *it == '-');
        match hyphen {
            Some(hyphen)
                if self.hyphens && hyphen > 0 && word[..hyphen].iter().any(|it| *it != '-') =>
            {
                hyphen + 1
            }
            _ => room,
        }
    }

    /// The parts that are not broken: words, whitespace, dashes, and the parts of hyphenated
    /// words.
    fn chunks<'text>(&self, text: &'text [char]) -> Vec<&'text [char]> {
        let mut chunks = Vec::new();
        let mut start = 0;
        while start < text.len() {
            let end = if is_blank(text[start]) {
                let length = text[start..].iter().take_while(|it| is_blank(**it)).count();
                start + length
            } else if self.hyphens {
                dash(text, start).unwrap_or_else(|| end_of_word(text, start))
            } else {
                let length = text[start..]
                    .iter()
                    .take_while(|it| !is_blank(**it))
                    .count();
                start + length
            };
            chunks.push(&text[start..end]);
            start = end;
        }
        chunks
    }
}

/// The end of a dash of two or more hyphens between words, which begins at `at`.
fn dash(text: &[char], at: usize) -> Option<usize> {
    let after_word = at > 0 && is_punctuation(text[at - 1]);
    if !after_word || text[at..].iter().take(2).any(|it| *it != '-') {
        return None;
    }
    let end = at + text[at..].iter().take_while(|it| **it == '-').count();
    (end >= at + 2 && text.get(end).is_some_and(|it| is_word(*it))).then_some(end)
}

fn end_of_word(text: &[char], start: usize) -> usize {
    let letter = |at: Option<usize>| {
        at.and_then(|at| text.get(at))
            .is_some_and(|it| is_letter(*it))
    };
    let hyphen = |at: Option<usize>| at.and_then(|at| text.get(at)).is_some_and(|it| *it == '-');
    for end in start + 1..=text.len() {
        if end == text.len() || is_blank(text[end]) {
            return end;
        }
        if text[end] == '-' {
            let back = |by: usize| end.checked_sub(by);
            let two_letters = letter(back(1)) && letter(back(2));
            let one_before = letter(back(3))
                && hyphen(back(2))
                && back(1)
                    .and_then(|at| text.get(at))
                    .is_some_and(|it| is_punctuation(*it));
            let after = letter(Some(end + 1))
                && (letter(Some(end + 2)) || hyphen(Some(end + 2)) && letter(Some(end + 3)));
            if (two_letters || one_before) && after {
                return end + 1;
            }
            if dash(text, end).is_some() {
                return end;
            }
        }
    }
    text.len()
}
