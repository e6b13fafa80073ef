//! Ids in any order through stream decoders of every kind.
//!
//! The first byte chooses the tokenizer, its lowest bit whether special tokens are left out. Each
//! further byte is an id, or above 127 its high part, with the low part in the next byte.

use std::sync::LazyLock;

use models::tokenizer::Tokenizer;
use serde_json::{Value, json};

use crate::check_refusal;
use crate::seeds::{fixtures, read};

struct Kind {
    tokenizer: Tokenizer,
    /// Whether the stream leaves out a space that decoding all ids at once keeps.
    leaves_out_space: bool,
}

static KINDS: LazyLock<Vec<Kind>> = LazyLock::new(kinds);

pub(crate) fn run(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let skip_special = first & 1 == 1;
    let kind = &KINDS[usize::from(first >> 1) % KINDS.len()];
    let ids = ids(rest);
    match (
        whole(kind, &ids, skip_special),
        streamed(kind, &ids, skip_special),
    ) {
        (Some(whole), Some(streamed)) => assert_eq!(streamed, whole, "of {ids:?}"),
        (None, None) => {}
        (whole, streamed) => panic!("{whole:?} at once, but {streamed:?} as a stream"),
    }
}

fn ids(bytes: &[u8]) -> Vec<u32> {
    let mut bytes = bytes.iter();
    let mut ids = Vec::with_capacity(bytes.len());
    while let Some(&byte) = bytes.next() {
        let low = bytes.clone().next().filter(|_| byte > 127);
        ids.push(match low {
            Some(&low) => {
                bytes.next();
                u32::from(byte - 128) << 8 | u32::from(low)
            }
            None => byte.into(),
        });
    }
    ids
}

fn whole(kind: &Kind, ids: &[u32], skip_special: bool) -> Option<String> {
    let text = kind.tokenizer.decode(ids, skip_special);
    let text = text.map_err(|error| check_refusal(&error)).ok()?;
    Some(match text.strip_prefix(' ') {
        Some(rest) if kind.leaves_out_space => rest.to_owned(),
        _ => text,
    })
}

fn streamed(kind: &Kind, ids: &[u32], skip_special: bool) -> Option<String> {
    let mut stream = kind.tokenizer.stream(skip_special);
    let mut text = String::new();
    let mut add = |piece: Option<String>| {
        assert_ne!(piece.as_deref(), Some(""), "a piece says something");
        text.extend(piece);
    };
    for id in ids {
        match stream.push(*id) {
            Ok(piece) => add(piece),
            Err(error) => {
                check_refusal(&error);
                return None;
            }
        }
    }
    match stream.finish() {
        Ok(piece) => add(piece),
        Err(error) => {
            check_refusal(&error);
            return None;
        }
    }
    Some(text)
}

/// The fixtures, and their vocabularies under decoders of other kinds.
fn kinds() -> Vec<Kind> {
    let replace = json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "});
    let strip = json!({"type": "Strip", "content": " ", "start": 1, "stop": 0});
    let sequence = |steps: &[Value]| json!({"type": "Sequence", "decoders": steps});
    let fallback = json!({"type": "ByteFallback"});
    let fuse = json!({"type": "Fuse"});
    let metaspace = |prepend: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": prepend, "split": true});
    let word_piece = json!({"type": "WordPiece", "prefix": "##", "cleanup": false});
    let decoders = [
        (
            "spm-prefix",
            sequence(&[replace.clone(), fallback.clone(), fuse.clone()]),
        ),
        ("spm", sequence(&[fallback, replace.clone(), fuse.clone()])),
        ("spm", sequence(&[replace.clone(), fuse, strip])),
        ("spm", replace),
        ("spm", metaspace("always")),
        ("spm-prefix", metaspace("never")),
        ("spm", word_piece),
        ("spm", Value::Null),
        ("bytelevel", Value::Null),
    ];
    let own = ["bytelevel", "spm", "spm-prefix"].map(|name| kind(name, None));
    let others = decoders.map(|(name, decoder)| kind(name, Some(decoder)));
    own.into_iter().chain(others).collect()
}

/// A fixture, with another decoder if one is given.
fn kind(name: &str, decoder: Option<Value>) -> Kind {
    let file = fixtures().tokenizers.join(name).join("tokenizer.json");
    let mut json: Value = serde_json::from_slice(&read(&file)).expect("JSON");
    if let Some(decoder) = decoder {
        json["decoder"] = decoder;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(dir.path().join("tokenizer.json"), json.to_string()).expect("a file");
    let tokenizer = Tokenizer::from_dir(dir.path()).expect("a valid tokenizer");
    let ids = tokenizer.encode("a", false).expect("a letter");
    let leaves_out_space = tokenizer.decode(&ids, false).expect("a letter") == " a";
    Kind {
        tokenizer,
        leaves_out_space,
    }
}
