//! `cargo xtask test`: everything that must hold before a change lands.

use anyhow::Result;

use crate::bindings;
use crate::build;
use crate::check_metal;
use crate::dist;
use crate::process::{cargo, root, run};
use crate::test_clients;
use crate::test_page;

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Format, lint and test this crate only; may be given several times
    #[arg(long, value_name = "CRATE")]
    only: Vec<String>,
    /// Arguments of the test programs, such as a part of a test's name
    #[arg(last = true)]
    tests: Vec<String>,
}

pub(crate) fn run_task(args: &Args) -> Result<()> {
    // What takes a second first.
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    build::run(&build::Args::default())?;
    if cfg!(target_os = "linux") {
        // The tests compile every CUDA kernel with it; they need no GPU.
        build_scripts::cuda_compiler(&|line| eprintln!("{line}"))?;
    }
    let mut packages = Vec::new();
    for name in &args.only {
        packages.extend(["--package", name]);
    }
    if packages.is_empty() {
        bindings::check()?;
        packages.push("--workspace");
    }
    let mut clippy = cargo(&["clippy", "--locked", "--all-targets"]);
    run(clippy.args(&packages).args(["--", "-D", "warnings"]))?;
    let mut test = cargo(&["test", "--locked", "--no-fail-fast"]);
    run(test.args(&packages).arg("--").args(&args.tests))?;
    if !args.only.is_empty() {
        return Ok(());
    }
    downstream()?;
    dist::check()?;
    // The symbols of all builds of MLX are the same; their load commands are the command's to look at.
    check_metal::run(&check_metal::Args { only_oldest: true })?;
    test_page::run_where_possible()?;
    test_clients::run_where_possible()
}

/// The crate outside the workspace, in this workspace's target folder: what both need is built once.
fn downstream() -> Result<()> {
    let mut test = cargo(&["test", "--locked", "--target-dir"]);
    test.arg(root().join("target"));
    run(test.current_dir(root().join("examples/downstream")))
}
