//! Taking strings apart.

use std::collections::HashSet;

use super::super::failure::{Outcome, fail};
use super::super::meter::Gather;
use super::super::run::arguments::{integer, text};
use super::super::value::Value;
use super::unicode::is_space;

/// A list of strings.
pub(super) fn values(parts: Vec<&str>) -> Outcome<Value> {
    let mut values = Gather::new();
    for part in parts {
        values.push(Value::str(part)?)?;
    }
    Value::list(values.done())
}

/// `str.strip` and its one-sided forms: takes away any of `chars`, or whitespace.
pub(in super::super) fn strip<'text>(
    string: &'text str,
    start: bool,
    end: bool,
    chars: Option<&str>,
) -> &'text str {
    let many: Option<HashSet<char>> = chars
        .filter(|it| it.len() > 16)
        .map(|it| it.chars().collect());
    let goes = |c: char| match (&many, chars) {
        (Some(many), _) => many.contains(&c),
        (None, Some(chars)) => chars.contains(c),
        (None, None) => is_space(c),
    };
    let string = if start {
        string.trim_start_matches(goes)
    } else {
        string
    };
    if end {
        string.trim_end_matches(goes)
    } else {
        string
    }
}

/// `str.split` and `str.rsplit`.
pub(super) fn split(
    string: &str,
    separator: Option<&Value>,
    limit: Option<&Value>,
    from_end: bool,
) -> Outcome<Value> {
    let limit = usize::try_from(integer(limit, -1)?).unwrap_or(usize::MAX);
    let parts = limit.saturating_add(1);
    let mut found = Gather::new();
    match separator.map(text).transpose()? {
        Some("") => return fail("empty separator"),
        Some(separator) if from_end => {
            for part in string.rsplitn(parts, separator) {
                found.push(part)?;
            }
        }
        Some(separator) => {
            for part in string.splitn(parts, separator) {
                found.push(part)?;
            }
        }
        None => words(&mut found, string, limit, from_end)?,
    }
    let mut found = found.done();
    if from_end {
        found.reverse();
    }
    values(found)
}

/// The words of a text; after `limit` splits the rest stays as it is.
fn words<'text>(
    found: &mut Gather<&'text str>,
    string: &'text str,
    limit: usize,
    from_end: bool,
) -> Outcome<()> {
    let mut rest = string;
    let mut count = 0;
    loop {
        rest = strip(rest, !from_end, from_end, None);
        if rest.is_empty() {
            return Ok(());
        }
        let gap = if from_end {
            rest.rfind(is_space)
        } else {
            rest.find(is_space)
        };
        let Some(gap) = gap.filter(|_| count < limit) else {
            return found.push(rest);
        };
        let (before, after) = rest.split_at(gap);
        if from_end {
            found.push(after.trim_start_matches(is_space))?;
            rest = before;
        } else {
            found.push(before)?;
            rest = after;
        }
        count += 1;
    }
}

/// `str.splitlines`: at every line end that Unicode knows.
pub(in super::super) fn lines(string: &str, keep_ends: bool) -> Outcome<Vec<&str>> {
    let ends = |c| matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}'..='\u{2029}');
    let mut lines = Gather::new();
    let mut rest = string;
    while !rest.is_empty() {
        let line = rest.find(ends).unwrap_or(rest.len());
        let end = match &rest[line..] {
            end if end.starts_with("\r\n") => 2,
            end => end.chars().next().map_or(0, char::len_utf8),
        };
        lines.push(&rest[..if keep_ends { line + end } else { line }])?;
        rest = &rest[line + end..];
    }
    Ok(lines.done())
}

/// `str.partition` and `str.rpartition`.
pub(super) fn partition(string: &str, separator: &Value, from_end: bool) -> Outcome<Value> {
    let separator = text(separator)?;
    if separator.is_empty() {
        return fail("empty separator");
    }
    let (found, parts) = if from_end {
        (string.rsplit_once(separator), ("", "", string))
    } else {
        (string.split_once(separator), (string, "", ""))
    };
    let (before, middle, after) = found.map_or(parts, |(before, after)| (before, separator, after));
    Value::tuple(vec![
        Value::str(before)?,
        Value::str(middle)?,
        Value::str(after)?,
    ])
}
