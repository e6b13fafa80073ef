//! The format specifications of `str.format`, and the digits of numbers for `%` too.

use super::super::failure::{Outcome, fail};
use super::super::value::{Draft, Text, Value, float, string};

/// Digits after the point, of which no number has so many that count.
const MOST_DIGITS: usize = 10_000;

/// `[[fill]align][sign][z][#][0][width][grouping][.precision][type]`
#[derive(Clone, Debug, Default)]
pub(super) struct Spec {
    pub(super) fill: Option<char>,
    pub(super) align: Option<char>,
    pub(super) sign: Option<char>,
    pub(super) alternative: bool,
    pub(super) zero: bool,
    pub(super) width: usize,
    pub(super) grouping: Option<char>,
    pub(super) precision: Option<usize>,
    pub(super) kind: Option<char>,
}

impl Spec {
    pub(super) fn parse(written: &str) -> Outcome<Self> {
        let mut spec = Self::default();
        let mut rest: Vec<char> = written.chars().take(200).collect();
        rest.reverse();
        let is_align = |it: Option<&char>| matches!(it, Some('<' | '>' | '=' | '^'));
        if is_align(
            rest.len()
                .checked_sub(2)
                .and_then(|second| rest.get(second)),
        ) {
            spec.fill = rest.pop();
            spec.align = rest.pop();
        } else if is_align(rest.last()) {
            spec.align = rest.pop();
        }
        let mut next_if = |wanted: &[char]| rest.pop_if(|it| wanted.contains(it));
        spec.sign = next_if(&['+', '-', ' ']);
        next_if(&['z']);
        spec.alternative = next_if(&['#']).is_some();
        spec.zero = next_if(&['0']).is_some();
        spec.width = number(&mut rest)?.unwrap_or(0);
        spec.grouping = rest.pop_if(|it| matches!(it, ',' | '_'));
        if rest.pop_if(|it| *it == '.').is_some() {
            match number(&mut rest)? {
                Some(precision) => spec.precision = Some(precision),
                None => return fail("Format specifier missing precision"),
            }
        }
        spec.kind = rest.pop();
        let groups = match spec.grouping {
            None => true,
            Some(',') => matches!(
                spec.kind,
                None | Some('d' | 'e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%' | 's')
            ),
            Some(_) => !matches!(spec.kind, Some('n' | 'c')),
        };
        if !groups {
            return fail("Cannot specify a separator with that format code");
        }
        if !rest.is_empty() {
            return fail(format!(
                "Invalid format specifier '{}'",
                written.chars().take(40).collect::<String>()
            ));
        }
        Ok(spec)
    }

    /// `format(value, spec)`.
    pub(super) fn apply(&self, value: &Value) -> Outcome<Text> {
        let wrong = |kind: char| {
            let name = value.type_name();
            fail(format!(
                "Unknown format code '{kind}' for object of type '{name}'"
            ))
        };
        match value {
            Value::Str(text) => {
                if let Some(kind) = self.kind.filter(|kind| *kind != 's') {
                    return wrong(kind);
                }
                if self.sign.is_some()
                    || self.alternative
                    || self.grouping.is_some()
                    || self.align == Some('=')
                {
                    return fail("that format specifier is not allowed for a string");
                }
                let text = match self.precision {
                    Some(precision) => text.chars().take(precision).collect(),
                    None => text.to_string(),
                };
                self.padded("", &text, '<')
            }
            Value::Int(_) | Value::Bool(_) => {
                let number = value.as_int().unwrap_or_default();
                match self.kind {
                    None | Some('d' | 'n') => {
                        if self.precision.is_some() {
                            return fail("Precision not allowed in integer format specifier");
                        }
                        self.signed(number < 0, "", &number.unsigned_abs().to_string(), "")
                    }
                    Some('c') => {
                        let character = u32::try_from(number).ok().and_then(char::from_u32);
                        match character {
                            Some(it) => self.padded("", &it.to_string(), '<'),
                            None => fail("%c arg not in range(0x110000)"),
                        }
                    }
                    Some(kind @ ('b' | 'o' | 'x' | 'X')) => {
                        let (prefix, digits) = radix(number.unsigned_abs(), kind);
                        let prefix = if self.alternative { prefix } else { "" };
                        self.signed(number < 0, prefix, &digits, "")
                    }
                    Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%') => {
                        self.float(value.as_float().unwrap_or_default())
                    }
                    Some(kind) => wrong(kind),
                }
            }
            Value::Float(number) => match self.kind {
                None | Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%' | 'n') => self.float(*number),
                Some(kind) => wrong(kind),
            },
            Value::Undefined(_) => fail("unsupported format string passed to Undefined.__format__"),
            _ => fail(format!(
                "unsupported format string passed to {}.__format__",
                value.type_name()
            )),
        }
    }

    fn float(&self, number: f64) -> Outcome<Text> {
        let negative = number.is_sign_negative() && !number.is_nan();
        let magnitude = number.abs();
        let written = match (self.kind, self.precision) {
            (None, None) => float(magnitude),
            (None, precision) => {
                general(magnitude, precision.unwrap_or(6), self.alternative, true)?
            }
            (Some('%'), precision) => {
                fixed(magnitude * 100.0, precision.unwrap_or(6), self.alternative)?
            }
            (Some(kind), precision) => {
                digits(magnitude, kind, precision.unwrap_or(6), self.alternative)?
            }
        };
        // The digits before the point are grouped, and what follows is not.
        let end = written
            .find(|it: char| !it.is_ascii_digit())
            .unwrap_or(written.len());
        let after = written[end..].to_owned() + if self.kind == Some('%') { "%" } else { "" };
        self.signed(negative, "", &written[..end], &after)
    }

    /// A number of its parts: sign, prefix, digits and what follows them.
    fn signed(&self, negative: bool, prefix: &str, digits: &str, after: &str) -> Outcome<Text> {
        let sign = match (negative, self.sign) {
            (true, _) => "-",
            (false, Some('+')) => "+",
            (false, Some(' ')) => " ",
            _ => "",
        };
        let head = format!("{sign}{prefix}");
        let fills_with_zeros = self.zero && self.align.is_none();
        let Some(separator) = self.grouping else {
            return self.padded(&head, &format!("{digits}{after}"), '>');
        };
        let group = if matches!(self.kind, Some('b' | 'o' | 'x' | 'X')) {
            4
        } else {
            3
        };
        let mut digits = digits.to_owned();
        if fills_with_zeros && self.width < MOST_DIGITS {
            let others = head.len() + after.len();
            while digits.len() + (digits.len().max(1) - 1) / group + others < self.width {
                digits.insert(0, '0');
            }
        }
        let mut grouped = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(group) {
                grouped.push(separator);
            }
            grouped.push(digit);
        }
        self.padded(&head, &format!("{grouped}{after}"), '>')
    }

    fn padded(&self, head: &str, body: &str, default: char) -> Outcome<Text> {
        let (fill, align) = match (self.fill, self.align, self.zero) {
            (fill, Some(align), zero) => (fill.unwrap_or(if zero { '0' } else { ' ' }), align),
            (_, None, true) if default == '>' => ('0', '='),
            (_, None, true) => ('0', default),
            (_, None, false) => (' ', default),
        };
        let length = head.chars().count() + body.chars().count();
        let missing = self.width.saturating_sub(length);
        let (left, inner, right) = match align {
            '<' => (0, 0, missing),
            '^' => (missing / 2, 0, missing - missing / 2),
            '=' => (0, missing, 0),
            _ => (missing, 0, 0),
        };
        let fill = fill.to_string();
        let mut draft = Draft::new();
        draft.repeat(&fill, left)?;
        draft.push_str(head)?;
        draft.repeat(&fill, inner)?;
        draft.push_str(body)?;
        draft.repeat(&fill, right)?;
        draft.text()
    }
}

/// Takes a number off the end, where the characters are in reverse.
fn number(rest: &mut Vec<char>) -> Outcome<Option<usize>> {
    let mut number = None;
    while let Some(digit) = rest.last().and_then(|it| it.to_digit(10)) {
        rest.pop();
        let next = number
            .unwrap_or(0_usize)
            .checked_mul(10)
            .and_then(|it| it.checked_add(digit as usize));
        match next {
            Some(next) => number = Some(next),
            None => return fail("Too many decimal digits in format string"),
        }
    }
    Ok(number)
}

/// A number in another base, with the prefix that says so.
pub(super) fn radix(number: u128, kind: char) -> (&'static str, String) {
    match kind {
        'b' => ("0b", format!("{number:b}")),
        'o' => ("0o", format!("{number:o}")),
        'x' => ("0x", format!("{number:x}")),
        _ => ("0X", format!("{number:X}")),
    }
}

/// The digits of a number that is not negative, as C's `printf` writes them.
pub(super) fn digits(
    number: f64,
    kind: char,
    precision: usize,
    alternative: bool,
) -> Outcome<String> {
    let written = match kind.to_ascii_lowercase() {
        'e' => scientific(number, precision, alternative)?,
        'f' => fixed(number, precision, alternative)?,
        _ => general(number, precision, alternative, false)?,
    };
    Ok(if kind.is_ascii_uppercase() {
        written.to_uppercase()
    } else {
        written
    })
}

fn special(number: f64) -> Option<&'static str> {
    match number {
        _ if number.is_nan() => Some("nan"),
        _ if number.is_infinite() => Some("inf"),
        _ => None,
    }
}

fn fixed(number: f64, precision: usize, alternative: bool) -> Outcome<String> {
    if let Some(special) = special(number) {
        return Ok(special.to_owned());
    }
    let precision = bounded(precision)?;
    let point = if alternative && precision == 0 {
        "."
    } else {
        ""
    };
    Ok(format!("{number:.precision$}{point}"))
}

fn scientific(number: f64, precision: usize, alternative: bool) -> Outcome<String> {
    if let Some(special) = special(number) {
        return Ok(special.to_owned());
    }
    let precision = bounded(precision)?;
    let written = format!("{number:.precision$e}");
    let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "0"));
    let point = if alternative && precision == 0 {
        "."
    } else {
        ""
    };
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    Ok(format!("{mantissa}{point}e{sign}{exponent:0>2}"))
}

/// So many significant digits; with `point` always one after the point.
fn general(number: f64, precision: usize, alternative: bool, point: bool) -> Outcome<String> {
    if let Some(special) = special(number) {
        return Ok(special.to_owned());
    }
    let precision = bounded(precision)?.max(1);
    let written = scientific(number, precision - 1, false)?;
    let exponent: i64 = written
        .split_once('e')
        .and_then(|(_, it)| it.parse().ok())
        .unwrap_or(0);
    let significant = i64::try_from(precision).unwrap_or(i64::MAX);
    let limit = if point { significant - 1 } else { significant };
    let without_zeros = |text: &str| match text.contains('.') && !alternative {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent < -4 || exponent >= limit.max(i64::from(point)) {
        let (mantissa, exponent) = written.split_once('e').unwrap_or((&written, "+00"));
        return Ok(format!("{}e{exponent}", without_zeros(mantissa)));
    }
    let places = usize::try_from(significant - 1 - exponent).unwrap_or(0);
    let written = without_zeros(&fixed(number, places, alternative)?);
    Ok(if point && !written.contains('.') {
        written + ".0"
    } else {
        written
    })
}

fn bounded(precision: usize) -> Outcome<usize> {
    if precision > MOST_DIGITS {
        return fail(format!(
            "a precision of {precision}; at most {MOST_DIGITS} digits are written"
        ));
    }
    Ok(precision)
}

/// `format(value, written)`.
pub(super) fn format(value: &Value, written: &str) -> Outcome<Text> {
    if written.is_empty() {
        string(value)
    } else {
        Spec::parse(written)?.apply(value)
    }
}
