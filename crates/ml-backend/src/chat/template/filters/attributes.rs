//! `attr`, and the attributes by which other filters look at items.

use super::super::failure::Outcome;
use super::super::run::Run;
use super::super::run::arguments::{Args, text};
use super::super::value::{Value, string};

/// `attr(name)`: an attribute in Python's sense, which is no item.
pub(super) fn attr(run: &mut Run<'_>, value: Value, args: Args) -> Outcome<Value> {
    let name = args.one("attr")?;
    let name = text(&name)?;
    value.defined()?;
    Ok(match run.own_attribute(&value, name)? {
        Some(found) => found,
        None => Value::undefined(format!(
            "'{} object' has no attribute '{name}'",
            value.type_name()
        )),
    })
}

/// What a filter looks at in an item: the item itself, or `a.b.0` of it.
pub(super) struct Getter {
    parts: Vec<Value>,
    default: Option<Value>,
    /// Whether strings count as the same whatever their case.
    any_case: bool,
}

impl Getter {
    pub(super) fn new(attribute: Option<&Value>, any_case: bool) -> Outcome<Self> {
        Ok(Self {
            parts: match attribute {
                None | Some(Value::None) => Vec::new(),
                Some(attribute) => parts(attribute)?,
            },
            default: None,
            any_case,
        })
    }

    pub(super) fn with_default(mut self, default: Option<Value>) -> Self {
        self.default = default.filter(|default| !default.is_none());
        self
    }

    pub(super) fn in_any_case(mut self, any_case: bool) -> Self {
        self.any_case = any_case;
        self
    }

    pub(super) fn get(&self, run: &mut Run<'_>, item: &Value) -> Outcome<Value> {
        let mut value = item.clone();
        for part in &self.parts {
            value = run.item(&value, part)?;
            if let (true, Some(default)) = (value.is_undefined(), &self.default) {
                value = default.clone();
            }
        }
        match &value {
            Value::Str(text) if self.any_case => Value::str(text.to_lowercase()),
            _ => Ok(value),
        }
    }
}

/// The parts of an attribute's name, of which numbers are indices.
fn parts(attribute: &Value) -> Outcome<Vec<Value>> {
    let Value::Str(attribute) = attribute else {
        return Ok(vec![attribute.clone()]);
    };
    let parts = attribute.split('.').map(|part| match part.parse() {
        Ok(index) if part.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Value::Int(index)),
        _ => Value::str(part),
    });
    parts.collect()
}

/// What `sort` compares: several attributes with commas between them are a list.
pub(super) fn several(attribute: Option<&Value>, any_case: bool) -> Outcome<Vec<Getter>> {
    match attribute {
        Some(Value::Str(attributes)) => {
            let getters = attributes.split(',').map(|attribute| {
                let attribute = string(&Value::str(attribute)?)?;
                Getter::new(Some(&Value::Str(attribute)), any_case)
            });
            getters.collect()
        }
        other => Ok(vec![Getter::new(other, any_case)?]),
    }
}
