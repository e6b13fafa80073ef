//! `cargo xtask test-clients`: programs of others, unchanged and pinned, talk to `ml serve`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::process::{cargo, root, run};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The Python that makes the virtual environment
    #[arg(long, default_value = "python3")]
    python: PathBuf,
}

pub(crate) fn run_task(args: &Args) -> Result<()> {
    run(&mut cargo(&["build", "--release", "--package", "ml-cli"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    let target = root().join(target);
    let (clients, venv) = (root().join("tools/clients"), target.join("clients"));
    let python = venv.join("bin/python");
    if !python.exists() {
        run(Command::new(&args.python).args(["-m", "venv"]).arg(&venv))?;
    }
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--requirement"]);
    run(install.arg(clients.join("requirements.txt")))?;
    let (server, url) = serve(&target.join("release/ml"))?;
    run(Command::new(&python).arg(clients.join("check.py")).arg(url))?;
    drop(server);
    Ok(())
}

/// A server that ends with this.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server of the demo model, and its address.
fn serve(program: &Path) -> Result<(Server, String)> {
    let mut ml = Command::new(program);
    ml.args(["serve", "--port", "0", "--model"]);
    ml.arg(root().join("assets/models/qwen3-demo"));
    let mut child = ml
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start `ml serve`")?;
    let lines = child
        .stderr
        .take()
        .map(|lines| BufReader::new(lines).lines());
    let server = Server(child);
    for line in lines.into_iter().flatten() {
        let line = line.context("cannot read what `ml serve` says")?;
        if let Some(url) = line.strip_prefix("serving on ") {
            return Ok((server, url.to_owned()));
        }
        eprintln!("{line}");
    }
    anyhow::bail!("`ml serve` ended before it served")
}
