//! What clients talk to: programs that say where they listen.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// A program that listens, and ends with this.
pub(super) struct Server {
    child: Child,
    pub(super) url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// `ml serve` on a free port of loopback, on the processor, with these models and options.
    ///
    /// # Errors
    /// When it ends before it serves.
    pub(super) fn of_models(
        program: &Path,
        models: &[(&str, &Path)],
        options: &[&str],
    ) -> Result<Self> {
        let mut ml = Command::new(program);
        ml.args(["serve", "--port", "0", "--device", "cpu"]);
        for (name, dir) in models {
            ml.arg("--model").arg(format!("{name}={}", dir.display()));
        }
        ml.args(options);
        Self::start(ml)
    }

    /// Starts a program and waits until it says, in a line of standard error, `... on http://...`.
    ///
    /// # Errors
    /// When it ends before it does.
    pub(super) fn start(mut command: Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.stderr(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("cannot start {name}"))?;
        let stderr = child.stderr.take();
        let mut server = Self {
            child,
            url: String::new(),
        };
        let mut lines = stderr
            .into_iter()
            .flat_map(|pipe| BufReader::new(pipe).lines());
        while let Some(line) = lines.next() {
            let line = line.with_context(|| format!("cannot read what {name} says"))?;
            if let Some((_, url)) = line.split_once(" on http://") {
                server.url = format!("http://{}", url.trim_end_matches('/'));
                // A pipe that nobody reads would stop it.
                std::thread::spawn(move || {
                    lines
                        .map_while(Result::ok)
                        .for_each(|line| eprintln!("{line}"));
                });
                return Ok(server);
            }
            eprintln!("{line}");
        }
        anyhow::bail!("{name} ended before it listened")
    }
}
