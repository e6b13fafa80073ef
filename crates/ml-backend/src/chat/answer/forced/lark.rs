//! A Lark grammar, written rule by rule.

use std::fmt::Write as _;

use models::tokenizer::Tokenizer;
use serde_json::Value;

use crate::structure::prepare;

/// A grammar on its way.
pub(super) struct Lark<'t> {
    tokenizer: &'t Tokenizer,
    rules: String,
    count: usize,
}

impl<'t> Lark<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer) -> Self {
        Self {
            tokenizer,
            rules: String::new(),
            count: 0,
        }
    }

    /// The grammar, which begins with `start`.
    pub(super) fn finish(self, start: &str) -> String {
        format!("start: {start}\n{}", self.rules)
    }

    /// A marker: the token that it is, else its text.
    pub(super) fn marker(&self, marker: &str) -> String {
        match self.tokenizer.token_id(marker) {
            Some(id) => format!("<[{id}]>"),
            None => text(marker),
        }
    }

    /// JSON that is valid under a schema.
    ///
    /// # Errors
    /// What cannot be held to, in one line.
    pub(super) fn json(&self, schema: &Value) -> Result<String, String> {
        Ok(format!("%json {}", prepare(schema)?))
    }

    /// A name for a rule that is written later.
    pub(super) fn name(&mut self) -> String {
        self.count += 1;
        format!("r{}", self.count)
    }

    /// Writes the rule of a name.
    pub(super) fn write(&mut self, name: &str, body: &str) {
        let _ = writeln!(self.rules, "{name}: {body}");
    }

    /// A rule of its own.
    pub(super) fn rule(&mut self, body: &str) -> String {
        let name = self.name();
        self.write(&name, body);
        name
    }

    /// One of these, as a rule.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn any_of(&mut self, choices: &[String]) -> Result<String, String> {
        match choices {
            [] => Err("no value is valid under it".to_owned()),
            [one] => Ok(one.clone()),
            choices => Ok(self.rule(&choices.join(" | "))),
        }
    }

    /// A text and the `end` behind it, which comes nowhere in it; `body` is the terminal that the text is.
    pub(super) fn until(&mut self, end: &str, body: &str) -> String {
        let name = self.name();
        let _ = writeln!(self.rules, "{name}[suffix={}]: {body}", text(end));
        name
    }

    /// A text of so many characters between two markers of one kind, in which neither is written out.
    pub(super) fn quoted(&mut self, marker: &str, least: u64, most: Option<u64>) -> String {
        let open = self.marker(marker);
        if self.tokenizer.token_id(marker).is_none() {
            let rest = self.until(marker, &any_text(least, most));
            return self.rule(&format!("{open} {rest}"));
        }
        if most == Some(0) {
            return self.rule(&format!("{open} {open}"));
        }
        // A terminal is not empty.
        self.count += 1;
        let name = format!("T{}", self.count);
        let body = any_text(least.max(1), most);
        let _ = writeln!(self.rules, "{name}: {body} & ~{}", containing(marker));
        let may = if least == 0 { "?" } else { "" };
        self.rule(&format!("{open} {name}{may} {open}"))
    }
}

/// A text as Lark writes it.
pub(super) fn text(text: &str) -> String {
    // Lark's texts are JSON's, without DEL.
    Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// Any text of so many characters, as a terminal.
pub(super) fn any_text(least: u64, most: Option<u64>) -> String {
    match (least, most) {
        (0, None) => "/(?s:.*)/".to_owned(),
        (least, None) => format!("/(?s:.{{{least},}})/"),
        (least, Some(most)) => format!("/(?s:.{{{least},{most}}})/"),
    }
}

/// Any text that has `part` in it, as a terminal.
pub(super) fn containing(part: &str) -> String {
    format!("/(?s:.*){}(?s:.*)/", escaped(part))
}

/// A text within a regular expression.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            c if c.is_alphanumeric() || !c.is_ascii() => escaped.push(c),
            c => {
                let _ = write!(escaped, "\\x{:02X}", u32::from(c));
            }
        }
    }
    escaped
}
