//! `str()` and `repr()`.

use super::super::failure::Outcome;
use super::super::meter;
use super::super::python::unicode;
use super::{Draft, Kind, Text, Value, View};

/// `str(value)`: what `{{ value }}` writes.
pub(in super::super) fn string(value: &Value) -> Outcome<Text> {
    match value {
        Value::Str(text) => Ok(text.clone()),
        Value::Undefined(_) => Text::new(""),
        _ => {
            let mut draft = Draft::new();
            repr(&mut draft, value)?;
            draft.text()
        }
    }
}

/// Writes `repr(value)`.
pub(in super::super) fn repr(out: &mut Draft, value: &Value) -> Outcome<()> {
    meter::spend(1)?;
    match value {
        Value::Undefined(_) => out.push_str("Undefined"),
        Value::None => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Int(number) => out.push_str(&number.to_string()),
        Value::Float(number) => out.push_str(&float(*number)),
        Value::Str(text) if text.safe => {
            out.push_str("Markup(")?;
            quoted(out, text)?;
            out.push(')')
        }
        Value::Str(text) => quoted(out, text),
        Value::List(items) => {
            out.push('[')?;
            separated(out, &items.items)?;
            out.push(']')
        }
        Value::Tuple(items) => {
            out.push('(')?;
            separated(out, &items.items)?;
            out.push_str(if items.items.len() == 1 { ",)" } else { ")" })
        }
        Value::Dict(dict) => {
            out.push('{')?;
            for (index, (key, value)) in dict.entries().iter().enumerate() {
                if index > 0 {
                    out.push_str(", ")?;
                }
                repr(out, key)?;
                out.push_str(": ")?;
                repr(out, value)?;
            }
            out.push('}')
        }
        Value::Range(range) => {
            out.push_str(&format!("range({}, {}", range.start, range.stop))?;
            if range.step != 1 {
                out.push_str(&format!(", {}", range.step))?;
            }
            out.push(')')
        }
        Value::View(view, dict) => {
            out.push_str(value.type_name())?;
            out.push_str("([")?;
            for (index, (key, value)) in dict.entries().iter().enumerate() {
                if index > 0 {
                    out.push_str(", ")?;
                }
                match view {
                    View::Keys => repr(out, key)?,
                    View::Values => repr(out, value)?,
                    View::Items => {
                        out.push('(')?;
                        repr(out, key)?;
                        out.push_str(", ")?;
                        repr(out, value)?;
                        out.push(')')?;
                    }
                }
            }
            out.push_str("])")
        }
        Value::Iter(_) => out.push_str("<generator object>"),
        Value::Function(name) => out.push_str(&format!("<function {name}>")),
        Value::Method(method) => out.push_str(&format!(
            "<built-in method {} of {} object>",
            method.name,
            method.of.type_name()
        )),
        Value::Object(Kind::Namespace, _) => out.push_str("<Namespace>"),
        Value::Object(..) => out.push_str(&format!("<{}>", value.type_name())),
    }
}

fn separated(out: &mut Draft, items: &[Value]) -> Outcome<()> {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(", ")?;
        }
        repr(out, item)?;
    }
    Ok(())
}

/// A string as it stands in Python's source.
pub(in super::super) fn quoted(out: &mut Draft, text: &str) -> Outcome<()> {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    meter::spend_text(text.len())?;
    out.push(quote)?;
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\")?,
            '\n' => out.push_str("\\n")?,
            '\r' => out.push_str("\\r")?,
            '\t' => out.push_str("\\t")?,
            _ if character == quote => {
                out.push('\\')?;
                out.push(character)?;
            }
            _ if unicode::is_printable(character) => out.push(character)?,
            _ => {
                let code = u32::from(character);
                out.push_str(&match code {
                    0..=0xff => format!("\\x{code:02x}"),
                    0x100..=0xffff => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                })?;
            }
        }
    }
    out.push(quote)
}

/// `repr` of a float: the shortest digits that read back the same, with an exponent below 1e-4
/// and from 1e16.
pub(in super::super) fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value == 0.0 || (-4..16).contains(&exponent) {
        let text = value.to_string();
        return if text.contains('.') {
            text
        } else {
            text + ".0"
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}
