//! Whether a process that loads and generates for long holds no more in the end than in the beginning. It
//! needs no cargo, so it can be taken to another machine; `cargo xtask soak` runs it here.
//!
//!     soak MODEL... [--loads 200] [--generations 10000] [--device cpu] [--plain-mlx]
//!     soak MODEL --conversations 64 [--minutes 10]
//!
//! Loads the models in turn; each reads a prompt of 500 tokens, generates 64 and goes. Then the first of
//! them stays, and continues prompts of 1 to 900 tokens by 64. Prints threads and memory along the way, and
//! exits 1 where either ends more than 2% above what it was after the tenth.
//!
//! With conversations instead, so many talk at the same time to a model with memory for a few of them, and some go
//! away; exits 1 where an answer is not what it is alone, or caches are left in the end.

mod conversations;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use ml_backend::Device;
use run::{Curve, Soak};

#[derive(Parser)]
struct Args {
    /// Model directories
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// How often a model is loaded
    #[arg(long, default_value_t = 200)]
    loads: usize,
    /// How often the first one generates
    #[arg(long, default_value_t = 10_000)]
    generations: usize,
    #[arg(long, default_value = "auto")]
    device: Device,
    /// MLX's own operations only
    #[arg(long)]
    plain_mlx: bool,
    /// Conversations at the same time, in place of loads and generations
    #[arg(long, default_value_t = 0)]
    conversations: usize,
    /// For how long
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Points of each curve
    #[arg(long, default_value_t = 20)]
    points: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match run::again() {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(_)) => return ExitCode::FAILURE,
        Ok(None) => run(&args),
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if args.conversations > 0 {
        let time = Duration::from_secs(60 * args.minutes);
        return conversations::run(&args.models[0], args.device, args.conversations, time);
    }
    let soak = Soak {
        models: &args.models,
        device: args.device,
        plain_mlx: args.plain_mlx,
        load_prompt: 500,
        longest_prompt: 900,
    };
    let mut held = true;
    for (what, rounds) in [("loads", args.loads), ("generations", args.generations)] {
        if rounds == 0 {
            continue;
        }
        let mut curve = Curve::new(what, rounds, args.points, |line| println!("{line}"));
        match what {
            "loads" => soak.loads(&mut curve)?,
            _ => soak.generations(&mut curve)?,
        }
        let verdict = curve.verdict();
        println!("{verdict}");
        held &= verdict.holds();
    }
    ensure!(held, "the process holds more than it did after the tenth");
    Ok(())
}
