//! Python's methods and operators on the values of a template.

mod braces;
mod case;
mod containers;
mod find;
pub(super) mod number;
pub(super) mod operators;
mod percent;
mod spec;
pub(super) mod split;
pub(super) mod strings;
pub(super) mod unicode;

use super::failure::Outcome;
use super::run::Run;
use super::run::arguments::Args;
use super::value::Value;

pub(super) use percent::percent;

const OF_SEQUENCES: [&str; 2] = ["count", "index"];
const OF_DICTS: [&str; 6] = ["copy", "fromkeys", "get", "items", "keys", "values"];
const OF_INTEGERS: [&str; 4] = ["bit_length", "bit_count", "conjugate", "is_integer"];
const OF_FLOATS: [&str; 2] = ["conjugate", "is_integer"];
/// What the sandbox keeps from templates, since it changes a value.
const CHANGING_LISTS: [&str; 8] = [
    "append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort",
];
const CHANGING_DICTS: [&str; 5] = ["clear", "pop", "popitem", "setdefault", "update"];

/// The name of a method, if the value has it.
pub(super) fn find(value: &Value, name: &str) -> Option<&'static str> {
    let names: &[&'static str] = match value {
        Value::Str(_) => &strings::METHODS,
        Value::List(_) if name == "copy" => &["copy"],
        Value::List(_) | Value::Tuple(_) | Value::Range(_) => &OF_SEQUENCES,
        Value::Dict(_) => &OF_DICTS,
        Value::Int(_) | Value::Bool(_) => &OF_INTEGERS,
        Value::Float(_) => &OF_FLOATS,
        _ => &[],
    };
    names.iter().find(|known| **known == name).copied()
}

/// Whether the sandbox keeps an attribute from templates.
pub(super) fn is_forbidden(value: &Value, name: &str) -> bool {
    match value {
        Value::List(_) => CHANGING_LISTS.contains(&name),
        Value::Dict(_) => CHANGING_DICTS.contains(&name),
        _ => false,
    }
}

/// Calls a method.
pub(super) fn call(
    run: &mut Run<'_>,
    of: &Value,
    name: &'static str,
    args: Args,
) -> Outcome<Value> {
    match of {
        Value::Str(text) => strings::call(run, text, name, args),
        Value::Dict(dict) => containers::on_dict(dict, of, name, args),
        Value::List(_) | Value::Tuple(_) | Value::Range(_) => {
            containers::on_sequence(of, name, args)
        }
        _ => number::method(of, name, args),
    }
}
