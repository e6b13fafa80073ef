//! llama.cpp's server, which takes the same requests.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::client;

/// How long it may take to load its model.
const PATIENCE: Duration = Duration::from_secs(300);

/// A server that runs until this goes.
pub(super) struct Peer {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Peer {
    /// Serves a GGUF file, with a place of so many tokens for each of the streams.
    ///
    /// # Errors
    /// When it cannot be started, or ends or says nothing before it has loaded its model.
    pub(super) fn start(
        program: &Path,
        weights: &Path,
        streams: usize,
        tokens: usize,
    ) -> Result<Self> {
        // It does not say which port it took, so it is told one that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(program);
        command.arg("--model").arg(weights);
        for (name, value) in [
            ("--port", usize::from(address.port())),
            ("--parallel", streams),
            ("--ctx-size", streams * tokens),
            ("--threads", std::thread::available_parallelism()?.get()),
        ] {
            command.args([name, &value.to_string()]);
        }
        command.args(["--host", "127.0.0.1"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null());
        let cannot = || format!("cannot start {}", program.display());
        let child = command.spawn().with_context(cannot)?;
        let mut peer = Self { child, address };
        let since = Instant::now();
        loop {
            match client::get(address, "/health") {
                Ok(health) if health["status"] == "ok" => return Ok(peer),
                _ if since.elapsed() > PATIENCE => bail!("{} does not load", program.display()),
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
            if let Some(status) = peer.child.try_wait()? {
                bail!("{} ended before it served: {status}", program.display());
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
