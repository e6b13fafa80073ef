//! Names, numbers and strings, as Python writes them.

use super::lexer::Kind;
use super::names;

/// What Python's `str` takes for whitespace: Unicode's, and four control characters.
pub(super) fn is_space(character: char) -> bool {
    super::super::python::unicode::is_space(character)
}

/// Reads a name, a number or a string at the start of `rest`, with its length. After a dot a
/// number is an integer.
pub(super) fn read(rest: &str, after_dot: bool) -> Result<Option<(Kind, usize)>, String> {
    let first = rest.chars().next().unwrap_or_default();
    match first {
        '\'' | '"' => {
            let length = string_length(rest)
                .ok_or_else(|| format!("unexpected char {first:?}: the string is not closed"))?;
            let text = unescaped(&rest[1..length - 1])?;
            Ok(Some((Kind::Str(text), length)))
        }
        '0'..='9' => number(rest, after_dot).map(Some),
        _ if is_name(first) => {
            let name = &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())];
            if !(first.is_alphabetic() || first == '_') {
                return Err("invalid character in identifier".to_owned());
            }
            Ok(Some((Kind::Name(name.to_owned()), name.len())))
        }
        _ => Ok(None),
    }
}

fn is_name(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}

/// The length of a string literal with its quotes.
fn string_length(rest: &str) -> Option<usize> {
    let quote = rest.as_bytes().first()?;
    let mut bytes = rest.bytes().enumerate().skip(1);
    while let Some((index, byte)) = bytes.next() {
        match byte {
            b'\\' => {
                bytes.next();
            }
            _ if byte == *quote => return Some(index + 1),
            _ => {}
        }
    }
    None
}

/// The length of digits, which single underscores may part.
fn digits(text: &str, digit: impl Fn(u8) -> bool) -> usize {
    let bytes = text.as_bytes();
    let mut length = 0;
    while let Some(byte) = bytes.get(length) {
        match byte {
            _ if digit(*byte) => length += 1,
            b'_' if length > 0 && bytes.get(length + 1).is_some_and(|next| digit(*next)) => {
                length += 1
            }
            _ => break,
        }
    }
    length
}

fn number(rest: &str, after_dot: bool) -> Result<(Kind, usize), String> {
    let decimal = |text: &str| digits(text, |byte| byte.is_ascii_digit());
    let whole = decimal(rest);
    if !after_dot {
        let mut length = whole;
        let mut is_float = false;
        if rest[length..].starts_with('.') && decimal(&rest[length + 1..]) > 0 {
            length += 1 + decimal(&rest[length + 1..]);
            is_float = true;
        }
        if let Some(exponent) = rest[length..].strip_prefix(['e', 'E']) {
            let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if decimal(unsigned) > 0 {
                length += 1 + exponent.len() - unsigned.len() + decimal(unsigned);
                is_float = true;
            }
        }
        if is_float {
            let number = rest[..length].replace('_', "").parse();
            return number
                .map(|number| (Kind::Float(number), length))
                .map_err(|_| "a number that cannot be read".to_owned());
        }
    }
    // A prefix may be followed by an underscore.
    for (marks, base) in [("xX", 16), ("oO", 8), ("bB", 2)] {
        let Some(after) = rest
            .strip_prefix('0')
            .and_then(|it| it.strip_prefix(|c| marks.contains(c)))
        else {
            continue;
        };
        let bare = after.strip_prefix('_').unwrap_or(after);
        let length = digits(bare, |byte| char::from(byte).is_digit(base));
        if length > 0 {
            let length = after.len() - bare.len() + length;
            return integer(&after[..length], base).map(|kind| (kind, length + 2));
        }
    }
    // A number does not begin with a zero, but zero does.
    let length = if rest.starts_with('0') {
        digits(rest, |byte| byte == b'0')
    } else {
        whole
    };
    integer(&rest[..length], 10).map(|kind| (kind, length))
}

fn integer(digits: &str, base: u32) -> Result<Kind, String> {
    i128::from_str_radix(&digits.replace('_', ""), base)
        .map(Kind::Int)
        .map_err(|_| "an integer of more than 127 bits".to_owned())
}

/// Replaces the escapes of a string literal.
fn unescaped(inside: &str) -> Result<String, String> {
    let mut text = String::with_capacity(inside.len());
    let mut rest = inside;
    // The first half of a character that is written as two, `\ud83d\ude00`.
    let mut high = None;
    while let Some(position) = rest.find('\\') {
        let (plain, escape) = rest.split_at(position);
        if !plain.is_empty() && high.is_some() {
            return Err(LONELY.to_owned());
        }
        text.push_str(plain);
        let after = &escape[1..];
        let character = after
            .chars()
            .next()
            .ok_or("a backslash at the end of a string")?;
        let mut length = character.len_utf8();
        let simple = match character {
            '\n' => None,
            '\\' | '\'' | '"' => Some(character),
            'a' => Some('\x07'),
            'b' => Some('\x08'),
            'f' => Some('\x0c'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\x0b'),
            '0'..='7' => {
                length = after
                    .bytes()
                    .take(3)
                    .take_while(|byte| matches!(byte, b'0'..=b'7'))
                    .count();
                u32::from_str_radix(&after[..length], 8)
                    .ok()
                    .and_then(char::from_u32)
            }
            'x' | 'u' | 'U' => {
                let count = match character {
                    'x' => 2,
                    'u' => 4,
                    _ => 8,
                };
                let digits = after
                    .get(1..=count)
                    .filter(|it| it.bytes().all(|byte| byte.is_ascii_hexdigit()));
                let digits =
                    digits.ok_or_else(|| format!("truncated \\{character} escape in a string"))?;
                length += count;
                let code = u32::from_str_radix(digits, 16).unwrap_or(u32::MAX);
                match (high.take(), code) {
                    (None, 0xd800..=0xdbff) => {
                        high = Some(code);
                        rest = &after[length..];
                        continue;
                    }
                    (Some(high), 0xdc00..=0xdfff) => {
                        char::from_u32(0x10000 + ((high - 0xd800) << 10) + (code - 0xdc00))
                    }
                    (None, _) => Some(char::from_u32(code).ok_or(LONELY)?),
                    (Some(_), _) => return Err(LONELY.to_owned()),
                }
            }
            'N' => {
                let name = after
                    .strip_prefix("N{")
                    .and_then(|it| it.split_once('}'))
                    .map(|(name, _)| name);
                let name = name.ok_or("malformed \\N character escape in a string")?;
                length += name.len() + 2;
                let named = names::character(name);
                Some(named.ok_or_else(|| format!("unknown Unicode character name '{name}'"))?)
            }
            // Python leaves an escape that it does not know as it is.
            _ => {
                text.push('\\');
                Some(character)
            }
        };
        if high.is_some() {
            return Err(LONELY.to_owned());
        }
        text.extend(simple);
        rest = &after[length..];
    }
    if high.is_some() {
        return Err(LONELY.to_owned());
    }
    text.push_str(rest);
    Ok(text)
}

const LONELY: &str = "half of a character (a surrogate) in a string";
