//! Stages that look at the tokens so far: penalties and DRY.

use std::collections::HashMap;

use kernels::draw::{Changes, common_with_end};

use super::Sampling;

/// The tokens so far, as the stages look at them.
pub(super) struct Lookback {
    /// The prompt's before the answer's.
    pub(super) ids: Vec<u32>,
    /// How often each token is in the window of presence and frequency penalties.
    counts: HashMap<u32, u32>,
    /// That window; `None` is the answer.
    window: Option<usize>,
}

impl Lookback {
    pub(super) fn new(sampling: &Sampling, prompt: &[u32]) -> Self {
        let window = sampling.penalties.context;
        let mut counts = HashMap::new();
        if let Some(window) = window {
            for id in &prompt[prompt.len().saturating_sub(window)..] {
                *counts.entry(*id).or_default() += 1;
            }
        }
        Self {
            ids: prompt.to_vec(),
            counts,
            window,
        }
    }

    pub(super) fn push(&mut self, id: u32) {
        *self.counts.entry(id).or_default() += 1;
        if let Some(window) = self.window
            && let Some(left) = self.ids.len().checked_sub(window)
            && let Some(count) = self.counts.get_mut(&self.ids[left])
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&self.ids[left]);
            }
        }
        self.ids.push(id);
    }

    fn last(&self, count: usize) -> &[u32] {
        &self.ids[self.ids.len().saturating_sub(count)..]
    }

    /// Repetition penalty, presence and frequency penalties, DRY.
    pub(super) fn change(&self, sampling: &Sampling, logits: &mut Changes<'_>) {
        if let Some(repetition) = &sampling.repetition {
            let penalty = repetition.penalty;
            let mut recent = self.last(repetition.context).to_vec();
            recent.sort_unstable();
            recent.dedup();
            for id in recent {
                logits.change(id as usize, |x| match x < 0.0 {
                    true => x * penalty,
                    false => x / penalty,
                });
            }
        }
        let (presence, frequency) = (sampling.penalties.presence, sampling.penalties.frequency);
        if (presence, frequency) != (0.0, 0.0) {
            for (&id, &count) in &self.counts {
                logits.change(id as usize, |x| x - presence - frequency * count as f32);
            }
        }
        if let Some(dry) = &sampling.dry {
            for (id, length) in repetitions(self.last(dry.context), &dry.breakers) {
                if let Some(over) = length.checked_sub(dry.allowed_length) {
                    let growth = f64::from(dry.base).powi(over.min(10_000) as i32);
                    // Still a number, whatever the length.
                    let penalty = (f64::from(dry.multiplier) * growth).min(1e30) as f32;
                    logits.change(id as usize, |x| x - penalty);
                }
            }
        }
    }
}

/// Of each token that has followed what `ids` end with, how many tokens of that at the most: none of `breakers` is
/// one of them, nor is the token itself.
fn repetitions(ids: &[u32], breakers: &[u32]) -> HashMap<u32, usize> {
    let mut found = HashMap::new();
    let end = ids.iter().rev();
    let longest = end.take_while(|id| !breakers.contains(id)).count();
    if longest == 0 {
        return found;
    }
    let common = common_with_end(ids);
    for (length, follower) in common.into_iter().zip(&ids[1..]) {
        if length > 0 && !breakers.contains(follower) {
            let most = found.entry(*follower).or_default();
            *most = length.min(longest).max(*most);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the proposal has it, token by token.
    fn slowly(ids: &[u32], breakers: &[u32]) -> HashMap<u32, usize> {
        let mut found = HashMap::new();
        let Some((last, before)) = ids.split_last() else {
            return found;
        };
        if breakers.contains(last) {
            return found;
        }
        for at in 0..before.len() {
            let follower = ids[at + 1];
            if ids[at] != *last || breakers.contains(&follower) {
                continue;
            }
            let mut length = 1;
            while length <= at {
                let token = ids[ids.len() - 1 - length];
                if ids[at - length] != token || breakers.contains(&token) {
                    break;
                }
                length += 1;
            }
            let most = found.entry(follower).or_insert(0);
            *most = length.max(*most);
        }
        found
    }

    #[test]
    fn repetitions_are_as_long_as_the_proposal_says() {
        let mut state = 7_u64;
        let mut below = |n: u64| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) % n
        };
        for round in 0..400 {
            let kinds = 2 + below(4);
            let ids: Vec<u32> = (0..below(60)).map(|_| below(kinds) as u32).collect();
            let breakers: &[u32] = [&[][..], &[0], &[1, 3]][round % 3];
            assert_eq!(
                repetitions(&ids, breakers),
                slowly(&ids, breakers),
                "{ids:?}"
            );
        }
        // 3 4 5 came before, followed by 6; and 4 5, by 7.
        let ids = [3, 4, 5, 6, 1, 4, 5, 7, 3, 4, 5];
        assert_eq!(repetitions(&ids, &[]), HashMap::from([(6, 3), (7, 2)]));
    }
}
