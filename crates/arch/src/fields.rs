//! Typed access to the keys of a JSON object, with errors that name the file and the key.
//!
//! Checkpoints spell the same fact in several ways and leave out what equals the default of the
//! day, so a `derive(Deserialize)` struct would be all `Option` and its errors would name a line
//! and a column instead of a key. A key set to `null` counts as absent, as in transformers.

use std::path::Path;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// Larger values of a dimension in a configuration are a mistake, and would overflow MLX's `i32`.
const MAX_SIZE: u64 = i32::MAX as u64;

/// One object of a configuration file.
#[derive(Clone)]
pub(crate) struct Fields<'a> {
    file: &'a Path,
    path: String,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The top level of `value`, which was read from `file`.
    pub(crate) fn root(file: &'a Path, value: &'a Value) -> Result<Self> {
        let map = value
            .as_object()
            .ok_or_else(|| Error::config(file, "is not a JSON object; is the file complete?"))?;
        Ok(Self {
            file,
            path: String::new(),
            map,
        })
    }

    pub(crate) fn file(&self) -> &'a Path {
        self.file
    }

    /// These fields, and those of `base` that are not among them nor `hidden`. `map` is the room for both.
    pub(crate) fn over<'b>(
        &self,
        base: &Fields<'_>,
        hidden: &[&str],
        map: &'b mut Map<String, Value>,
    ) -> Fields<'b>
    where
        'a: 'b,
    {
        map.clone_from(base.map);
        map.retain(|key, _| !hidden.contains(&key.as_str()));
        map.extend(self.map.iter().map(|(k, v)| (k.clone(), v.clone())));
        Fields {
            file: self.file,
            path: self.path.clone(),
            map,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Whether `key` is there and `null`, for the few for which that is not the same as absent.
    pub(crate) fn is_null(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(Value::is_null)
    }

    /// The value under `key`, unless it is absent or `null`.
    pub(crate) fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.map.iter()
    }

    /// The object under `key`.
    pub(crate) fn object(&self, key: &str) -> Result<Option<Fields<'a>>> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let map = value
            .as_object()
            .ok_or_else(|| self.wrong(key, "an object", value))?;
        let path = format!("{}{key}.", self.path);
        Ok(Some(Fields {
            file: self.file,
            path,
            map,
        }))
    }

    pub(crate) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.typed(key, "a string", Value::as_str)
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    pub(crate) fn number(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a finite number", |v| {
            v.as_f64().filter(|x| x.is_finite())
        })
    }

    /// A number above zero.
    pub(crate) fn positive(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number above zero", |v| {
            v.as_f64().filter(|x| x.is_finite() && *x > 0.0)
        })
    }

    /// A whole number from 1 to 2^31 - 1.
    pub(crate) fn size(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a whole number from 1 to 2147483647", |v| {
            whole(v)
                .filter(|n| (1..=MAX_SIZE).contains(n))
                .map(|n| n as usize)
        })
    }

    /// Like [`Fields::size`], for a key that must be there.
    pub(crate) fn required_size(&self, key: &str) -> Result<usize> {
        self.size(key)?.ok_or_else(|| self.missing(key))
    }

    /// A whole number from 0 on; what is above 2^31 - 1 counts as that.
    pub(crate) fn count(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a whole number, 0 or more", |v| {
            let number = v.as_f64().filter(|x| *x >= 0.0 && x.fract() == 0.0);
            number.map(|x| (x as u64).min(MAX_SIZE) as usize)
        })
    }

    /// A whole number from 1 on that bounds something. What is larger than anything could be, infinity
    /// too, bounds nothing that is less than 2^53.
    pub(crate) fn limit(&self, key: &str) -> Result<Option<usize>> {
        const MOST: u64 = 1 << 53;
        self.typed(key, "a whole number, 1 or more", |v| {
            let number = match v.as_str() {
                Some("Infinity") => Some(f64::INFINITY),
                _ => v.as_f64(),
            };
            let whole = number.filter(|x| *x >= 1.0 && (x.fract() == 0.0 || x.is_infinite()));
            // A float's cast to an integer stops at the largest.
            whole.map(|x| (x as u64).min(MOST) as usize)
        })
    }

    /// One token id or a list of them; empty where the key is absent. Some writers put -1 where a model
    /// has no such token, or a token's text: what is no id is left out with a warning.
    pub(crate) fn token_ids(&self, key: &str, warnings: &mut Vec<String>) -> Vec<u32> {
        let values = match self.value(key) {
            None => return Vec::new(),
            Some(Value::Array(list)) => list.as_slice(),
            Some(single) => std::slice::from_ref(single),
        };
        let mut ids = Vec::new();
        for value in values {
            match whole(value).and_then(|n| u32::try_from(n).ok()) {
                Some(id) => ids.push(id),
                None => warnings.push(self.left_out(key, "a token id", value)),
            }
        }
        ids
    }

    /// Like `typed`, for what a model runs without: a value that cannot be used is a warning.
    pub(crate) fn advised<T>(
        &self,
        key: &str,
        expected: &str,
        warnings: &mut Vec<String>,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(key)?;
        let read = read(value);
        if read.is_none() {
            warnings.push(self.left_out(key, expected, value));
        }
        read
    }

    fn left_out(&self, key: &str, expected: &str, found: &Value) -> String {
        format!("{}; it is left out", self.wrong(key, expected, found))
    }

    /// An error about this key.
    pub(crate) fn problem(&self, key: &str, problem: impl std::fmt::Display) -> Error {
        Error::config(self.file, format!("{}{key}: {problem}", self.path))
    }

    pub(crate) fn missing(&self, key: &str) -> Error {
        self.problem(key, "is missing, and there is no default for it")
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        read(value)
            .map(Some)
            .ok_or_else(|| self.wrong(key, expected, value))
    }

    fn wrong(&self, key: &str, expected: &str, found: &Value) -> Error {
        let mut shown = found.to_string();
        if let Some((end, _)) = shown.char_indices().nth(60) {
            shown.truncate(end);
            shown.push_str("...");
        }
        self.problem(key, format!("expected {expected}, found {shown}"))
    }
}

/// Some writers store whole numbers as `1024.0`.
fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let x = value.as_f64()?;
        (x >= 0.0 && x.fract() == 0.0 && x <= MAX_SIZE as f64).then_some(x as u64)
    })
}
