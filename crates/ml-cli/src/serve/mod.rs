//! `ml serve`: models over HTTP, until Ctrl-C or SIGTERM.

mod args;
mod models;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use ml_server::{Config, Server, Stopper, Tls};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

pub(crate) use args::ServeArgs;

use crate::output::note;
use crate::session;

pub(crate) fn run(args: &'static ServeArgs) -> anyhow::Result<ExitCode> {
    let keys = keys(args)?;
    let open_to_all = keys.is_empty() && !args.host.is_loopback();
    let mut config = Config::new(models::named(&args.model)?, move |dir, progress| {
        session::load(&args.load, dir, progress, |builder| {
            let builder = args.prefixes.add_to(builder).ignore_room(args.force);
            match args.at_once {
                Some(requests) => builder.at_once(requests),
                None => builder,
            }
        })
    });
    config.model_memory = Some(match args.model_memory {
        Some(bytes) => bytes,
        None => ml_backend::free_memory(args.load.device())?,
    });
    config.force = args.force;
    config.keep_alive = args.keep_alive.0;
    if let (Some(cert), Some(key)) = (&args.tls_cert, &args.tls_key) {
        config.tls = Some(Tls::from_files(cert, key)?);
    }
    let scheme = if config.tls.is_some() {
        "https"
    } else {
        "http"
    };
    config.keys = keys;
    config.hosts = args.allow_host.clone();
    config.origins = args.allow_origin.clone();
    config.max_requests = args.max_requests;
    config.max_connections = args.max_connections;
    config.max_body = args.max_body.saturating_mul(1 << 20);
    config.grace = Duration::from_secs(args.grace.into());
    // Each connection is a file. Where it is not allowed, connections wait for others to end.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    config.test_force_tools = args.test_force_tools;
    let server = Server::bind(SocketAddr::new(args.host, args.port), config)?;
    server.load_only_model()?;
    end_on_signals(server.stopper())?;
    if args.test_force_tools {
        note("answers are forced into calls of tools: this is for tests of clients only");
    }
    if open_to_all {
        note("everybody who reaches this address can use it; --api-key asks for a key");
    }
    note(&format!("serving on {scheme}://{}", server.address()));
    note(&format!("talk to it at {}", page(scheme, server.address())));
    server.run()?;
    // Answers that were cut off may still compute, and nobody waits for them.
    signal_hook::low_level::exit(0)
}

/// Where a browser on this machine finds the page.
fn page(scheme: &str, address: SocketAddr) -> String {
    match address.ip().is_unspecified() {
        true => format!("{scheme}://localhost:{}/", address.port()),
        false => format!("{scheme}://{address}/"),
    }
}

fn keys(args: &ServeArgs) -> anyhow::Result<Vec<String>> {
    let mut keys = args.api_key.clone();
    if let Some(path) = &args.api_key_file {
        let cannot = || format!("cannot read the keys in {}", path.display());
        let text = std::fs::read_to_string(path).with_context(cannot)?;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            keys.push(
                args::key(line)
                    .map_err(anyhow::Error::msg)
                    .with_context(cannot)?,
            );
        }
        if keys.is_empty() {
            anyhow::bail!("{} has no key; write one a line", path.display());
        }
    }
    Ok(keys)
}

/// The first signal lets answers end, the second ends the program at once.
fn end_on_signals(stopper: Stopper) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot take over signals")?;
    let wait = move || {
        let mut told = false;
        for signal in signals.forever() {
            if told {
                // What a shell reports for a program that a signal ended.
                signal_hook::low_level::exit(128 + signal);
            }
            told = true;
            note("ending when running answers have; once more ends them");
            stopper.stop();
        }
    };
    let named = std::thread::Builder::new().name("signals".to_owned());
    named.spawn(wait).context("cannot start a thread")?;
    Ok(())
}
