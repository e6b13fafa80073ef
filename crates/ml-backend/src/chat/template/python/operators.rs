//! Operators.

use std::cmp::Ordering;

use super::super::failure::{Outcome, fail};
use super::super::filters::escaped;
use super::super::meter;
use super::super::syntax::ast::Operator;
use super::super::value::{Cursor, Draft, Value, equal, partial};
use super::percent::percent;

fn symbol(operator: Operator) -> &'static str {
    match operator {
        Operator::Add => "+",
        Operator::Sub => "-",
        Operator::Mul => "*",
        Operator::Div => "/",
        Operator::FloorDiv => "//",
        Operator::Mod => "%",
        Operator::Pow => "** or pow()",
    }
}

fn unsupported<T>(operator: Operator, left: &Value, right: &Value) -> Outcome<T> {
    let (operator, left, right) = (symbol(operator), left.type_name(), right.type_name());
    fail(format!(
        "unsupported operand type(s) for {operator}: '{left}' and '{right}'"
    ))
}

const TOO_LARGE: &str = "an integer of more than 127 bits";

/// An integer that may have become too large.
fn integer(number: Option<i128>) -> Outcome<Value> {
    match number {
        Some(number) => Ok(Value::Int(number)),
        None => fail(TOO_LARGE),
    }
}

pub(in super::super) fn binary(operator: Operator, left: &Value, right: &Value) -> Outcome<Value> {
    left.defined()?;
    match (operator, left, right) {
        (Operator::Mod, Value::Str(format), _) => return percent(format, right),
        (Operator::Add, Value::Str(_), Value::Str(_)) => {
            right.defined()?;
            return joined(left, right);
        }
        (Operator::Add, Value::List(a), Value::List(b))
        | (Operator::Add, Value::Tuple(a), Value::Tuple(b)) => {
            meter::ensure((a.items.len() + b.items.len()) * size_of::<Value>())?;
            let mut items = Vec::with_capacity(a.items.len() + b.items.len());
            items.extend_from_slice(&a.items);
            items.extend_from_slice(&b.items);
            return if matches!(left, Value::List(_)) {
                Value::list(items)
            } else {
                Value::tuple(items)
            };
        }
        (Operator::Mul, Value::Str(_) | Value::List(_) | Value::Tuple(_), _) => {
            if let Some(times) = right.as_int() {
                return repeated(left, times);
            }
        }
        (Operator::Mul, _, Value::Str(_) | Value::List(_) | Value::Tuple(_)) => {
            if let Some(times) = left.as_int() {
                return repeated(right, times);
            }
        }
        _ => {}
    }
    right.defined()?;
    match (left.as_int(), right.as_int()) {
        (Some(a), Some(b)) => of_integers(operator, a, b),
        _ => match (left.as_float(), right.as_float()) {
            (Some(a), Some(b)) => of_floats(operator, a, b),
            _ => unsupported(operator, left, right),
        },
    }
}

/// Two strings; where one of them is HTML, the other one is made so.
fn joined(left: &Value, right: &Value) -> Outcome<Value> {
    let safe = [left, right]
        .iter()
        .any(|value| matches!(value, Value::Str(text) if text.safe));
    let mut draft = Draft::new();
    for value in [left, right] {
        if safe {
            draft.push_str(&escaped(value)?)?;
        } else {
            draft.push_str(value.as_str().unwrap_or_default())?;
        }
    }
    Ok(Value::Str(draft.text()?.marked(safe)))
}

fn repeated(value: &Value, times: i128) -> Outcome<Value> {
    let times = usize::try_from(times.max(0)).unwrap_or(usize::MAX);
    match value {
        Value::Str(text) => {
            let mut draft = Draft::new();
            draft.repeat(text, times)?;
            Ok(Value::Str(draft.text()?.marked(text.safe)))
        }
        Value::List(items) | Value::Tuple(items) => {
            let count = items.items.len().saturating_mul(times);
            meter::ensure(count.saturating_mul(size_of::<Value>()))?;
            let mut repeated = Vec::with_capacity(count);
            if count > 0 {
                for _ in 0..times {
                    repeated.extend_from_slice(&items.items);
                }
            }
            if matches!(value, Value::List(_)) {
                Value::list(repeated)
            } else {
                Value::tuple(repeated)
            }
        }
        _ => Ok(value.clone()),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Python divides integers to a float"
)]
fn of_integers(operator: Operator, a: i128, b: i128) -> Outcome<Value> {
    match operator {
        Operator::Add => integer(a.checked_add(b)),
        Operator::Sub => integer(a.checked_sub(b)),
        Operator::Mul => integer(a.checked_mul(b)),
        Operator::Div if b == 0 => fail("division by zero"),
        Operator::Div => Ok(Value::Float(a as f64 / b as f64)),
        Operator::FloorDiv | Operator::Mod if b == 0 => fail("integer division or modulo by zero"),
        Operator::FloorDiv => integer(
            a.checked_div(b)
                .map(|it| it - i128::from(a % b != 0 && (a < 0) != (b < 0))),
        ),
        Operator::Mod => integer(a.checked_rem(b).map(|it| {
            if it != 0 && (it < 0) != (b < 0) {
                it + b
            } else {
                it
            }
        })),
        Operator::Pow if b < 0 => of_floats(operator, a as f64, b as f64),
        Operator::Pow => integer(u32::try_from(b).ok().and_then(|b| match a {
            0 | 1 => Some(a.pow(b.min(1))),
            _ => a.checked_pow(b),
        })),
    }
}

fn of_floats(operator: Operator, a: f64, b: f64) -> Outcome<Value> {
    let divides = matches!(operator, Operator::Div | Operator::FloorDiv | Operator::Mod);
    if divides && b == 0.0 {
        return fail(match operator {
            Operator::Div => "float division by zero",
            _ => "float floor division by zero",
        });
    }
    Ok(Value::Float(match operator {
        Operator::Add => a + b,
        Operator::Sub => a - b,
        Operator::Mul => a * b,
        Operator::Div => a / b,
        Operator::FloorDiv => {
            let rest = modulo(a, b);
            ((a - rest) / b).round()
        }
        Operator::Mod => modulo(a, b),
        Operator::Pow => {
            if a == 0.0 && b < 0.0 {
                return fail("0.0 cannot be raised to a negative power");
            }
            if a < 0.0 && b.fract() != 0.0 && b.is_finite() {
                return fail("the power of a negative number is complex");
            }
            let power = a.powf(b);
            if power.is_infinite() && a.is_finite() && b.is_finite() {
                return fail("(34, 'Numerical result out of range')");
            }
            power
        }
    }))
}

/// Python's `%`, whose result has the sign of the divisor.
fn modulo(a: f64, b: f64) -> f64 {
    let rest = a % b;
    if rest != 0.0 && (rest < 0.0) != (b < 0.0) {
        rest + b
    } else if rest == 0.0 {
        0.0_f64.copysign(b)
    } else {
        rest
    }
}

pub(in super::super) fn negative(value: &Value) -> Outcome<Value> {
    value.defined()?;
    match (value, value.as_int()) {
        (Value::Float(number), _) => Ok(Value::Float(-number)),
        (_, Some(number)) => integer(number.checked_neg()),
        _ => fail(format!(
            "bad operand type for unary -: '{}'",
            value.type_name()
        )),
    }
}

pub(in super::super) fn positive(value: Value) -> Outcome<Value> {
    value.defined()?;
    match (&value, value.as_int()) {
        (Value::Float(_), _) => Ok(value),
        (_, Some(number)) => Ok(Value::Int(number)),
        _ => fail(format!(
            "bad operand type for unary +: '{}'",
            value.type_name()
        )),
    }
}

/// `left <= right`.
pub(in super::super) fn at_most(left: &Value, right: &Value, written: &str) -> Outcome<bool> {
    Ok(matches!(
        partial(left, right, written)?,
        Some(Ordering::Less | Ordering::Equal)
    ))
}

/// `wanted in container`.
pub(in super::super) fn contains(container: &Value, wanted: &Value) -> Outcome<bool> {
    match container {
        Value::Str(text) => match wanted {
            Value::Str(wanted) => {
                meter::spend_bytes(text.len())?;
                Ok(text.contains(&**wanted))
            }
            _ => {
                let kind = wanted.type_name();
                fail(format!(
                    "'in <string>' requires string as left operand, not {kind}"
                ))
            }
        },
        Value::Dict(dict) | Value::View(super::super::value::View::Keys, dict) => {
            Ok(dict.get(wanted)?.is_some())
        }
        Value::Range(range) => match wanted {
            Value::Int(_) | Value::Bool(_) | Value::Float(_) => {
                let number = wanted
                    .as_int()
                    .map_or_else(|| super::number::exact(wanted), Some);
                let Some(number) = number else {
                    return Ok(false);
                };
                let inside = if range.step > 0 {
                    (range.start..range.stop).contains(&number)
                } else {
                    number <= range.start && number > range.stop
                };
                Ok(inside && (number - range.start) % range.step == 0)
            }
            _ => Ok(false),
        },
        Value::None
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Float(_)
        | Value::Function(_)
        | Value::Method(_)
        | Value::Object(..) => fail(format!(
            "argument of type '{}' is not iterable",
            container.type_name()
        )),
        _ => {
            let mut items = Cursor::new(container)?;
            while let Some(item) = items.next()? {
                if equal(&item, wanted)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}
