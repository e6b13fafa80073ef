//! The files of a tokenizer, and a text through it and back.

use std::path::Path;

use models::tokenizer::Tokenizer;

use crate::check_refusal;
use crate::files::{sections, with_files};

/// Not a file: the text to encode.
const TEXT: &str = "text";

pub(crate) const FILES: [&str; 8] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates/tool.jinja",
    TEXT,
];

pub(crate) fn run(data: &[u8]) {
    let (text, files): (Vec<_>, Vec<_>) = sections(data, &FILES)
        .into_iter()
        .partition(|(name, _)| *name == TEXT);
    let text = match text.first() {
        Some((_, text)) => String::from_utf8_lossy(text).into_owned(),
        None => "he said: the  rest 😀 of it\n".to_owned(),
    };
    with_files(files, |dir| there_and_back(dir, &text));
}

fn there_and_back(dir: &Path, text: &str) {
    let tokenizer = match Tokenizer::from_dir(dir) {
        Ok(tokenizer) => tokenizer,
        Err(error) => return check_refusal(&error),
    };
    if let Err(error) = tokenizer.chat_template() {
        check_refusal(&error);
    }
    for (role, token) in tokenizer.special_tokens() {
        assert_eq!(tokenizer.special_token(role), Some(token));
    }
    for id in tokenizer.eos_ids() {
        assert!(tokenizer.token(*id).is_some(), "{id} ends nothing");
    }
    for add_special_tokens in [false, true] {
        match tokenizer.encode(text, add_special_tokens) {
            Ok(ids) => back(&tokenizer, &ids, add_special_tokens),
            Err(error) => check_refusal(&error),
        }
    }
}

/// Decodes at once and as a stream; what a stream gives where a decoder looks at its neighbours is
/// for the target `stream` to say.
fn back(tokenizer: &Tokenizer, ids: &[u32], skip_special: bool) {
    if let Err(error) = tokenizer.decode(ids, skip_special) {
        check_refusal(&error);
    }
    let mut stream = tokenizer.stream(skip_special);
    for id in ids {
        match stream.push(*id) {
            Ok(piece) => assert_ne!(piece.as_deref(), Some("")),
            Err(error) => return check_refusal(&error),
        }
    }
    match stream.finish() {
        Ok(piece) => assert_ne!(piece.as_deref(), Some("")),
        Err(error) => check_refusal(&error),
    }
}
