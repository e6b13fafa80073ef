//! Filters on strings.

use super::super::failure::{Outcome, fail};
use super::super::meter;
use super::super::python::{self, split, strings, unicode};
use super::super::run::Run;
use super::super::run::arguments::{Args, flag, given, integer, needed, text};
use super::super::value::{Cursor, Draft, Text, Value, string};
use super::attributes::Getter;

/// A method of `str`, on the text of any value.
pub(super) fn method(value: &Value, name: &str, args: Args) -> Outcome<Value> {
    args.none(name)?;
    let text = string(value)?;
    meter::ensure(text.len() * 3)?;
    meter::spend_text(text.len() * 2)?;
    let changed = match name {
        "upper" => text.to_uppercase(),
        "lower" => text.to_lowercase(),
        _ => strings::capitalized(&text),
    };
    Ok(Value::Str(Text::new(changed)?.marked(text.safe)))
}

/// `title`: a capital after whitespace, a hyphen and an opening bracket, all else small.
pub(super) fn title(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    args.none("title")?;
    let text = string(&value)?;
    meter::ensure(text.len() * 3)?;
    meter::spend_text(text.len() * 2)?;
    let mut title = String::with_capacity(text.len());
    let parts = |it: char| matches!(it, '-' | '(' | '{' | '[' | '<') || unicode::is_space(it);
    for word in text.split_inclusive(parts) {
        let mut rest = word.chars();
        if let Some(first) = rest.next() {
            title.extend(first.to_uppercase());
        }
        title.push_str(&rest.as_str().to_lowercase());
    }
    Value::str(title)
}

pub(super) fn string_filter(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    args.none("string")?;
    string(&value).map(Value::Str)
}

/// `center(width=80)`.
pub(super) fn center(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let [width] = args.bind("center", ["width"])?;
    let width = integer(width.as_ref(), 80)?;
    strings::pad(&string(&value)?, "center", width, " ")
}

/// `trim(chars=None)`.
pub(super) fn trim(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let [chars] = args.bind("trim", ["chars"])?;
    let chars = given(chars);
    let chars = chars.as_ref().map(text).transpose()?;
    let text = string(&value)?;
    meter::spend_text(text.len())?;
    let trimmed = Text::new(split::strip(&text, true, true, chars))?;
    Ok(Value::Str(trimmed.marked(text.safe)))
}

/// `replace(old, new, count=None)`.
pub(super) fn replace(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let [old, new, count] = args.bind("replace", ["old", "new", "count"])?;
    let old = string(&needed(old, "replace", "old")?)?;
    let new = string(&needed(new, "replace", "new")?)?;
    let count = integer(given(count).as_ref(), -1)?;
    strings::replace(&string(&value)?, &old, &new, count)
}

/// `format(...)`: the `%` operator.
pub(super) fn format(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let format = string(&value)?;
    if args.named.is_empty() {
        return python::percent(&format, &Value::tuple(args.positional)?);
    }
    if !args.positional.is_empty() {
        return fail("can't handle positional and keyword arguments at the same time");
    }
    let mut dict = super::super::value::Dict::new();
    for (name, value) in args.named {
        dict.insert(Value::str(name)?, value)?;
    }
    python::percent(&format, &Value::dict(dict)?)
}

/// `join(d='', attribute=None)`.
pub(super) fn join(run: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let [separator, attribute] = args.bind("join", ["d", "attribute"])?;
    let separator = match separator {
        Some(separator) => string(&separator)?,
        None => Text::new("")?,
    };
    let getter = Getter::new(given(attribute).as_ref(), false)?;
    let mut draft = Draft::new();
    let mut items = Cursor::new(&value)?;
    let mut first = true;
    while let Some(item) = items.next()? {
        if !first {
            draft.push_str(&separator)?;
        }
        first = false;
        draft.push_str(&string(&getter.get(run, &item)?)?)?;
    }
    draft.text().map(Value::Str)
}

/// `indent(width=4, first=False, blank=False)`: `width` is a number of spaces, or the text to put
/// before each line.
pub(super) fn indent(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let [width, first, blank] = args.bind("indent", ["width", "first", "blank"])?;
    let (first, blank) = (flag(first.as_ref()), flag(blank.as_ref()));
    let indentation = match &width {
        Some(Value::Str(text)) => text.clone(),
        _ => {
            let width = usize::try_from(integer(width.as_ref(), 4)?).unwrap_or(0);
            let mut spaces = Draft::new();
            spaces.repeat(" ", width)?;
            spaces.text()?
        }
    };
    let Value::Str(of) = &value else {
        value.defined()?;
        return fail(format!(
            "indent: a string is needed, not '{}'",
            value.type_name()
        ));
    };
    // A line end at the end of the text begins one more line.
    meter::spend_text(of.len())?;
    let whole = Text::new(format!("{}\n", &**of))?;
    let mut draft = Draft::new();
    for (index, line) in split::lines(&whole, false)?.into_iter().enumerate() {
        if index > 0 {
            draft.push('\n')?;
        }
        if if index == 0 {
            first
        } else {
            blank || !line.is_empty()
        } {
            draft.push_str(&indentation)?;
        }
        draft.push_str(line)?;
    }
    Ok(Value::Str(draft.text()?.marked(of.safe)))
}

/// `truncate(length=255, killwords=False, end='...', leeway=5)`.
pub(super) fn truncate(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let parameters = ["length", "killwords", "end", "leeway"];
    let [length, whole_words, end, leeway] = args.bind("truncate", parameters)?;
    let length = integer(length.as_ref(), 255)?;
    let leeway = integer(given(leeway).as_ref(), 5)?;
    let end = match &end {
        Some(end) => text(end)?,
        None => "...",
    };
    let end_length = i128::try_from(end.chars().count()).unwrap_or(i128::MAX);
    if length < end_length {
        return fail(format!("expected length >= {end_length}, got {length}"));
    }
    if leeway < 0 {
        return fail(format!("expected leeway >= 0, got {leeway}"));
    }
    let count = value.len()?.and_then(|count| i128::try_from(count).ok());
    if count.is_some_and(|count| count <= length.saturating_add(leeway)) {
        return Ok(value);
    }
    let of = text(&value)?;
    meter::spend_text(of.len())?;
    let kept = usize::try_from(length - end_length).unwrap_or(usize::MAX);
    let kept = of.char_indices().nth(kept).map_or(of, |(at, _)| &of[..at]);
    let kept = if flag(whole_words.as_ref()) {
        kept
    } else {
        kept.rsplit_once(' ').map_or(kept, |(before, _)| before)
    };
    Value::str(format!("{kept}{end}"))
}

/// `wordcount`: runs of letters, digits and underscores.
pub(super) fn word_count(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    args.none("wordcount")?;
    let text = string(&value)?;
    meter::spend_text(text.len() * 2)?;
    let words = text
        .split(|it| !is_word(it))
        .filter(|word| !word.is_empty());
    Ok(Value::size(words.count()))
}

/// Whether a character is one of `\w`.
pub(super) fn is_word(character: char) -> bool {
    let mut one = [0; 4];
    character == '_' || strings::is(character.encode_utf8(&mut one), "isalnum")
}
