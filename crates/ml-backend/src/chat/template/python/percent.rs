//! `'%s' % value`.

use super::super::failure::{Outcome, fail};
use super::super::filters::escaped;
use super::super::meter;
use super::super::value::{Draft, Text, Value, repr, string};
use super::number;
use super::spec::{Spec, digits, radix};

/// What is put in: the items of a tuple, the entries of a dictionary, or one value.
struct Values<'a> {
    all: &'a Value,
    taken: usize,
}

impl Values<'_> {
    fn next(&mut self) -> Outcome<Value> {
        let at = self.taken;
        self.taken += 1;
        let value = match self.all {
            Value::Tuple(items) => items.items.get(at).cloned(),
            other => (at == 0).then(|| other.clone()),
        };
        match value {
            Some(value) => Ok(value),
            None => fail("not enough arguments for format string"),
        }
    }

    fn all_taken(&self) -> bool {
        match self.all {
            Value::Tuple(items) => self.taken >= items.items.len(),
            // What can be asked by name need not be asked at all.
            Value::Dict(_) | Value::List(_) | Value::Range(_) | Value::Undefined(_) => true,
            _ => self.taken > 0,
        }
    }
}

/// `format % values`.
pub(in super::super) fn percent(format: &Text, values: &Value) -> Outcome<Value> {
    let mut values = Values {
        all: values,
        taken: 0,
    };
    let mut draft = Draft::new();
    let mut rest: &str = format;
    while let Some(start) = rest.find('%') {
        draft.push_str(&rest[..start])?;
        rest = directive(&rest[start + 1..], &mut values, &mut draft, format.safe)?;
    }
    draft.push_str(rest)?;
    if !values.all_taken() {
        return fail("not all arguments converted during string formatting");
    }
    Ok(Value::Str(draft.text()?.marked(format.safe)))
}

/// Writes one directive, and returns what comes after it.
fn directive<'f>(
    written: &'f str,
    values: &mut Values<'_>,
    draft: &mut Draft,
    escapes: bool,
) -> Outcome<&'f str> {
    meter::spend(4)?;
    let mut rest = written;
    let mut named = None;
    if let Some(after) = rest.strip_prefix('(') {
        let Some((name, after)) = closing(after) else {
            return fail("incomplete format key");
        };
        let Value::Dict(dict) = values.all else {
            return fail("format requires a mapping");
        };
        let Some(value) = dict.get_str(name) else {
            return fail(format!("KeyError: '{name}'"));
        };
        named = Some(value.clone());
        rest = after;
    }
    let mut spec = Spec::default();
    let mut left = false;
    loop {
        match rest.as_bytes().first() {
            Some(b'#') => spec.alternative = true,
            Some(b'0') => spec.zero = true,
            Some(b'-') => left = true,
            Some(b'+') => spec.sign = Some('+'),
            Some(b' ') => spec.sign = spec.sign.or(Some(' ')),
            _ => break,
        }
        rest = &rest[1..];
    }
    let (width, after) = number_or_star(rest, values)?;
    rest = after;
    if let Some(width) = width {
        left = left || width < 0;
        spec.width = usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX);
    }
    if let Some(after) = rest.strip_prefix('.') {
        let (precision, after) = number_or_star(after, values)?;
        spec.precision = Some(usize::try_from(precision.unwrap_or(0).max(0)).unwrap_or(usize::MAX));
        rest = after;
    }
    rest = rest.strip_prefix(['h', 'l', 'L']).unwrap_or(rest);
    let Some(kind) = rest.chars().next() else {
        return fail("incomplete format");
    };
    let after = &rest[kind.len_utf8()..];
    spec.align = left.then_some('<');
    if kind == '%' && rest.len() < written.len() {
        return fail("unsupported format character '%'");
    }
    if kind == '%' {
        draft.push('%')?;
        return Ok(after);
    }
    let value = match named {
        Some(value) => value,
        None => values.next()?,
    };
    let text = convert(kind, &value, spec, escapes)?;
    draft.push_str(&text)?;
    Ok(after)
}

/// The text up to the bracket that closes, and what follows it.
fn closing(text: &str) -> Option<(&str, &str)> {
    let mut open = 1;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => open += 1,
            b')' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some((&text[..index], &text[index + 1..]));
        }
    }
    None
}

fn number_or_star<'f>(text: &'f str, values: &mut Values<'_>) -> Outcome<(Option<i128>, &'f str)> {
    if let Some(after) = text.strip_prefix('*') {
        return match values.next()?.as_int() {
            Some(number) => Ok((Some(number), after)),
            None => fail("* wants int"),
        };
    }
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    if end == 0 {
        return Ok((None, text));
    }
    match text[..end].parse() {
        Ok(number) => Ok((Some(number), &text[end..])),
        Err(_) => fail("width too big"),
    }
}

fn convert(kind: char, value: &Value, mut spec: Spec, escapes: bool) -> Outcome<Text> {
    // A minus wins over a zero.
    let zero = spec.zero && spec.align.is_none();
    spec.zero = false;
    let right = |spec: Spec, text: &str| {
        let spec = Spec {
            align: spec.align.or(Some('>')),
            sign: None,
            alternative: false,
            ..spec
        };
        Text::new(text).and_then(|text| spec.apply(&Value::Str(text)))
    };
    match kind {
        's' | 'r' | 'a' => {
            let text = match kind {
                's' if escapes => escaped(value)?,
                's' => string(value)?,
                _ => {
                    let mut draft = Draft::new();
                    repr(&mut draft, value)?;
                    if kind == 'a' {
                        super::strings::ascii(draft.as_str())?
                    } else {
                        draft.text()?
                    }
                }
            };
            right(spec, &text)
        }
        'c' => {
            let character = match (value, value.as_int()) {
                (Value::Str(text), _) if text.chars().count() == 1 => text.chars().next(),
                (_, Some(code)) => u32::try_from(code).ok().and_then(char::from_u32),
                _ => None,
            };
            match character {
                Some(it) => right(
                    Spec {
                        precision: None,
                        ..spec
                    },
                    &it.to_string(),
                ),
                None => fail("%c requires int or char"),
            }
        }
        'd' | 'i' | 'u' | 'o' | 'x' | 'X' => {
            let number = match (value, value.as_int()) {
                (_, Some(number)) => number,
                (Value::Float(number), None) if matches!(kind, 'd' | 'i' | 'u') => {
                    number::truncated(*number)?.as_int().unwrap_or_default()
                }
                _ => {
                    value.defined()?;
                    let wanted = if matches!(kind, 'o' | 'x' | 'X') {
                        "an integer"
                    } else {
                        "a real number"
                    };
                    return fail(format!(
                        "%{kind} format: {wanted} is required, not {}",
                        value.type_name()
                    ));
                }
            };
            let (prefix, written) = match kind {
                'o' | 'x' | 'X' => radix(number.unsigned_abs(), kind),
                _ => ("", number.unsigned_abs().to_string()),
            };
            let prefix = if spec.alternative { prefix } else { "" };
            let mut filled = Draft::new();
            filled.repeat(
                "0",
                spec.precision.unwrap_or(0).saturating_sub(written.len()),
            )?;
            filled.push_str(&written)?;
            in_width(&spec, zero, number < 0, prefix, filled.as_str())
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            let Some(number) = value.as_float() else {
                value.defined()?;
                return fail(format!("must be real number, not {}", value.type_name()));
            };
            let written = digits(
                number.abs(),
                kind,
                spec.precision.unwrap_or(6),
                spec.alternative,
            )?;
            let negative = number.is_sign_negative() && !number.is_nan();
            in_width(&spec, zero && number.is_finite(), negative, "", &written)
        }
        _ => fail(format!(
            "unsupported format character '{kind}' (0x{:x})",
            u32::from(kind)
        )),
    }
}

/// A number of its parts, in the width of the directive.
fn in_width(spec: &Spec, zero: bool, negative: bool, prefix: &str, digits: &str) -> Outcome<Text> {
    let sign = match (negative, spec.sign) {
        (true, _) => "-",
        (false, Some('+')) => "+",
        (false, Some(_)) => " ",
        _ => "",
    };
    let missing = spec
        .width
        .saturating_sub(sign.len() + prefix.len() + digits.len());
    let (left, inner, right) = match (spec.align, zero) {
        (Some(_), _) => (0, 0, missing),
        (None, true) => (0, missing, 0),
        (None, false) => (missing, 0, 0),
    };
    let mut draft = Draft::new();
    draft.repeat(" ", left)?;
    draft.push_str(sign)?;
    draft.push_str(prefix)?;
    draft.repeat("0", inner)?;
    draft.push_str(digits)?;
    draft.repeat(" ", right)?;
    draft.text()
}
