//! Which of some texts is nearest to a question, by their embeddings.
//!
//!     cargo run -p ml-backend --example embeddings -- MODEL "What grows here?" "Trees do." "It is 42."
//!
//! With EmbeddingGemma or Qwen3-Embedding the answers mean something; any model runs.

use std::io::Write;

use anyhow::{Context, ensure};
use ml_backend::{EmbedOptions, MlxBackend};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [model, texts @ ..] = &arguments[..] else {
        anyhow::bail!("name a model's directory, a question and texts");
    };
    run(model, texts, std::io::stdout().lock())
}

pub(crate) fn run(model: &str, texts: &[&str], mut output: impl Write) -> anyhow::Result<()> {
    ensure!(texts.len() > 1, "give a question and texts");
    let backend = MlxBackend::load(model)?;
    // Models that were trained with prompts have them by name.
    let as_query = EmbedOptions::new().prompt_name("query");
    let question = match backend.embed(&texts[..1], &as_query) {
        Ok(question) => question,
        Err(_) => backend.embed(&texts[..1], &EmbedOptions::new())?,
    };
    let question = question.first().context("a vector")?;
    let vectors = backend.embed(&texts[1..], &EmbedOptions::new())?;
    // They have length 1, so their product is the cosine of the angle between them.
    let cosine = |vector: &[f32]| -> f32 { vector.iter().zip(question).map(|(a, b)| a * b).sum() };
    let mut ranked: Vec<(f32, &str)> = (vectors.iter().zip(&texts[1..]))
        .map(|(vector, text)| (cosine(vector), *text))
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (score, text) in ranked {
        writeln!(output, "{score:.3}  {text}")?;
    }
    Ok(())
}
