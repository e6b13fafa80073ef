//! Looking for one string in another.

use super::super::failure::{Outcome, fail};
use super::super::run::arguments::{Args, given, integer, needed, text};
use super::super::value::Value;

/// `str.find` and its like, with their bounds.
pub(super) fn call(of: &str, name: &str, args: Args) -> Outcome<Value> {
    let [wanted, start, stop] = args.unnamed(name)?;
    let wanted = needed(wanted, name, "sub")?;
    let bounded = start.is_some();
    let (start, stop) = (given(start), given(stop));
    let length = if bounded {
        i128::try_from(of.chars().count()).unwrap_or(i128::MAX)
    } else {
        0
    };
    let bound = |bound: Option<&Value>, default| -> Outcome<i128> {
        let bound = integer(bound, default)?;
        Ok(if bound < 0 {
            (bound + length).max(0)
        } else {
            bound
        })
    };
    let (first, last) = (bound(start.as_ref(), 0)?, bound(stop.as_ref(), i128::MAX)?);
    let within = if bounded {
        if first > length || first > last {
            None
        } else {
            let count = usize::try_from(last - first).unwrap_or(usize::MAX);
            let skipped = usize::try_from(first).unwrap_or(usize::MAX);
            let from = of
                .char_indices()
                .nth(skipped)
                .map_or(of.len(), |(at, _)| at);
            let tail = &of[from..];
            Some(
                &tail[..tail
                    .char_indices()
                    .nth(count)
                    .map_or(tail.len(), |(at, _)| at)],
            )
        }
    } else {
        Some(of)
    };
    let test = |affix: &Value| -> Outcome<bool> {
        let affix = text(affix)?;
        Ok(within.is_some_and(|it| {
            if name == "startswith" {
                it.starts_with(affix)
            } else {
                it.ends_with(affix)
            }
        }))
    };
    if let "startswith" | "endswith" = name {
        return match &wanted {
            Value::Tuple(affixes) => {
                for affix in &affixes.items {
                    if test(affix)? {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
            affix => Ok(Value::Bool(test(affix)?)),
        };
    }
    let wanted = text(&wanted)?;
    if name == "count" {
        return Ok(Value::size(
            within.map_or(0, |it| it.matches(wanted).count()),
        ));
    }
    let found = within.and_then(|it| {
        let at = if name.starts_with('r') {
            it.rfind(wanted)
        } else {
            it.find(wanted)
        };
        at.map(|at| it[..at].chars().count())
    });
    match found {
        Some(at) => Ok(Value::Int(i128::try_from(at).unwrap_or(i128::MAX) + first)),
        None if name.ends_with("find") => Ok(Value::Int(-1)),
        None => fail("substring not found"),
    }
}
