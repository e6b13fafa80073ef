//! `cargo xtask test`: everything that must hold before a change lands.

use anyhow::Result;

use crate::build;
use crate::check_metal;
use crate::process::{cargo, root, run};

pub(crate) fn run_task() -> Result<()> {
    build::run(&build::Args::default())?;
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    run(&mut cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    run(&mut cargo(&["test", "--workspace", "--no-fail-fast"]))?;
    run(cargo(&["test"]).current_dir(root().join("examples/downstream")))?;
    check_metal::run(&check_metal::Args::default())
}
