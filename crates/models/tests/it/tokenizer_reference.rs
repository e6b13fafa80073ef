//! Texts are encoded, decoded and streamed as by transformers: 38 texts and 21 streams for each of
//! three kinds of vocabulary. `tools/reference/chats.py` made the reference.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use models::tokenizer::Tokenizer;
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    tokenizers: BTreeMap<String, Cases>,
}

#[derive(Deserialize)]
struct Cases {
    texts: Vec<Text>,
    streams: Vec<Stream>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
    ids_with_special_tokens: Vec<u32>,
    /// What `ids_with_special_tokens` decode to.
    decoded: String,
    decoded_without_special_tokens: String,
}

#[derive(Deserialize)]
struct Stream {
    name: String,
    ids: Vec<u32>,
    /// What the first one, two, three... ids decode to, without special tokens.
    prefixes: Vec<String>,
    decoded: String,
    decoded_without_special_tokens: String,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ml-backend/tests/fixtures")
}

/// The cases of each tokenizer, with the tokenizer.
fn cases() -> Vec<(String, Tokenizer, Cases)> {
    let text = std::fs::read_to_string(fixtures().join("tokenize.json"));
    let fixture: Fixture = serde_json::from_str(&text.expect("the fixture is in the repository"))
        .expect("the fixture has this form");
    let open = |(name, cases): (String, Cases)| {
        let tokenizer = Tokenizer::from_dir(&fixtures().join("tokenizers").join(&name));
        (
            name,
            tokenizer.expect("the fixture is in the repository"),
            cases,
        )
    };
    let all: Vec<_> = fixture.tokenizers.into_iter().map(open).collect();
    assert_eq!(all.len(), 3, "the fixture is not whole");
    all
}

#[test]
fn texts_have_the_ids_that_transformers_gives_them() {
    for (name, tokenizer, cases) in cases() {
        for case in &cases.texts {
            let ids = tokenizer.encode(&case.text, false).unwrap();
            assert_eq!(ids, case.ids, "{name}: {:?}", case.text);
            let ids = tokenizer.encode(&case.text, true).unwrap();
            assert_eq!(ids, case.ids_with_special_tokens, "{name}: {:?}", case.text);
        }
        assert!(cases.texts.len() > 30, "the fixture is not whole");
    }
}

#[test]
fn ids_decode_to_the_text_that_transformers_gives_them() {
    for (name, tokenizer, cases) in cases() {
        for case in &cases.texts {
            let text = tokenizer
                .decode(&case.ids_with_special_tokens, false)
                .unwrap();
            assert_eq!(text, case.decoded, "{name}");
            let text = tokenizer
                .decode(&case.ids_with_special_tokens, true)
                .unwrap();
            assert_eq!(text, case.decoded_without_special_tokens, "{name}");
        }
    }
}

#[test]
fn streams_give_the_text_that_transformers_decodes_and_nothing_that_it_takes_back() {
    for (name, tokenizer, cases) in cases() {
        for case in &cases.streams {
            let name = format!("{name}: {}", case.name);
            let whole = [&case.decoded, &case.decoded_without_special_tokens];
            for (skip_special, whole) in [false, true].into_iter().zip(whole) {
                let mut stream = tokenizer.stream(skip_special);
                let mut text = String::new();
                for (count, id) in case.ids.iter().enumerate() {
                    text += &stream.push(*id).unwrap().unwrap_or_default();
                    // What has been shown is the beginning of the end result.
                    assert!(whole.starts_with(&text), "{name}: {text:?} of {whole:?}");
                    // And it is not ahead of what has come.
                    if skip_special {
                        let come = &case.prefixes[count];
                        assert!(come.chars().count() >= text.chars().count(), "{name}");
                    }
                }
                text += &stream.finish().unwrap().unwrap_or_default();
                assert_eq!(&text, whole, "{name}");
            }
        }
        assert!(cases.streams.len() > 15, "the fixture is not whole");
    }
}

#[test]
fn the_shipped_forms_of_a_tokenizer_name_their_tokens_and_ends() {
    let all = cases();
    let [(_, bytelevel, _), (_, spm, _), _] = &all[..] else {
        panic!("three tokenizers")
    };

    assert_eq!(bytelevel.bos_token(), None);
    assert_eq!(bytelevel.eos_token(), Some("<|im_end|>"));
    let ends = ["<|endoftext|>", "<|im_end|>"].map(|end| bytelevel.token_id(end).unwrap());
    assert_eq!(
        bytelevel.eos_ids(),
        ends,
        "as Qwen3's generation_config.json names them"
    );
    assert!(bytelevel.is_special(ends[0]));
    assert!(!bytelevel.is_special(bytelevel.token_id("<think>").unwrap()));

    assert_eq!(spm.bos_token(), Some("<bos>"));
    let ends = ["<eos>", "<end_of_turn>"].map(|end| spm.token_id(end).unwrap());
    assert_eq!(spm.eos_ids(), ends, "the second by the chat template");
    assert!(
        spm.chat_template()
            .unwrap()
            .is_some_and(|it| it.path.ends_with("chat_template.jinja"))
    );
}
