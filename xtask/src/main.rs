//! The tasks of this repository: `cargo xtask <task>`.
//!
//! One file a task; this one only says which there are. A wrong argument exits 2 (clap), a task
//! that fails exits 1 with one line.

mod bench;
mod bindings;
mod build;
mod cache;
mod check_mac;
mod check_metal;
mod demo;
mod dist;
mod fuzz;
mod guest;
mod load;
mod process;
mod random_model;
mod rust_std;
mod soak;
mod templates;
mod test;
mod test_arm64;
mod test_clients;
mod test_page;

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
    /// Time this project, and others beside it, against the memory bandwidth
    Bench(Box<bench::Args>),
    /// Make the Rust declarations of the C headers, or check that those in git are current
    Bindings(bindings::Args),
    /// Make the native library: fetch MLX, compile the bridge
    Build(build::Args),
    /// What was fetched and built, in the user's cache folder: list it, or remove what is old
    Cache(cache::Args),
    /// Type-check and lint the Rust side for macOS on Linux, and link `ml`: before a release
    CheckMac,
    /// Compile and link the macOS library on Linux, and check it and every pinned libmlx
    CheckMetal(check_metal::Args),
    /// Build everything and let a demo model answer a question
    Demo(demo::Args),
    /// Make an archive that runs wherever it is unpacked
    Dist(dist::Args),
    /// Install from a clone, depend on it by git and vendored, each from empty folders
    Guest(guest::Args),
    /// Many clients at the server, also such as go away, dawdle or send nonsense
    Load(load::Args),
    /// Write a model of random weights with a long context, to try clients with
    RandomModel(random_model::Args),
    /// Load and generate for long, and see whether threads and memory stay as they were
    Soak(soak::Args),
    /// Look for inputs that break a promise
    Fuzz(fuzz::Args),
    /// Render chats by llama.cpp's templates, here and by transformers: needs Python and its package index
    Templates(templates::Args),
    /// Everything that must hold before a change lands
    Test(test::Args),
    /// Lint arm64 Linux, and run its tests under qemu: before a release
    TestArm64(test_arm64::Args),
    /// Let pinned clients of others talk to `ml serve`: needs Python and its package index
    TestClients(test_clients::Args),
    /// Let a real browser use the page of `ml serve`: needs Chromium, Node.js and npm
    TestPage,
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Bench(args) => bench::run_task(&args),
        Task::Bindings(args) => bindings::run_task(&args),
        Task::Build(args) => build::run(&args),
        Task::Cache(args) => cache::run_task(&args),
        Task::CheckMac => check_mac::run_task(),
        Task::CheckMetal(args) => check_metal::run(&args),
        Task::Demo(args) => demo::run_task(&args),
        Task::Dist(args) => dist::run_task(&args),
        Task::Guest(args) => guest::run_task(&args),
        Task::Load(args) => load::run_task(&args),
        Task::RandomModel(args) => random_model::run_task(&args),
        Task::Soak(args) => soak::run_task(&args),
        Task::Fuzz(args) => fuzz::run_task(&args),
        Task::Templates(args) => templates::run_task(&args),
        Task::Test(args) => test::run_task(&args),
        Task::TestArm64(args) => test_arm64::run_task(&args),
        Task::TestClients(args) => test_clients::run_task(&args),
        Task::TestPage => test_page::run_task(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
