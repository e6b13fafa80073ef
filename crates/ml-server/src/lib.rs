//! Serves models over HTTP, by the APIs that today's clients speak: OpenAI's, Anthropic's, and the usual few beside
//! them.
//!
//! ```no_run
//! use ml_backend::MlxBackend;
//! use ml_server::{Config, NamedModel, Server};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = NamedModel { name: "demo".into(), dir: "assets/models/qwen3-demo".into() };
//! let config = Config::new(vec![model], |dir, progress| {
//!     MlxBackend::builder().progress(progress).load(dir)
//! });
//! let server = Server::bind("127.0.0.1:8080".parse()?, config)?;
//! println!("http://{}", server.address());
//! server.run()?;
//! # Ok(())
//! # }
//! ```
//!
//! # What holds here
//! - **Nothing is ignored without a word.** A field that is not known, or not supported, is a 400 that names it; the
//!   few that clients always send and that change nothing are listed in `docs/server.md`.
//! - **Nobody waits for a client.** Each answer has a thread that takes it from the engine; a client that reads
//!   slowly holds up only that. One that goes away gives its place back within a token.
//! - **A request reaches no file.** Models are known by the names that the operator gave.
//! - **What is said is not logged.**

#![deny(unsafe_code)]

mod app;
mod base64;
mod config;
mod conversations;
mod errors;
mod fields;
#[doc(hidden)]
pub mod fuzz;
mod gate;
mod host_check;
mod ids;
mod json;
mod keys;
mod metrics;
mod models;
mod request;
mod routes;
mod run;
mod server;
mod sse;
mod tls;
mod wire;

pub use config::{Config, Load, NamedModel};
pub use server::{Error, Server, Stopper};
pub use tls::{Tls, TlsError};
