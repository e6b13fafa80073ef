//! Filters and tests that mean something else in MiniJinja than in Jinja2.

use minijinja::formatting::{self, FormatStyle};
use minijinja::value::{Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, Value};

use super::python::{bind, text};
use super::{methods, source};

pub(super) fn add(environment: &mut Environment<'static>) {
    environment.add_filter(source::PERCENT, percent);
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
    environment.add_filter("escape", escape);
    environment.add_filter("e", escape);
    environment.add_filter("trim", trim);
    environment.add_filter("indent", indent);
    environment.add_test("iterable", |value: &Value| {
        !value.is_none() && value.try_iter().is_ok()
    });
    environment.add_test("sequence", |value: &Value| {
        use ValueKind::{Map, Seq, String, Undefined};
        matches!(value.kind(), Seq | String | Map | Undefined)
    });
    environment.add_test("callable", |value: &Value| value.kind() == ValueKind::Plain);
}

/// The arguments of a filter, with those given by name.
fn arguments<const N: usize>(
    filter: &str,
    args: Rest<ValueOrKwargs>,
    parameters: [&str; N],
) -> Result<[Option<Value>; N], Error> {
    let args: Vec<Value> = args.0.into_iter().map(ValueOrKwargs::into_value).collect();
    bind(filter, &args, parameters)
}

/// `format % args`: a tuple holds the arguments, anything else is the only one.
fn percent(format: &Value, args: &Value) -> Result<String, Error> {
    let args = match args.try_iter() {
        Ok(items) if args.is_tuple() => items.collect(),
        _ => vec![args.clone()],
    };
    formatting::format(FormatStyle::Printf, text(format)?, &args)
}

/// `default(value, default_value='', boolean=False)`: for an undefined value, and with `boolean`
/// for every false one.
fn default(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [other, boolean] = arguments("default", args, ["default_value", "boolean"])?;
    let absent =
        value.is_undefined() || (boolean.is_some_and(|it| it.is_true()) && !value.is_true());
    Ok(if absent {
        other.unwrap_or_else(|| Value::from(""))
    } else {
        value.clone()
    })
}

/// `int(value, default=0, base=10)`: the default where there is no number.
fn int(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [other, base] = arguments("int", args, ["default", "base"])?;
    let base = base
        .and_then(|base| u32::try_from(base.as_usize()?).ok())
        .unwrap_or(10);
    let number = match value.as_str() {
        Some(string) => {
            let digits = methods::strip(string, true, true, None).replace('_', "");
            let prefix = match base {
                16 => ["0x", "0X"],
                8 => ["0o", "0O"],
                2 => ["0b", "0B"],
                _ => ["", ""],
            };
            let digits = prefix
                .iter()
                .find_map(|it| digits.strip_prefix(it))
                .unwrap_or(&digits);
            let integer = (2..=36)
                .contains(&base)
                .then(|| i64::from_str_radix(digits, base).ok());
            integer
                .flatten()
                .map(Value::from)
                .or_else(|| digits.parse().ok().map(truncate))
        }
        None if value.kind() == ValueKind::Bool => Some(Value::from(i64::from(value.is_true()))),
        None if value.is_integer() => Some(value.clone()),
        None => f64::try_from(value.clone()).ok().map(truncate),
    };
    Ok(number.or(other).unwrap_or_else(|| Value::from(0)))
}

/// A float without its fraction.
fn truncate(float: f64) -> Value {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "saturates, beyond any use in a template"
    )]
    Value::from(float.trunc() as i64)
}

/// `float(value, default=0.0)`: the default where there is no number.
fn float(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [other] = arguments("float", args, ["default"])?;
    let number: Option<f64> = match value.as_str() {
        Some(string) => methods::strip(string, true, true, None).parse().ok(),
        None if value.kind() == ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        None => f64::try_from(value.clone()).ok(),
    };
    Ok(number
        .map(Value::from)
        .or(other)
        .unwrap_or_else(|| Value::from(0.0)))
}

/// `escape(value)`: for HTML, with the entities that MarkupSafe writes.
fn escape(value: &Value) -> Value {
    if value.is_safe() {
        return value.clone();
    }
    let mut escaped = String::new();
    for character in value.to_string().chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&#34;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    Value::from_safe_string(escaped)
}

/// `trim(value, chars=None)`.
fn trim(value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let [chars] = arguments("trim", args, ["chars"])?;
    let chars = chars.as_ref().map(text).transpose()?;
    Ok(methods::strip(&value.to_string(), true, true, chars).to_owned())
}

/// `indent(value, width=4, first=False, blank=False)`: `width` is a number of spaces, or the text
/// to put before each line.
fn indent(value: &Value, args: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let [width, first, blank] = arguments("indent", args, ["width", "first", "blank"])?;
    let set = |flag: Option<Value>| flag.is_some_and(|flag| flag.is_true());
    let (first, blank) = (set(first), set(blank));
    let indentation = match &width {
        Some(width) if width.as_str().is_some() => width.to_string(),
        Some(width) => " ".repeat(width.as_usize().unwrap_or(0)),
        None => " ".repeat(4),
    };
    // A line end at the end of the text begins one more line.
    let mut value = value.to_string();
    value.push('\n');
    let mut indented = String::with_capacity(value.len());
    for (index, line) in methods::lines(&value, false).into_iter().enumerate() {
        if index > 0 {
            indented.push('\n');
        }
        if if index == 0 {
            first
        } else {
            blank || !line.is_empty()
        } {
            indented.push_str(&indentation);
        }
        indented.push_str(line);
    }
    Ok(indented)
}
