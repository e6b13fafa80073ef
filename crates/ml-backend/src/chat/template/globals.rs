//! The functions that transformers gives to chat templates.

use super::failure::{Failure, Outcome, fail};
use super::meter;
use super::run::Run;
use super::run::arguments::{Args, integer, needed, text};
use super::value::{Cursor, Dict, Kind, Range, Value, string};

pub(super) const NAMES: [&str; 8] = [
    "range",
    "dict",
    "namespace",
    "cycler",
    "joiner",
    "lipsum",
    "raise_exception",
    "strftime_now",
];

/// The longest range that the sandbox lets a template have.
const LONGEST_RANGE: usize = 100_000;

pub(super) fn call(run: &mut Run<'_>, name: &str, args: Args) -> Outcome<Value> {
    match name {
        "range" => range(args),
        "dict" => Value::dict(dictionary("dict", args)?),
        "namespace" => {
            let attributes = dictionary("namespace", args)?;
            run.namespaces.push(Vec::new());
            let number = run.namespaces.len() - 1;
            meter::take(size_of::<Vec<Value>>())?;
            for (name, value) in attributes.entries() {
                run.set_in_namespace(number, &string(name)?, value.clone())?;
            }
            Ok(Value::Object(Kind::Namespace, number))
        }
        "cycler" => {
            if args.positional.is_empty() || !args.named.is_empty() {
                return fail("at least one item has to be provided");
            }
            meter::take(args.positional.len() * size_of::<Value>() + 64)?;
            run.cyclers.push((args.positional, 0));
            Ok(Value::Object(Kind::Cycler, run.cyclers.len() - 1))
        }
        "joiner" => {
            let [separator] = args.bind(name, ["sep"])?;
            let separator = match separator {
                Some(separator) => separator,
                None => Value::str(", ")?,
            };
            meter::take(64)?;
            run.joiners.push((separator, false));
            Ok(Value::Object(Kind::Joiner, run.joiners.len() - 1))
        }
        "raise_exception" => {
            let [message] = args.bind(name, ["message"])?;
            let message = string(&needed(message, name, "message")?)?;
            let mut failure = Failure::new(&*message);
            failure.refused = true;
            Err(failure)
        }
        "strftime_now" => {
            let [format] = args.bind(name, ["format"])?;
            let format = needed(format, name, "format")?;
            Value::str(strftime_now(text(&format)?)?)
        }
        _ => fail(format!(
            "'{name}' makes random text, which no prompt can want"
        )),
    }
}

fn range(args: Args) -> Outcome<Value> {
    let [first, second, step] = args.unnamed("range")?;
    let first = integer(Some(&needed(first, "range", "stop")?), 0)?;
    let (start, stop) = match second {
        Some(second) => (first, integer(Some(&second), 0)?),
        None => (0, first),
    };
    let step = integer(step.as_ref(), 1)?;
    if step == 0 {
        return fail("range() arg 3 must not be zero");
    }
    let range = Range { start, stop, step };
    if range.len() > LONGEST_RANGE {
        return fail(format!(
            "Range too big. The sandbox blocks ranges larger than MAX_RANGE ({LONGEST_RANGE})."
        ));
    }
    Ok(Value::Range(range))
}

/// What `dict(...)` makes of a dictionary or pairs, and of names.
fn dictionary(function: &str, args: Args) -> Outcome<Dict> {
    let mut dict = Dict::new();
    let mut positional = args.positional.into_iter();
    match positional.next() {
        None => {}
        Some(Value::Dict(other)) => dict.update(&other)?,
        Some(pairs) => {
            pairs.defined()?;
            let mut pairs = Cursor::new(&pairs)?;
            while let Some(pair) = pairs.next()? {
                match <[Value; 2]>::try_from(Cursor::all(&pair)?) {
                    Ok([key, value]) => dict.insert(key, value)?,
                    Err(items) => {
                        let count = items.len();
                        return fail(format!(
                            "dictionary update sequence element has length {count}; 2 is required"
                        ));
                    }
                }
            }
        }
    }
    if positional.next().is_some() {
        return fail(format!("{function} expected at most 1 argument"));
    }
    for (name, value) in args.named {
        dict.insert(Value::str(name)?, value)?;
    }
    Ok(dict)
}

/// `dict.fromkeys(keys, value=None)`.
pub(super) fn from_keys(args: Args) -> Outcome<Value> {
    let [keys, value] = args.unnamed("fromkeys")?;
    let value = value.unwrap_or(Value::None);
    let mut dict = Dict::new();
    let mut keys = Cursor::new(&needed(keys, "fromkeys", "iterable")?)?;
    while let Some(key) = keys.next()? {
        dict.insert(key, value.clone())?;
    }
    Value::dict(dict)
}

/// The local time in the format of Python's `datetime.strftime`, which knows no time zone.
fn strftime_now(format: &str) -> Outcome<String> {
    // A directive can be a hundred times as long as what asks for it.
    meter::ensure(format.len().saturating_mul(128))?;
    if has_width(format) {
        return fail("strftime_now: a width in a directive");
    }
    let now = jiff::Zoned::now();
    let config = jiff::fmt::strtime::Config::new().lenient(true);
    let now = jiff::fmt::strtime::BrokenDownTime::from(&now);
    match now.to_string_with_config(&config, spelled_out(format)) {
        Ok(text) => Ok(text),
        Err(cause) => fail(format!("strftime_now: {cause}")),
    }
}

/// Whether a directive asks for a width, as in `%10d`, which Python hands to the C library.
fn has_width(format: &str) -> bool {
    let mut rest = format.bytes().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            continue;
        }
        while rest
            .next_if(|it| matches!(it, b'-' | b'_' | b'^' | b'#'))
            .is_some()
        {}
        rest.next_if_eq(&b'0');
        if rest.peek().is_some_and(u8::is_ascii_digit) {
            return true;
        }
        rest.next();
    }
    false
}

/// Replaces the directives that stand for something else in Python's C locale.
fn spelled_out(format: &str) -> String {
    let mut text = String::with_capacity(format.len());
    let mut rest = format.chars();
    while let Some(character) = rest.next() {
        let directive = if character == '%' { rest.next() } else { None };
        match directive {
            None => text.push(character),
            Some('c') => text.push_str("%a %b %e %H:%M:%S %Y"),
            Some('x') => text.push_str("%m/%d/%y"),
            Some('r') => text.push_str("%I:%M:%S %p"),
            Some('f') => text.push_str("%6f"),
            Some('z' | 'Z') => {}
            Some(directive) => text.extend(['%', directive]),
        }
    }
    text
}
