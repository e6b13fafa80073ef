//! A request's object, field by field.
//!
//! Each field is taken by its name, so that an error names it, and what nobody has taken at the end is refused:
//! a misspelt field would else be ignored without a word. `null` is the same as absent.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::errors::{ApiError, Result};

/// What is left of a request's object.
pub(crate) struct Fields {
    map: Map<String, Value>,
    /// What stands before the names in errors, such as `stream_options.`.
    prefix: String,
}

impl Fields {
    pub(crate) fn new(map: Map<String, Value>) -> Self {
        let prefix = String::new();
        Self { map, prefix }
    }

    /// The full name of a field.
    pub(crate) fn path(&self, name: &str) -> String {
        let name = if name.is_empty() { "\"\"" } else { name };
        format!("{}{name}", self.prefix)
    }

    /// Looks at a field.
    pub(crate) fn seen(&self, name: &str) -> Option<&Value> {
        #[cfg(test)]
        known::add(self.path(name));
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// Takes a field as it is.
    pub(crate) fn value(&mut self, name: &str) -> Option<Value> {
        #[cfg(test)]
        known::add(self.path(name));
        self.map.shift_remove(name).filter(|value| !value.is_null())
    }

    /// Takes a field.
    pub(crate) fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        match serde_json::from_value(value) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(ApiError::field(self.path(name), plain(&error))),
        }
    }

    /// Takes a field that must be there.
    pub(crate) fn need<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        let missing =
            || ApiError::field(self.path(name), "missing").code("missing_required_parameter");
        let missing = missing();
        self.take(name)?.ok_or(missing)
    }

    /// Takes a field that is an object.
    pub(crate) fn object(&mut self, name: &str) -> Result<Option<Self>> {
        let prefix = format!("{}.", self.path(name));
        let map = self.take(name)?;
        Ok(map.map(|map| Self { map, prefix }))
    }

    /// Drops fields that clients send and that change nothing here.
    pub(crate) fn ignore(&mut self, names: &[&str]) {
        for name in names {
            #[cfg(test)]
            known::add(self.path(name));
            self.map.shift_remove(*name);
        }
    }

    /// Drops a field if it asks for nothing, and refuses it else.
    pub(crate) fn refuse_unless(
        &mut self,
        name: &str,
        nothing: impl Fn(&Value) -> bool,
        why: &str,
    ) -> Result<()> {
        match self.value(name) {
            Some(value) if !nothing(&value) => Err(ApiError::unsupported(self.path(name), why)),
            _ => Ok(()),
        }
    }

    /// Refuses fields that ask for what is not supported.
    pub(crate) fn refuse(&mut self, name: &str, why: &str) -> Result<()> {
        self.refuse_unless(name, |_| false, why)
    }

    /// All must have been taken, but for what is null, as if it were not there.
    pub(crate) fn end(self) -> Result<()> {
        match self.map.iter().find(|(_, value)| !value.is_null()) {
            Some((name, _)) => Err(ApiError::unknown_field(self.path(name))),
            None => Ok(()),
        }
    }
}

/// What is wrong with a value, without the names that types have here.
fn plain(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let Some((front, kind)) = said.rsplit_once(", expected ") else {
        return said;
    };
    let kind = match kind {
        "f32" | "f64" => "a number",
        "u32" | "u64" | "usize" => "a whole number that is not negative",
        "i32" | "i64" => "a whole number",
        "a sequence" => "a list",
        "a map" => "an object",
        kind if kind.starts_with("struct ") => "an object",
        kind => kind,
    };
    format!("{front}, expected {kind}")
}

/// Which fields a reader knows: those that it asked for, whether they were there or not.
#[cfg(test)]
pub(crate) mod known {
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    thread_local! {
        static NAMES: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
    }

    pub(super) fn add(path: String) {
        NAMES.with_borrow_mut(|names| names.insert(path));
    }

    /// Those of this thread since the last time.
    pub(crate) fn take() -> BTreeSet<String> {
        NAMES.take()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        let Value::Object(map) = value else { panic!() };
        Fields::new(map)
    }

    #[test]
    fn a_wrong_type_is_an_error_that_names_the_field() {
        let mut sent = fields(json!({"stream_options": {"include_usage": 3}, "top_p": null}));
        assert_eq!(sent.take::<f32>("top_p").unwrap(), None);
        let mut inner = sent.object("stream_options").unwrap().unwrap();
        let error = inner.take::<bool>("include_usage").unwrap_err();
        assert_eq!(error.param.as_deref(), Some("stream_options.include_usage"));
    }

    #[test]
    fn a_wrong_type_is_told_in_the_words_of_json() {
        let mut sent = fields(json!({"top_p": "1", "n": -1, "stop": {}, "tools": 3}));
        let top_p = sent.take::<f32>("top_p").unwrap_err().message;
        assert_eq!(
            top_p,
            r#"top_p: invalid type: string "1", expected a number"#
        );
        let n = sent.take::<usize>("n").unwrap_err().message;
        assert!(
            n.ends_with("expected a whole number that is not negative"),
            "{n}"
        );
        let stop = sent.take::<Vec<String>>("stop").unwrap_err().message;
        assert_eq!(stop, "stop: invalid type: map, expected a list");
    }

    #[test]
    fn what_nobody_took_is_refused() {
        let mut sent = fields(json!({"user": "x", "temprature": 1}));
        sent.ignore(&["user"]);
        let error = sent.end().unwrap_err();
        assert_eq!(error.param.as_deref(), Some("temprature"));
    }

    #[test]
    fn what_asks_for_nothing_passes() {
        let zero = |value: &Value| value.as_f64() == Some(0.0);
        let mut sent = fields(json!({"presence_penalty": 0, "frequency_penalty": 0.5}));
        assert!(sent.refuse_unless("presence_penalty", zero, "x").is_ok());
        assert!(sent.refuse_unless("frequency_penalty", zero, "x").is_err());
    }
}
