//! What a dictionary finds its entries by.

use std::hash::{Hash, Hasher};

use super::super::failure::{Outcome, fail};
use super::super::meter;
use super::{Kind, Range, Text, Value};

/// A value that can be hashed. Numbers that are equal are one key, whatever their type.
#[derive(Clone, Debug)]
pub(in super::super) enum Key {
    None,
    Int(i128),
    /// A float that is no integer, by its bits.
    Float(u64),
    Str(Text),
    Tuple(Vec<Key>),
    Range(Range),
    Function(&'static str),
    Object(Kind, usize),
    Undefined,
}

impl Key {
    pub(in super::super) fn of(value: &Value) -> Outcome<Self> {
        meter::spend(1)?;
        Ok(match value {
            Value::None => Self::None,
            Value::Bool(_) | Value::Int(_) => Self::Int(value.as_int().unwrap_or_default()),
            Value::Float(number) => {
                integer(*number).map_or(Self::Float(number.to_bits()), Self::Int)
            }
            Value::Str(text) => {
                meter::spend_bytes(text.len())?;
                Self::Str(text.clone())
            }
            Value::Tuple(items) => {
                let mut keys = meter::Gather::new();
                for item in &items.items {
                    meter::spend(16)?;
                    keys.push(Self::of(item)?)?;
                }
                Self::Tuple(keys.done())
            }
            Value::Range(range) => Self::Range(*range),
            Value::Function(name) => Self::Function(name),
            Value::Object(kind, index) => Self::Object(*kind, *index),
            Value::Undefined(_) => Self::Undefined,
            _ => return fail(format!("unhashable type: '{}'", value.type_name())),
        })
    }
}

/// The integer that a float is.
#[expect(
    clippy::cast_possible_truncation,
    clippy::float_cmp,
    reason = "only a float that is that very integer is taken for it"
)]
#[expect(clippy::cast_precision_loss, reason = "as above")]
pub(super) fn integer(number: f64) -> Option<i128> {
    let integer = number as i128;
    (integer as f64 == number && integer != i128::MAX).then_some(integer)
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) | (Self::Undefined, Self::Undefined) => true,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Str(a), Self::Str(b)) => a == b,
            (Self::Tuple(a), Self::Tuple(b)) => a == b,
            (Self::Range(a), Self::Range(b)) => a.same(*b),
            (Self::Function(a), Self::Function(b)) => a == b,
            (Self::Object(a, i), Self::Object(b, j)) => a == b && i == j,
            _ => false,
        }
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::None | Self::Undefined => 0_u8.hash(state),
            Self::Int(number) => number.hash(state),
            Self::Float(bits) => bits.hash(state),
            Self::Str(text) => text.hash(state),
            Self::Tuple(keys) => keys.hash(state),
            Self::Range(range) => range.len().hash(state),
            Self::Function(name) => name.hash(state),
            Self::Object(kind, index) => (kind, index).hash(state),
        }
    }
}
