//! Loads and generates for long, and looks whether threads and memory end where they were.
//!
//! The program is an example of ml-backend, which can be taken to a machine without cargo; this builds
//! it and runs it with the demo models; on a CPU once more without our kernels, where a small model of
//! random weights generates: MLX's own operations take seconds for a long prompt of a demo model.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::process::{cargo, root, run};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often a model is loaded; 200, and 100 on a GPU
    #[arg(long)]
    loads: Option<usize>,
    /// How often one generates; 10000, and 2000 on a GPU
    #[arg(long)]
    generations: Option<usize>,
    /// The device: cpu, cuda or metal
    #[arg(long, default_value = "cpu")]
    device: String,
}

pub(crate) fn run_task(args: &Args) -> Result<()> {
    run(&mut cargo(&[
        "build",
        "--release",
        "-p",
        "ml-backend",
        "--example",
        "soak",
    ]))?;
    let on_cpu = args.device == "cpu";
    let (loads, generations) = match on_cpu {
        true => (200, 10_000),
        false => (100, 2_000),
    };
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    let program = root().join(target).join("release/examples/soak");
    let demo = ["assets/models/qwen3-demo", "assets/models/gemma3-demo"];
    let small = ["crates/models/tests/fixtures/qwen3-tied"];
    let loads = args.loads.unwrap_or(loads);
    let generations = args.generations.unwrap_or(generations);
    let mut runs = vec![(&demo[..], false, loads, generations)];
    if on_cpu {
        runs.push((&demo, true, loads, 0));
        runs.push((&small, true, 0, generations));
    }
    let mut failed = 0;
    for (models, plain, loads, generations) in runs {
        let mut command = Command::new(&program);
        command.args(models.iter().map(|name| root().join(name)));
        command.args(["--device", &args.device]);
        command.args(["--loads", &loads.to_string()]);
        command.args(["--generations", &generations.to_string()]);
        if plain {
            command.arg("--plain-mlx");
        }
        // All are run, whatever becomes of the first.
        if let Err(error) = run(&mut command) {
            eprintln!("error: {error:#}");
            failed += 1;
        }
    }
    ensure!(failed == 0, "{failed} of the runs did not hold");
    Ok(())
}
