//! Filters on lists and their like.

use std::collections::HashSet;

use super::super::failure::{Outcome, fail};
use super::super::meter::{self, Gather};
use super::super::run::Run;
use super::super::run::arguments::{Args, flag, given, integer, needed};
use super::super::value::{Cursor, Key, Text, Value, View};
use super::attributes::Getter;

pub(super) fn length(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    args.none("length")?;
    match value.len()? {
        Some(length) => Ok(Value::size(length)),
        None => fail(format!(
            "object of type '{}' has no len()",
            value.type_name()
        )),
    }
}

/// `default(default_value='', boolean=False)`: for an undefined value, and with `boolean` for
/// every false one.
pub(super) fn default(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let [other, boolean] = args.bind("default", ["default_value", "boolean"])?;
    if value.is_undefined() || (flag(boolean.as_ref()) && !value.truth()) {
        return other.map_or_else(|| Value::str(""), Ok);
    }
    Ok(value)
}

pub(super) fn first(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    args.none("first")?;
    let first = Cursor::new(&value)?.next()?;
    Ok(first.unwrap_or_else(|| Value::undefined("No first item, sequence was empty.")))
}

pub(super) fn last(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    args.none("last")?;
    let last = backwards(&value)?.into_iter().next();
    Ok(last.unwrap_or_else(|| Value::undefined("No last item, sequence was empty.")))
}

/// `reversed(value)`.
fn backwards(value: &Value) -> Outcome<Vec<Value>> {
    if let Value::Iter(_) = value {
        return fail("'generator' object is not reversible");
    }
    let mut items = Cursor::all(value)?;
    items.reverse();
    Ok(items)
}

pub(super) fn reverse(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    args.none("reverse")?;
    match &value {
        Value::Str(text) => {
            meter::ensure(text.len())?;
            let reversed: String = text.chars().rev().collect();
            Ok(Value::Str(Text::new(reversed)?.marked(text.safe)))
        }
        Value::Iter(_) => {
            let mut items = Cursor::all(&value)?;
            items.reverse();
            Value::list(items)
        }
        _ => Value::iter(backwards(&value)?),
    }
}

pub(super) fn list(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    args.none("list")?;
    Value::list(Cursor::all(&value)?)
}

pub(super) fn items(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    args.none("items")?;
    match value {
        Value::Undefined(_) => Value::iter(Vec::new()),
        Value::Dict(dict) => Value::iter(Cursor::all(&Value::View(View::Items, dict))?),
        _ => fail("Can only get item pairs from a mapping."),
    }
}

/// `random`: any item is as good as another, so this takes the first.
pub(super) fn random(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    args.none("random")?;
    match value {
        Value::Str(_)
        | Value::List(_)
        | Value::Tuple(_)
        | Value::Range(_)
        | Value::Undefined(_) => {
            let first = Cursor::new(&value)?.next()?;
            Ok(first.unwrap_or_else(|| Value::undefined("No random item, sequence was empty.")))
        }
        _ => fail(format!("'{}' object is no sequence", value.type_name())),
    }
}

/// `unique(case_sensitive=False, attribute=None)`.
pub(super) fn unique(run: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let [case_sensitive, attribute] = args.bind("unique", ["case_sensitive", "attribute"])?;
    let getter = Getter::new(attribute.as_ref(), !flag(case_sensitive.as_ref()))?;
    let mut seen = HashSet::new();
    let mut unique = Gather::new();
    let mut items = Cursor::new(&value)?;
    while let Some(item) = items.next()? {
        if seen.insert(Key::of(&getter.get(run, &item)?)?) {
            unique.push(item)?;
        }
    }
    Value::iter(unique.done())
}

/// `batch(linecount, fill_with=None)`: lists of so many items.
pub(super) fn batch(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let [count, fill] = args.bind("batch", ["linecount", "fill_with"])?;
    let count = integer(Some(&needed(count, "batch", "linecount")?), 0)?;
    let count = usize::try_from(count).unwrap_or(0);
    let mut batches = Gather::new();
    let mut batch = Vec::new();
    let mut items = Cursor::new(&value)?;
    while let Some(item) = items.next()? {
        if batch.len() == count {
            batches.push(Value::list(std::mem::take(&mut batch))?)?;
        }
        batch.push(item);
    }
    if !batch.is_empty() {
        if let Some(fill) = given(fill)
            && batch.len() < count
        {
            meter::ensure(count.saturating_mul(size_of::<Value>()))?;
            batch.resize(count, fill);
        }
        batches.push(Value::list(batch)?)?;
    }
    Value::iter(batches.done())
}

/// `slice(slices, fill_with=None)`: so many lists, of about the same length.
pub(super) fn slice(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let [slices, fill] = args.bind("slice", ["slices", "fill_with"])?;
    let slices = integer(Some(&needed(slices, "slice", "slices")?), 0)?;
    let fill = given(fill);
    let items = Cursor::all(&value)?;
    if slices == 0 {
        return fail("integer division or modulo by zero");
    }
    let slices = usize::try_from(slices).unwrap_or(0);
    let mut lists = Gather::new();
    let mut at = 0;
    for number in 0..slices {
        meter::spend(1)?;
        let longer = number < items.len() % slices;
        let end = at + items.len() / slices + usize::from(longer);
        let mut list = items[at..end].to_vec();
        at = end;
        if let (false, Some(fill)) = (longer, &fill) {
            list.push(fill.clone());
        }
        lists.push(Value::list(list)?)?;
    }
    Value::iter(lists.done())
}
