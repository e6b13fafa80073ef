//! A stream of ids gives the text that decoding all of them gives, in pieces that are never half a
//! character: for byte-level and for byte-fallback vocabularies, and for decoders of other kinds.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use models::tokenizer::Tokenizer;
use proptest::prelude::*;
use serde_json::{Value, json};

const BROKEN: char = char::REPLACEMENT_CHARACTER;

fn fixture(name: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ml-backend/tests");
    tests.join("fixtures/tokenizers").join(name)
}

fn open(name: &str) -> Tokenizer {
    Tokenizer::from_dir(&fixture(name)).expect("the fixture is in the repository")
}

/// A fixture with some keys of its `tokenizer.json` replaced.
fn altered(name: &str, changes: Value) -> Tokenizer {
    let text = std::fs::read_to_string(fixture(name).join("tokenizer.json")).expect("a fixture");
    let mut tokenizer: Value = serde_json::from_str(&text).expect("JSON");
    let keys = tokenizer.as_object_mut().expect("an object");
    keys.extend(changes.as_object().expect("an object").clone());
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).expect("a file");
    Tokenizer::from_dir(dir.path()).expect("a valid tokenizer")
}

/// Byte-level BPE (Qwen), byte fallback (Gemma), and byte fallback with a dummy prefix (Llama).
static TOKENIZERS: LazyLock<[Tokenizer; 3]> =
    LazyLock::new(|| ["bytelevel", "spm", "spm-prefix"].map(open));

/// The pieces that a stream gives, the last one from its end.
fn pieces(tokenizer: &Tokenizer, ids: &[u32], skip_special: bool) -> Vec<String> {
    let mut stream = tokenizer.stream(skip_special);
    let mut pieces: Vec<String> = ids
        .iter()
        .filter_map(|id| stream.push(*id).expect("decodable"))
        .collect();
    pieces.extend(stream.finish().expect("decodable"));
    assert!(
        pieces.iter().all(|piece| !piece.is_empty()),
        "a piece says something"
    );
    pieces
}

fn id(tokenizer: &Tokenizer, token: &str) -> u32 {
    tokenizer
        .token_id(token)
        .unwrap_or_else(|| panic!("{token} is in the vocabulary"))
}

/// The ids of bytes in a vocabulary with byte fallback.
fn byte_ids(tokenizer: &Tokenizer, bytes: &[u8]) -> Vec<u32> {
    bytes
        .iter()
        .map(|byte| id(tokenizer, &format!("<0x{byte:02X}>")))
        .collect()
}

/// Ids of the whole vocabulary, ids beyond it, and (among the first few hundred) many bytes.
fn any_ids() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(prop_oneof![0..700_u32, 0..280_u32], 0..40)
}

/// What is easily broken.
const HARD: &[&str] = &[
    "👨‍👩‍👧‍👦",
    "🇩🇪",
    "e\u{301}",
    "नमस्ते",
    " ",
    "\n\n",
    "\u{FFFD}",
    "\t",
    " a",
    "▁",
];

/// Text of every script, and of what is easily broken: joined emoji, flags, combining marks.
fn any_text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "\\PC{0,12}",
        any::<String>(),
        prop::sample::select(HARD).prop_map(str::to_owned),
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_pieces_of_any_ids_make_up_their_decoding(ids in any_ids(), skip in any::<bool>()) {
        for tokenizer in TOKENIZERS.iter() {
            let whole = tokenizer.decode(&ids, skip).unwrap();
            let pieces = pieces(tokenizer, &ids, skip);
            prop_assert_eq!(pieces.concat(), &whole[..]);
            let broken = pieces.iter().any(|piece| piece.contains(BROKEN));
            prop_assert_eq!(broken, whole.contains(BROKEN));
        }
    }

    #[test]
    fn any_text_is_streamed_back_as_it_was(text in any_text()) {
        for tokenizer in TOKENIZERS.iter() {
            let ids = tokenizer.encode(&text, false).unwrap();
            let streamed = pieces(tokenizer, &ids, false).concat();
            prop_assert_eq!(&streamed, &tokenizer.decode(&ids, false).unwrap());
            // A byte-level vocabulary normalizes (NFC), and in the other two "▁" is a space.
            if text.is_ascii() {
                prop_assert_eq!(streamed, &text[..]);
            }
        }
    }
}

#[test]
fn a_character_of_several_tokens_comes_with_its_last_one() {
    let tokenizer = open("bytelevel");
    let ids = tokenizer.encode("🪐x", false).unwrap();
    assert!(
        ids.len() > 2,
        "the fixture spells this emoji in several tokens"
    );
    let mut stream = tokenizer.stream(true);
    let given: Vec<Option<String>> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    let given: Vec<Option<&str>> = given.iter().map(Option::as_deref).collect();
    let (emoji, nothing) = given[..ids.len() - 1].split_last().unwrap();
    assert!(nothing.iter().all(Option::is_none));
    assert_eq!(*emoji, Some("🪐"), "it does not wait for what follows");
    assert_eq!(given[ids.len() - 1], Some("x"));
}

#[test]
fn bytes_of_no_character_are_not_held_back() {
    let tokenizer = open("bytelevel");
    // In GPT-2's alphabet "ð" is the byte F0, which begins a character of four bytes, and "ÿ" is
    // FF, which is in no character.
    let mut stream = tokenizer.stream(true);
    assert_eq!(stream.push(id(&tokenizer, "ð")).unwrap(), None);
    let both = stream.push(id(&tokenizer, "ÿ")).unwrap();
    assert_eq!(both.as_deref(), Some("\u{FFFD}\u{FFFD}"));
    assert_eq!(
        stream.push(id(&tokenizer, "a")).unwrap().as_deref(),
        Some("a")
    );
    assert_eq!(stream.push(id(&tokenizer, "ð")).unwrap(), None);
    assert_eq!(
        stream.finish().unwrap().as_deref(),
        Some("\u{FFFD}"),
        "cut off"
    );
}

#[test]
fn a_run_of_byte_tokens_comes_as_the_reference_decoder_takes_it() {
    let tokenizer = open("spm");
    let emoji = byte_ids(&tokenizer, "😀".as_bytes());
    let letter = id(&tokenizer, "e");
    assert_eq!(
        pieces(&tokenizer, &[&emoji[..], &[letter]].concat(), true),
        ["😀e"]
    );
    assert_eq!(pieces(&tokenizer, &emoji, true), ["😀"]);
    // One wrong byte makes all bytes of its run wrong, those before it and those after.
    let wrong = byte_ids(&tokenizer, b"ok\xFFno");
    let mut stream = tokenizer.stream(true);
    let given: Vec<Option<String>> = wrong.iter().map(|id| stream.push(*id).unwrap()).collect();
    let given: Vec<Option<&str>> = given.iter().map(Option::as_deref).collect();
    let one = Some("\u{FFFD}");
    assert_eq!(
        given,
        [None, None, Some("\u{FFFD}\u{FFFD}\u{FFFD}"), one, one]
    );
    assert_eq!(stream.push(letter).unwrap().as_deref(), Some("e"));
    assert_eq!(stream.finish().unwrap(), None);
}

#[test]
fn a_space_that_the_tokenizer_makes_is_left_out_and_one_that_the_model_writes_is_not() {
    let dummy_prefix = open("spm-prefix");
    let word = dummy_prefix.encode("he", false).unwrap();
    assert!(
        dummy_prefix.token(word[0]).unwrap().starts_with('▁'),
        "encoding makes a space"
    );
    assert_eq!(pieces(&dummy_prefix, &word, true).concat(), "he");
    let spaced = dummy_prefix.encode("  he", false).unwrap();
    assert_eq!(pieces(&dummy_prefix, &spaced, true).concat(), "  he");

    // Gemma's tokenizer makes none, so a space at the start is the model's.
    let gemma = open("spm");
    let spaced = gemma.encode(" he", false).unwrap();
    assert_eq!(pieces(&gemma, &spaced, true).concat(), " he");
}

#[test]
fn a_made_space_that_the_decoder_keeps_is_left_out_too() {
    // As `spm-prefix`, but the decoder does not strip.
    let decoder = json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]});
    let tokenizer = altered("spm-prefix", json!({"decoder": decoder}));
    let ids = tokenizer.encode("he", false).unwrap();
    assert_eq!(
        tokenizer.decode(&ids, true).unwrap(),
        " he",
        "as transformers decodes it"
    );
    assert_eq!(pieces(&tokenizer, &ids, true).concat(), "he");
    let ids = tokenizer.encode(" he", false).unwrap();
    assert_eq!(pieces(&tokenizer, &ids, true).concat(), " he");

    // GPT-2 with a prefix space.
    let pre = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    let tokenizer = altered("bytelevel", json!({"pre_tokenizer": pre}));
    let ids = tokenizer.encode("he", false).unwrap();
    assert_eq!(pieces(&tokenizer, &ids, true).concat(), "he");
}

#[test]
fn special_tokens_and_ids_beyond_the_vocabulary_say_nothing() {
    let tokenizer = open("bytelevel");
    let ids = [
        id(&tokenizer, "a"),
        id(&tokenizer, "<|im_end|>"),
        9_999_999,
        id(&tokenizer, "<think>"),
        id(&tokenizer, "b"),
    ];
    assert_eq!(pieces(&tokenizer, &ids, true), ["a", "<think>", "b"]);
    assert_eq!(
        pieces(&tokenizer, &ids, false),
        ["a", "<|im_end|>", "<think>", "b"]
    );
}

#[test]
fn a_special_token_inside_a_character_does_not_break_it() {
    let tokenizer = open("bytelevel");
    let mut ids = tokenizer.encode("🪐", false).unwrap();
    assert!(
        ids.len() > 1,
        "the fixture spells an emoji in several tokens"
    );
    ids.insert(1, id(&tokenizer, "<|im_end|>"));
    assert_eq!(pieces(&tokenizer, &ids, true), ["🪐"]);
}

#[test]
fn decoders_of_other_kinds_stream_too() {
    let metaspace =
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true});
    let fallback_first = json!({"type": "Sequence", "decoders": [
        {"type": "ByteFallback"},
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "Fuse"},
    ]});
    let word_piece = json!({"type": "WordPiece", "prefix": "##", "cleanup": false});
    for decoder in [metaspace, fallback_first, word_piece, Value::Null] {
        let tokenizer = altered("spm", json!({"decoder": decoder}));
        for text in ["he said: the  rest 😀 of it", " a", "日本語 and नमस्ते"] {
            let ids = tokenizer.encode(text, false).unwrap();
            let pieces = pieces(&tokenizer, &ids, true);
            assert_eq!(
                pieces.concat(),
                tokenizer.decode(&ids, true).unwrap(),
                "{decoder}"
            );
            assert!(
                pieces.len() > 1 || ids.len() < 5,
                "it is a stream: {pieces:?}"
            );
        }
    }
}

#[test]
fn a_run_of_bytes_is_taken_whole_where_replacements_come_after_it() {
    let decoder = json!({"type": "Sequence", "decoders": [
        {"type": "ByteFallback"},
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "Fuse"},
    ]});
    let tokenizer = altered("spm", json!({"decoder": decoder}));
    let letter = id(&tokenizer, "e");
    // The last byte of the first run breaks it all; the second spells what is replaced.
    for run in [
        &b"\0\0\xD6"[..],
        "a▁b".as_bytes(),
        b"\xEF\xBF\xBD",
        b"\xFF\xFF\xFF\xFF\xFF",
    ] {
        let run = byte_ids(&tokenizer, run);
        for ids in [run.clone(), [&run[..], &[letter]].concat()] {
            let whole = tokenizer.decode(&ids, true).unwrap();
            assert_eq!(pieces(&tokenizer, &ids, true).concat(), whole, "{ids:?}");
        }
    }
}

#[test]
fn a_long_stream_costs_time_in_proportion_to_its_length() {
    // Held together by count, not by clock: a stream that decoded all of its tokens for each one
    // would take hours for this many.
    for tokenizer in TOKENIZERS.iter() {
        let ids = tokenizer.encode("the word 😀 \n", false).unwrap();
        let long: Vec<u32> = ids.iter().copied().cycle().take(100_000).collect();
        let text = pieces(tokenizer, &long, true).concat();
        assert_eq!(
            text.chars().count(),
            tokenizer.decode(&long, true).unwrap().chars().count()
        );
    }
}
