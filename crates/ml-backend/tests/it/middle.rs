//! Filling in what stands between two texts, of a demo model with the tokens of the families that can.

use ml_backend::{Backend, Error, FinishReason, Options};

use crate::scripted;

const QWEN: [&str; 6] = [
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|fim_middle|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
];
const PREFIX: &str = "fn add(a: i32, b: i32) -> i32 {\n    ";
const SUFFIX: &str = "\n}\n";

#[test]
fn two_texts_stand_between_their_marks() {
    // As the models' cards write it, the tokenizer itself reads it.
    let (_dir, backend) = scripted::model(&QWEN, None);
    assert!(backend.can_fill_in_the_middle());
    for (prefix, suffix) in [
        (PREFIX, SUFFIX),
        ("", "x"),
        ("x", ""),
        (" a", " b"),
        ("\n", "\n"),
    ] {
        let card = format!("<|fim_prefix|>{prefix}<|fim_suffix|>{suffix}<|fim_middle|>");
        assert_eq!(
            backend.encode_fill_in_the_middle(prefix, suffix).unwrap(),
            backend.encode(&card).unwrap()
        );
    }
    // Mistral's comes the other way round.
    let (_dir, backend) = scripted::model(&["[SUFFIX]", "[PREFIX]"], None);
    assert_eq!(
        backend.encode_fill_in_the_middle(PREFIX, SUFFIX).unwrap(),
        backend
            .encode(&format!("[SUFFIX]{SUFFIX}[PREFIX]{PREFIX}"))
            .unwrap()
    );
}

#[test]
fn what_is_filled_in_is_the_continuation_and_ends_where_another_file_begins() {
    let (_dir, backend) = scripted::model(&QWEN, None);
    let options = Options::new().temperature(0.0).max_tokens(50);
    let says = |end: &str| {
        let answer = [format!("a + b{end}")];
        let answer = answer.each_ref().map(String::as_str);
        scripted::saying(&backend, options.clone(), "<|fim_middle|>", &answer)
    };
    for end in [
        "<|file_sep|>",
        "<|fim_pad|>",
        "<|endoftext|>",
        "<|fim_prefix|>",
    ] {
        let filled = backend
            .fill_in_the_middle(PREFIX, SUFFIX, &says(end))
            .unwrap();
        assert_eq!(
            (filled.text.as_str(), filled.finish_reason),
            ("a + b", FinishReason::Stop)
        );
    }
    // Elsewhere that ends nothing.
    let ids = backend.encode_fill_in_the_middle(PREFIX, SUFFIX).unwrap();
    let pad = says("<|fim_pad|>");
    let (filled, on) = (
        backend.fill_in_the_middle(PREFIX, SUFFIX, &pad).unwrap(),
        backend.generate_ids(&ids, &pad).unwrap(),
    );
    assert_eq!(on.token_ids[..on.token_ids.len() - 1], filled.token_ids);
    // Several are each their seed's.
    let hot = Options::new().temperature(3.0).seed(7).max_tokens(8);
    let two = backend
        .stream_fill_in_the_middle(PREFIX, SUFFIX, &hot, 2)
        .unwrap();
    let second = two.into_iter().nth(1).unwrap();
    let second: String = second.map(|piece| piece.unwrap().text).collect();
    let alone = backend
        .fill_in_the_middle(PREFIX, SUFFIX, &hot.clone().seed(8))
        .unwrap();
    assert_eq!(second, alone.text);
}

#[test]
fn a_model_without_the_marks_says_so() {
    // One of them is not enough, nor is a piece of the vocabulary that looks like one.
    for tokens in [&[][..], &QWEN[..2]] {
        let (_dir, backend) = scripted::model(tokens, None);
        assert!(!backend.can_fill_in_the_middle());
        let refused = backend.fill_in_the_middle(PREFIX, SUFFIX, &Options::new());
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::NoFillInTheMiddle { .. }), "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
        assert!(
            backend
                .generate(PREFIX, &Options::new().max_tokens(1))
                .is_ok()
        );
    }
}
