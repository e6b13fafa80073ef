//! The environment that transformers gives to chat templates.

use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, Value};

use super::{filters, json, methods, python};

/// How deep macros and recursive loops may nest. Python gives up at 1000 frames, of which a macro
/// takes several.
const RECURSION_LIMIT: usize = 120;

/// An environment without templates.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    if let Ok(syntax) = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
    {
        environment.set_syntax(syntax);
    }
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_formatter(write);
    environment.set_recursion_limit(RECURSION_LIMIT);
    environment.set_unknown_method_callback(methods::call);
    filters::add(&mut environment);
    environment.add_filter("tojson", json::tojson);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_function("joiner", minijinja_contrib::globals::joiner);
    environment
}

/// Writes a value into the text as Python's `str` would.
fn write(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match f64::try_from(value.clone()) {
        Ok(float) if value.is_number() && !value.is_integer() && float.is_finite() => {
            out.write_str(&python::float(float)).map_err(Error::from)
        }
        _ => minijinja::escape_formatter(out, state, value),
    }
}

/// What a template said when it called `raise_exception`.
#[derive(Debug)]
struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refusal {}

fn raise_exception(message: String) -> Result<Value, Error> {
    let error = Error::new(ErrorKind::InvalidOperation, message.clone());
    Err(error.with_source(Refusal(message)))
}

/// The message of `raise_exception`, if that is what an error comes from.
pub(super) fn refusal(error: &Error) -> Option<&str> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(Refusal(message)) = error.downcast_ref() {
            return Some(message);
        }
        cause = error.source();
    }
    None
}

/// The local time in the format of Python's `datetime.strftime`, which knows no time zone.
fn strftime_now(format: &str) -> Result<String, Error> {
    let now = jiff::Zoned::now();
    let config = jiff::fmt::strtime::Config::new().lenient(true);
    let now = jiff::fmt::strtime::BrokenDownTime::from(&now);
    let text = now.to_string_with_config(&config, spelled_out(format));
    text.map_err(|cause| {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("strftime_now: {cause}"),
        )
    })
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
