//! What an operator chooses.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ml_backend::{MlxBackend, Progress};

use crate::tls::Tls;

/// Loads the model of a directory, and tells how far that is. Called when a model is first asked for, on a thread
/// that may block.
pub type Load =
    dyn Fn(&Path, &mut dyn FnMut(Progress)) -> ml_backend::Result<MlxBackend> + Send + Sync;

/// A model by the name that requests know it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedModel {
    /// The name.
    pub name: String,
    /// The model directory.
    pub dir: PathBuf,
}

/// How to serve. [`new`](Self::new) has the values that stand behind each field.
#[non_exhaustive]
pub struct Config {
    /// The models, at least one; the first one serves requests that name none.
    pub models: Vec<NamedModel>,
    /// How they are loaded.
    pub load: Box<Load>,
    /// Bytes that models may take together, weights and the caches of a usual context: when another one is asked for,
    /// those that were not used for longest are unloaded. No bound.
    pub model_memory: Option<u64>,
    /// Whether a model that does not fit into that is loaded all the same.
    pub force: bool,
    /// How long a model stays loaded that nobody uses; `None`, until another one needs its room.
    pub keep_alive: Option<Duration>,
    /// What to show who this is by, for HTTPS; `None` is plain HTTP.
    pub tls: Option<Tls>,
    /// Keys of which a request must show one; none is open to everybody who reaches the port.
    pub keys: Vec<String>,
    /// Names of this host that requests may give beside `localhost` and addresses.
    pub hosts: Vec<String>,
    /// Origins of other sites, such as `https://chat.example`, whose pages may send requests; `*` is all. Empty.
    pub origins: Vec<String>,
    /// The most bytes of a request's body: 32 MiB.
    pub max_body: usize,
    /// Connections that are open at the same time: 4096. Those that come then wait.
    pub max_connections: usize,
    /// Answers that run or wait at the same time, of all models: 256. What comes then is refused with 429.
    pub max_requests: usize,
    /// How long a client may take for the handshake of TLS, to send the headers of a request, and keep a connection open without one: 30 s.
    pub header_time: Duration,
    /// How long a stream may be silent before a comment is sent: 5 s.
    pub ping: Duration,
    /// How long answers that run may go on when the server is told to end: 10 s.
    pub grace: Duration,
    /// For tests of clients against models that know nothing: an answer with tools is one short call, unless a tool
    /// has just answered, and then a few words.
    pub test_force_tools: bool,
}

impl Config {
    /// Serves `models` with everything else as documented.
    pub fn new(
        models: Vec<NamedModel>,
        load: impl Fn(&Path, &mut dyn FnMut(Progress)) -> ml_backend::Result<MlxBackend>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self {
            models,
            load: Box::new(load),
            model_memory: None,
            force: false,
            keep_alive: None,
            tls: None,
            keys: Vec::new(),
            hosts: Vec::new(),
            origins: Vec::new(),
            max_body: 32 << 20,
            max_connections: 4096,
            max_requests: 256,
            header_time: Duration::from_secs(30),
            ping: Duration::from_secs(5),
            grace: Duration::from_secs(10),
            test_force_tools: false,
        }
    }
}
