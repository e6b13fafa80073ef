//! What came of it.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::questions::Question;

/// What became of a request.
pub(super) enum Outcome {
    /// The answer that was due, with the time to its first text, where it was streamed, and those between texts.
    Right(Option<Duration>, Vec<Duration>),
    /// Another answer.
    Wrong(String),
    /// None.
    Lost(String),
    /// Its client went.
    Left,
    /// Nonsense, and told so.
    Refused,
    /// The server asked to come again.
    Busy,
}

impl Outcome {
    pub(super) fn of(
        question: &Question,
        said: &str,
        first: Option<Duration>,
        gaps: Vec<Duration>,
    ) -> Self {
        match said == question.answer {
            true => Self::Right(first, gaps),
            false => Self::Wrong(format!(
                "{}: {said:?} and not {:?}",
                question.body, question.answer
            )),
        }
    }
}

#[derive(Default)]
pub(super) struct Figures {
    right: usize,
    wrong: Vec<String>,
    lost: Vec<String>,
    left: usize,
    refused: usize,
    busy: usize,
    firsts: Vec<Duration>,
    gaps: Vec<Duration>,
}

impl Figures {
    pub(super) fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Right(first, gaps) => {
                self.right += 1;
                self.firsts.extend(first);
                self.gaps.extend(gaps);
            }
            Outcome::Wrong(what) => self.wrong.push(what),
            Outcome::Lost(why) => self.lost.push(why),
            Outcome::Left => self.left += 1,
            Outcome::Refused => self.refused += 1,
            Outcome::Busy => self.busy += 1,
        }
    }

    pub(super) fn print(&self, took: Duration) {
        println!(
            "{:.0} s: {} right, {} wrong, {} lost, {} left by their clients, {} malformed, {} told to come again",
            took.as_secs_f64(),
            self.right,
            self.wrong.len(),
            self.lost.len(),
            self.left,
            self.refused,
            self.busy,
        );
        times("to the first token", &self.firsts);
        times("between tokens", &self.gaps);
    }

    /// # Errors
    /// An answer that was lost or another's, and none at all.
    pub(super) fn check(&self) -> Result<()> {
        let all = self.wrong.iter().chain(&self.lost);
        for what in all.take(10) {
            eprintln!("{what}");
        }
        ensure!(
            self.wrong.is_empty() && self.lost.is_empty(),
            "{} answers were another's, {} were lost",
            self.wrong.len(),
            self.lost.len()
        );
        ensure!(self.right > 0, "nothing was answered");
        Ok(())
    }
}

/// Prints what most and nearly all of these times are below.
pub(super) fn times(what: &str, times: &[Duration]) {
    let mut sorted = times.to_vec();
    sorted.sort();
    let at = |share: f64| share_of(&sorted, share).as_secs_f64() * 1e3;
    println!(
        "{what}: p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms ({} of them)",
        at(0.5),
        at(0.99),
        at(1.0),
        sorted.len()
    );
}

/// The time below which so great a share of the sorted times lies.
fn share_of(sorted: &[Duration], share: f64) -> Duration {
    let place = (sorted.len().saturating_sub(1) as f64 * share).round();
    sorted.get(place as usize).copied().unwrap_or_default()
}

/// Memory over time.
#[derive(Default)]
pub(super) struct Memory(Vec<(Duration, u64)>);

impl Memory {
    pub(super) fn look(&mut self, when: Duration, bytes: Option<u64>) {
        self.0.extend(bytes.map(|bytes| (when, bytes)));
    }

    /// The median of the part of the time between two shares of it.
    fn median(&self, from: f64, to: f64) -> Option<u64> {
        let last = self.0.last()?.0.as_secs_f64();
        let within = |when: Duration| (from * last..=to * last).contains(&when.as_secs_f64());
        let looks = self.0.iter().filter(|(when, _)| within(*when));
        let mut bytes: Vec<u64> = looks.map(|(_, bytes)| *bytes).collect();
        bytes.sort_unstable();
        bytes.get(bytes.len() / 2).copied()
    }

    fn quarters(&self) -> [u64; 4] {
        [0.0, 0.25, 0.5, 0.75].map(|from| self.median(from, from + 0.25).unwrap_or(0))
    }

    pub(super) fn print(&self) {
        let most = self.0.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0);
        let quarters = self
            .quarters()
            .map(|bytes| format!("{:.1}", bytes as f64 / 1e6));
        println!(
            "resident memory by quarters of the time, in MB: {}; most {:.1}",
            quarters.join(", "),
            most as f64 / 1e6
        );
    }

    /// # Errors
    /// More in the last quarter than in the second one, beyond a tenth and 8 MB.
    pub(super) fn check(&self) -> Result<()> {
        let [_, before, _, after] = self.quarters();
        ensure!(
            after <= before + before / 10 + 8_000_000,
            "memory grew from {before} to {after} bytes"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_the_sorted() {
        let times: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(share_of(&times, 0.5), Duration::from_millis(51));
        assert_eq!(share_of(&times, 0.99), Duration::from_millis(99));
        assert_eq!(share_of(&times, 1.0), Duration::from_millis(100));
        assert_eq!(share_of(&[], 0.5), Duration::ZERO);
    }

    #[test]
    fn memory_that_grows_is_told() {
        let mut memory = Memory::default();
        for second in 0..100 {
            memory.look(Duration::from_secs(second), Some(100_000_000));
        }
        assert!(memory.check().is_ok());
        let mut memory = Memory::default();
        for second in 0..100 {
            let bytes = 100_000_000 + second * 1_000_000;
            memory.look(Duration::from_secs(second), Some(bytes));
        }
        assert!(memory.check().is_err());
    }
}
