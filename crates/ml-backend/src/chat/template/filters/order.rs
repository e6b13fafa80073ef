//! Sorting, grouping, and the least and greatest.

use std::cmp::Ordering;

use super::super::failure::{Outcome, fail};
use super::super::meter::{self, Gather};
use super::super::run::Run;
use super::super::run::arguments::{Args, flag, needed};
use super::super::value::{Cursor, Value, equal, order};
use super::attributes::{Getter, several};

/// An item, with what it is sorted by.
type Keyed = (Value, Value);

/// Sorts, keeping the order of what is equal. The standard library's sort wants an order of all
/// values, which Python's `<` is not: it can fail, and knows NaN.
fn sorted(mut items: Vec<Keyed>, reverse: bool) -> Outcome<Vec<Keyed>> {
    meter::ensure(items.len() * size_of::<Keyed>())?;
    if reverse {
        items.reverse();
    }
    let mut width = 1;
    while width < items.len() {
        let mut merged = Vec::with_capacity(items.len());
        for pair in items.chunks(2 * width) {
            let (mut left, mut right) = pair.split_at(width.min(pair.len()));
            while let (Some((a, after_a)), Some((b, after_b))) =
                (left.split_first(), right.split_first())
            {
                if order(&b.0, &a.0)? == Ordering::Less {
                    merged.push(b.clone());
                    right = after_b;
                } else {
                    merged.push(a.clone());
                    left = after_a;
                }
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
        }
        items = merged;
        width *= 2;
    }
    if reverse {
        items.reverse();
    }
    Ok(items)
}

/// Pairs in the order of their firsts.
pub(in super::super) fn sorted_by_first(
    pairs: Vec<(Value, Value)>,
) -> Outcome<Vec<(Value, Value)>> {
    sorted(pairs, false)
}

/// `sort(reverse=False, case_sensitive=False, attribute=None)`.
pub(super) fn sort(run: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let parameters = ["reverse", "case_sensitive", "attribute"];
    let [reverse, case_sensitive, attribute] = args.bind("sort", parameters)?;
    let getters = several(attribute.as_ref(), !flag(case_sensitive.as_ref()))?;
    let mut keyed = Gather::new();
    let mut items = Cursor::new(&value)?;
    while let Some(item) = items.next()? {
        let keys = getters
            .iter()
            .map(|getter| getter.get(run, &item))
            .collect::<Outcome<Vec<_>>>()?;
        keyed.push((Value::list(keys)?, item))?;
    }
    let sorted = sorted(keyed.done(), flag(reverse.as_ref()))?;
    Value::list(sorted.into_iter().map(|(_, item)| item).collect())
}

/// `dictsort(case_sensitive=False, by='key', reverse=False)`.
pub(super) fn dictsort(run: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let [case_sensitive, by, reverse] =
        args.bind("dictsort", ["case_sensitive", "by", "reverse"])?;
    let by_value = match by.as_ref().map(Value::as_str) {
        None | Some(Some("key")) => false,
        Some(Some("value")) => true,
        _ => return fail("You can only sort by either \"key\" or \"value\""),
    };
    value.defined()?;
    let Value::Dict(dict) = &value else {
        return fail(format!(
            "'{}' object has no attribute 'items'",
            value.type_name()
        ));
    };
    let getter = Getter::new(None, !flag(case_sensitive.as_ref()))?;
    let mut keyed = Gather::new();
    for (key, value) in dict.entries() {
        let by = getter.get(run, if by_value { value } else { key })?;
        keyed.push((by, Value::tuple(vec![key.clone(), value.clone()])?))?;
    }
    let sorted = sorted(keyed.done(), flag(reverse.as_ref()))?;
    Value::list(sorted.into_iter().map(|(_, item)| item).collect())
}

/// `groupby(attribute, default=None, case_sensitive=False)`.
pub(super) fn group_by(run: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let parameters = ["attribute", "default", "case_sensitive"];
    let [attribute, default, case_sensitive] = args.bind("groupby", parameters)?;
    let attribute = needed(attribute, "groupby", "attribute")?;
    let case_sensitive = flag(case_sensitive.as_ref());
    let getter = Getter::new(Some(&attribute), !case_sensitive)?.with_default(default);
    let mut keyed = Gather::new();
    let mut items = Cursor::new(&value)?;
    while let Some(item) = items.next()? {
        keyed.push((getter.get(run, &item)?, item))?;
    }
    let sorted = sorted(keyed.done(), false)?;
    let getter = getter.in_any_case(false);
    let mut groups = Vec::new();
    let mut rest = sorted.as_slice();
    while let Some((key, first)) = rest.first() {
        let mut length = 1;
        while let Some((other, _)) = rest.get(length)
            && equal(other, key)?
        {
            length += 1;
        }
        let group = rest[..length]
            .iter()
            .map(|(_, item)| item.clone())
            .collect();
        // A group is called by the name of its first item, in the case that it has there.
        let grouper = getter.get(run, first)?;
        groups.push(Value::named_tuple(
            &["grouper", "list"],
            vec![grouper, Value::list(group)?],
        )?);
        rest = &rest[length..];
    }
    Value::list(groups)
}

/// `min(case_sensitive=False, attribute=None)`.
pub(super) fn min(run: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    outermost(run, &value, args, "min")
}

/// `max(case_sensitive=False, attribute=None)`.
pub(super) fn max(run: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    outermost(run, &value, args, "max")
}

fn outermost(run: &mut Run<'_>, value: &Value, args: Args, name: &str) -> Outcome<Value> {
    let [case_sensitive, attribute] = args.bind(name, ["case_sensitive", "attribute"])?;
    let getter = Getter::new(attribute.as_ref(), !flag(case_sensitive.as_ref()))?;
    let mut found: Option<Keyed> = None;
    let mut items = Cursor::new(value)?;
    while let Some(item) = items.next()? {
        let key = getter.get(run, &item)?;
        let better = match &found {
            None => true,
            Some((known, _)) if name == "min" => order(&key, known)? == Ordering::Less,
            Some((known, _)) => order(known, &key)? == Ordering::Less,
        };
        if better {
            found = Some((key, item));
        }
    }
    let nothing = || Value::undefined("No aggregated item, sequence was empty.");
    Ok(found.map_or_else(nothing, |(_, item)| item))
}
