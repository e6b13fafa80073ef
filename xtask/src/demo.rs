//! `cargo xtask demo`: from nothing to a streamed answer.

use anyhow::Result;

use crate::build;
use crate::process::{cargo, root, run};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The demo model that answers
    #[arg(long, default_value = "qwen3-demo", value_parser = ["qwen3-demo", "gemma3-demo"])]
    model: String,
    /// What it is asked
    #[arg(default_value = "What is 17 + 25?")]
    prompt: String,
}

pub(crate) fn run_task(args: &Args) -> Result<()> {
    build::run(&build::Args::default())?;
    let model = root().join("assets/models").join(&args.model);
    let mut ml = cargo(&["run", "--release", "--package", "ml-cli", "--"]);
    ml.args(["generate", "--temp", "0", "--prompt", &args.prompt]);
    run(ml.arg("--model").arg(model))
}
