//! `value.name`, `value[key]` and `value[a:b:c]`.

use super::super::failure::Outcome;
use super::super::failure::fail;
use super::super::meter;
use super::super::python;
use super::super::value::{Cursor, Kind, Text, Value};
use super::Run;

/// How Jinja2 speaks of a value.
fn described(value: &Value) -> String {
    match value {
        Value::None => "None".to_owned(),
        Value::Object(Kind::Namespace, _) => "jinja2.utils.Namespace object".to_owned(),
        _ => format!("{} object", value.type_name()),
    }
}

impl Run<'_> {
    /// `value.name`: an attribute, or else an item.
    pub(in super::super) fn attribute(&mut self, value: &Value, name: &str) -> Outcome<Value> {
        value.defined()?;
        if let Some(found) = self.own_attribute(value, name)? {
            return Ok(found);
        }
        if let Value::Dict(dict) = value
            && let Some(item) = dict.get_str(name)
        {
            return Ok(item.clone());
        }
        Ok(Value::undefined(format!(
            "'{}' has no attribute '{name}'",
            described(value)
        )))
    }

    /// An attribute in Python's sense, which is no item.
    pub(in super::super) fn own_attribute(
        &mut self,
        value: &Value,
        name: &str,
    ) -> Outcome<Option<Value>> {
        match value {
            Value::Object(Kind::Namespace, index) => {
                let namespace = &self.namespaces[*index];
                meter::spend(u64::try_from(namespace.len() / 8).unwrap_or(0))?;
                let found = namespace.iter().find(|(known, _)| known == name);
                return Ok(found.map(|(_, value)| value.clone()));
            }
            Value::Object(Kind::Loop, number) => return self.loop_attribute(*number, name),
            Value::Object(Kind::Macro, number) => return self.macro_attribute(*number, name),
            Value::Object(Kind::Cycler, number) => {
                let (items, at) = &self.cyclers[*number];
                return Ok(match name {
                    "current" => Some(items[*at].clone()),
                    "pos" => Some(Value::size(*at)),
                    "items" => Some(Value::tuple(items.clone())?),
                    "next" => Some(Value::method(value.clone(), "next")?),
                    "reset" => Some(Value::method(value.clone(), "reset")?),
                    _ => None,
                });
            }
            Value::Object(Kind::Joiner, number) => {
                let (separator, used) = &self.joiners[*number];
                return Ok(match name {
                    "sep" => Some(separator.clone()),
                    "used" => Some(Value::Bool(*used)),
                    _ => None,
                });
            }
            Value::Function("dict") if name == "fromkeys" => {
                return Value::method(value.clone(), "fromkeys").map(Some);
            }
            Value::Tuple(items) => {
                if let Some(at) = items.names.iter().position(|known| *known == name) {
                    return Ok(items.items.get(at).cloned());
                }
            }
            Value::Range(range) => match name {
                "start" => return Ok(Some(Value::Int(range.start))),
                "stop" => return Ok(Some(Value::Int(range.stop))),
                "step" => return Ok(Some(Value::Int(range.step))),
                _ => {}
            },
            Value::Int(_) | Value::Bool(_) => match name {
                "real" | "numerator" => return Ok(value.as_int().map(Value::Int)),
                "imag" => return Ok(Some(Value::Int(0))),
                "denominator" => return Ok(Some(Value::Int(1))),
                _ => {}
            },
            Value::Float(_) => match name {
                "real" => return Ok(Some(value.clone())),
                "imag" => return Ok(Some(Value::Float(0.0))),
                _ => {}
            },
            _ => {}
        }
        if let Some(name) = python::find(value, name) {
            return Value::method(value.clone(), name).map(Some);
        }
        if python::is_forbidden(value, name) {
            let message = format!(
                "access to attribute '{name}' of '{}' object is unsafe.",
                value.type_name()
            );
            return Ok(Some(Value::undefined(message)));
        }
        Ok(None)
    }

    /// `value[key]`: an item, or else an attribute.
    pub(in super::super) fn item(&mut self, value: &Value, key: &Value) -> Outcome<Value> {
        value.defined()?;
        if let Some(found) = item(value, key)? {
            return Ok(found);
        }
        if let Some(name) = key.as_str() {
            if let Some(found) = self.own_attribute(value, name)? {
                return Ok(found);
            }
            return Ok(Value::undefined(format!(
                "'{}' has no attribute '{name}'",
                described(value)
            )));
        }
        let mut written = super::super::value::Draft::new();
        super::super::value::repr(&mut written, key)?;
        let message = format!("{} has no element {}", described(value), written.as_str());
        Ok(Value::undefined(message))
    }
}

/// An item of something that has items; `None` for what it does not have.
fn item(value: &Value, key: &Value) -> Outcome<Option<Value>> {
    if let Value::Dict(dict) = value {
        // What cannot be a key is not there either.
        return Ok(match key {
            Value::Str(text) => dict.get_str(text).cloned(),
            Value::List(_) | Value::Dict(_) => None,
            _ => dict.get(key)?.cloned(),
        });
    }
    let Some(index) = key.as_int() else {
        return Ok(None);
    };
    Ok(match value {
        Value::List(items) | Value::Tuple(items) => {
            position(index, items.items.len()).map(|index| items.items[index].clone())
        }
        Value::Range(range) => position(index, range.len()).and_then(|index| range.get(index)),
        Value::Str(text) => {
            meter::spend_text(text.len())?;
            let character = if index < 0 {
                let back = usize::try_from(-(index + 1)).ok();
                back.and_then(|back| text.chars().rev().nth(back))
            } else {
                let ahead = usize::try_from(index).ok();
                ahead.and_then(|ahead| text.chars().nth(ahead))
            };
            match character {
                Some(it) => {
                    let item = Text::new(it.encode_utf8(&mut [0; 4]) as &str)?;
                    Some(Value::Str(item.marked(text.safe)))
                }
                None => None,
            }
        }
        _ => None,
    })
}

/// The place of an index, which counts from the end if it is negative.
fn position(index: i128, length: usize) -> Option<usize> {
    let length = i128::try_from(length).ok()?;
    let index = if index < 0 { index + length } else { index };
    if index < length {
        usize::try_from(index).ok()
    } else {
        None
    }
}

/// `value[start:stop:step]`, which has no value where it makes no sense but fails.
pub(super) fn slice(value: &Value, [start, stop, step]: [Option<Value>; 3]) -> Outcome<Value> {
    value.defined()?;
    let bound = |bound: Option<Value>| match bound {
        None | Some(Value::None) => Ok(None),
        Some(bound) => match bound.as_int() {
            Some(number) => Ok(Some(number)),
            None => fail("slice indices must be integers or None or have an __index__ method"),
        },
    };
    let (start, stop, step) = (bound(start)?, bound(stop)?, bound(step)?.unwrap_or(1));
    if step == 0 {
        return fail("slice step cannot be zero");
    }
    let length = match value {
        Value::Str(_) | Value::List(_) | Value::Tuple(_) | Value::Range(_) => {
            value.len()?.unwrap_or(0)
        }
        Value::Dict(_) => return fail("unhashable type: 'slice'"),
        _ => {
            return fail(format!(
                "'{}' object is not subscriptable",
                value.type_name()
            ));
        }
    };
    let length = i128::try_from(length).unwrap_or(i128::MAX);
    let (lowest, highest) = if step > 0 {
        (0, length)
    } else {
        (-1, length - 1)
    };
    let clamp = |bound: Option<i128>, default: i128| match bound {
        None => default,
        Some(bound) if bound < 0 => bound.saturating_add(length).max(lowest),
        Some(bound) => bound.min(highest),
    };
    let (first, last) = if step > 0 {
        (lowest, highest)
    } else {
        (highest, lowest)
    };
    let range = super::super::value::Range {
        start: clamp(start, first),
        stop: clamp(stop, last),
        step,
    };
    let indices = (0..range.len()).filter_map(|at| match range.get(at) {
        Some(Value::Int(index)) => usize::try_from(index).ok(),
        _ => None,
    });
    let count = range.len();
    meter::spend(u64::try_from(count / 4).unwrap_or(u64::MAX))?;
    match value {
        Value::Str(text) => {
            meter::ensure(text.len())?;
            meter::spend_text(text.len())?;
            let slice: String = if step == 1 {
                let from = usize::try_from(range.start).unwrap_or(0);
                text.chars().skip(from).take(count).collect()
            } else {
                meter::ensure(text.len() * 4)?;
                let characters: Vec<char> = text.chars().collect();
                indices.map(|index| characters[index]).collect()
            };
            Ok(Value::Str(Text::new(slice)?.marked(text.safe)))
        }
        Value::List(items) | Value::Tuple(items) => {
            meter::ensure(count * size_of::<Value>())?;
            let slice = indices.map(|index| items.items[index].clone()).collect();
            if matches!(value, Value::List(_)) {
                Value::list(slice)
            } else {
                Value::tuple(slice)
            }
        }
        Value::Range(of) => {
            let at = |index: i128| of.start.saturating_add(index.saturating_mul(of.step));
            Ok(Value::Range(super::super::value::Range {
                start: at(range.start),
                stop: at(range.stop),
                step: of.step.saturating_mul(step),
            }))
        }
        _ => Cursor::all(value).and_then(Value::list),
    }
}
