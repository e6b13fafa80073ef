//! Python's methods on strings and lists, where MiniJinja's own compatibility layer lacks them or
//! means something else by them.

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::python::{bind, is_space, text};

/// Calls a method that MiniJinja's values do not have.
pub(super) fn call(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let ours = match value.as_str() {
        Some(string) => on_string(string, method, args)?,
        None if value.kind() == ValueKind::Seq => on_list(value, method, args)?,
        None => None,
    };
    match ours {
        Some(result) => Ok(result),
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn on_string(string: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let result = match method {
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = bind(method, args, ["chars"])?;
            let chars = chars.as_ref().map(text).transpose()?;
            Value::from(strip(string, method != "rstrip", method != "lstrip", chars))
        }
        "split" | "rsplit" => {
            let [separator, limit] = bind(method, args, ["sep", "maxsplit"])?;
            let separator = separator.as_ref().map(text).transpose()?;
            let limit = limit.and_then(|limit| limit.as_usize());
            values(split(string, separator, limit, method == "rsplit")?)
        }
        "splitlines" => {
            let [keep] = bind(method, args, ["keepends"])?;
            values(lines(string, keep.is_some_and(|keep| keep.is_true())))
        }
        "partition" | "rpartition" => {
            let [separator] = bind(method, args, ["sep"])?;
            let separator = required(method, separator)?;
            let separator = text(&separator)?;
            let (found, parts) = match method {
                "partition" => (string.split_once(separator), (string, "", "")),
                _ => (string.rsplit_once(separator), ("", "", string)),
            };
            let (before, middle, after) =
                found.map_or(parts, |(before, after)| (before, separator, after));
            Value::from(Tuple::from([before, middle, after].map(Value::from)))
        }
        "removeprefix" | "removesuffix" => {
            let [affix] = bind(method, args, ["affix"])?;
            let affix = required(method, affix)?;
            let affix = text(&affix)?;
            let rest = match method {
                "removeprefix" => string.strip_prefix(affix),
                _ => string.strip_suffix(affix),
            };
            Value::from(rest.unwrap_or(string))
        }
        "index" | "rindex" => {
            let [wanted] = bind(method, args, ["sub"])?;
            let wanted = required(method, wanted)?;
            let wanted = text(&wanted)?;
            let found = if method == "index" {
                string.find(wanted)
            } else {
                string.rfind(wanted)
            };
            let before = found.map(|position| &string[..position]);
            let before = before.ok_or_else(|| missing("substring not found"))?;
            Value::from(before.chars().count())
        }
        "ljust" | "rjust" | "center" | "zfill" => {
            let [width, fill] = bind(method, args, ["width", "fillchar"])?;
            let width = required(method, width)?.as_usize().unwrap_or(0);
            let fill = fill.as_ref().map(text).transpose()?.unwrap_or(" ");
            Value::from(pad(string, method, width, fill))
        }
        "title" => Value::from(title(string)),
        "swapcase" => string.chars().map(swap_case).collect::<String>().into(),
        "casefold" => Value::from(string.replace(['ß', 'ẞ'], "ss").to_lowercase()),
        "isdecimal" => {
            Value::from(!string.is_empty() && string.chars().all(|c| c.is_ascii_digit()))
        }
        _ => return Ok(None),
    };
    Ok(Some(result))
}

fn on_list(list: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    match method {
        "index" => {
            let [wanted] = bind(method, args, ["value"])?;
            let wanted = wanted.unwrap_or_default();
            let found = list.try_iter()?.position(|item| item == wanted);
            found
                .map(|index| Some(index.into()))
                .ok_or_else(|| missing("value is not in list"))
        }
        "copy" => Ok(Some(list.clone())),
        _ => Ok(None),
    }
}

/// `str.strip` and its one-sided forms: takes away any of `chars`, or whitespace.
pub(super) fn strip<'text>(
    string: &'text str,
    start: bool,
    end: bool,
    chars: Option<&str>,
) -> &'text str {
    let goes = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
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
fn split<'text>(
    string: &'text str,
    separator: Option<&str>,
    limit: Option<usize>,
    from_end: bool,
) -> Result<Vec<&'text str>, Error> {
    let limit = limit.unwrap_or(usize::MAX);
    let parts = limit.saturating_add(1);
    Ok(match separator {
        Some("") => return Err(missing("empty separator")),
        Some(separator) if from_end => {
            let mut parts: Vec<_> = string.rsplitn(parts, separator).collect();
            parts.reverse();
            parts
        }
        Some(separator) => string.splitn(parts, separator).collect(),
        None => words(string, limit, from_end),
    })
}

/// The words of a text; after `limit` splits the rest stays as it is.
fn words(string: &str, limit: usize, from_end: bool) -> Vec<&str> {
    let mut rest = string;
    let mut words = Vec::new();
    loop {
        rest = strip(rest, !from_end, from_end, None);
        if rest.is_empty() {
            break;
        }
        let gap = if from_end {
            rest.rfind(is_space)
        } else {
            rest.find(is_space)
        };
        let Some(gap) = gap.filter(|_| words.len() < limit) else {
            words.push(rest);
            break;
        };
        let (before, after) = rest.split_at(gap);
        if from_end {
            words.push(after.trim_start_matches(is_space));
            rest = before;
        } else {
            words.push(before);
            rest = after;
        }
    }
    if from_end {
        words.reverse();
    }
    words
}

/// `str.splitlines`: at every line end that Unicode knows.
pub(super) fn lines(string: &str, keep_ends: bool) -> Vec<&str> {
    let ends = |c| matches!(c, '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}'..='\u{2029}');
    let mut lines = Vec::new();
    let mut rest = string;
    while !rest.is_empty() {
        let line = rest.find(ends).unwrap_or(rest.len());
        let end = match &rest[line..] {
            end if end.starts_with("\r\n") => 2,
            end => end.chars().next().map_or(0, char::len_utf8),
        };
        lines.push(&rest[..if keep_ends { line + end } else { line }]);
        rest = &rest[line + end..];
    }
    lines
}

/// `str.ljust`, `str.rjust`, `str.center` and `str.zfill`.
fn pad(string: &str, method: &str, width: usize, fill: &str) -> String {
    let missing = width.saturating_sub(string.chars().count());
    match method {
        "ljust" => string.to_owned() + &fill.repeat(missing),
        "rjust" => fill.repeat(missing) + string,
        "zfill" => {
            let digits = string.strip_prefix(['-', '+']).unwrap_or(string);
            let sign = &string[..string.len() - digits.len()];
            format!("{sign}{}{digits}", "0".repeat(missing))
        }
        _ => {
            // CPython puts the odd one to the left only where the width is odd.
            let left = missing / 2 + (missing & width & 1);
            format!(
                "{}{string}{}",
                fill.repeat(left),
                fill.repeat(missing - left)
            )
        }
    }
}

/// `str.title`: a capital after everything that is no letter.
fn title(string: &str) -> String {
    let mut title = String::with_capacity(string.len());
    let mut in_word = false;
    for character in string.chars() {
        if in_word {
            title.extend(character.to_lowercase());
        } else {
            title.extend(character.to_uppercase());
        }
        in_word = character.is_alphabetic();
    }
    title
}

fn swap_case(character: char) -> String {
    if character.is_uppercase() {
        character.to_lowercase().collect()
    } else {
        character.to_uppercase().collect()
    }
}

fn values(strings: Vec<&str>) -> Value {
    strings.into_iter().map(Value::from).collect()
}

fn required(method: &str, value: Option<Value>) -> Result<Value, Error> {
    value.ok_or_else(|| Error::new(ErrorKind::MissingArgument, format!("{method}()")))
}

fn missing(problem: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem)
}
