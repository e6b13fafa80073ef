//! A model's vocabulary as llguidance wants it: the bytes of each id.

use std::sync::Arc;

use llguidance::ParserFactory;
use models::tokenizer::Tokenizer;
use toktrie::{INVALID_TOKEN, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use super::numbers::Numbers;
use crate::{Error, Result};

/// Longer tokens are never drawn: a trie of them may only be so deep.
const LONGEST: usize = 512;

/// A vocabulary, and what all grammars over it have in common.
pub(super) struct Tokens {
    pub(super) factory: ParserFactory,
    trie: Arc<Trie>,
    /// Tokens that may belong to a number, and those that may break its bounds by themselves.
    pub(super) numeric: Vec<u32>,
    pub(super) heavy: Vec<u32>,
    /// Tokens that are line breaks and nothing else.
    pub(super) breaks: Vec<u32>,
}

impl Tokens {
    /// Of a model whose logits are `rows` a position; `ends` are the ids that end an answer.
    pub(super) fn new(tokenizer: &Tokenizer, rows: usize, ends: &[u32]) -> Result<Self> {
        if !tokenizer.tells_token_bytes() {
            return Err(Error::Structure {
                kind: "structure",
                problem: "the decoder in tokenizer.json is of a kind that does not say which bytes a token stands \
                          for; ask without a structure"
                    .to_owned(),
            });
        }
        let word = |id: u32| word(tokenizer, id, ends.contains(&id));
        let words: Vec<_> = (0..rows as u32).map(word).collect();
        let ends = ends.iter().copied().filter(|&end| (end as usize) < rows);
        let ends: Vec<_> = ends.collect();
        let first = ends.first().copied().unwrap_or(INVALID_TOKEN);
        let trie = TokTrie::from(&TokRxInfo::new(rows as u32, first), &words);
        let trie = match ends.is_empty() {
            true => trie,
            false => trie.with_eos_tokens(&ends),
        };
        let trie = Arc::new(Trie(trie));
        let env: TokEnv = trie.clone();
        let mut factory = ParserFactory::new_simple(&env).map_err(|error| Error::Structure {
            kind: "structure",
            problem: format!("the vocabulary cannot be searched: {error}"),
        })?;
        factory.quiet();
        // Messages are one line, without the parser's state.
        factory.limits_mut().verbose_errors = false;
        let ids = |is: &dyn Fn(&[u8]) -> bool| {
            let all = words.iter().zip(0_u32..);
            let all = all.filter(|(word, _)| !word.is_empty() && is(word));
            all.map(|(_, id)| id).collect::<Vec<_>>()
        };
        Ok(Self {
            numeric: ids(&|word| Numbers::may_go_on(word[0])),
            heavy: ids(&|word| !Numbers::default().allow(word) || !Numbers::IN_TEXT.allow(word)),
            breaks: ids(&|word| word.iter().all(|&byte| byte == b'\n')),
            factory,
            trie,
        })
    }

    /// A mask of all ids but these.
    pub(super) fn all_but(&self, ids: &[u32]) -> Vec<u32> {
        let rows = self.trie.0.vocab_size();
        let mut mask = vec![u32::MAX; rows.div_ceil(32)];
        if let Some(last) = mask.last_mut()
            && !rows.is_multiple_of(32)
        {
            *last = (1 << (rows % 32)) - 1;
        }
        for id in ids {
            if let Some(word) = mask.get_mut(*id as usize / 32) {
                *word &= !(1 << (id % 32));
            }
        }
        mask
    }

    /// The bytes that an id adds to a text: none for one that is no text.
    pub(super) fn bytes(&self, id: u32) -> &[u8] {
        match self.trie.0.token(id) {
            [TokTrie::SPECIAL_TOKEN_MARKER, ..] => &[],
            bytes => bytes,
        }
    }

    /// What an id is as a marker: its bytes, or how a special token is written.
    pub(super) fn written(&self, id: u32) -> &[u8] {
        match self.trie.0.token(id) {
            [TokTrie::SPECIAL_TOKEN_MARKER, name @ ..] => name,
            bytes => bytes,
        }
    }

    /// Ids whose bytes together are `bytes`.
    pub(super) fn spell(&self, bytes: &[u8]) -> Vec<u32> {
        self.trie.0.greedy_tokenize(bytes)
    }
}

/// The bytes of an id for the trie: none where it must never be drawn, and behind a byte that is in no text where
/// it is no text, so that grammars can still name it.
fn word(tokenizer: &Tokenizer, id: u32, ends: bool) -> Vec<u8> {
    let none = Vec::new();
    if ends || tokenizer.is_special(id) {
        let Some(name) = tokenizer.token(id) else {
            return none;
        };
        let mut word = vec![TokTrie::SPECIAL_TOKEN_MARKER];
        word.extend_from_slice(name.as_bytes());
        return if word.len() <= LONGEST { word } else { none };
    }
    match tokenizer.token_bytes(id) {
        // A byte that is in no UTF-8.
        Some(bytes) if bytes.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) => none,
        Some(bytes) if bytes.len() <= LONGEST => bytes,
        _ => none,
    }
}

/// The trie alone. How a text is cut into tokens is the model's to choose: what a grammar forces is not forced in
/// one spelling.
struct Trie(TokTrie);

impl TokenizerEnv for Trie {
    fn tok_trie(&self) -> &TokTrie {
        &self.0
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.0.greedy_tokenize(bytes)
    }

    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}
