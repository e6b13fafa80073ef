//! The tasks of this repository: `cargo xtask <task>`.
//!
//! One file a task; this one only says which there are. A wrong argument exits 2 (clap), a task
//! that fails exits 1 with one line.

mod build;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of this repository")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Make the native library: fetch MLX, compile the bridge
    Build(build::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Build(args) => build::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
