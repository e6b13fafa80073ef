//! Earlier states of a sequence, where one cannot be made of the next: the one before the last pass, for passes that
//! others could not follow, and [`Recurrent::CHECKPOINTS`] that are kept for prompts that begin alike.

use arch::Recurrent;

/// Tokens of an answer from one checkpoint to the next. Of a prompt each pass leaves one, at the last multiple of a
/// chunk of the gated delta rule.
const EVERY: i32 = 256;

/// A state behind so many tokens.
pub(crate) trait Past: Clone {
    fn offset(&self) -> i32;
}

/// The states of a sequence that are kept.
#[derive(Clone, Debug)]
pub(crate) struct History<S> {
    latest: Option<S>,
    /// The one in front of the last pass, if that was not empty.
    before: Option<S>,
    /// In the order of their tokens.
    checkpoints: Vec<S>,
}

impl<S> Default for History<S> {
    fn default() -> Self {
        Self {
            latest: None,
            before: None,
            checkpoints: Vec::new(),
        }
    }
}

impl<S: Past> History<S> {
    /// Tokens seen so far.
    pub(crate) fn offset(&self) -> i32 {
        self.latest.as_ref().map_or(0, S::offset)
    }

    pub(crate) fn latest(&self) -> Option<&S> {
        self.latest.as_ref()
    }

    /// Goes on to `latest`; `aligned` lies between. What was the one before the last pass until now is given back.
    pub(crate) fn put(&mut self, latest: S, aligned: Option<S>) -> Option<S> {
        let is_due = latest.offset() % EVERY == 0;
        let due = aligned.or_else(|| is_due.then(|| latest.clone()));
        if let Some(state) = due {
            self.keep(state);
        }
        std::mem::replace(&mut self.before, self.latest.replace(latest))
    }

    /// Adds a checkpoint, and gives up the one whose going leaves the least to be run again beside what is run
    /// from there to the end in any case.
    fn keep(&mut self, state: S) {
        let end = state.offset();
        self.checkpoints.push(state);
        if self.checkpoints.len() <= Recurrent::CHECKPOINTS {
            return;
        }
        let offset = |i: usize| self.checkpoints.get(i).map_or(end, S::offset);
        let cost = |i: &usize| {
            let earlier = i.checked_sub(1).map_or(0, offset);
            let gap = f64::from(offset(i + 1) - earlier);
            gap / f64::from((end - offset(*i)).max(1))
        };
        let inner = 0..self.checkpoints.len() - 1;
        if let Some(least) = inner.min_by(|a, b| cost(a).total_cmp(&cost(b))) {
            self.checkpoints.remove(least);
        }
    }

    /// The most tokens, up to `to`, that it can go back to hold.
    pub(crate) fn reachable(&self, to: i32) -> i32 {
        let offsets = self.states().map(S::offset);
        offsets.filter(|offset| *offset <= to).max().unwrap_or(0)
    }

    /// Goes back to hold that many tokens, or the most below that it can; returns how many.
    pub(crate) fn rewind(&mut self, to: i32) -> i32 {
        let reached = self.reachable(to);
        if reached < self.offset() {
            let latest = self.states().find(|state| state.offset() == reached);
            self.latest = latest.cloned();
            self.before = None;
            self.checkpoints.retain(|state| state.offset() <= reached);
        }
        reached
    }

    /// All that are kept, of which several may be one.
    pub(crate) fn states(&self) -> impl Iterator<Item = &S> {
        let ends = self.latest.iter().chain(&self.before);
        ends.chain(&self.checkpoints)
    }
}
