//! JSON as Python writes it.
//!
//! Python's `json` writes and reads `Infinity`, `-Infinity` and `NaN`, which are no JSON; transformers
//! (5) and mlx-lm write `{"__float__": "Infinity"}` for the same. Checkpoints have both, mostly in keys
//! that nobody reads. Here each of them is the *string* of that name: a key that is not read does no
//! harm, and one that is read as a number meets an error that shows what it is.

use std::borrow::Cow;

use serde_json::Value;

/// The one key of an object that stands for a float.
const TAG: &str = "__float__";

/// The literals that Python knows and JSON does not; the longer of two that begin alike first.
const LITERALS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// Parses `text`; floats that JSON has no way to write are the strings `Infinity`, `-Infinity`, `NaN`.
pub fn parse(text: &str) -> serde_json::Result<Value> {
    let mut value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => match replaced(text, |literal| format!("\"{literal}\"")) {
            Cow::Borrowed(_) => return Err(error),
            Cow::Owned(text) => serde_json::from_str(&text)?,
        },
    };
    untag(&mut value);
    Ok(value)
}

/// `text` with the literals as numbers, for a parser that is not ours: the largest there are, and 0
/// for what is not a number.
pub fn with_finite_numbers(text: &str) -> Cow<'_, str> {
    replaced(text, |literal| match literal {
        "Infinity" => format!("{:e}", f64::MAX),
        "-Infinity" => format!("{:e}", f64::MIN),
        _ => "0.0".to_owned(),
    })
}

/// `text` with each literal replaced; borrowed where there is none. Strings are left alone.
fn replaced(text: &str, by: impl Fn(&str) -> String) -> Cow<'_, str> {
    if !LITERALS[1..].iter().any(|literal| text.contains(literal)) {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at),
            b'-' | b'I' | b'N' => match literal_at(bytes, at) {
                Some(literal) => {
                    out.push_str(&text[copied..at]);
                    out.push_str(&by(literal));
                    at += literal.len();
                    copied = at;
                }
                None => at += 1,
            },
            _ => at += 1,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// The place behind the string that begins at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The literal that begins at `at` and ends as a value does.
fn literal_at(bytes: &[u8], at: usize) -> Option<&'static str> {
    let rest = &bytes[at..];
    let ends = |literal: &str| match rest.get(literal.len()) {
        Some(next) => next.is_ascii_whitespace() || b",]}".contains(next),
        None => true,
    };
    LITERALS
        .into_iter()
        .find(|literal| rest.starts_with(literal.as_bytes()) && ends(literal))
}

/// Turns `{"__float__": "NaN"}` into `"NaN"`, wherever it stands.
fn untag(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(untag),
        Value::Object(map) => {
            let tagged = match map.get(TAG) {
                Some(Value::String(name)) if map.len() == 1 => LITERALS.contains(&name.as_str()),
                _ => false,
            };
            if tagged {
                *value = map.remove(TAG).unwrap_or_default();
            } else {
                map.values_mut().for_each(untag);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What `json.dumps` of Python 3.11 writes for `{"a": inf, "b": [-inf, nan, -1], ...}`, with the
    /// same words inside strings and keys.
    const DUMPED: &str = r#"{"a": Infinity, "b": [-Infinity, NaN, -1], "NaN": "NaN, -Infinity]", "c\\": "\" NaN ", "d": {"e":NaN}}"#;

    #[test]
    fn what_python_writes_is_read_and_strings_are_not_touched() {
        let expected = json!({
            "a": "Infinity", "b": ["-Infinity", "NaN", -1], "NaN": "NaN, -Infinity]",
            "c\\": "\" NaN ", "d": {"e": "NaN"},
        });
        assert_eq!(parse(DUMPED).unwrap(), expected);
        assert_eq!(parse("Infinity").unwrap(), json!("Infinity"));
    }

    #[test]
    fn the_tags_of_transformers_are_floats() {
        let text = r#"{"x": {"__float__": "Infinity"}, "y": [{"__float__": "NaN"}],
            "z": {"__float__": "Infinity", "w": 1}, "v": {"__float__": "1"}}"#;
        let expected = json!({
            "x": "Infinity", "y": ["NaN"],
            "z": {"__float__": "Infinity", "w": 1}, "v": {"__float__": "1"},
        });
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn what_is_no_json_for_python_either_stays_an_error() {
        for text in [
            "",
            "{",
            "{\"a\": Infinit}",
            "{\"a\": NaNs}",
            "{\"a\": --Infinity}",
            "{\"a\": +Infinity}",
            "{Infinity: 1}",
            "{\"a\": NaN,}",
            "\"NaN",
            "{\"a\": nan}",
            "[- Infinity]",
            "\"\\",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn another_parser_gets_numbers() {
        let text = with_finite_numbers(r#"[["a", -Infinity], ["NaN", NaN], ["c", Infinity]]"#);
        let value: Vec<(String, f64)> = serde_json::from_str(&text).unwrap();
        assert_eq!(value[0], ("a".to_owned(), f64::MIN));
        assert_eq!(value[1], ("NaN".to_owned(), 0.0));
        assert_eq!(value[2].1, f64::MAX);
        assert!(matches!(with_finite_numbers("[1]"), Cow::Borrowed("[1]")));
    }
}
