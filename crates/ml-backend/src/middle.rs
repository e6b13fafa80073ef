//! Filling in: what stands between two texts, by models that were trained for it.
//!
//! Such a model has tokens that mark the two texts, and writes what belongs between them as the continuation. Which
//! tokens, and in which order, differs by family and is known from the tokenizer alone: it has them or it has not.

use models::tokenizer::Tokenizer;

use crate::handle::{MlxBackend, Origin, only};
use crate::request::Request;
use crate::stream::GenerationStream;
use crate::{Error, Generation, Options, Result};

/// How a family marks two texts.
struct Form {
    prefix: &'static str,
    suffix: &'static str,
    order: Order,
    /// Further tokens that end what is filled in, where the vocabulary has them.
    ends: &'static [&'static str],
}

enum Order {
    /// The prefix, the suffix, and a token behind which the middle comes.
    Middle(&'static str),
    /// The suffix first, so that the middle follows its prefix.
    SuffixFirst,
}

const FORMS: [Form; 5] = [
    // Qwen2.5-Coder, Qwen3-Coder and CodeGemma, which end at the next file of a repository.
    Form {
        prefix: "<|fim_prefix|>",
        suffix: "<|fim_suffix|>",
        order: Order::Middle("<|fim_middle|>"),
        ends: &[
            "<|endoftext|>",
            "<|fim_pad|>",
            "<|repo_name|>",
            "<|file_sep|>",
            "<|file_separator|>",
        ],
    },
    // Granite's models for code, after StarCoder.
    Form {
        prefix: "<fim_prefix>",
        suffix: "<fim_suffix>",
        order: Order::Middle("<fim_middle>"),
        ends: &["<|endoftext|>", "<fim_pad>"],
    },
    // DeepSeek-Coder: what it calls a hole is where the suffix begins.
    Form {
        prefix: "<｜fim▁begin｜>",
        suffix: "<｜fim▁hole｜>",
        order: Order::Middle("<｜fim▁end｜>"),
        ends: &[],
    },
    // Code Llama.
    Form {
        prefix: "▁<PRE>",
        suffix: "▁<SUF>",
        order: Order::Middle("▁<MID>"),
        ends: &["▁<EOT>"],
    },
    // Codestral and Devstral.
    Form {
        prefix: "[PREFIX]",
        suffix: "[SUFFIX]",
        order: Order::SuffixFirst,
        ends: &[],
    },
];

/// The ids of a family's marks.
struct Marks {
    prefix: u32,
    suffix: u32,
    /// `None` where the suffix comes first.
    middle: Option<u32>,
    ends: Vec<u32>,
}

impl Marks {
    /// Those that a tokenizer has, all of them.
    fn of(tokenizer: &Tokenizer) -> Option<Self> {
        FORMS.iter().find_map(|form| form.marks(tokenizer))
    }

    /// The prompt.
    fn around(&self, tokenizer: &Tokenizer, prefix: &str, suffix: &str) -> Result<Vec<u32>> {
        let mut ids = before_a_text(tokenizer)?;
        // As Meta's `infilling_prompt_tokens` and `encode_fim` of mistral-common have them.
        let (before, behind) = (tokenizer.encode(prefix, false)?, inside(tokenizer, suffix)?);
        match self.middle {
            Some(middle) => {
                ids.push(self.prefix);
                ids.extend(before);
                ids.push(self.suffix);
                ids.extend(behind);
                ids.push(middle);
            }
            None => {
                ids.push(self.suffix);
                ids.extend(behind);
                ids.push(self.prefix);
                ids.extend(before);
            }
        }
        Ok(ids)
    }
}

impl Form {
    fn marks(&self, tokenizer: &Tokenizer) -> Option<Marks> {
        let id = |token: &str| tokenizer.token_id(token);
        let (prefix, suffix) = (id(self.prefix)?, id(self.suffix)?);
        let middle = match self.order {
            Order::Middle(token) => Some(id(token)?),
            Order::SuffixFirst => None,
        };
        let ends = self.ends.iter().filter_map(|token| id(token));
        let marks = [prefix, suffix].into_iter().chain(middle);
        Some(Marks {
            prefix,
            suffix,
            middle,
            ends: ends.chain(marks).collect(),
        })
    }
}

impl MlxBackend {
    /// Whether the model has tokens for [`fill_in_the_middle`](Self::fill_in_the_middle).
    #[must_use]
    pub fn can_fill_in_the_middle(&self) -> bool {
        let tokenizer = self.loaded.tokenizer.as_ref();
        tokenizer.and_then(Marks::of).is_some()
    }

    /// Writes what stands between `prefix` and `suffix`, such as the rest of a line of code. The model ends it by
    /// itself where it was trained to; [`Options::stop`] may say more.
    ///
    /// # Errors
    /// [`Error::NoFillInTheMiddle`] of a model that has no tokens for it.
    pub fn fill_in_the_middle(
        &self,
        prefix: &str,
        suffix: &str,
        options: &Options,
    ) -> Result<Generation> {
        only(self.stream_fill_in_the_middle(prefix, suffix, options, 1)?)?.wait()
    }

    /// `n` texts that could stand there, as iterators: see [`stream_ids_n`](Self::stream_ids_n).
    ///
    /// # Errors
    /// As [`fill_in_the_middle`](Self::fill_in_the_middle), and when `n` is 0.
    pub fn stream_fill_in_the_middle(
        &self,
        prefix: &str,
        suffix: &str,
        options: &Options,
        n: usize,
    ) -> Result<Vec<GenerationStream>> {
        self.check_generates()?;
        let (ids, marks) = self.middle(prefix, suffix)?;
        let mut request = Request::new(ids, options, &self.loaded.limits)?;
        if !options.ignore_eos {
            request.eos.extend(marks.ends);
        }
        self.start(request, options, Origin::Ids, n)
    }

    /// The prompt of [`fill_in_the_middle`](Self::fill_in_the_middle): the two texts with the tokens that mark them.
    ///
    /// # Errors
    /// [`Error::NoFillInTheMiddle`] of a model that has no tokens for it.
    pub fn encode_fill_in_the_middle(&self, prefix: &str, suffix: &str) -> Result<Vec<u32>> {
        self.middle(prefix, suffix).map(|(ids, _)| ids)
    }

    fn middle(&self, prefix: &str, suffix: &str) -> Result<(Vec<u32>, Marks)> {
        let tokenizer = self.tokenizer()?;
        let missing = || Error::NoFillInTheMiddle {
            dir: self.loaded.info.dir.clone(),
        };
        let marks = Marks::of(tokenizer).ok_or_else(missing)?;
        self.check_length(prefix)?;
        self.check_length(suffix)?;
        let ids = marks.around(tokenizer, prefix, suffix)?;
        Ok((ids, marks))
    }
}

/// What the tokenizer puts before a text, such as `<bos>`.
fn before_a_text(tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let (mut with, without) = (tokenizer.encode("a", true)?, tokenizer.encode("a", false)?);
    let at = with
        .windows(without.len().max(1))
        .position(|window| window == without);
    with.truncate(at.unwrap_or(0));
    Ok(with)
}

/// The ids of a text behind another one: without the space that SentencePiece's tokenizers put before a text.
fn inside(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    /// Their vocabularies spell it as a byte, and no token reaches over that.
    const CONTROL: &str = "\u{1}";
    let whole = tokenizer.encode(text, false)?;
    let alone = tokenizer.encode(CONTROL, false)?;
    let puts_space = alone.len() > 1
        && tokenizer
            .token(alone[0])
            .is_some_and(|token| token.starts_with('▁'));
    if text.is_empty() || !puts_space {
        return Ok(whole);
    }
    let behind = tokenizer.encode(&format!("{CONTROL}{text}"), false)?;
    Ok(behind
        .strip_prefix(&alone[..])
        .map_or(whole, <[u32]>::to_vec))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    /// Made by `tools/reference/middle.py`.
    #[test]
    fn a_suffix_has_no_space_that_was_not_there() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        let families: Vec<Value> =
            serde_json::from_str(&read(&fixtures.join("middle.json"))).unwrap();
        for family in families {
            let folder = fixtures.join("tokenizers/spm-prefix");
            let mut file: Value =
                serde_json::from_str(&read(&folder.join("tokenizer.json"))).unwrap();
            let added = file["added_tokens"].as_array_mut().unwrap();
            for (token, id) in family["tokens"].as_object().unwrap() {
                let mut entry = added[0].clone();
                (entry["id"], entry["content"]) = (id.clone(), token.as_str().into());
                added.push(entry);
            }
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("tokenizer.json"), file.to_string()).unwrap();
            let tokenizer = Tokenizer::from_dir(dir.path()).unwrap();
            let marks = Marks::of(&tokenizer).unwrap();
            for case in family["cases"].as_array().unwrap() {
                let [prefix, suffix] =
                    ["prefix", "suffix"].map(|name| case[name].as_str().unwrap());
                let expected: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
                let found = marks.around(&tokenizer, prefix, suffix).unwrap();
                assert_eq!(found, expected, "{prefix:?} {suffix:?}");
            }
        }
    }
}
