//! What can be asked of `ml serve`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::args::{LoadArgs, PREFIXES, at_least_one, gibibytes};
use crate::prefix_args::PrefixArgs;

#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// A model directory, a folder of them, or the name of a model that was pulled; NAME=DIR has requests know it by
    /// NAME, else by its folder's name. May be given several times: then each is loaded when it is first asked for.
    #[arg(long, value_name = "[NAME=]DIR|NAME", required = true)]
    pub(super) model: Vec<String>,
    #[command(flatten)]
    pub(super) load: LoadArgs,
    /// Seconds that a model stays loaded when nobody uses it; 0 unloads it at once, -1 and forever keep it until another
    /// one needs its room.
    #[arg(long, value_name = "SECONDS", value_parser = keep_alive, default_value = "forever", allow_hyphen_values = true)]
    pub(super) keep_alive: KeepAlive,
    /// GiB that models may take together, with their caches of 8192 tokens [default: what is free at the start].
    #[arg(long, value_name = "GIB", value_parser = gibibytes)]
    pub(super) model_memory: Option<u64>,
    /// Load a model that does not fit all the same.
    #[arg(long)]
    pub(super) force: bool,
    /// The address to listen on; 0.0.0.0 is all of this machine's.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(super) host: IpAddr,
    /// The port to listen on; 0 is any that is free.
    #[arg(long, value_name = "N", default_value_t = 8080)]
    pub(super) port: u16,
    /// Serve HTTPS, with the certificates of this PEM file: the server's own, and those between it and one that clients
    /// know.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(super) tls_cert: Option<PathBuf>,
    /// The private key of --tls-cert, as PEM that is not encrypted.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(super) tls_key: Option<PathBuf>,
    /// A key that requests must show; may be given several times. Other users of this machine can see it: see
    /// --api-key-file.
    #[arg(long, value_name = "KEY", value_parser = key)]
    pub(super) api_key: Vec<String>,
    /// A file with such keys, one a line.
    #[arg(long, value_name = "FILE")]
    pub(super) api_key_file: Option<PathBuf>,
    /// A name by which requests may call this machine, beside localhost and addresses; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub(super) allow_host: Vec<String>,
    /// A site whose pages may send requests, such as https://chat.example, or * for all; may be given several times.
    #[arg(long, value_name = "ORIGIN", value_parser = origin)]
    pub(super) allow_origin: Vec<String>,
    /// Answers that are generated at the same time by a model [default: as many as decode in one pass].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(super) at_once: Option<usize>,
    /// Answers that run or wait, of all models; what comes then is refused with 429.
    #[arg(long, value_name = "N", value_parser = at_least_one, default_value = "256")]
    pub(super) max_requests: usize,
    /// Connections that are open at the same time.
    #[arg(long, value_name = "N", value_parser = at_least_one, default_value = "4096")]
    pub(super) max_connections: usize,
    /// MiB of a request's body.
    #[arg(long, value_name = "MIB", value_parser = at_least_one, default_value = "32")]
    pub(super) max_body: usize,
    /// Seconds that running answers may take once the program is told to end (Ctrl-C, SIGTERM).
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(super) grace: u32,
    /// For tests of clients against models of random weights, which call nothing by themselves: answers with tools are
    /// one call with short arguments, and a few words behind a tool's result.
    #[arg(long, hide = true)]
    pub(super) test_force_tools: bool,
    #[command(flatten, next_help_heading = PREFIXES)]
    pub(super) prefixes: PrefixArgs,
}

/// How long a model stays that nobody uses; `None` is for as long as there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeepAlive(pub(super) Option<Duration>);

fn keep_alive(text: &str) -> Result<KeepAlive, String> {
    if text == "-1" || text == "forever" {
        return Ok(KeepAlive(None));
    }
    let seconds = text
        .parse::<u32>()
        .map_err(|_| "it is a number of seconds, or forever".to_owned())?;
    Ok(KeepAlive(Some(Duration::from_secs(seconds.into()))))
}

/// What browsers send as `Origin`: anything else would match none.
fn origin(text: &str) -> Result<String, String> {
    let host = text.split_once("://").map(|(_, host)| host);
    let is_one = host.is_some_and(|host| !host.is_empty() && !host.contains('/'));
    match is_one || matches!(text, "*" | "null") {
        true => Ok(text.to_owned()),
        false => Err(
            "it is a scheme and a host without a path, as in https://chat.example, or *".to_owned(),
        ),
    }
}

pub(super) fn key(text: &str) -> Result<String, String> {
    match text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Err("a key has printable characters of ASCII, and no spaces".to_owned()),
        false => Ok(text.to_owned()),
    }
}
