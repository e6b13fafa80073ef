//! The command `ml`: generate text, chat, look at a model, get its logits, embed and rerank texts,
//! fetch models by name, serve models over HTTP.
//!
//! Standard output carries the result and nothing else; the device, progress and figures go to
//! standard error. The exit code is 0, 1 for a failure (with one line that says what to do), 2 for
//! wrong use, and 130 where Ctrl-C stopped an answer. A closed pipe is no failure: whoever read it
//! has had enough.
#![deny(unsafe_code)]

mod answer;
mod args;
mod chat;
mod embed;
mod generate;
mod info;
mod lines;
mod logits;
mod models;
mod output;
mod prefix_args;
mod pull;
mod rerank;
mod resume;
#[cfg(feature = "serve")]
mod serve;
mod session;
mod shown;
mod signals;
mod stage_args;
mod structure;
mod tensor;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

fn main() -> ExitCode {
    // As long as the process: what loads models later looks into it from other threads.
    let cli: &'static Cli = Box::leak(Box::new(Cli::parse()));
    output::log_to_stderr(cli.verbose);
    let outcome = match &cli.command {
        Command::Generate(args) => generate::run(args),
        Command::Chat(args) => chat::run(args),
        Command::Info(args) => info::run(args),
        Command::Logits(args) => logits::run(args),
        Command::Embed(args) => embed::run(args),
        Command::Rerank(args) => rerank::run(args),
        Command::Pull(args) => pull::run(args),
        Command::List(args) => models::list(args),
        Command::Rm(args) => models::remove(args),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::report(&error);
            ExitCode::FAILURE
        }
    }
}
