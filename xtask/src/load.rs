//! `cargo xtask load`: many clients at the server, most of them well behaved.
//!
//! First each question is asked alone, which gives its answer: what a model says does not depend on who else is
//! served, so under load it must be the same to the byte. Then clients ask at the same time, stream or wait, go away in
//! the middle, read a byte a second, and send what is no request. At the end no answer was lost or another's, nobody
//! is left over, and memory is as it was.

mod client;
mod clients;
mod figures;
mod peer;
mod questions;
mod server;
mod streams;

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::process::root;
use clients::{Behaviour, Client};
use figures::{Figures, Memory};
use server::Served;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Minutes of load
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    minutes: f64,
    /// Clients at the same time
    #[arg(long, value_name = "N", default_value_t = 64)]
    clients: usize,
    /// Another beginning of what clients do
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The model that is served
    #[arg(long, value_name = "DIR", default_value = "assets/models/qwen3-demo")]
    model: PathBuf,
    /// An `ml` that was built before; without, one is built for release
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Time so many streams of random weights through HTTP and from the engine alone, and nothing else
    #[arg(long, value_name = "N")]
    streams: Option<usize>,
    /// How often each is timed
    #[arg(long, value_name = "N", default_value_t = 5, requires = "streams")]
    rounds: usize,
    /// Time llama.cpp's `llama-server` as well: see tools/peers/README.md
    #[arg(long, value_name = "FILE", requires_all = ["streams", "peer_weights"])]
    peer: Option<PathBuf>,
    /// What it reads: a GGUF file of the same shape
    #[arg(long, value_name = "FILE", requires = "peer")]
    peer_weights: Option<PathBuf>,
}

pub(crate) fn run_task(args: &Args) -> Result<()> {
    if let Some(streams) = args.streams {
        let other = args.peer.as_deref().zip(args.peer_weights.as_deref());
        let other = other.map(|(program, weights)| streams::Other { program, weights });
        return streams::compare(
            streams,
            args.rounds,
            args.program.as_deref(),
            other.as_ref(),
        );
    }
    let program = match &args.program {
        Some(program) => program.clone(),
        None => server::build()?,
    };
    let served = Served::start(&program, &root().join(&args.model), &[])?;
    let questions = questions::with_answers(served.address)?;
    eprintln!("{} questions have answers", questions.len());
    let whole = Duration::from_secs_f64(args.minutes.max(0.0) * 60.0);
    let (began, figures) = (Instant::now(), Mutex::new(Figures::default()));
    let mut memory = Memory::default();
    std::thread::scope(|scope| -> Result<()> {
        for number in 0..args.clients {
            let (questions, figures, address) = (&questions, &figures, served.address);
            let client = Client {
                address,
                questions,
                behaviour: Behaviour::of(number),
                seed: args.seed.wrapping_mul(1 << 20) + number as u64,
            };
            scope.spawn(move || client.run(began + whole, figures));
        }
        while began.elapsed() < whole {
            memory.look(began.elapsed(), served.resident_bytes()?);
            std::thread::sleep(Duration::from_millis(500).min(whole));
        }
        Ok(())
    })?;
    let figures = figures
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    figures.print(began.elapsed());
    memory.print();
    let left = served.under_way_after(Duration::from_secs(30))?;
    let ended = served.end()?;
    figures.check()?;
    ensure!(
        left == 0,
        "{left} answers are under way and nobody waits for them"
    );
    ensure!(ended, "the server did not end with exit code 0");
    memory.check()
}
