//! Inputs to begin with: the fixtures of the tests, as inputs of each target.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::files::join;
use crate::{Target, answer, config, request, safetensors, template, tokenizer};

/// Where the fixtures lie.
pub(crate) struct Fixtures {
    pub(crate) models: PathBuf,
    pub(crate) tokenizers: PathBuf,
    pub(crate) chats: PathBuf,
}

pub(crate) fn fixtures() -> Fixtures {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let backend = crates.join("ml-backend/tests/fixtures");
    Fixtures {
        models: crates.join("models/tests/fixtures"),
        tokenizers: backend.join("tokenizers"),
        chats: backend.join("chats.json"),
    }
}

pub(crate) fn read(file: &Path) -> Vec<u8> {
    fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The seeds of a target.
///
/// # Panics
/// Where the repository is not whole.
#[must_use]
pub fn seeds(target: Target) -> Vec<Vec<u8>> {
    match target {
        Target::Answer => answer::seeds(),
        Target::Config => {
            let mut seeds = each_model(|dir| present(dir, &config::FILES));
            seeds.extend(embeddings());
            seeds
        }
        Target::Safetensors => each_model(|dir| {
            let mut files = present(dir, &safetensors::FILES);
            for (name, content) in &mut files {
                if name.ends_with(".safetensors") {
                    *content = header(content).to_vec();
                }
            }
            files
        }),
        Target::Tokenizer => folders(&fixtures().tokenizers)
            .iter()
            .map(|dir| join(&present(dir, &tokenizer::FILES)))
            .collect(),
        Target::Template => chats(),
        Target::Request(api) => request::seeds(api),
        Target::Stream => (0..=u8::MAX).map(|first| vec![first, 7, 130, 9]).collect(),
    }
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut folders: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

fn each_model(files: impl Fn(&Path) -> Vec<(&'static str, Vec<u8>)>) -> Vec<Vec<u8>> {
    let dirs = folders(&fixtures().models);
    dirs.iter().map(|dir| join(&files(dir))).collect()
}

/// What says how the encoder embeds, in each of its cases.
fn embeddings() -> Vec<Vec<u8>> {
    let encoder = fixtures().chats.with_file_name("encoder");
    let cases: Value = serde_json::from_slice(&read(&encoder.join("cases.json"))).expect("JSON");
    let cases = cases["embeddings"].as_array().expect("a list");
    let of_case = |case: &Value| {
        let mut files = present(&encoder.join("model"), &config::FILES);
        files.extend(present(&encoder.join("model"), &config::EMBEDDING_FILES));
        for name in config::EMBEDDING_FILES {
            if let Some(content) = case["files"].get(name) {
                files.retain(|(other, _)| *other != name);
                files.push((name, content.to_string().into_bytes()));
            }
        }
        join(&files)
    };
    cases.iter().map(of_case).collect()
}

fn present(dir: &Path, names: &[&'static str]) -> Vec<(&'static str, Vec<u8>)> {
    let files = names.iter().map(|name| (*name, dir.join(name)));
    files
        .filter(|(_, path)| path.is_file())
        .map(|(name, path)| (name, read(&path)))
        .collect()
}

/// The JSON at the beginning of a safetensors file, without the spaces that fill it up.
fn header(file: &[u8]) -> &[u8] {
    let (length, rest) = file.split_first_chunk().expect("a length");
    rest[..u64::from_le_bytes(*length) as usize].trim_ascii_end()
}

/// Every template with one conversation, and every expression.
fn chats() -> Vec<Vec<u8>> {
    let chats: Value = serde_json::from_slice(&read(&fixtures().chats)).expect("JSON");
    let bytes = |value: &Value| value.to_string().into_bytes();
    let source = |value: &Value| value.as_str().unwrap_or_default().as_bytes().to_vec();
    let conversations = chats["conversations"].as_object().expect("an object");
    let templates = chats["templates"].as_object().expect("an object");
    let with_tools = json!({"enable_thinking": true, "tools": [{"type": "function"}]});
    let mut seeds: Vec<Vec<u8>> = templates
        .values()
        .zip(conversations.values().cycle())
        .map(|(template, messages)| {
            let parts = [source(template), bytes(messages), bytes(&with_tools)];
            let names = template::FILES.into_iter();
            join(&names.zip(parts).collect::<Vec<_>>())
        })
        .collect();
    for list in ["expressions", "corners"] {
        let list = chats[list].as_array().expect("a list");
        seeds.extend(list.iter().map(|it| source(&it["source"])));
    }
    seeds
}
