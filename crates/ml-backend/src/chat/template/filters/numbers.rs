//! Filters that make numbers, and of numbers.

use super::super::failure::{Outcome, fail};
use super::super::python::number::{parse_float, parse_integer, rounded, truncated};
use super::super::python::operators;
use super::super::run::Run;
use super::super::run::arguments::{Args, flag, given, integer};
use super::super::syntax::ast::Operator;
use super::super::value::{Cursor, Value};
use super::attributes::Getter;

pub(super) fn abs(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    args.none("abs")?;
    value.defined()?;
    match (&value, value.as_int()) {
        (Value::Float(number), _) => Ok(Value::Float(number.abs())),
        (_, Some(number)) if number < 0 => operators::negative(&value),
        (_, Some(number)) => Ok(Value::Int(number)),
        _ => fail(format!(
            "bad operand type for abs(): '{}'",
            value.type_name()
        )),
    }
}

/// `int(default=0, base=10)`: the default where there is no number.
pub(super) fn int(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let [default, base] = args.bind("int", ["default", "base"])?;
    value.defined()?;
    let number = match &value {
        Value::Str(text) => match parse_integer(text, integer(base.as_ref(), 10)?)? {
            Some(number) => Some(Value::Int(number)),
            None => match parse_float(text) {
                Some(number) if number.is_finite() => Some(truncated(number)?),
                _ => None,
            },
        },
        Value::Float(number) if number.is_nan() => None,
        Value::Float(number) => Some(truncated(*number)?),
        _ => value.as_int().map(Value::Int),
    };
    Ok(number.or(default).unwrap_or(Value::Int(0)))
}

/// `float(default=0.0)`: the default where there is no number.
pub(super) fn float(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let [default] = args.bind("float", ["default"])?;
    value.defined()?;
    let number = match &value {
        Value::Str(text) => parse_float(text),
        _ => value.as_float(),
    };
    Ok(number
        .map(Value::Float)
        .or(default)
        .unwrap_or(Value::Float(0.0)))
}

/// `round(precision=0, method='common')`.
pub(super) fn round(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let [precision, method] = args.bind("round", ["precision", "method"])?;
    let precision = integer(precision.as_ref(), 0)?;
    value.defined()?;
    let method = match &method {
        None => "common",
        Some(method) => method.as_str().unwrap_or_default(),
    };
    if !matches!(method, "common" | "ceil" | "floor") {
        return fail("method must be common, ceil or floor");
    }
    let Some(number) = value.as_float() else {
        return fail(format!(
            "type {} doesn't define __round__ method",
            value.type_name()
        ));
    };
    if method == "common" {
        return match value.as_int() {
            None => Ok(Value::Float(rounded(number, precision))),
            Some(number) if precision >= 0 => Ok(Value::Int(number)),
            Some(number) => Ok(Value::Int(round_integer(number, precision))),
        };
    }
    let unit = operators::binary(Operator::Pow, &Value::Int(10), &Value::Int(precision))?;
    let scaled = operators::binary(Operator::Mul, &value, &unit)?;
    let scaled = match scaled {
        Value::Float(number) => truncated(if method == "ceil" {
            number.ceil()
        } else {
            number.floor()
        })?,
        scaled => scaled,
    };
    operators::binary(Operator::Div, &scaled, &unit)
}

/// Rounds half to even at a place before the point.
fn round_integer(number: i128, precision: i128) -> i128 {
    let unit = u32::try_from(-precision)
        .ok()
        .and_then(|places| 10_i128.checked_pow(places));
    let Some(unit) = unit else { return 0 };
    let down = number.div_euclid(unit);
    let twice = number.rem_euclid(unit).saturating_mul(2);
    let up = twice > unit || (twice == unit && down % 2 != 0);
    (down + i128::from(up)).saturating_mul(unit)
}

/// `sum(attribute=None, start=0)`.
pub(super) fn sum(run: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let [attribute, start] = args.bind("sum", ["attribute", "start"])?;
    let getter = Getter::new(given(attribute).as_ref(), false)?;
    let mut sum = start.unwrap_or(Value::Int(0));
    if let Value::Str(_) = sum {
        return fail("sum() can't sum strings [use ''.join(seq) instead]");
    }
    let mut items = Cursor::new(&value)?;
    while let Some(item) = items.next()? {
        sum = operators::binary(Operator::Add, &sum, &getter.get(run, &item)?)?;
    }
    Ok(sum)
}

/// `filesizeformat(binary=False)`: `13.0 kB`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "below 1024 and more than 0"
)]
pub(super) fn file_size(run: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let [binary] = args.bind("filesizeformat", ["binary"])?;
    let binary = flag(binary.as_ref());
    let known = match &value {
        Value::Str(text) => parse_float(text).is_some(),
        _ => value.as_float().is_some(),
    };
    let Value::Float(bytes) = float(run, value, Args::default())? else {
        return fail("filesizeformat: no number");
    };
    if !known {
        return fail("could not convert value to float");
    }
    let (base, binary) = if binary { (1024.0, "i") } else { (1000.0, "") };
    if bytes == 1.0 {
        return Value::str("1 Byte");
    }
    if bytes < base {
        return Value::str(format!("{} Bytes", bytes as i64));
    }
    let prefixes = if binary.is_empty() {
        "kMGTPEZY"
    } else {
        "KMGTPEZY"
    };
    let mut unit: f64 = base;
    let mut last = 'Y';
    for prefix in prefixes.chars() {
        unit *= base;
        last = prefix;
        if bytes < unit {
            break;
        }
    }
    Value::str(format!("{:.1} {last}{binary}B", base * bytes / unit))
}
