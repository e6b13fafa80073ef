//! `cargo xtask cache`: what lies in the user's cache, and what of it nobody here needs.

use anyhow::Result;
use build_scripts::{Cache, Entry};

use crate::process::csrc;

/// Options of `cargo xtask cache`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Show what is there; what this checkout does not need is marked
    List,
    /// Remove what this checkout does not need. Programs built from other versions, installed ones
    /// too, then have to be built again
    Prune,
}

pub(crate) fn run_task(args: &Args) -> Result<()> {
    let root = Cache::of_user()?.root().to_owned();
    match args.action {
        Action::List => {
            let entries = build_scripts::entries(&csrc())?;
            entries.iter().for_each(show);
            let unneeded = entries.iter().filter(|entry| !entry.needed).count();
            println!(
                "{} entries in {}, {unneeded} not needed by this checkout (`cargo xtask cache prune`)",
                entries.len(),
                root.display()
            );
        }
        Action::Prune => {
            let freed = build_scripts::prune(&csrc(), &|line| eprintln!("{line}"), &show)?;
            println!("{} freed in {}", megabytes(freed), root.display());
        }
    }
    Ok(())
}

fn show(entry: &Entry) {
    let mark = if entry.needed { ' ' } else { '-' };
    let shown = entry.path.display();
    println!("{mark} {:>10}  {shown}", megabytes(entry.bytes));
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
