//! The adversary is a model that knows nothing: it draws any token that may come, all as likely. What it ends by
//! itself must be of the form, as another program judges it: the `jsonschema` crate, the `regex` syntax by hand.

mod answers;
mod calls;
mod generated;
mod refusals;

use std::path::Path;

use models::tokenizer::Tokenizer;

use super::{Form, Matcher, Structure, Structures};
use crate::Result;

/// Tokens after which an answer is cut off.
const LONGEST: usize = 1024;

/// A vocabulary to draw from.
struct Model {
    tokenizer: Tokenizer,
    rows: usize,
    structures: Structures,
    /// Whether special tokens are left out of its texts.
    skip_special: bool,
}

/// What a model answered.
#[derive(Debug, PartialEq)]
struct Answer {
    text: String,
    ids: Vec<u32>,
    /// Whether it ended by itself.
    ended: bool,
}

/// Byte-level (Qwen) and SentencePiece-style with byte fallback (Gemma).
fn models() -> [Model; 2] {
    ["qwen3-demo", "gemma3-demo"].map(|name| {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/models");
        let tokenizer = Tokenizer::from_dir(&dir.join(name)).unwrap();
        Model {
            // Models pad their vocabularies.
            rows: tokenizer.vocab_size() + 37,
            tokenizer,
            structures: Structures::default(),
            skip_special: true,
        }
    })
}

impl Model {
    fn matcher(&self, structure: &Structure) -> Result<Matcher> {
        self.matcher_of(&structure.clone().into())
    }

    fn matcher_of(&self, form: &Form) -> Result<Matcher> {
        let ends = self.tokenizer.eos_ids();
        let grammar = self
            .structures
            .grammar(form, &self.tokenizer, self.rows, ends)?;
        Ok(Matcher::new(grammar))
    }

    /// An answer drawn at random.
    fn answer(&self, structure: &Structure, seed: u64) -> Answer {
        self.answer_of(&structure.clone().into(), seed)
    }

    fn answer_of(&self, form: &Form, seed: u64) -> Answer {
        let mut matcher = self.matcher_of(form).unwrap();
        let mut random = Rng::new(seed);
        let mut ids = Vec::new();
        while ids.len() < LONGEST {
            let allowed = ids_of(matcher.mask().unwrap());
            let id = allowed[random.below(allowed.len())];
            if self.tokenizer.eos_ids().contains(&id) {
                assert!(matcher.may_end());
                return self.ended(ids, true);
            }
            let call = matches!(form, Form::Calls(_));
            assert!(call || !self.tokenizer.is_special(id), "{id}");
            ids.push(id);
            if matcher.accept(id).unwrap() {
                return self.ended(ids, true);
            }
        }
        self.ended(ids, false)
    }

    /// The text comes from the decoder, which the matcher knows nothing of.
    fn ended(&self, ids: Vec<u32>, ended: bool) -> Answer {
        Answer {
            text: self.tokenizer.decode(&ids, self.skip_special).unwrap(),
            ids,
            ended,
        }
    }

    /// Whether `text`, cut into tokens as the tokenizer does, is an answer of this form.
    fn takes(&self, structure: &Structure, text: &str) -> bool {
        self.takes_of(&structure.clone().into(), text)
    }

    fn takes_of(&self, form: &Form, text: &str) -> bool {
        let mut matcher = self.matcher_of(form).unwrap();
        let mut over = false;
        for id in self.tokenizer.encode(text, false).unwrap() {
            if over || !ids_of(matcher.mask().unwrap()).contains(&id) {
                return false;
            }
            over = matcher.accept(id).unwrap();
        }
        matcher.may_end()
    }
}

/// The ids of a mask.
fn ids_of(mask: &[u32]) -> Vec<u32> {
    let ids =
        (0..mask.len() as u32 * 32).filter(|&id| mask[id as usize / 32] >> (id % 32) & 1 == 1);
    ids.collect()
}

/// SplitMix64: the same draws for a seed everywhere.
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) % end as u64) as usize
    }
}
