//! The arguments of a call.

use super::super::failure::{Outcome, fail};
use super::super::value::Value;

/// Arguments by position and by name.
#[derive(Debug, Default)]
pub(in super::super) struct Args {
    pub(in super::super) positional: Vec<Value>,
    pub(in super::super) named: Vec<(String, Value)>,
}

impl Args {
    /// Binds them to parameters.
    ///
    /// # Errors
    /// Too many of them, one given twice, or a name that is no parameter.
    pub(in super::super) fn bind<const N: usize>(
        self,
        function: &str,
        parameters: [&str; N],
    ) -> Outcome<[Option<Value>; N]> {
        if self.positional.len() > N {
            let given = self.positional.len();
            return fail(format!(
                "{function}() takes at most {N} arguments ({given} given)"
            ));
        }
        let mut bound = [const { None }; N];
        for (slot, value) in bound.iter_mut().zip(self.positional) {
            *slot = Some(value);
        }
        for (name, value) in self.named {
            match parameters.iter().position(|parameter| *parameter == name) {
                Some(index) if bound[index].is_none() => bound[index] = Some(value),
                Some(_) => {
                    return fail(format!(
                        "{function}() got multiple values for argument '{name}'"
                    ));
                }
                None => {
                    return fail(format!(
                        "{function}() got an unexpected keyword argument '{name}'"
                    ));
                }
            }
        }
        Ok(bound)
    }

    /// Binds arguments that have no names.
    pub(in super::super) fn unnamed<const N: usize>(
        self,
        function: &str,
    ) -> Outcome<[Option<Value>; N]> {
        if !self.named.is_empty() {
            return fail(format!("{function}() takes no keyword arguments"));
        }
        self.bind(function, [""; N])
    }

    /// Takes no argument.
    pub(in super::super) fn none(self, function: &str) -> Outcome<()> {
        self.unnamed::<0>(function).map(|_| ())
    }

    /// Takes one argument, which has to be there.
    pub(in super::super) fn one(self, function: &str) -> Outcome<Value> {
        let [value] = self.unnamed(function)?;
        needed(value, function, "value")
    }
}

/// An argument that has to be there.
pub(in super::super) fn needed(value: Option<Value>, function: &str, name: &str) -> Outcome<Value> {
    match value {
        Some(value) => Ok(value),
        None => fail(format!(
            "{function}() missing 1 required argument: '{name}'"
        )),
    }
}

/// An argument that is an integer, or absent.
pub(in super::super) fn integer(value: Option<&Value>, default: i128) -> Outcome<i128> {
    match value {
        None => Ok(default),
        Some(value) => match value.as_int() {
            Some(number) => Ok(number),
            None => {
                value.defined()?;
                fail(format!(
                    "'{}' object cannot be interpreted as an integer",
                    value.type_name()
                ))
            }
        },
    }
}

/// An argument that is a string.
pub(in super::super) fn text(value: &Value) -> Outcome<&str> {
    match value.as_str() {
        Some(text) => Ok(text),
        None => {
            value.defined()?;
            fail(format!("expected a string, not '{}'", value.type_name()))
        }
    }
}

/// A flag.
pub(in super::super) fn flag(value: Option<&Value>) -> bool {
    value.is_some_and(Value::truth)
}

/// An argument that may be `None`, and then counts as absent.
pub(in super::super) fn given(value: Option<Value>) -> Option<Value> {
    value.filter(|value| !value.is_none())
}
