//! `cargo xtask test`: everything that must hold before a change lands.

use anyhow::Result;

use crate::bindings;
use crate::build;
use crate::check_metal;
use crate::dist;
use crate::process::{cargo, root, run};

pub(crate) fn run_task() -> Result<()> {
    build::run(&build::Args::default())?;
    if cfg!(target_os = "linux") {
        // The tests compile every CUDA kernel with it; they need no GPU.
        build_scripts::cuda_compiler(&|line| eprintln!("{line}"))?;
    }
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    bindings::check()?;
    let clippy = ["clippy", "--locked", "--workspace", "--all-targets"];
    run(cargo(&clippy).args(["--", "-D", "warnings"]))?;
    run(&mut cargo(&[
        "test",
        "--locked",
        "--workspace",
        "--no-fail-fast",
    ]))?;
    downstream()?;
    dist::check()?;
    // The symbols of all builds of MLX are the same; their load commands are the command's to look at.
    check_metal::run(&check_metal::Args { only_oldest: true })
}

/// The crate outside the workspace, in this workspace's target folder: what both need is built once.
fn downstream() -> Result<()> {
    let mut test = cargo(&["test", "--locked", "--target-dir"]);
    test.arg(root().join("target"));
    run(test.current_dir(root().join("examples/downstream")))
}
