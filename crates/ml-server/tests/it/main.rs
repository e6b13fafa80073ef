//! The server as its clients meet it: real connections on loopback, and the demo models on the CPU.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

mod chat;
mod client;
mod completions;
mod embeddings;
mod end;
mod errors;
mod fields;
mod load;
mod messages;
mod middle;
mod models;
mod page;
mod responses;
mod safety;
mod several;
mod tls;
mod tokens;
mod tools;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ml_backend::{Device, MlxBackend, Progress};
use ml_server::{Config, NamedModel, Server, Stopper};

/// A server of its own.
struct Running {
    address: SocketAddr,
    stopper: Stopper,
    thread: JoinHandle<()>,
}

fn dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../assets/models")
        .join(name)
}

fn load(dir: &Path, progress: &mut dyn FnMut(Progress)) -> ml_backend::Result<MlxBackend> {
    let builder = MlxBackend::builder().device(Device::Cpu);
    builder.progress(progress).load(dir)
}

fn config() -> Config {
    let model = |name: &str| NamedModel {
        name: name.to_owned(),
        dir: dir(name),
    };
    Config::new(vec![model("qwen3-demo"), model("gemma3-demo")], load)
}

fn serve(config: Config) -> Running {
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), config).unwrap();
    let (address, stopper) = (server.address(), server.stopper());
    let thread = std::thread::spawn(move || server.run().unwrap());
    Running {
        address,
        stopper,
        thread,
    }
}

/// The server that most tests share.
fn shared() -> SocketAddr {
    static SHARED: OnceLock<SocketAddr> = OnceLock::new();
    *SHARED.get_or_init(|| serve(config()).address)
}

/// The model behind it, asked directly.
fn direct() -> &'static MlxBackend {
    static DIRECT: OnceLock<MlxBackend> = OnceLock::new();
    DIRECT.get_or_init(|| load(&dir("qwen3-demo"), &mut |_| ()).unwrap())
}

/// Answers that run, and that wait.
fn under_way(address: SocketAddr) -> (u64, u64) {
    let health = client::get(address, "/health").json();
    (
        health["running"].as_u64().unwrap(),
        health["waiting"].as_u64().unwrap(),
    )
}

/// Waits until something is so.
fn until(what: &str, so: impl Fn() -> bool) {
    let since = Instant::now();
    while !so() {
        assert!(
            since.elapsed() < Duration::from_secs(60),
            "{what} does not come"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
