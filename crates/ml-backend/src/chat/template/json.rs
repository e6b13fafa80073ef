//! JSON between templates and the rest: the `tojson` filter, and values that come from outside.
//!
//! Jinja2's own `tojson` escapes for HTML; transformers replaces it by Python's `json.dumps` with
//! `ensure_ascii=False`, whose spaces after `,` and `:` models have been trained on.

use super::failure::{Outcome, fail};
use super::meter;
use super::run::Run;
use super::run::arguments::{Args, flag, given, integer};
use super::value::{Cursor, Dict, Draft, Text, Value, float};

/// A JSON value as a template sees it.
pub(super) fn to_template(value: &serde_json::Value) -> Outcome<Value> {
    nested(value, 0)
}

fn nested(value: &serde_json::Value, depth: u32) -> Outcome<Value> {
    if depth > meter::VALUE_DEPTH {
        return fail(format!(
            "a variable has values more than {} deep",
            meter::VALUE_DEPTH
        ));
    }
    Ok(match value {
        serde_json::Value::Null => Value::None,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Value::Int(integer.into()),
            (None, Some(integer)) => Value::Int(integer.into()),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::str(text.as_str())?,
        serde_json::Value::Array(items) => {
            let items = items.iter().map(|item| nested(item, depth + 1));
            Value::list(items.collect::<Outcome<_>>()?)?
        }
        serde_json::Value::Object(entries) => {
            let mut dict = Dict::new();
            for (key, value) in entries {
                dict.insert(Value::str(key.as_str())?, nested(value, depth + 1)?)?;
            }
            Value::dict(dict)?
        }
    })
}

/// How `json.dumps` lays its text out.
struct Layout {
    ensure_ascii: bool,
    /// What one level of nesting is indented by; `None` keeps all on one line.
    indent: Option<Text>,
    /// Between items, and between a key and its value.
    separators: (Text, Text),
    sort_keys: bool,
}

/// `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn tojson(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let parameters = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ensure_ascii, indent, separators, sort_keys] = args.bind("tojson", parameters)?;
    let indent = match given(indent) {
        None => None,
        Some(Value::Str(text)) => Some(text),
        Some(width) => {
            let mut spaces = Draft::new();
            spaces.repeat(" ", usize::try_from(integer(Some(&width), 0)?).unwrap_or(0))?;
            Some(spaces.text()?)
        }
    };
    let separators = match given(separators) {
        Some(given) => match <[Value; 2]>::try_from(Cursor::all(&given)?) {
            Ok([Value::Str(item), Value::Str(key)]) => (item, key),
            _ => return fail("tojson: separators are two strings"),
        },
        None => {
            let item = if indent.is_some() { "," } else { ", " };
            (Text::new(item)?, Text::new(": ")?)
        }
    };
    let layout = Layout {
        ensure_ascii: flag(ensure_ascii.as_ref()),
        indent,
        separators,
        sort_keys: flag(sort_keys.as_ref()),
    };
    let mut draft = Draft::new();
    layout.write(&mut draft, &value, 0)?;
    draft.text().map(Value::Str)
}

impl Layout {
    /// Writes a value. Values nest only so deep, so this recurses only so deep.
    fn write(&self, out: &mut Draft, value: &Value, depth: usize) -> Outcome<()> {
        meter::spend(1)?;
        match value {
            Value::None => out.push_str("null"),
            Value::Bool(true) => out.push_str("true"),
            Value::Bool(false) => out.push_str("false"),
            Value::Int(number) => out.push_str(&number.to_string()),
            Value::Float(number) => out.push_str(&in_json(*number)),
            Value::Str(text) => self.write_string(out, text),
            Value::List(items) | Value::Tuple(items) => {
                self.write_items(out, ['[', ']'], depth, &items.items, |out, item| {
                    self.write(out, item, depth + 1)
                })
            }
            Value::Dict(dict) => {
                let sorted;
                let mut entries = dict.entries();
                if self.sort_keys {
                    sorted = by_key(entries)?;
                    entries = &sorted;
                }
                self.write_items(out, ['{', '}'], depth, entries, |out, (key, value)| {
                    match key {
                        Value::Str(text) => self.write_string(out, text)?,
                        Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                            out.push('"')?;
                            self.write(out, key, depth)?;
                            out.push('"')?;
                        }
                        _ => {
                            let kind = key.type_name();
                            return fail(format!(
                                "keys must be str, int, float, bool or None, not {kind}"
                            ));
                        }
                    }
                    out.push_str(&self.separators.1)?;
                    self.write(out, value, depth + 1)
                })
            }
            _ => fail(format!(
                "Object of type {} is not JSON serializable",
                value.type_name()
            )),
        }
    }

    fn write_items<T>(
        &self,
        out: &mut Draft,
        [open, close]: [char; 2],
        depth: usize,
        items: &[T],
        mut write: impl FnMut(&mut Draft, &T) -> Outcome<()>,
    ) -> Outcome<()> {
        let line = |out: &mut Draft, depth: usize| match &self.indent {
            Some(indent) => {
                out.push('\n')?;
                out.repeat(indent, depth)
            }
            None => Ok(()),
        };
        out.push(open)?;
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                out.push_str(&self.separators.0)?;
            }
            line(out, depth + 1)?;
            write(out, item)?;
        }
        if !items.is_empty() {
            line(out, depth)?;
        }
        out.push(close)
    }

    fn write_string(&self, out: &mut Draft, string: &str) -> Outcome<()> {
        meter::spend_text(string.len())?;
        out.push('"')?;
        let mut plain = 0;
        for (at, character) in string.char_indices() {
            let escape = match character {
                '"' => "\\\"",
                '\\' => "\\\\",
                '\n' => "\\n",
                '\r' => "\\r",
                '\t' => "\\t",
                '\u{8}' => "\\b",
                '\u{c}' => "\\f",
                '\0'..='\u{1f}' => "",
                '\u{7f}'.. if self.ensure_ascii => "",
                _ => continue,
            };
            out.push_str(&string[plain..at])?;
            plain = at + character.len_utf8();
            out.push_str(escape)?;
            if escape.is_empty() {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    out.push_str(&format!("\\u{unit:04x}"))?;
                }
            }
        }
        out.push_str(&string[plain..])?;
        out.push('"')
    }
}

/// Entries in the order of their keys.
fn by_key(entries: &[(Value, Value)]) -> Outcome<Vec<(Value, Value)>> {
    super::filters::sorted_by_first(entries.to_vec())
}

fn in_json(number: f64) -> String {
    match number {
        _ if number.is_nan() => "NaN".to_owned(),
        _ if number.is_infinite() => if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .to_owned(),
        _ => float(number),
    }
}
