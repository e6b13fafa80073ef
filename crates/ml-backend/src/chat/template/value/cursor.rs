//! Going through what can be gone through.

use super::super::failure::{Outcome, fail};
use super::super::meter::{self, Gather};
use super::{Value, View};

/// A place in something that has items.
#[derive(Debug)]
pub(in super::super) struct Cursor {
    source: Value,
    at: usize,
}

impl Cursor {
    /// Begins.
    ///
    /// # Errors
    /// What has no items.
    pub(in super::super) fn new(source: &Value) -> Outcome<Self> {
        match source {
            Value::Undefined(_)
            | Value::Str(_)
            | Value::List(_)
            | Value::Tuple(_)
            | Value::Dict(_)
            | Value::Range(_)
            | Value::View(..)
            | Value::Iter(_) => Ok(Self {
                source: source.clone(),
                at: 0,
            }),
            _ => fail(format!("'{}' object is not iterable", source.type_name())),
        }
    }

    pub(in super::super) fn next(&mut self) -> Outcome<Option<Value>> {
        meter::spend(1)?;
        let at = self.at;
        self.at += 1;
        Ok(match &self.source {
            Value::Str(text) => {
                let character = text[at..].chars().next();
                self.at = at + character.map_or(0, char::len_utf8);
                match character {
                    Some(it) => Some(Value::str(it.encode_utf8(&mut [0; 4]) as &str)?),
                    None => None,
                }
            }
            Value::List(items) | Value::Tuple(items) => items.items.get(at).cloned(),
            Value::Dict(dict) | Value::View(View::Keys, dict) => {
                dict.entries().get(at).map(|(key, _)| key.clone())
            }
            Value::View(View::Values, dict) => dict.entries().get(at).map(|(_, it)| it.clone()),
            Value::View(View::Items, dict) => match dict.entries().get(at) {
                Some((key, value)) => Some(Value::tuple(vec![key.clone(), value.clone()])?),
                None => None,
            },
            Value::Range(range) => range.get(at),
            Value::Iter(iter) => {
                let at = iter.taken.get();
                iter.taken.set(at.saturating_add(1));
                iter.items.items.get(at).cloned()
            }
            _ => None,
        })
    }

    /// All that is left.
    pub(in super::super) fn rest(mut self) -> Outcome<Vec<Value>> {
        let mut items = Gather::new();
        while let Some(item) = self.next()? {
            items.push(item)?;
        }
        Ok(items.done())
    }

    /// All items of a value.
    pub(in super::super) fn all(source: &Value) -> Outcome<Vec<Value>> {
        Self::new(source)?.rest()
    }
}
