//! What keeps a tokenizer file from taking the process down.
//!
//! The `tokenizers` crate trusts the files it reads: tables that point outside of themselves make
//! it panic, when it loads them or at some later text. Such a panic ends here and becomes an
//! error. Its message still goes where the program's panic hook puts it (standard error, if
//! nobody set one): the hook belongs to the whole process, so a library leaves it alone. What can
//! be seen in the file is therefore refused before the crate reads it, and so is what no panic
//! would stop: a table whose stated size is not there, and steps that multiply a text.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;

use super::error::one_line;

/// How many times longer the replacements of a pipeline may make a text. SentencePiece's writes
/// three bytes for a space.
const GROWTH: usize = 1024;
/// The bytes that a `tokenizer.json` may have. The largest known has some 35 MB.
pub(super) const LONGEST_FILE: u64 = 512 << 20;

/// Calls the `tokenizers` crate. A panic is the error, as one line.
pub(super) fn catch<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    // What the call leaves half done is dropped with its result, or, for a tokenizer that is
    // shared, is a cache behind a lock that the crate skips when it is poisoned.
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| panicked(&*panic))
}

/// Calls the crate where it encodes. Its BPE models keep the words they have seen, for each model
/// on each thread that used it, as long as the thread lives: a program that loads models by turns
/// would keep megabytes of each one. So the call has a thread of its own, which takes that along
/// when it ends; it costs some 50 microseconds.
pub(super) fn catch_apart<T: Send>(call: impl FnOnce() -> T + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("tokenizer".to_owned());
        match thread.spawn_scoped(scope, call) {
            Ok(thread) => thread.join().map_err(|panic| panicked(&*panic)),
            Err(cause) => Err(format!("no thread for the tokenizer: {cause}")),
        }
    })
}

fn panicked(panic: &(dyn Any + Send)) -> String {
    let message = one_line(&said(panic));
    format!("the tokenizers library panicked: {message}")
}

/// The message of a panic.
fn said(panic: &(dyn Any + Send)) -> &str {
    let fixed = panic.downcast_ref::<&str>().copied();
    let composed = panic.downcast_ref::<String>().map(String::as_str);
    fixed.or(composed).unwrap_or("without a message")
}

/// Checks a part of `tokenizer.json`, its `normalizer`, `pre_tokenizer` or `decoder`, before the
/// crate reads it.
pub(super) fn check(part: &Value) -> Result<(), String> {
    let mut growth = 1;
    walk(part, &mut growth)
}

fn walk(step: &Value, growth: &mut usize) -> Result<(), String> {
    match step {
        Value::Array(steps) => steps.iter().try_for_each(|step| walk(step, growth)),
        Value::Object(step) => {
            if let Some(table) = step.get("precompiled_charsmap").and_then(Value::as_str) {
                charsmap(table)?;
            }
            let text = |key| step.get(key).and_then(Value::as_str);
            if let Some(content) = text("content").filter(|_| text("type") == Some("Replace")) {
                let pattern = step
                    .get("pattern")
                    .and_then(|pattern| pattern.get("String"));
                let replaced = pattern.and_then(Value::as_str).map_or(0, str::len);
                // A pattern may match nothing at all, between any two characters.
                let factor = match replaced {
                    0 => content.len() + 1,
                    _ => content.len().div_ceil(replaced).max(1),
                };
                *growth = growth.saturating_mul(factor);
                if *growth > GROWTH {
                    return Err(format!(
                        "its replacements make a text more than {GROWTH} times longer"
                    ));
                }
            }
            step.values().try_for_each(|inner| walk(inner, growth))
        }
        _ => Ok(()),
    }
}

/// Checks the start of SentencePiece's table of replacements, which is written in base64: the
/// bytes of its trie, four for their number, and at least one node.
fn charsmap(table: &str) -> Result<(), String> {
    let mut head = [0_u8; 6];
    for (index, letter) in table.bytes().take(8).enumerate() {
        let six = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => 0,
        };
        for bit in 0..6 {
            let at = index * 6 + bit;
            head[at / 8] |= (six >> (5 - bit) & 1) << (7 - at % 8);
        }
    }
    let trie = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let bytes = table.len() / 4 * 3;
    match usize::try_from(trie) {
        Ok(trie) if trie >= 4 && trie + 4 <= bytes => Ok(()),
        _ => Err(format!(
            "precompiled_charsmap: a trie of {trie} bytes in a table of {bytes}"
        )),
    }
}
