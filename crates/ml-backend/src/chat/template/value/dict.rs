//! Dictionaries, in the order of insertion.

use std::collections::HashMap;

use super::super::failure::Outcome;
use super::super::meter;
use super::{Key, Text, Value};

#[derive(Debug, Default)]
pub(in super::super) struct Dict {
    entries: Vec<(Value, Value)>,
    /// Where the entries of string keys are, by far the most common ones.
    strings: HashMap<Text, usize>,
    others: HashMap<Key, usize>,
    pub(super) depth: u32,
}

impl Dict {
    pub(in super::super) fn new() -> Self {
        Self {
            depth: 1,
            ..Self::default()
        }
    }

    pub(in super::super) fn insert(&mut self, key: Value, value: Value) -> Outcome<()> {
        meter::spend(1)?;
        self.depth = self.depth.max(value.depth() + 1).max(key.depth() + 1);
        if self.entries.len() == self.entries.capacity() {
            meter::ensure(2 * self.bytes())?;
        }
        let next = self.entries.len();
        let at = match Key::of(&key)? {
            Key::Str(text) => *self.strings.entry(text).or_insert(next),
            other => *self.others.entry(other).or_insert(next),
        };
        match self.entries.get_mut(at) {
            // Python keeps the key that was there first.
            Some(entry) => entry.1 = value,
            None => self.entries.push((key, value)),
        }
        Ok(())
    }

    pub(in super::super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(in super::super) fn bytes(&self) -> usize {
        // An entry, and its place in an index.
        self.entries.capacity() * (size_of::<(Value, Value)>() + 2 * size_of::<Key>())
    }

    pub(in super::super) fn get(&self, key: &Value) -> Outcome<Option<&Value>> {
        Ok(match Key::of(key)? {
            Key::Str(text) => self.get_str(&text),
            other => self.others.get(&other).map(|at| &self.entries[*at].1),
        })
    }

    pub(in super::super) fn get_str(&self, key: &str) -> Option<&Value> {
        self.strings.get(key).map(|at| &self.entries[*at].1)
    }

    pub(in super::super) fn entries(&self) -> &[(Value, Value)] {
        &self.entries
    }

    /// Takes the entries of another one in.
    pub(in super::super) fn update(&mut self, other: &Self) -> Outcome<()> {
        for (key, value) in &other.entries {
            self.insert(key.clone(), value.clone())?;
        }
        Ok(())
    }
}
