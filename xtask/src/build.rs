//! `cargo xtask build`: makes the native library of one backend.

use std::cell::Cell;
use std::time::Instant;

use build_scripts::{Backend, Machine, Native, NativePrefix};

use crate::process::csrc;

/// Options of `cargo xtask build`.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// cpu, cuda or metal [default: metal on macOS, cpu elsewhere]
    #[arg(long)]
    pub(crate) backend: Option<Backend>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let target = Machine::current();
    let backend = args
        .backend
        .unwrap_or_else(|| Backend::default_for(&target));
    native(backend, target).map(drop)
}

/// Makes the library of a backend for a machine, and says where it is.
pub(crate) fn native(backend: Backend, target: Machine) -> anyhow::Result<NativePrefix> {
    let native = Native {
        csrc: &csrc(),
        backend,
        target,
    };
    let (began, worked) = (Instant::now(), Cell::new(false));
    let prefix = build_scripts::ensure(&native, &|line| {
        worked.set(true);
        eprintln!("{line}");
    })?;
    let place = prefix.library_dir.display();
    if worked.get() {
        let seconds = began.elapsed().as_secs_f64();
        println!("native library for {backend} built in {seconds:.0} s: {place}");
    } else {
        println!("native library for {backend} is up to date: {place}");
    }
    Ok(prefix)
}
