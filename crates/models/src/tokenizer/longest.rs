//! How many bytes of a text one token can stand for at most: with it, a text that cannot fit a context
//! is known before it is made into tokens.
//!
//! Only for pipelines that lose nothing of a text, so that its tokens cover all of its bytes: byte pairs
//! with a token for each byte, after steps that change characters or split and remove none. Those of
//! Qwen and Gemma are. Of any other nothing is said.

use serde_json::Value;
use tokenizers::models::ModelWrapper;

use super::assembly;

/// The most that composing (NFC) shrinks a text in UTF-8, rounded up. By the tables of Unicode 14 it is
/// 3.5: U+03B9 U+0308 U+0341 are 7 bytes, and U+0390 is the same in 2.
const COMPOSED: usize = 4;

/// See [`Tokenizer::longest_token`](super::Tokenizer::longest_token).
pub(super) fn longest_token(inner: &tokenizers::Tokenizer) -> Option<usize> {
    let shrinks = shrinks(&serde_json::to_value(inner.get_normalizer()).ok()?)?;
    let splits = serde_json::to_value(inner.get_pre_tokenizer()).ok()?;
    if !keeps_all(&splits) {
        return None;
    }
    let ModelWrapper::BPE(model) = inner.get_model() else {
        return None;
    };
    let is_bytes = splits.to_string().contains("\"ByteLevel\"");
    let has = |token: String| inner.token_to_id(&token).is_some();
    let covers_all = match is_bytes {
        true => assembly::byte_letters().all(|letter| has(letter.into())),
        false => model.byte_fallback && (0..=255_u8).all(|byte| has(format!("<0x{byte:02X}>"))),
    };
    // An added token may take any number of spaces beside it.
    let added = inner.get_added_tokens_decoder();
    if !covers_all || added.values().any(|token| token.lstrip || token.rstrip) {
        return None;
    }
    let vocabulary = inner.get_vocab(false);
    let of_token = |token: &String| match is_bytes {
        true => assembly::bytes(token).len(),
        false => token.len(),
    };
    let own = vocabulary.keys().map(of_token).max()?;
    let added = added.values().map(|token| token.content.len()).max();
    own.max(added.unwrap_or(0)).checked_mul(shrinks)
}

/// How many times fewer bytes a normalizer can make of a text; `None` where it may drop any number.
fn shrinks(normalizer: &Value) -> Option<usize> {
    match normalizer["type"].as_str() {
        None if normalizer.is_null() => Some(1),
        Some("NFC") => Some(COMPOSED),
        Some("Prepend") => Some(1),
        Some("Replace") => {
            let from = normalizer["pattern"]["String"].as_str()?;
            let to = normalizer["content"].as_str()?;
            (to.len() >= from.len()).then_some(1)
        }
        Some("Sequence") => {
            let steps = normalizer["normalizers"].as_array()?;
            steps
                .iter()
                .try_fold(1_usize, |all, step| all.checked_mul(shrinks(step)?))
        }
        _ => None,
    }
}

/// Whether a pre-tokenizer splits and removes nothing.
fn keeps_all(splitter: &Value) -> bool {
    match splitter["type"].as_str() {
        None => splitter.is_null(),
        Some("ByteLevel" | "Digits" | "Metaspace") => true,
        Some("Split" | "Punctuation") => splitter["behavior"] != "Removed",
        Some("Sequence") => splitter["pretokenizers"]
            .as_array()
            .is_some_and(|steps| steps.iter().all(keeps_all)),
        _ => false,
    }
}
