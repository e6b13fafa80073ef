//! Filters for HTML and addresses.

use super::super::failure::{Outcome, fail};
use super::super::meter;
use super::super::python::unicode;
use super::super::run::Run;
use super::super::run::arguments::{Args, text};
use super::super::value::{Cursor, Draft, Text, Value, View, string};

/// The text of a value for HTML, with the entities that MarkupSafe writes.
pub(in super::super) fn escaped(value: &Value) -> Outcome<Text> {
    let text = string(value)?;
    if text.safe {
        Ok(text)
    } else {
        escaped_text(&text)
    }
}

fn escaped_text(text: &str) -> Outcome<Text> {
    meter::spend_text(text.len())?;
    let mut draft = Draft::new();
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
        draft.push_str(&rest[..at])?;
        draft.push_str(match rest.as_bytes()[at] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&#34;",
            _ => "&#39;",
        })?;
        rest = &rest[at + 1..];
    }
    draft.push_str(rest)?;
    Ok(draft.text()?.marked(true))
}

pub(super) fn escape(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    args.none("escape")?;
    escaped(&value).map(Value::Str)
}

pub(super) fn force_escape(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    args.none("forceescape")?;
    escaped_text(&string(&value)?).map(Value::Str)
}

pub(super) fn safe(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    args.none("safe")?;
    Ok(Value::Str(string(&value)?.marked(true)))
}

/// `striptags`: without comments and tags, and with one space for all whitespace.
pub(super) fn strip_tags(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    args.none("striptags")?;
    let text = string(&value)?;
    meter::spend_text(text.len())?;
    let mut kept = Draft::new();
    let mut rest: &str = &text;
    while let Some(start) = rest.find('<') {
        let tag = &rest[start..];
        let end = match tag.strip_prefix("<!--") {
            Some(comment) => comment.find("-->").map(|end| end + "<!---->".len()),
            None => tag.find('>').map(|end| end + 1),
        };
        let Some(end) = end else { break };
        kept.push_str(&rest[..start])?;
        rest = &tag[end..];
    }
    kept.push_str(rest)?;
    let mut draft = Draft::new();
    let words = kept.as_str().split(unicode::is_space);
    for word in words.filter(|word| !word.is_empty()) {
        if !draft.as_str().is_empty() {
            draft.push(' ')?;
        }
        draft.push_str(word)?;
    }
    unescaped(draft.as_str()).map(Value::Str)
}

/// Entities that have names, those that are in use.
const ENTITIES: [(&str, &str); 36] = [
    ("amp", "&"),
    ("lt", "<"),
    ("gt", ">"),
    ("quot", "\""),
    ("apos", "'"),
    ("nbsp", "\u{a0}"),
    ("copy", "©"),
    ("reg", "®"),
    ("trade", "™"),
    ("hellip", "…"),
    ("mdash", "—"),
    ("ndash", "–"),
    ("lsquo", "‘"),
    ("rsquo", "’"),
    ("ldquo", "“"),
    ("rdquo", "”"),
    ("bull", "•"),
    ("middot", "·"),
    ("laquo", "«"),
    ("raquo", "»"),
    ("deg", "°"),
    ("euro", "€"),
    ("pound", "£"),
    ("sect", "§"),
    ("para", "¶"),
    ("times", "×"),
    ("divide", "÷"),
    ("larr", "←"),
    ("rarr", "→"),
    ("ouml", "ö"),
    ("auml", "ä"),
    ("uuml", "ü"),
    ("szlig", "ß"),
    ("eacute", "é"),
    ("egrave", "è"),
    ("agrave", "à"),
];

/// The characters that entities stand for.
fn unescaped(text: &str) -> Outcome<Text> {
    let mut draft = Draft::new();
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        draft.push_str(&rest[..at])?;
        rest = &rest[at..];
        let body = &rest[1..];
        let length = body
            .bytes()
            .take(32)
            .take_while(|it| it.is_ascii_alphanumeric() || *it == b'#')
            .count();
        let name = &body[..length];
        let closed = usize::from(body[length..].starts_with(';'));
        let character = match name.strip_prefix('#') {
            Some(number) => match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16).ok(),
                None => number.parse().ok(),
            }
            .map(|code| {
                char::from_u32(code)
                    .filter(|it| *it != '\0')
                    .unwrap_or(char::REPLACEMENT_CHARACTER)
                    .to_string()
            }),
            None => {
                // The oldest names go without a semicolon too.
                let known = ENTITIES.iter().position(|(known, _)| *known == name);
                let known = known
                    .filter(|at| closed == 1 || *at < 4 || matches!(name, "nbsp" | "copy" | "reg"));
                known.map(|at| ENTITIES[at].1.to_owned())
            }
        };
        match character {
            Some(character) => {
                draft.push_str(&character)?;
                rest = &body[length + closed..];
            }
            None => {
                draft.push('&')?;
                rest = body;
            }
        }
    }
    draft.push_str(rest)?;
    Ok(draft.text()?.marked(true))
}

/// `urlencode`: a text for an address, or pairs for its query.
pub(super) fn url_encode(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    args.none("urlencode")?;
    let mut draft = Draft::new();
    let pairs = match &value {
        Value::Dict(dict) => Cursor::new(&Value::View(View::Items, dict.clone())).ok(),
        Value::Str(_) => None,
        other => Cursor::new(other).ok(),
    };
    let Some(mut pairs) = pairs else {
        quote(&mut draft, &string(&value)?, false)?;
        return draft.text().map(Value::Str);
    };
    let mut first = true;
    while let Some(pair) = pairs.next()? {
        let Ok([key, value]) = <[Value; 2]>::try_from(Cursor::all(&pair)?) else {
            return fail("urlencode: pairs of a key and a value are needed");
        };
        if !first {
            draft.push('&')?;
        }
        first = false;
        quote(&mut draft, &string(&key)?, true)?;
        draft.push('=')?;
        quote(&mut draft, &string(&value)?, true)?;
    }
    draft.text().map(Value::Str)
}

fn quote(draft: &mut Draft, text: &str, in_query: bool) -> Outcome<()> {
    meter::spend_text(text.len() * 2)?;
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => {
                draft.push(char::from(byte))?
            }
            b'/' if !in_query => draft.push('/')?,
            b' ' if in_query => draft.push('+')?,
            _ => draft.push_str(&format!("%{byte:02X}"))?,
        }
    }
    Ok(())
}

/// `xmlattr(autospace=True)`: a dictionary as the attributes of a tag.
pub(super) fn xml_attributes(_: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let [space] = args.bind("xmlattr", ["autospace"])?;
    let Value::Dict(dict) = &value else {
        value.defined()?;
        return fail(format!(
            "'{}' object has no attribute 'items'",
            value.type_name()
        ));
    };
    let mut draft = Draft::new();
    let leading = space.is_none_or(|space| space.truth());
    for (key, value) in dict.entries() {
        if value.is_none() || value.is_undefined() {
            continue;
        }
        if text(key)?.contains(|it: char| {
            matches!(
                it,
                '/' | '>' | '=' | ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c'
            )
        }) {
            return fail("Invalid character in attribute name");
        }
        if leading || !draft.as_str().is_empty() {
            draft.push(' ')?;
        }
        draft.push_str(&escaped(key)?)?;
        draft.push_str("=\"")?;
        draft.push_str(&escaped(value)?)?;
        draft.push('"')?;
    }
    draft.text().map(Value::Str)
}
