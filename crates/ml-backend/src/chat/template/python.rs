//! How Python calls functions, sees text and writes down numbers.

use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind, Value};

/// Binds the arguments of a call to its parameters, by position and by name. A parameter that is
/// absent, or given as `None`, is `None`.
///
/// # Errors
/// Too many arguments, or a name that is no parameter.
pub(super) fn bind<const N: usize>(
    function: &str,
    args: &[Value],
    parameters: [&str; N],
) -> Result<[Option<Value>; N], Error> {
    let wrong = |problem: String| {
        Error::new(
            ErrorKind::TooManyArguments,
            format!("{function}(): {problem}"),
        )
    };
    let (args, named) = match args {
        [args @ .., last] if last.is_kwargs() => (args, Some(last)),
        _ => (args, None),
    };
    if args.len() > N {
        return Err(wrong(format!("takes {N} arguments, not {}", args.len())));
    }
    let mut bound = [const { None }; N];
    for (slot, value) in bound.iter_mut().zip(args) {
        *slot = Some(value.clone());
    }
    if let Some(named) = named {
        let named = Kwargs::try_from(named.clone())?;
        for name in named.args() {
            match parameters.iter().position(|parameter| *parameter == name) {
                Some(index) if bound[index].is_none() => {
                    bound[index] = Some(named.peek(name)?);
                }
                Some(_) => return Err(wrong(format!("'{name}' is given twice"))),
                None => return Err(wrong(format!("there is no parameter '{name}'"))),
            }
        }
    }
    Ok(bound.map(|value| value.filter(|value| !value.is_none())))
}

/// The text of a value that has to be a string.
pub(super) fn text(value: &Value) -> Result<&str, Error> {
    value.as_str().ok_or_else(|| {
        let problem = format!("expected a string, not a value of kind {}", value.kind());
        Error::new(ErrorKind::InvalidOperation, problem)
    })
}

/// What Python's `str` takes for whitespace: Unicode's, and four control characters.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || matches!(character, '\x1c'..='\x1f')
}

/// `repr` of a float: the shortest digits that read back the same, with an exponent below 1e-4
/// and from 1e16.
pub(super) fn float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value == 0.0 || (-4..16).contains(&exponent) {
        let text = value.to_string();
        return if text.contains('.') {
            text
        } else {
            text + ".0"
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}
