//! `==`, `<` and sorting, as Python has them.

use std::cmp::Ordering;
use std::rc::Rc;

use super::super::failure::{Outcome, fail};
use super::super::meter;
use super::key::integer;
use super::{Cursor, Value, View};

/// `a == b`.
pub(in super::super) fn equal(a: &Value, b: &Value) -> Outcome<bool> {
    meter::spend(1)?;
    Ok(match (a, b) {
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
        (Value::Str(a), Value::Str(b)) => {
            meter::spend_bytes(a.len().min(b.len()))?;
            a == b
        }
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            Rc::ptr_eq(a, b) || (a.items.len() == b.items.len() && all_equal(&a.items, &b.items)?)
        }
        (Value::Dict(a), Value::Dict(b)) => {
            if Rc::ptr_eq(a, b) {
                return Ok(true);
            }
            if a.len() != b.len() {
                return Ok(false);
            }
            for (key, value) in a.entries() {
                match b.get(key)? {
                    Some(other) if equal(value, other)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::View(View::Values, _), Value::View(View::Values, _)) => false,
        (Value::View(a_kind, _), Value::View(b_kind, _)) if a_kind == b_kind => {
            let (a, b) = (Cursor::all(a)?, Cursor::all(b)?);
            a.len() == b.len() && all_in(&a, &b)?
        }
        (Value::Range(a), Value::Range(b)) => a.same(*b),
        (Value::Iter(a), Value::Iter(b)) => Rc::ptr_eq(a, b),
        (Value::Function(a), Value::Function(b)) => a == b,
        (Value::Method(a), Value::Method(b)) => a.name == b.name && equal(&a.of, &b.of)?,
        (Value::Object(a, i), Value::Object(b, j)) => a == b && i == j,
        _ => numbers(a, b) == Some(Ordering::Equal),
    })
}

fn all_equal(a: &[Value], b: &[Value]) -> Outcome<bool> {
    for (a, b) in a.iter().zip(b) {
        if !equal(a, b)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn all_in(a: &[Value], b: &[Value]) -> Outcome<bool> {
    for a in a {
        let mut found = false;
        for b in b {
            found = found || equal(a, b)?;
        }
        if !found {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How two numbers compare; `None` for what is none, and for NaN.
fn numbers(a: &Value, b: &Value) -> Option<Ordering> {
    match (a.as_int(), b.as_int()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        (Some(a), None) => match b {
            Value::Float(b) => with_float(a, *b),
            _ => None,
        },
        (None, Some(b)) => match a {
            Value::Float(a) => with_float(b, *a).map(Ordering::reverse),
            _ => None,
        },
        (None, None) => match (a, b) {
            (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
            _ => None,
        },
    }
}

/// An integer and a float, exactly.
#[expect(
    clippy::cast_precision_loss,
    reason = "only to tell which side of a float that is no integer"
)]
fn with_float(a: i128, b: f64) -> Option<Ordering> {
    match integer(b) {
        Some(b) => Some(a.cmp(&b)),
        None => (a as f64).partial_cmp(&b),
    }
}

fn is_number(value: &Value) -> bool {
    value.as_float().is_some()
}

/// `a < b`, `operator` being what the template wrote.
pub(in super::super) fn less(a: &Value, b: &Value, operator: &str) -> Outcome<bool> {
    Ok(partial(a, b, operator)? == Some(Ordering::Less))
}

/// How two values compare; `None` where a NaN is one of them.
pub(in super::super) fn partial(a: &Value, b: &Value, operator: &str) -> Outcome<Option<Ordering>> {
    meter::spend(1)?;
    a.defined()?;
    b.defined()?;
    match (a, b) {
        _ if is_number(a) && is_number(b) => Ok(numbers(a, b)),
        (Value::Str(a), Value::Str(b)) => {
            meter::spend_bytes(a.len().min(b.len()))?;
            Ok(Some((**a).cmp(&**b)))
        }
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            for (a, b) in a.items.iter().zip(&b.items) {
                if !equal(a, b)? {
                    return partial(a, b, operator);
                }
            }
            Ok(Some(a.items.len().cmp(&b.items.len())))
        }
        _ => fail(format!(
            "'{operator}' not supported between instances of '{}' and '{}'",
            a.type_name(),
            b.type_name()
        )),
    }
}

/// For sorting: what is not less is not moved.
pub(in super::super) fn order(a: &Value, b: &Value) -> Outcome<Ordering> {
    Ok(partial(a, b, "<")?.unwrap_or(Ordering::Equal))
}
