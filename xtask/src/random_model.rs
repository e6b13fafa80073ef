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
    let demo = root().join("assets/models/qwen3-demo");
    let read = |name: &str| {
        let path = demo.join(name);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let mut config: Value = serde_json::from_str(&read("config.json")?)?;
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

    let mut tokenizer: Value = serde_json::from_str(&read("tokenizer_config.json")?)?;
    tokenizer["model_max_length"] = context.into();
    let template = root().join("tools/clients/tools.jinja");
    let template =
        std::fs::read_to_string(&template).with_context(|| template.display().to_string())?;
    tokenizer["chat_template"] = template.into();
    // The most probable token of random weights is the same for ever; drawn ones end a text sooner or later.
    let mut generation: Value = serde_json::from_str(&read("generation_config.json")?)?;
    generation["do_sample"] = true.into();
    generation["temperature"] = 1.0.into();
    let files = [
        ("tokenizer.json", read("tokenizer.json")?),
        ("generation_config.json", format!("{generation:#}\n")),
        ("tokenizer_config.json", format!("{tokenizer:#}\n")),
    ];
    for (name, text) in files {
        let path = dir.join(name);
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_the_context_that_was_asked_for_and_a_template_with_tools() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), 12_345).unwrap();
        let read = |name: &str| -> Value {
            serde_json::from_str(&std::fs::read_to_string(dir.path().join(name)).unwrap()).unwrap()
        };
        assert_eq!(read("config.json")["max_position_embeddings"], 12_345);
        let tokenizer = read("tokenizer_config.json");
        assert!(
            tokenizer["chat_template"]
                .as_str()
                .unwrap()
                .contains("<tool_call>")
        );
    }
}
