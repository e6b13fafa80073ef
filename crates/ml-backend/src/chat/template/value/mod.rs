//! Python's values, as far as a template can have them.
//!
//! Nothing here changes once it is made: the sandbox that transformers renders in forbids
//! `append` and its like. What does change (namespaces, loops, cyclers) lives in the interpreter,
//! and a value holds its number, so that no value can hold itself.

mod compare;
mod cursor;
mod dict;
mod key;
mod repr;
mod text;

use std::cell::Cell;
use std::rc::Rc;

use super::failure::{Outcome, fail};
use super::meter::{self, Held, VALUE_DEPTH};

pub(super) use compare::{equal, less, order, partial};
pub(super) use cursor::Cursor;
pub(super) use dict::Dict;
pub(super) use key::Key;
pub(super) use repr::{float, repr, string};
pub(super) use text::{Draft, Text};

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// What a lookup gives that finds nothing.
    Undefined(Rc<Missing>),
    None,
    Bool(bool),
    /// Python's integers have no end; these have that of 128 bits.
    Int(i128),
    Float(f64),
    Str(Text),
    List(Sequence),
    Tuple(Sequence),
    Dict(Rc<Held<Dict>>),
    Range(Range),
    /// `dict.keys()`, `dict.values()` and `dict.items()`.
    View(View, Rc<Held<Dict>>),
    /// An iterator, which can be gone through once.
    Iter(Rc<Iter>),
    /// A function of the environment, such as `range`.
    Function(&'static str),
    /// A method of a value, not called yet.
    Method(Rc<Method>),
    /// Something that the interpreter keeps.
    Object(Kind, usize),
}

/// Why a value is not there.
#[derive(Debug)]
pub(super) struct Missing {
    /// What to say to who uses it.
    pub(super) message: String,
}

/// The items of a list or a tuple.
pub(super) type Sequence = Rc<Held<Items>>;

#[derive(Debug)]
pub(super) struct Items {
    pub(super) items: Vec<Value>,
    depth: u32,
    /// The names of a named tuple's items, those of `groupby`.
    pub(super) names: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: i128,
    pub(super) stop: i128,
    pub(super) step: i128,
}

impl Range {
    pub(super) fn len(self) -> usize {
        let (distance, step) = if self.step > 0 {
            (self.stop.saturating_sub(self.start), self.step)
        } else {
            (
                self.start.saturating_sub(self.stop),
                self.step.saturating_neg(),
            )
        };
        if distance <= 0 {
            return 0;
        }
        usize::try_from((distance - 1) / step + 1).unwrap_or(usize::MAX)
    }

    /// Whether it has the same numbers.
    fn same(self, other: Self) -> bool {
        let length = self.len();
        length == other.len()
            && (length == 0
                || self.start == other.start && (length == 1 || self.step == other.step))
    }

    pub(super) fn get(self, index: usize) -> Option<Value> {
        let index = (index < self.len()).then_some(index)?;
        let steps = i128::try_from(index).ok()?.checked_mul(self.step)?;
        self.start.checked_add(steps).map(Value::Int)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Keys,
    Values,
    Items,
}

/// The items of an iterator, and how many were taken.
#[derive(Debug)]
pub(super) struct Iter {
    pub(super) items: Sequence,
    pub(super) taken: Cell<usize>,
}

#[derive(Debug)]
pub(super) struct Method {
    pub(super) of: Value,
    pub(super) name: &'static str,
    depth: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Namespace,
    Macro,
    Loop,
    Cycler,
    Joiner,
}

impl Value {
    pub(super) fn undefined(message: impl Into<String>) -> Self {
        Self::Undefined(Rc::new(Missing {
            message: message.into(),
        }))
    }

    pub(super) fn str(text: impl Into<Box<str>>) -> Outcome<Self> {
        Text::new(text).map(Self::Str)
    }

    pub(super) fn list(items: Vec<Self>) -> Outcome<Self> {
        Ok(Self::List(sequence(items, &[])?))
    }

    pub(super) fn tuple(items: Vec<Self>) -> Outcome<Self> {
        Ok(Self::Tuple(sequence(items, &[])?))
    }

    pub(super) fn named_tuple(names: &'static [&'static str], items: Vec<Self>) -> Outcome<Self> {
        Ok(Self::Tuple(sequence(items, names)?))
    }

    /// An iterator over items.
    pub(super) fn iter(items: Vec<Self>) -> Outcome<Self> {
        Ok(Self::Iter(Rc::new(Iter {
            items: sequence(items, &[])?,
            taken: Cell::new(0),
        })))
    }

    pub(super) fn dict(dict: Dict) -> Outcome<Self> {
        let bytes = dict.bytes();
        nested(dict.depth)?;
        meter::spend(u64::try_from(dict.len()).unwrap_or(u64::MAX))?;
        Ok(Self::Dict(Held::new(dict, bytes)?))
    }

    pub(super) fn method(of: Self, name: &'static str) -> Outcome<Self> {
        let depth = nested(of.depth() + 1)?;
        Ok(Self::Method(Rc::new(Method { of, name, depth })))
    }

    /// A length or position.
    pub(super) fn size(size: usize) -> Self {
        Self::Int(i128::try_from(size).unwrap_or(i128::MAX))
    }

    fn depth(&self) -> u32 {
        match self {
            Self::List(items) | Self::Tuple(items) => items.depth,
            Self::Dict(dict) | Self::View(_, dict) => dict.depth,
            Self::Iter(iter) => iter.items.depth,
            Self::Method(method) => method.depth,
            _ => 0,
        }
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined(_))
    }

    pub(super) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// An integer, of which Python's booleans are two.
    pub(super) fn as_int(&self) -> Option<i128> {
        match self {
            Self::Int(number) => Some(*number),
            Self::Bool(value) => Some(i128::from(*value)),
            _ => None,
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "Python's float() of an integer rounds too"
    )]
    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(number) => Some(*number),
            _ => self.as_int().map(|number| number as f64),
        }
    }

    /// Whether it counts as true.
    pub(super) fn truth(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(value) => *value,
            Self::Int(number) => *number != 0,
            Self::Float(number) => *number != 0.0,
            Self::Str(text) => !text.is_empty(),
            Self::List(items) | Self::Tuple(items) => !items.items.is_empty(),
            Self::Dict(dict) | Self::View(_, dict) => dict.len() > 0,
            Self::Range(range) => range.len() > 0,
            _ => true,
        }
    }

    /// `len()`, or `None` for what has none.
    pub(super) fn len(&self) -> Outcome<Option<usize>> {
        Ok(match self {
            Self::Undefined(_) => Some(0),
            Self::Str(text) => {
                meter::spend_bytes(text.len())?;
                Some(text.chars().count())
            }
            Self::List(items) | Self::Tuple(items) => Some(items.items.len()),
            Self::Dict(dict) | Self::View(_, dict) => Some(dict.len()),
            Self::Range(range) => Some(range.len()),
            _ => None,
        })
    }

    /// The name of its type in Python.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "Undefined",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(text) if text.safe => "Markup",
            Self::Str(_) => "str",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Dict(_) => "dict",
            Self::Range(_) => "range",
            Self::View(View::Keys, _) => "dict_keys",
            Self::View(View::Values, _) => "dict_values",
            Self::View(View::Items, _) => "dict_items",
            Self::Iter(_) => "generator",
            Self::Function(_) => "function",
            Self::Method(_) => "method",
            Self::Object(Kind::Namespace, _) => "Namespace",
            Self::Object(Kind::Macro, _) => "Macro",
            Self::Object(Kind::Loop, _) => "LoopContext",
            Self::Object(Kind::Cycler, _) => "Cycler",
            Self::Object(Kind::Joiner, _) => "Joiner",
        }
    }

    /// Fails for an undefined value, with the words of who left it so.
    pub(super) fn defined(&self) -> Outcome<()> {
        match self {
            Self::Undefined(missing) => fail(missing.message.clone()),
            _ => Ok(()),
        }
    }
}

fn sequence(items: Vec<Value>, names: &'static [&'static str]) -> Outcome<Sequence> {
    let depth = items.iter().map(Value::depth).max().unwrap_or(0) + 1;
    let depth = nested(depth)?;
    meter::spend(u64::try_from(items.len() / 4).unwrap_or(u64::MAX))?;
    let bytes = items.capacity() * size_of::<Value>();
    Held::new(
        Items {
            items,
            depth,
            names,
        },
        bytes,
    )
}

fn nested(depth: u32) -> Outcome<u32> {
    if depth > VALUE_DEPTH {
        return fail(format!(
            "its values lie more than {VALUE_DEPTH} deep in each other"
        ));
    }
    Ok(depth)
}
