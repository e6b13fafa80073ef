//! What is changed in a template's source before MiniJinja reads it, none of which moves a line:
//!
//! - line ends become `\n`, as Jinja2 makes them;
//! - `{% generation %}`, by which transformers marks the model's words for training, becomes a
//!   plain scope, `{% with %}`;
//! - `{% raw %}` keeps the line end after it, which MiniJinja would trim;
//! - escapes in string literals that MiniJinja reads otherwise than Python are written out;
//! - Python's formatting operator, `'%s' % x`, becomes a filter, where a literal is on its left.

/// The filter that stands for Python's `%` on a string.
pub(super) const PERCENT: &str = "__percent__";

/// Prepares a template.
pub(super) fn prepare(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut prepared = Prepared {
        rest: &source,
        text: String::with_capacity(source.len()),
    };
    while prepared.text_before_tag() {
        match prepared.rest.as_bytes().get(1) {
            Some(b'#') => prepared.comment(),
            Some(b'%') => prepared.block(),
            _ => {
                prepared.copy("{{".len());
                prepared.expression("}}");
            }
        }
    }
    prepared.text
}

/// The part of a template that is done, and the part that is not.
struct Prepared<'source> {
    rest: &'source str,
    text: String,
}

impl<'source> Prepared<'source> {
    /// Takes the text before the next tag. Returns whether there is one.
    fn text_before_tag(&mut self) -> bool {
        let starts = ["{{", "{%", "{#"]
            .into_iter()
            .filter_map(|start| self.rest.find(start));
        let start = starts.min();
        self.copy(start.unwrap_or(self.rest.len()));
        start.is_some()
    }

    fn comment(&mut self) {
        let end = self.rest[2..].find("#}");
        self.copy(end.map_or(self.rest.len(), |end| end + 4));
    }

    fn block(&mut self) {
        self.copy("{%".len());
        let name = self
            .rest
            .strip_prefix(['-', '+'])
            .unwrap_or(self.rest)
            .trim_start();
        self.copy(self.rest.len() - name.len());
        let name = &name[..name.find(|c: char| !is_name(c)).unwrap_or(name.len())];
        match name {
            "raw" => return self.raw(),
            "generation" => self.replace(name, "with"),
            "endgeneration" => self.replace(name, "endwith"),
            _ => {}
        }
        self.expression("%}");
    }

    /// Takes a raw block, in which nothing is a tag but its end.
    fn raw(&mut self) {
        self.copy("raw".len());
        let after_name = self.rest.trim_start();
        if after_name.starts_with("%}") {
            self.replace(&self.rest[..self.rest.len() - after_name.len()], " +");
        }
        let mut tags = self
            .rest
            .match_indices("{%")
            .map(|(start, tag)| start + tag.len());
        let end = tags.find(|start| {
            let tag = &self.rest[*start..];
            tag.strip_prefix(['-', '+'])
                .unwrap_or(tag)
                .trim_start()
                .starts_with("endraw")
        });
        self.copy(end.unwrap_or(self.rest.len()));
        self.expression("%}");
    }

    /// Takes the inside of a tag up to its end, which counts only outside of strings and brackets.
    fn expression(&mut self, end: &str) {
        let mut open = 0_usize;
        while let Some(character) = self.rest.chars().next() {
            match character {
                _ if open == 0 && self.rest.starts_with(end) => return self.copy(end.len()),
                '\'' | '"' => {
                    self.string(character);
                    self.percent();
                    continue;
                }
                '{' | '[' | '(' => open += 1,
                '}' | ']' | ')' => open = open.saturating_sub(1),
                _ => {}
            }
            self.copy(character.len_utf8());
        }
    }

    /// After a string literal: takes a formatting operator and its operand.
    fn percent(&mut self) {
        let rest = self.rest.trim_start();
        if let Some(operand) = rest.strip_prefix('%').filter(|rest| !rest.starts_with('}')) {
            self.rest = operand.trim_start();
            self.text.extend(["|", PERCENT, "("]);
            self.operand();
            self.text.push(')');
        }
    }

    /// Takes a value with its attributes, subscripts, calls and filters.
    fn operand(&mut self) {
        match self.rest.chars().next() {
            Some(quote @ ('\'' | '"')) => self.string(quote),
            Some('(' | '[' | '{') => self.group(),
            _ => self.copy_while(|c| is_name(c) || matches!(c, '.' | '-')),
        }
        loop {
            let rest = self.rest.trim_start();
            match rest.chars().next() {
                Some('(' | '[') => self.group(),
                Some('|') => {
                    let name = rest[1..].trim_start();
                    self.copy(self.rest.len() - name.len());
                    self.copy_while(is_name);
                }
                Some('.') => self.copy_while(|c| is_name(c) || matches!(c, '.' | ' ')),
                _ => return,
            }
        }
    }

    /// Takes a bracket and all in it.
    fn group(&mut self) {
        let Some(open) = self.rest.find(['(', '[', '{']) else {
            return;
        };
        let end = match self.rest.as_bytes()[open] {
            b'(' => ")",
            b'[' => "]",
            _ => "}",
        };
        self.copy(open + 1);
        self.expression(end);
    }

    fn string(&mut self, quote: char) {
        self.copy(quote.len_utf8());
        while let Some(position) = self.rest.find([quote, '\\']) {
            self.copy(position);
            if self.rest.starts_with(quote) {
                return self.copy(quote.len_utf8());
            }
            self.escape();
        }
        self.copy(self.rest.len());
    }

    fn escape(&mut self) {
        let rest = self.rest;
        let long = rest.get(2..10).filter(|_| rest.starts_with("\\U"));
        let long = long.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        if let Some(character) = long.and_then(char::from_u32) {
            return self.replace(&rest[..10], character.encode_utf8(&mut [0; 4]));
        }
        match rest.chars().nth(1) {
            Some('a') => self.replace(&rest[..2], "\\x07"),
            Some('v') => self.replace(&rest[..2], "\\x0b"),
            Some('/') => self.replace(&rest[..2], "\\\\/"),
            Some(escaped) => self.copy(1 + escaped.len_utf8()),
            None => self.copy(1),
        }
    }

    fn copy(&mut self, length: usize) {
        let (copied, rest) = self.rest.split_at(length);
        self.text.push_str(copied);
        self.rest = rest;
    }

    fn copy_while(&mut self, goes: impl Fn(char) -> bool) {
        self.copy(self.rest.find(|c| !goes(c)).unwrap_or(self.rest.len()));
    }

    /// Writes `new` for `old`, which the rest begins with.
    fn replace(&mut self, old: &str, new: &str) {
        self.text.push_str(new);
        self.rest = &self.rest[old.len()..];
    }
}

fn is_name(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}
