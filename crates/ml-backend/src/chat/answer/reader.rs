//! What reads the calls of one syntax behind the marker that opens them.

use super::json::Step;
use super::out::Out;

/// What a character did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// There is more to come.
    More,
    /// All calls behind this marker ended with it.
    Over,
    /// They ended before the last bytes, which are text, or a marker.
    OverBefore(usize),
    /// What came since the last whole call is none.
    Bad,
}

impl From<Step> for Taken {
    fn from(step: Step) -> Self {
        match step {
            Step::More => Self::More,
            Step::Over => Self::Over,
            Step::Before => Self::OverBefore(0),
            Step::Bad => Self::Bad,
        }
    }
}

/// A syntax at work.
pub(super) trait Reader: std::fmt::Debug + Send {
    /// Takes the next character.
    fn step(&mut self, c: char, out: &mut Out) -> Taken;

    /// No more comes: whether all calls are whole, the marker behind the last one apart.
    fn finish(&mut self, out: &mut Out) -> bool;
}

/// The marker behind a call, as far as it has come. White space before it is left out.
#[derive(Debug)]
pub(super) struct Closing {
    marker: &'static str,
    seen: usize,
}

impl Closing {
    pub(super) fn new(marker: &'static str) -> Self {
        Self { marker, seen: 0 }
    }

    /// Whether none of it has come yet.
    pub(super) fn untouched(&self) -> bool {
        self.seen == 0
    }

    pub(super) fn step(&mut self, c: char) -> Taken {
        if self.seen == 0 && c.is_whitespace() {
            return Taken::More;
        }
        if !self.marker[self.seen..].starts_with(c) {
            // A model that forgot it.
            return Taken::OverBefore(self.seen + c.len_utf8());
        }
        self.seen += c.len_utf8();
        match self.seen == self.marker.len() {
            true => Taken::Over,
            false => Taken::More,
        }
    }
}

/// Bytes of the longest end of `text` that begins one of `markers` and is not the whole of it.
pub(super) fn overlap<'a>(text: &str, markers: impl IntoIterator<Item = &'a str>) -> usize {
    let of = |marker: &str| {
        let longest = text.len().min(marker.len().saturating_sub(1));
        let ends = |n: &usize| text.as_bytes().ends_with(&marker.as_bytes()[..*n]);
        (1..=longest).rev().find(ends).unwrap_or(0)
    };
    markers.into_iter().map(of).max().unwrap_or(0)
}
