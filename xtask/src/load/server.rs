//! The server under load: a process of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::client;
use crate::process::{cargo, root, run};

/// Builds `ml` for release.
pub(super) fn build() -> Result<PathBuf> {
    run(&mut cargo(&["build", "--release", "-p", "ml-cli"]))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    Ok(root().join(target).join("release/ml"))
}

/// A server that runs until this goes.
pub(super) struct Served {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Served {
    /// Serves a model of the processor, on any port that is free.
    pub(super) fn start(program: &Path, model: &Path, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("serve").arg("--model").arg(model);
        command
            .args(["--device", "cpu", "--port", "0"])
            .args(arguments);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let cannot = || format!("cannot start {}", program.display());
        let mut child = command.spawn().with_context(cannot)?;
        let errors = child.stderr.take().context("it is piped")?;
        let mut lines = BufReader::new(errors).lines();
        let mut last = String::new();
        let address = loop {
            let Some(line) = lines.next() else {
                let _ = child.wait();
                anyhow::bail!("the server does not start: {last}");
            };
            last = line?;
            if let Some(address) = last.strip_prefix("serving on http://") {
                break address.split('/').next().unwrap_or_default().parse()?;
            }
        };
        // What it says from now on is shown.
        std::thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .for_each(|line| eprintln!("ml: {line}"))
        });
        Ok(Self { child, address })
    }

    /// Bytes of memory that are resident, without those of mapped files: `None` where the system does not tell.
    pub(super) fn resident_bytes(&self) -> Result<Option<u64>> {
        let path = format!("/proc/{}/status", self.child.id());
        let Ok(status) = std::fs::read_to_string(path) else {
            return Ok(None);
        };
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kilobytes: u64 = kilobytes.context("no RssAnon")?.trim().parse()?;
        Ok(Some(kilobytes * 1024))
    }

    /// Answers that run or wait, once there are none or so long was waited.
    pub(super) fn under_way_after(&self, most: Duration) -> Result<u64> {
        let since = Instant::now();
        loop {
            let health = client::get(self.address, "/health")?;
            let count = |name: &str| health[name].as_u64().unwrap_or(u64::MAX / 2);
            let left = count("running") + count("waiting");
            if left == 0 || since.elapsed() > most {
                return Ok(left);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Tells it to end, and whether it did so in order.
    pub(super) fn end(mut self) -> Result<bool> {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status()?;
        Ok(self.child.wait()?.success())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
