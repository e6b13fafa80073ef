//! Numbers: from text, to text, and their methods.

use super::super::failure::{Outcome, fail};
use super::super::run::arguments::Args;
use super::super::value::Value;
use super::split::strip;
use super::unicode;

pub(super) fn method(of: &Value, name: &str, args: Args) -> Outcome<Value> {
    args.none(name)?;
    let magnitude = of.as_int().map(i128::unsigned_abs);
    match (name, magnitude, of) {
        ("bit_length", Some(number), _) => Ok(Value::Int(i128::from(128 - number.leading_zeros()))),
        ("bit_count", Some(number), _) => Ok(Value::Int(i128::from(number.count_ones()))),
        ("is_integer", Some(_), _) => Ok(Value::Bool(true)),
        ("is_integer", None, Value::Float(number)) => {
            Ok(Value::Bool(number.is_finite() && number.fract() == 0.0))
        }
        ("conjugate", Some(_), _) => Ok(of.as_int().map_or(Value::None, Value::Int)),
        ("conjugate", None, _) => Ok(of.clone()),
        _ => fail(format!(
            "'{}' object has no method '{name}'",
            of.type_name()
        )),
    }
}

/// A float that is an integer, as that.
#[expect(clippy::cast_possible_truncation, reason = "checked to be within")]
pub(in super::super) fn exact(value: &Value) -> Option<i128> {
    match value {
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 1e38 => {
            Some(*number as i128)
        }
        _ => None,
    }
}

/// `int(float)`: without its fraction.
#[expect(clippy::cast_possible_truncation, reason = "checked to be within")]
pub(in super::super) fn truncated(number: f64) -> Outcome<Value> {
    if number.is_nan() {
        return fail("cannot convert float NaN to integer");
    }
    if number.is_infinite() {
        return fail("cannot convert float infinity to integer");
    }
    if number.abs() >= 1e38 {
        return fail("an integer of more than 127 bits");
    }
    Ok(Value::Int(number.trunc() as i128))
}

/// Digits of any script as ASCII, without the single underscores between them.
fn plain_digits(text: &str) -> Option<String> {
    let text = strip(text, true, true, None);
    let bytes = text.as_bytes();
    let mut plain = String::with_capacity(text.len());
    for (index, character) in text.char_indices() {
        if character == '_' {
            let before = index.checked_sub(1).and_then(|before| bytes.get(before));
            let after = bytes.get(index + 1);
            let between = |byte: Option<&u8>| {
                byte.is_some_and(|it| it.is_ascii_alphanumeric() || *it >= 0x80)
            };
            if !between(before) || !between(after) {
                return None;
            }
        } else {
            plain.push(unicode::decimal(character).unwrap_or(character));
        }
    }
    Some(plain)
}

/// `int(text, base)`; `None` where that is no number.
pub(in super::super) fn parse_integer(text: &str, base: i128) -> Outcome<Option<i128>> {
    let base = match base {
        0 => 0,
        2..=36 => u32::try_from(base).unwrap_or(10),
        _ => return fail("int() base must be >= 2 and <= 36, or 0"),
    };
    let Some(plain) = plain_digits(text) else {
        return Ok(None);
    };
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    let prefix = match unsigned.get(..2).unwrap_or_default() {
        "0x" | "0X" => 16,
        "0o" | "0O" => 8,
        "0b" | "0B" => 2,
        _ => 0,
    };
    let (digits, base) = match (prefix, base) {
        (0, 0) if unsigned.starts_with('0') && unsigned.bytes().any(|it| it != b'0') => {
            return Ok(None);
        }
        (0, 0) => (unsigned, 10),
        (0, base) => (unsigned, base),
        (prefix, 0) => (&unsigned[2..], prefix),
        (prefix, base) if prefix == base => (&unsigned[2..], base),
        (_, base) => (unsigned, base),
    };
    if digits.is_empty() || !digits.chars().all(|it| it.is_digit(base)) {
        return Ok(None);
    }
    match i128::from_str_radix(digits, base) {
        Ok(number) => Ok(Some(if plain.starts_with('-') {
            -number
        } else {
            number
        })),
        Err(_) => fail("an integer of more than 127 bits"),
    }
}

/// `float(text)`; `None` where that is no number.
pub(in super::super) fn parse_float(text: &str) -> Option<f64> {
    let plain = plain_digits(text)?;
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    let named = ["inf", "infinity", "nan"]
        .iter()
        .any(|name| unsigned.eq_ignore_ascii_case(name));
    if !named
        && !unsigned
            .bytes()
            .all(|it| matches!(it, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
    {
        return None;
    }
    plain.parse().ok()
}

/// Rounds half to even at a decimal place, as Python's `round`.
pub(in super::super) fn rounded(number: f64, places: i128) -> f64 {
    if !number.is_finite() {
        return number;
    }
    match usize::try_from(places) {
        Ok(places) if places > 350 => number,
        // Rust writes the exact value down and rounds that half to even.
        Ok(places) => format!("{number:.places$}").parse().unwrap_or(number),
        Err(_) if places < -350 => 0.0 * number,
        Err(_) => {
            let places = i32::try_from(-places).unwrap_or(i32::MAX);
            let unit = 10_f64.powi(places);
            let scaled = number / unit;
            scaled.round_ties_even() * unit
        }
    }
}
