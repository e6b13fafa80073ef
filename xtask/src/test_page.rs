//! `cargo xtask test-page`: the page of `ml serve` in a real browser, which types, reads, stops and reloads.
//!
//! Chromium is Debian's, or whatever `CHROMIUM` names; what drives it is npm's, pinned with its digest in
//! `tools/page`. Where one of them can neither be found nor installed, `cargo xtask test` says so and goes on, but never
//! in CI.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::process::{cargo, root, run};

/// Builds `ml` and runs the tests; what is missing is an error.
pub(crate) fn run_task() -> Result<()> {
    let chromium = chromium()?;
    modules()?;
    run(&mut cargo(&["build", "--locked", "--package", "ml-cli"]))?;
    check(&chromium)
}

/// Runs the tests with the `ml` that `cargo test` has built, where they can be run; where they cannot it says so, which in
/// CI is an error.
pub(crate) fn run_where_possible() -> Result<()> {
    let ready = chromium().and_then(|chromium| modules().map(|()| chromium));
    match ready {
        Ok(chromium) => check(&chromium),
        Err(missing) if std::env::var_os("CI").is_none() => {
            eprintln!("the page was not tested: {missing:#}");
            Ok(())
        }
        Err(missing) => Err(missing),
    }
}

fn check(chromium: &Path) -> Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    let ml = root().join(target).join("debug/ml");
    let mut node = Command::new("node");
    node.args(["--test", "--test-reporter=spec", "check.test.mjs"]);
    node.env("CHROMIUM", chromium).env("ML", ml);
    run(node.current_dir(tools()))
}

fn tools() -> PathBuf {
    root().join("tools/page")
}

/// The browser, installed where that needs no question.
fn chromium() -> Result<PathBuf> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    if let Some(path) = named.or_else(|| found("chromium")) {
        return Ok(path);
    }
    if found("apt-get").is_some() && is_root() {
        run(&mut apt(&["update", "--quiet=2"]))?;
        run(&mut apt(&[
            "install",
            "--quiet=2",
            "--yes",
            "--no-install-recommends",
            "chromium",
        ]))?;
    }
    found("chromium").context("there is no Chromium; install it, or name one in CHROMIUM")
}

fn apt(args: &[&str]) -> Command {
    let mut apt = Command::new("apt-get");
    apt.args(args).env("DEBIAN_FRONTEND", "noninteractive");
    apt.stdout(Stdio::null());
    apt
}

/// What drives the browser, as the lock file has it.
fn modules() -> Result<()> {
    let npm = found("npm").context("there is no npm; install Node.js 20 or later")?;
    let (lock, installed) = (
        tools().join("package-lock.json"),
        tools().join("node_modules/.package-lock.json"),
    );
    let younger = |file: &Path| file.metadata().and_then(|about| about.modified()).ok();
    if younger(&installed).is_some_and(|there| Some(there) >= younger(&lock)) {
        return Ok(());
    }
    let mut install = Command::new(npm);
    install.args([
        "ci",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--loglevel=error",
    ]);
    run(install.current_dir(tools()))
}

/// A program of the search path.
fn found(name: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    let mut candidates = std::env::split_paths(&paths).map(|folder| folder.join(name));
    candidates.find(|path| path.is_file())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
