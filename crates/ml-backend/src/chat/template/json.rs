//! JSON between templates and the rest: the `tojson` filter, and values that come from outside.
//!
//! Jinja2's own `tojson` escapes for HTML; transformers replaces it by Python's `json.dumps` with
//! `ensure_ascii=False`, whose spaces after `,` and `:` models have been trained on.

use minijinja::value::{Rest, ValueKind, ValueOrKwargs};
use minijinja::{Error, ErrorKind, Value};

use super::python;

/// A JSON value as a template sees it.
pub(super) fn to_template(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(value) => Value::from(*value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Value::from(integer),
            (None, Some(integer)) => Value::from(integer),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => items.iter().map(to_template).collect(),
        serde_json::Value::Object(entries) => {
            let entries = entries.iter();
            Value::from_pairs(entries.map(|(key, value)| (key.as_str(), to_template(value))))
        }
    }
}

/// How `json.dumps` lays its text out.
struct Layout {
    ensure_ascii: bool,
    /// What one level of nesting is indented by; `None` keeps all on one line.
    indent: Option<String>,
    /// Between items, and between a key and its value.
    separators: (String, String),
    sort_keys: bool,
}

/// `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn tojson(value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let args: Vec<Value> = args.0.into_iter().map(ValueOrKwargs::into_value).collect();
    let parameters = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ensure_ascii, indent, separators, sort_keys] = python::bind("tojson", &args, parameters)?;

    let indent = indent.map(|indent| match indent.as_str() {
        Some(text) => text.to_owned(),
        None => " ".repeat(indent.as_usize().unwrap_or(0)),
    });
    let separators = match separators {
        Some(given) => {
            let part = |index| given.get_item_by_index(index).map(|part| part.to_string());
            (part(0)?, part(1)?)
        }
        None => (
            if indent.is_some() { "," } else { ", " }.to_owned(),
            ": ".to_owned(),
        ),
    };
    let layout = Layout {
        ensure_ascii: ensure_ascii.is_some_and(|it| it.is_true()),
        indent,
        separators,
        sort_keys: sort_keys.is_some_and(|it| it.is_true()),
    };
    let mut text = String::new();
    layout.write(&mut text, value, 0)?;
    Ok(text)
}

impl Layout {
    fn write(&self, text: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => text.push_str("null"),
            ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => text.push_str(&number(value)),
            ValueKind::String => self.write_string(text, value.as_str().unwrap_or_default()),
            ValueKind::Seq => {
                let items = value.try_iter()?;
                self.write_items(text, ['[', ']'], depth, items, |text, item| {
                    self.write(text, &item, depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.write_items(text, ['{', '}'], depth, keys.into_iter(), |text, key| {
                    self.write_string(text, &key_text(&key)?);
                    text.push_str(&self.separators.1);
                    self.write(text, &value.get_item(&key)?, depth + 1)
                })?;
            }
            kind => {
                let problem = format!("tojson: a value of kind {kind} has no JSON");
                return Err(Error::new(ErrorKind::InvalidOperation, problem));
            }
        }
        Ok(())
    }

    fn write_items(
        &self,
        text: &mut String,
        [open, close]: [char; 2],
        depth: usize,
        items: impl Iterator<Item = Value>,
        mut write: impl FnMut(&mut String, Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let line = |text: &mut String, depth: usize| {
            if let Some(indent) = &self.indent {
                text.push('\n');
                text.push_str(&indent.repeat(depth));
            }
        };
        text.push(open);
        let mut empty = true;
        for item in items {
            if !empty {
                text.push_str(&self.separators.0);
            }
            empty = false;
            line(text, depth + 1);
            write(text, item)?;
        }
        if !empty {
            line(text, depth);
        }
        text.push(close);
        Ok(())
    }

    fn write_string(&self, text: &mut String, string: &str) {
        text.push('"');
        for character in string.chars() {
            match character {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\u{8}' => text.push_str("\\b"),
                '\u{c}' => text.push_str("\\f"),
                '\0'..='\u{1f}' => text.push_str(&format!("\\u{:04x}", u32::from(character))),
                '\u{7f}'.. if self.ensure_ascii => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        text.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                _ => text.push(character),
            }
        }
        text.push('"');
    }
}

/// The key of an object: Python turns the scalars into strings.
fn key_text(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.to_string()),
        ValueKind::None => Ok("null".to_owned()),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::Number => Ok(number(key)),
        kind => {
            let problem = format!("tojson: a value of kind {kind} cannot be a key");
            Err(Error::new(ErrorKind::InvalidOperation, problem))
        }
    }
}

/// A number as Python writes it in JSON.
fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => match float {
            _ if float.is_nan() => "NaN".to_owned(),
            _ if float.is_infinite() && float > 0.0 => "Infinity".to_owned(),
            _ if float.is_infinite() => "-Infinity".to_owned(),
            _ => python::float(float),
        },
        _ => value.to_string(),
    }
}
