//! Answers that leave a letter out: a logits processor of one's own.
//!
//!     cargo run --release -p ml-backend --example logits_processor -- MODEL LETTER "Spell the word garden."
//!
//! A processor sees the tokens so far and the logits of the next one, float32, and changes them before any filter. Here
//! it rules out each token whose text has the letter; what tokens are is known before the first answer.

use std::io::Write;
use std::path::Path;

use anyhow::Context;
use ml_backend::{LogitsProcessor, Message, MlxBackend, Options};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().with_context(|| format!("name {what}"));
    let (model, letter, question) = (
        next("a model's directory")?,
        next("a letter")?,
        next("a question")?,
    );
    let letter = letter.chars().next().context("a letter is one character")?;
    run(
        Path::new(&model),
        letter,
        &question,
        std::io::stdout().lock(),
    )
}

pub(crate) fn run(
    model: &Path,
    letter: char,
    question: &str,
    mut output: impl Write,
) -> anyhow::Result<()> {
    let backend = MlxBackend::load(model)?;
    let mut banned = Vec::new();
    for id in 0..backend.info().model.vocab_size as u32 {
        // Special tokens have no text here, and stay.
        if backend.decode(&[id])?.to_lowercase().contains(letter) {
            banned.push(id as usize);
        }
    }
    let without = LogitsProcessor::new(move |_ids, logits| {
        for &id in &banned {
            logits[id] = f32::NEG_INFINITY;
        }
        Ok(())
    });
    let options = Options::new()
        .temperature(0.0)
        .max_tokens(128)
        .logits_processor(without);
    let answer = backend.respond(&[Message::user(question)], &options)?;
    writeln!(output, "{}", answer.text)?;
    Ok(())
}
