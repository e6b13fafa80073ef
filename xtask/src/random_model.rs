//! `cargo xtask random-model`: a model that says nothing and takes long prompts.
//!
//! What agents send is longer than the demo models' context, and calls of tools are beyond them. Random weights of a
//! small shape read it in seconds; what they answer means nothing, but a grammar makes a call of it
//! (`ml serve --test-force-tools`).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bench_shapes::{Shape, Weights, checkpoint};
use serde_json::{Value, json};

use crate::process::root;

/// Options of `cargo xtask random-model`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder to write, which is made
    dir: PathBuf,
    /// Tokens of context
    #[arg(long, default_value_t = 65_536)]
    context: u32,
}

pub(crate) fn run_task(args: &Args) -> Result<()> {
    write(&args.dir, args.context)?;
    println!("{}", args.dir.display());
    Ok(())
}

/// Writes the model: Qwen3's form, the demo model's tokenizer, and a template that knows tools.
///
/// # Errors
/// When the disk cannot be written.
pub(crate) fn write(dir: &Path, context: u32) -> Result<()> {
    write_weights(dir, context)?;
    let template = root().join("tools/clients/tools.jinja");
    let template =
        std::fs::read_to_string(&template).with_context(|| template.display().to_string())?;
    let mut tokenizer = of_demo("tokenizer_config.json")?;
    tokenizer["model_max_length"] = context.into();
    tokenizer["chat_template"] = template.into();
    write_json(dir, "tokenizer_config.json", &tokenizer)?;
    // The most probable token of random weights is the same for ever; drawn ones end a text sooner or later.
    let mut generation = of_demo("generation_config.json")?;
    generation["do_sample"] = true.into();
    generation["temperature"] = 1.0.into();
    write_json(dir, "generation_config.json", &generation)
}

/// Writes a model whose files name no token that ends an answer, so that one lasts until its client leaves: only a
/// million tokens fill the context.
///
/// # Errors
/// When the disk cannot be written.
pub(crate) fn write_endless(dir: &Path) -> Result<()> {
    let context = 1 << 20;
    write_weights(dir, context)?;
    let mut config = read(&dir.join("config.json"))?;
    config["eos_token_id"] = Value::Null;
    write_json(dir, "config.json", &config)?;
    let mut tokenizer = of_demo("tokenizer_config.json")?;
    tokenizer["model_max_length"] = context.into();
    tokenizer["chat_template"] = "{{ messages[-1]['content'] }}".into();
    if let Value::Object(tokenizer) = &mut tokenizer {
        tokenizer
            .retain(|name, _| !name.ends_with("_token") && name != "additional_special_tokens");
    }
    write_json(dir, "tokenizer_config.json", &tokenizer)?;
    let drawn = json!({"do_sample": true, "temperature": 1.0});
    write_json(dir, "generation_config.json", &drawn)
}

/// Writes weights with their configuration, and the tokenizer.
fn write_weights(dir: &Path, context: u32) -> Result<()> {
    let mut config = of_demo("config.json")?;
    let small = json!({
        "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "max_window_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": context,
    });
    if let (Value::Object(config), Value::Object(small)) = (&mut config, small) {
        config.extend(small);
        config.retain(|name, _| !name.starts_with("quantization"));
    }
    let shape = Shape::of("random", config)?;
    checkpoint::write(dir, &shape, Weights::Bf16)?;
    write_json(dir, "tokenizer.json", &of_demo("tokenizer.json")?)
}

/// A file of the demo model.
fn of_demo(name: &str) -> Result<Value> {
    read(&root().join("assets/models/qwen3-demo").join(name))
}

fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

fn write_json(dir: &Path, name: &str, value: &Value) -> Result<()> {
    let path = dir.join(name);
    std::fs::write(&path, format!("{value:#}\n")).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_the_context_that_was_asked_for_and_a_template_with_tools() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 12_345).unwrap();
        let read = |name: &str| read(&dir.path().join(name)).unwrap();
        assert_eq!(read("config.json")["max_position_embeddings"], 12_345);
        let tokenizer = read("tokenizer_config.json");
        assert!(
            tokenizer["chat_template"]
                .as_str()
                .unwrap()
                .contains("<tool_call>")
        );
    }
    #[test]
    fn an_endless_one_names_no_end() {
        let dir = tempfile::tempdir().unwrap();
        write_endless(dir.path()).unwrap();
        let read = |name: &str| read(&dir.path().join(name)).unwrap();
        assert_eq!(read("config.json")["eos_token_id"], Value::Null);
        assert!(read("generation_config.json").get("eos_token_id").is_none());
        let text = read("tokenizer_config.json").to_string();
        assert!(
            !text.contains("eos_token") && !text.contains("eot_token"),
            "{text}"
        );
    }
}
