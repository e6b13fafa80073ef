//! Methods of `str`.

use super::super::failure::{Outcome, fail};
use super::super::filters::escaped;
use super::super::meter;
use super::super::run::Run;
use super::super::run::arguments::{Args, flag, given, integer, needed, text};
use super::super::value::{Cursor, Dict, Draft, Key, Text, Value};
use super::{braces, case, find, split, unicode};

pub(super) const METHODS: [&str; 46] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];

/// Calls a method of a string. What HTML gives is HTML, and what is put into it is escaped.
pub(super) fn call(
    run: &mut Run<'_>,
    of: &Text,
    name: &'static str,
    mut args: Args,
) -> Outcome<Value> {
    meter::spend_text(of.len())?;
    let looks = name.starts_with("is")
        || matches!(
            name,
            "count" | "find" | "rfind" | "index" | "rindex" | "startswith" | "endswith"
        );
    if of.safe && !looks && name != "format" {
        for value in &mut args.positional {
            if let Value::Str(_) = value {
                *value = Value::Str(escaped(value)?);
            }
        }
    }
    let result = match name {
        "format" => return braces::format(run, of, &args),
        "format_map" => {
            let Value::Dict(values) = args.one(name)? else {
                return fail("format_map() needs a mapping");
            };
            let named = values
                .entries()
                .iter()
                .filter_map(|(key, value)| key.as_str().map(|key| (key.to_owned(), value.clone())));
            let args = Args {
                positional: Vec::new(),
                named: named.collect(),
            };
            return braces::format(run, of, &args);
        }
        _ => method(of, name, args)?,
    };
    Ok(match result {
        Value::Str(text) if of.safe => Value::Str(text.marked(true)),
        result => result,
    })
}

fn method(of: &Text, name: &'static str, args: Args) -> Outcome<Value> {
    match name {
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = args.unnamed(name)?;
            let chars = given(chars);
            let chars = chars.as_ref().map(text).transpose()?;
            Value::str(split::strip(of, name != "rstrip", name != "lstrip", chars))
        }
        "split" | "rsplit" => {
            let [separator, limit] = args.bind(name, ["sep", "maxsplit"])?;
            split::split(
                of,
                given(separator).as_ref(),
                limit.as_ref(),
                name == "rsplit",
            )
        }
        "splitlines" => {
            let [keep] = args.bind(name, ["keepends"])?;
            split::values(split::lines(of, flag(keep.as_ref()))?)
        }
        "partition" | "rpartition" => split::partition(of, &args.one(name)?, name == "rpartition"),
        "removeprefix" | "removesuffix" => {
            let affix = args.one(name)?;
            let affix = text(&affix)?;
            let rest = match name {
                "removeprefix" => of.strip_prefix(affix),
                _ => of.strip_suffix(affix),
            };
            Value::str(rest.unwrap_or(of))
        }
        "count" | "find" | "rfind" | "index" | "rindex" | "startswith" | "endswith" => {
            find::call(of, name, args)
        }
        "ljust" | "rjust" | "center" | "zfill" => {
            let [width, fill] = args.unnamed(name)?;
            let width = integer(Some(&needed(width, name, "width")?), 0)?;
            let fill = match (&fill, name) {
                (Some(_), "zfill") => return fail("zfill() takes exactly one argument (2 given)"),
                (Some(fill), _) => text(fill)?,
                (None, _) => " ",
            };
            if fill.chars().count() != 1 {
                return fail("The fill character must be exactly one character long");
            }
            pad(of, name, width, fill)
        }
        "replace" => {
            let [old, new, count] = args.bind(name, ["", "", "count"])?;
            let (old, new) = (needed(old, name, "old")?, needed(new, name, "new")?);
            replace(of, text(&old)?, text(&new)?, integer(count.as_ref(), -1)?)
        }
        "join" => join(of, &args.one(name)?),
        "expandtabs" => {
            let [size] = args.bind(name, ["tabsize"])?;
            expand_tabs(of, integer(size.as_ref(), 8)?)
        }
        "translate" => translate(of, &args.one(name)?),
        "maketrans" => make_translation(args),
        "upper" | "lower" | "title" | "capitalize" | "swapcase" | "casefold" => {
            args.none(name)?;
            meter::ensure(of.len() * 3)?;
            meter::spend_text(of.len())?;
            Value::str(match name {
                "upper" => of.to_uppercase(),
                "lower" => of.to_lowercase(),
                "title" => case::title(of),
                "capitalize" => case::capitalize(of),
                "swapcase" => case::swap(of),
                _ => case::fold(of),
            })
        }
        _ => {
            args.none(name)?;
            meter::spend_text(of.len() * 2)?;
            Ok(Value::Bool(is(of, name)))
        }
    }
}

/// `str.isalpha` and its like.
pub(in super::super) fn is(of: &str, name: &str) -> bool {
    let all = |test: fn(char) -> bool| !of.is_empty() && of.chars().all(test);
    match name {
        "isalpha" => all(unicode::is_letter),
        "isalnum" => all(|it| unicode::is_letter(it) || unicode::is_numeric(it)),
        "isdecimal" => all(unicode::is_decimal),
        "isdigit" => all(unicode::is_digit),
        "isnumeric" => all(unicode::is_numeric),
        "isspace" => all(unicode::is_space),
        "isascii" => of.is_ascii(),
        "isprintable" => of.chars().all(unicode::is_printable),
        "isidentifier" => {
            let starts = of.starts_with(|it: char| it == '_' || it.is_alphabetic());
            starts && of.chars().all(|it| it == '_' || it.is_alphanumeric())
        }
        "islower" => {
            let cased = |it: char| it.is_uppercase() || unicode::is_title(it);
            !of.chars().any(cased) && of.chars().any(char::is_lowercase)
        }
        "isupper" => {
            let cased = |it: char| it.is_lowercase() || unicode::is_title(it);
            !of.chars().any(cased) && of.chars().any(char::is_uppercase)
        }
        _ => case::is_title(of),
    }
}

/// `str.capitalize`.
pub(in super::super) fn capitalized(of: &str) -> String {
    case::capitalize(of)
}

/// `str.ljust`, `str.rjust`, `str.center` and `str.zfill`.
pub(in super::super) fn pad(of: &str, name: &str, width: i128, fill: &str) -> Outcome<Value> {
    let width = usize::try_from(width.max(0)).unwrap_or(usize::MAX);
    let missing = width.saturating_sub(of.chars().count());
    let mut draft = Draft::new();
    match name {
        "ljust" => {
            draft.push_str(of)?;
            draft.repeat(fill, missing)?;
        }
        "rjust" => {
            draft.repeat(fill, missing)?;
            draft.push_str(of)?;
        }
        "zfill" => {
            let digits = of.strip_prefix(['-', '+']).unwrap_or(of);
            draft.push_str(&of[..of.len() - digits.len()])?;
            draft.repeat("0", missing)?;
            draft.push_str(digits)?;
        }
        _ => {
            // CPython puts the odd one to the left only where the width is odd.
            let left = missing / 2 + (missing & width & 1);
            draft.repeat(fill, left)?;
            draft.push_str(of)?;
            draft.repeat(fill, missing - left)?;
        }
    }
    draft.text().map(Value::Str)
}

/// `str.replace`; a negative count is no limit.
pub(in super::super) fn replace(of: &str, old: &str, new: &str, count: i128) -> Outcome<Value> {
    let mut left = usize::try_from(count).unwrap_or(usize::MAX);
    meter::spend_text(of.len())?;
    let mut draft = Draft::new();
    let mut end = 0;
    for (start, _) in of.match_indices(old) {
        if left == 0 {
            break;
        }
        left -= 1;
        meter::spend(1)?;
        draft.push_str(&of[end..start])?;
        draft.push_str(new)?;
        end = start + old.len();
    }
    draft.push_str(&of[end..])?;
    draft.text().map(Value::Str)
}

fn join(of: &Text, items: &Value) -> Outcome<Value> {
    let mut draft = Draft::new();
    let mut items = Cursor::new(items)?;
    let mut index = 0;
    while let Some(item) = items.next()? {
        let Value::Str(text) = &item else {
            item.defined()?;
            let kind = item.type_name();
            return fail(format!(
                "sequence item {index}: expected str instance, {kind} found"
            ));
        };
        if index > 0 {
            draft.push_str(of)?;
        }
        index += 1;
        if of.safe {
            draft.push_str(&escaped(&item)?)?;
        } else {
            draft.push_str(text)?;
        }
    }
    draft.text().map(Value::Str)
}

fn expand_tabs(of: &str, size: i128) -> Outcome<Value> {
    let size = usize::try_from(size.max(0)).unwrap_or(usize::MAX);
    let mut draft = Draft::new();
    let mut column = 0;
    for character in of.chars() {
        match character {
            '\t' => {
                let missing = if size == 0 { 0 } else { size - column % size };
                draft.repeat(" ", missing)?;
                column += missing;
            }
            _ => {
                draft.push(character)?;
                column = if matches!(character, '\n' | '\r') {
                    0
                } else {
                    column + 1
                };
            }
        }
    }
    draft.text().map(Value::Str)
}

fn translate(of: &str, table: &Value) -> Outcome<Value> {
    let Value::Dict(table) = table else {
        return fail(format!(
            "'{}' object is not subscriptable",
            table.type_name()
        ));
    };
    let mut draft = Draft::new();
    for character in of.chars() {
        match table.get(&Value::Int(i128::from(u32::from(character))))? {
            None => draft.push(character)?,
            Some(Value::None) => {}
            Some(Value::Str(text)) => draft.push_str(text)?,
            Some(other) => match other
                .as_int()
                .and_then(|it| u32::try_from(it).ok())
                .and_then(char::from_u32)
            {
                Some(other) => draft.push(other)?,
                None => return fail("character mapping must return integer, None or str"),
            },
        }
    }
    draft.text().map(Value::Str)
}

fn make_translation(args: Args) -> Outcome<Value> {
    let [from, to, without] = args.unnamed("maketrans")?;
    let from = needed(from, "maketrans", "x")?;
    let code = |character: char| Value::Int(i128::from(u32::from(character)));
    let mut table = Dict::new();
    match (&from, to) {
        (Value::Dict(from), None) => {
            for (key, value) in from.entries() {
                let key = match key {
                    Value::Str(text) => match (text.chars().next(), text.chars().nth(1)) {
                        (Some(character), None) => code(character),
                        _ => return fail("string keys in translate table must be of length 1"),
                    },
                    Value::Int(_) => key.clone(),
                    _ => return fail("keys in translate table must be strings or integers"),
                };
                Key::of(&key)?;
                table.insert(key, value.clone())?;
            }
        }
        (_, Some(to)) => {
            let (from, to) = (text(&from)?, text(&to)?);
            if from.chars().count() != to.chars().count() {
                return fail("the first two maketrans arguments must have equal length");
            }
            for (from, to) in from.chars().zip(to.chars()) {
                table.insert(code(from), code(to))?;
            }
            if let Some(without) = &without {
                for character in text(without)?.chars() {
                    table.insert(code(character), Value::None)?;
                }
            }
        }
        _ => return fail("if you give only one argument to maketrans it must be a dict"),
    }
    Value::dict(table)
}

/// A text with all that is not ASCII written as escapes.
pub(super) fn ascii(text: &str) -> Outcome<Text> {
    let mut draft = Draft::new();
    for character in text.chars() {
        let code = u32::from(character);
        match code {
            0..=0x7f => draft.push(character)?,
            0x80..=0xff => draft.push_str(&format!("\\x{code:02x}"))?,
            0x100..=0xffff => draft.push_str(&format!("\\u{code:04x}"))?,
            _ => draft.push_str(&format!("\\U{code:08x}"))?,
        }
    }
    draft.text()
}
