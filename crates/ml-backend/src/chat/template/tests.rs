//! Jinja2's tests, `value is name(...)`.

use super::failure::{Outcome, fail};
use super::filters;
use super::python::operators::{at_most, contains};
use super::python::{operators, strings};
use super::run::arguments::Args;
use super::syntax::ast::Operator;
use super::value::{Cursor, Key, Kind, Value, equal, less, string};

type Test = fn(&Value, Args) -> Outcome<bool>;

/// A test by its name.
pub(super) fn find(name: &str) -> Option<Test> {
    Some(match name {
        "odd" => |value, args| remainder(value, args, "odd", 1),
        "even" => |value, args| remainder(value, args, "even", 0),
        "divisibleby" => |value, args| {
            let rest = operators::binary(Operator::Mod, value, &args.one("divisibleby")?)?;
            equal(&rest, &Value::Int(0))
        },
        "defined" => |value, args| plain(args, !value.is_undefined()),
        "undefined" => |value, args| plain(args, value.is_undefined()),
        "filter" => |value, args| named(value, args, |name| filters::find(name).is_some()),
        "test" => |value, args| named(value, args, |name| find(name).is_some()),
        "none" => |value, args| plain(args, value.is_none()),
        "boolean" => |value, args| plain(args, matches!(value, Value::Bool(_))),
        "false" => |value, args| plain(args, matches!(value, Value::Bool(false))),
        "true" => |value, args| plain(args, matches!(value, Value::Bool(true))),
        "integer" => |value, args| plain(args, matches!(value, Value::Int(_))),
        "float" => |value, args| plain(args, matches!(value, Value::Float(_))),
        "number" => |value, args| {
            plain(
                args,
                matches!(value, Value::Int(_) | Value::Float(_) | Value::Bool(_)),
            )
        },
        "lower" => |value, args| plain(args, strings::is(&string(value)?, "islower")),
        "upper" => |value, args| plain(args, strings::is(&string(value)?, "isupper")),
        "string" => |value, args| plain(args, value.as_str().is_some()),
        "mapping" => |value, args| plain(args, matches!(value, Value::Dict(_))),
        // An undefined value has a length, and only fails when an item is taken.
        "sequence" => |value, args| {
            use Value::{Dict, List, Range, Str, Tuple};
            plain(
                args,
                matches!(value, Str(_) | List(_) | Tuple(_) | Dict(_) | Range(_))
                    || value.is_undefined(),
            )
        },
        "iterable" => |value, args| {
            plain(
                args,
                matches!(value, Value::Object(Kind::Loop, _)) || Cursor::new(value).is_ok(),
            )
        },
        "callable" => |value, args| plain(args, callable(value)),
        "sameas" => |value, args| same(value, &args.one("sameas")?),
        "escaped" => |value, args| plain(args, matches!(value, Value::Str(text) if text.safe)),
        "in" => |value, args| contains(&args.one("in")?, value),
        "==" | "eq" | "equalto" => |value, args| equal(value, &args.one("eq")?),
        "!=" | "ne" => |value, args| equal(value, &args.one("ne")?).map(|equal| !equal),
        ">" | "gt" | "greaterthan" => |value, args| less(&args.one("gt")?, value, ">"),
        ">=" | "ge" => |value, args| at_most(&args.one("ge")?, value, ">="),
        "<" | "lt" | "lessthan" => |value, args| less(value, &args.one("lt")?, "<"),
        "<=" | "le" => |value, args| at_most(value, &args.one("le")?, "<="),
        _ => return None,
    })
}

fn plain(args: Args, holds: bool) -> Outcome<bool> {
    if !args.positional.is_empty() || !args.named.is_empty() {
        return fail("the test takes no argument");
    }
    Ok(holds)
}

/// Whether a value is a name that is known. What could be no key at all is an error.
fn named(value: &Value, args: Args, known: fn(&str) -> bool) -> Outcome<bool> {
    Key::of(value)?;
    plain(args, value.as_str().is_some_and(known))
}

fn remainder(value: &Value, args: Args, name: &str, wanted: i128) -> Outcome<bool> {
    args.none(name)?;
    let rest = operators::binary(Operator::Mod, value, &Value::Int(2))?;
    equal(&rest, &Value::Int(wanted))
}

fn callable(value: &Value) -> bool {
    match value {
        Value::Function(_) | Value::Method(_) => true,
        Value::Object(kind, _) => matches!(kind, Kind::Macro | Kind::Loop | Kind::Joiner),
        // Jinja2's undefined values can be called, to say what is undefined.
        Value::Undefined(_) => true,
        _ => false,
    }
}

/// `a is b`, as far as it says something of values: small integers and short strings are one.
fn same(a: &Value, b: &Value) -> Outcome<bool> {
    use std::rc::Rc;
    Ok(match (a, b) {
        (Value::List(a), Value::List(b)) => Rc::ptr_eq(a, b),
        (Value::Tuple(a), Value::Tuple(b)) => {
            Rc::ptr_eq(a, b) || (a.items.is_empty() && b.items.is_empty())
        }
        (Value::Dict(a), Value::Dict(b)) => Rc::ptr_eq(a, b),
        (Value::Iter(a), Value::Iter(b)) => Rc::ptr_eq(a, b),
        (Value::Undefined(a), Value::Undefined(b)) => Rc::ptr_eq(a, b),
        _ => std::mem::discriminant(a) == std::mem::discriminant(b) && equal(a, b)?,
    })
}
