//! Where a prompt may be cut without its text depending on it.
//!
//! A prompt is read in chunks that end at fixed multiples. Rows of products of few rows and of many are rounded
//! differently, and rows among many do not depend on how many there are ([`models::Model::rows_apart_in_prompts`]). So
//! what another prompt made of the same tokens is the same to the bit where both were read as many rows; else only
//! behind whole chunks, each of which was a pass by itself.

/// How prompts of a request are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cuts {
    /// Tokens of a chunk, one at the least.
    pub(crate) chunk: usize,
    /// Rows of a pass that do not depend on how many there are, and more; `None` if they always do.
    pub(crate) rows: Option<usize>,
}

impl Cuts {
    /// Where a prompt of `length` tokens may go on from what others have made: behind `to` tokens, fewer than all, or
    /// the most before.
    pub(crate) fn at_most(self, to: usize, length: usize) -> usize {
        let start = to / self.chunk * self.chunk;
        let end = (start + self.chunk).min(length);
        // What is left of the chunk must be many rows, as the whole chunk would be.
        let cut = self
            .many()
            .map_or(start, |rows| to.min(end.saturating_sub(rows)));
        cut.max(start)
    }

    /// How many of a sequence's first tokens are what others may go on from, after a pass over those from `from` up to
    /// `to`, if so many were before.
    pub(crate) fn exact(self, exact: usize, from: usize, to: usize) -> usize {
        let is_whole = from.is_multiple_of(self.chunk) && to.is_multiple_of(self.chunk);
        let are_many = self.many().is_some_and(|rows| to - from >= rows);
        match exact >= from && (is_whole || are_many) {
            true => to,
            false => exact,
        }
    }

    /// Rows that are many, where chunks have so many.
    fn many(self) -> Option<usize> {
        self.rows.filter(|rows| self.chunk >= *rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How the rows of each token are multiplied: what decides their bits. By themselves, or as a pass of which
    /// tokens.
    fn ways(cuts: Cuts, passes: &[(usize, usize)]) -> Vec<Option<(usize, usize)>> {
        let way = |&(from, to): &(usize, usize)| {
            let many = cuts.rows.is_some_and(|rows| to - from >= rows);
            std::iter::repeat_n((!many).then_some((from, to)), to - from)
        };
        passes.iter().flat_map(way).collect()
    }

    /// The passes of a prompt that goes on behind `from` tokens.
    fn passes(cuts: Cuts, mut from: usize, length: usize) -> Vec<(usize, usize)> {
        let mut passes = Vec::new();
        while from < length {
            let to = ((from / cuts.chunk + 1) * cuts.chunk).min(length);
            passes.push((from, to));
            from = to;
        }
        passes
    }

    #[test]
    fn every_token_is_read_as_it_would_be_without() {
        for chunk in [1, 3, 8, 20] {
            for rows in [None, Some(5), Some(50)] {
                let cuts = Cuts { chunk, rows };
                for first in 1..60 {
                    let read = passes(cuts, 0, first);
                    let exact = read
                        .iter()
                        .fold(0, |exact, (from, to)| cuts.exact(exact, *from, *to));
                    for second in 1..60 {
                        let cut = cuts.at_most(exact.min(second - 1), second);
                        assert!(cut <= exact && cut < second);
                        let mut found = ways(cuts, &read)[..cut].to_vec();
                        found.extend(ways(cuts, &passes(cuts, cut, second)));
                        let wanted = ways(cuts, &passes(cuts, 0, second));
                        assert_eq!(found, wanted, "{cuts:?}, {first} tokens, then {second}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_prompt_that_grows_is_read_from_its_end() {
        let cuts = Cuts {
            chunk: 512,
            rows: Some(17),
        };
        assert_eq!(cuts.exact(19_968, 19_968, 20_000), 20_000);
        assert_eq!(cuts.at_most(20_000, 20_200), 20_000);
        // The last chunk keeps so many rows that it is read as one of many.
        assert_eq!(cuts.at_most(20_000, 20_010), 19_993);
        // Of an end of few rows nobody makes use.
        assert_eq!(cuts.exact(19_968, 19_968, 19_980), 19_968);
        let experts = Cuts { rows: None, ..cuts };
        assert_eq!(experts.at_most(20_000, 20_200), 19_968);
    }
}
