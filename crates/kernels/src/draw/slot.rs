//! What a GPU's kernel knows of a sequence that tokens are drawn for: a buffer of words.
//!
//! The host fills it once. From then on the kernel keeps it up to date itself, since the host submits step n+1 before
//! it knows token n.

use super::Filters;
use super::repeats::common_with_end;

/// All that may be asked of a sequence's draws, in the order in which it is done; then the filters.
#[derive(Clone, Copy, Debug)]
pub struct Stages<'a> {
    /// What is added to logits; a token once at the most.
    pub biases: &'a [(u32, f32)],
    /// Logits of the last so many tokens are divided by a number, and multiplied where they are below 0.
    pub repetition: Option<(f32, usize)>,
    /// What is taken from the logits of tokens that are there, and that are there once more, within the last so many;
    /// without a number, within the answer.
    pub presence: f32,
    /// See `presence`.
    pub frequency: f32,
    /// See `presence`.
    pub window: Option<usize>,
    /// What repetitions cost.
    pub dry: Option<Dry<'a>>,
    /// Bit `i % 32` of word `i / 32` says whether token `i` may be drawn.
    pub allowed: Option<&'a [u32]>,
    /// With a temperature of 0 the most probable token is taken.
    pub filters: Filters<'a>,
    /// How often XTC is done.
    pub xtc_probability: f32,
    /// Of the random numbers.
    pub seed: u64,
}

/// Of the logit of a token that has followed what the last `length` tokens are, `multiplier * base ^ (length -
/// allowed_length)` is taken.
#[derive(Clone, Copy, Debug)]
pub struct Dry<'a> {
    /// Above 0.
    pub multiplier: f32,
    /// 1 or more.
    pub base: f32,
    /// 1 or more.
    pub allowed_length: usize,
    /// As many tokens are looked at.
    pub context: usize,
    /// Tokens over which no repetition reaches.
    pub breakers: &'a [u32],
}

/// Words of the beginning: `Word` in `slot.cuh`.
const HEAD: usize = 36;

// `Flag` in `slot.cuh`.
const GREEDY: u32 = 1;
const TEMPERATURE_FIRST: u32 = 2;
const HAS_DRY: u32 = 4;
const HAS_LESS: u32 = 8;
const HAS_TOP_P: u32 = 16;
const HAS_TYPICAL_P: u32 = 32;
const HAS_MIN_P: u32 = 64;
const HAS_XTC: u32 = 128;

impl Stages<'_> {
    /// The words of a sequence of which there are `ids`, none outside the vocabulary, and which will have no more than
    /// `capacity` tokens.
    pub fn words(&self, vocabulary: usize, ids: &[u32], capacity: usize) -> Vec<u32> {
        // What is larger counts as all.
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let looks_back = self.looks_back();
        let ids = if looks_back { ids } else { &[] };
        let capacity = if looks_back {
            capacity.max(ids.len())
        } else {
            0
        };
        let Filters {
            temperature,
            top_k,
            top_p,
            min_p,
            typical_p,
            xtc,
            ..
        } = self.filters;
        let lessens = (self.presence, self.frequency) != (0.0, 0.0);
        let dry = self.dry;
        let breakers = dry.map_or(&[][..], |dry| dry.breakers);
        let mut flags = 0;
        for (flag, is_set) in [
            (GREEDY, temperature == 0.0),
            (
                TEMPERATURE_FIRST,
                self.filters.temperature_first && temperature != 1.0,
            ),
            (HAS_DRY, dry.is_some()),
            (HAS_LESS, lessens),
            (HAS_TOP_P, top_p.is_some()),
            (HAS_TYPICAL_P, typical_p.is_some()),
            (HAS_MIN_P, min_p.is_some()),
            (HAS_XTC, xtc.is_some()),
        ] {
            flags |= if is_set { flag } else { 0 };
        }
        let unbroken = ids.iter().rev().take_while(|id| !breakers.contains(id));
        let unbroken = number(unbroken.count());

        let mut lists = Lists(vec![0; HEAD]);
        let biases = self
            .biases
            .iter()
            .flat_map(|(id, bias)| [*id, bias.to_bits()]);
        let biases = lists.add(biases);
        let mut spared = xtc.map_or_else(Vec::new, |xtc| xtc.spared.to_vec());
        spared.sort_unstable();
        spared.dedup();
        let spared = lists.add(spared);
        let breakers = lists.add(breakers.iter().copied());
        let allowed = lists.add(self.allowed.unwrap_or_default().iter().copied());
        let all_ids = lists.add(ids.iter().copied());
        lists.fill(capacity - ids.len());
        let mut counts = |wanted: bool, ids: &[u32]| {
            let [_, at] = lists.add([]);
            if wanted {
                lists.fill(vocabulary);
                for &id in ids {
                    lists.0[at as usize + id as usize] += 1;
                }
            }
            at
        };
        let last = |n: usize| &ids[ids.len().saturating_sub(n)..];
        let (penalty, context) = self.repetition.unwrap_or((1.0, 0));
        let seen = counts(self.repetition.is_some(), last(context));
        let of_window = counts(lessens, last(self.window.unwrap_or(0)));
        let repeated = counts(dry.is_some(), &[]);
        let [_, common] = lists.add([]);
        if let Some(dry) = dry {
            lists.fill(2 * capacity);
            let at = common as usize + (ids.len() + 1) % 2 * capacity;
            let lengths = common_with_end(ids);
            for (i, &length) in lengths.iter().enumerate() {
                lists.0[at + i] = number(length);
            }
            let start = ids.len().saturating_sub(dry.context);
            let longest = dry.context.min(unbroken as usize);
            let followers = ids.iter().skip(1).zip(lengths).enumerate().skip(start);
            for (i, (follower, length)) in followers {
                let length = length.min(i - start + 1).min(longest);
                if length >= dry.allowed_length && !dry.breakers.contains(follower) {
                    let most = &mut lists.0[(repeated + follower) as usize];
                    *most = number(length).max(*most);
                }
            }
        }
        let head: [u32; HEAD] = [
            number(ids.len()),
            0,
            unbroken,
            flags,
            temperature.to_bits(),
            top_k.map_or(0, |k| number(k.max(1))),
            top_p.unwrap_or(1.0).to_bits(),
            min_p.unwrap_or(1.0).ln().to_bits(),
            typical_p.unwrap_or(1.0).to_bits(),
            self.xtc_probability.to_bits(),
            xtc.map_or(1.0, |xtc| xtc.threshold).to_bits(),
            self.seed as u32,
            (self.seed >> 32) as u32,
            penalty.to_bits(),
            number(context),
            self.presence.to_bits(),
            self.frequency.to_bits(),
            number(self.window.unwrap_or(0)),
            dry.map_or(0.0, |dry| dry.multiplier).to_bits(),
            dry.map_or(1.0, |dry| dry.base).to_bits(),
            dry.map_or(0, |dry| number(dry.allowed_length)),
            dry.map_or(0, |dry| number(dry.context)),
            biases[0] / 2,
            biases[1],
            spared[0],
            spared[1],
            breakers[0],
            breakers[1],
            allowed[0],
            allowed[1],
            number(capacity),
            all_ids[1],
            seen,
            of_window,
            common,
            repeated,
        ];
        lists.0[..HEAD].copy_from_slice(&head);
        lists.0
    }

    /// Whether the tokens so far are looked at.
    pub fn looks_back(&self) -> bool {
        let lessens = (self.presence, self.frequency) != (0.0, 0.0);
        lessens || self.repetition.is_some() || self.dry.is_some()
    }
}

/// Words, one list behind the other.
struct Lists(Vec<u32>);

impl Lists {
    /// How many they are, and where.
    fn add(&mut self, words: impl IntoIterator<Item = u32>) -> [u32; 2] {
        let at = self.0.len();
        self.0.extend(words);
        // Fewer than the vocabularies and contexts there are, which fit.
        [(self.0.len() - at) as u32, at as u32]
    }

    fn fill(&mut self, zeros: usize) {
        self.0.resize(self.0.len() + zeros, 0);
    }
}
