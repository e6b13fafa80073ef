//! Strings: shared, weighed, and made only as far as there is room.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::rc::Rc;

use super::super::failure::Outcome;
use super::super::meter::{self, Held};

/// A string of a template. `safe` marks HTML, which `escape` leaves as it is.
#[derive(Clone, Debug)]
pub(in super::super) struct Text {
    held: Rc<Held<Box<str>>>,
    pub(in super::super) safe: bool,
}

impl Text {
    pub(in super::super) fn new(text: impl Into<Box<str>>) -> Outcome<Self> {
        let text = text.into();
        meter::spend_bytes(text.len())?;
        let bytes = text.len();
        Ok(Self {
            held: Held::new(text, bytes)?,
            safe: false,
        })
    }

    pub(in super::super) fn marked(mut self, safe: bool) -> Self {
        self.safe = safe;
        self
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.held
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text {}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

/// A string in the making, which is weighed as it grows.
#[derive(Debug, Default)]
pub(in super::super) struct Draft {
    text: String,
    counted: usize,
}

impl Draft {
    pub(in super::super) fn new() -> Self {
        Self::default()
    }

    /// Makes room for so many bytes more.
    fn grow(&mut self, bytes: usize) -> Outcome<()> {
        let needed = self.text.len().saturating_add(bytes);
        if needed > self.counted {
            let capacity = needed.max(self.counted.saturating_mul(2));
            meter::take(capacity - self.counted)?;
            self.counted = capacity;
            self.text.reserve_exact(capacity - self.text.len());
        }
        Ok(())
    }

    pub(in super::super) fn push_str(&mut self, text: &str) -> Outcome<()> {
        self.grow(text.len())?;
        self.text.push_str(text);
        Ok(())
    }

    pub(in super::super) fn push(&mut self, character: char) -> Outcome<()> {
        self.push_str(character.encode_utf8(&mut [0; 4]))
    }

    /// Appends a text so many times.
    pub(in super::super) fn repeat(&mut self, text: &str, times: usize) -> Outcome<()> {
        let bytes = text.len().saturating_mul(times);
        if bytes == 0 {
            return Ok(());
        }
        self.grow(bytes)?;
        meter::spend_bytes(bytes)?;
        // What is there is doubled for as long as that fits.
        let start = self.text.len();
        self.text.push_str(text);
        let mut done = text.len();
        while done < bytes {
            let more = done.min(bytes - done);
            self.text.extend_from_within(start..start + more);
            done += more;
        }
        Ok(())
    }

    pub(in super::super) fn text(mut self) -> Outcome<Text> {
        let text = std::mem::take(&mut self.text);
        drop(self);
        Text::new(text)
    }

    pub(in super::super) fn into_string(mut self) -> String {
        std::mem::take(&mut self.text)
    }

    pub(in super::super) fn as_str(&self) -> &str {
        &self.text
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        meter::give_back(self.counted);
    }
}
