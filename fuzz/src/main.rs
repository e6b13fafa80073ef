//! libFuzzer calls the target that `FUZZ_TARGET` names. `cargo xtask fuzz` builds and starts this.
//!
//! The project turns panics of its dependencies into errors, so only a panic that leaves a target
//! is a finding.

#![no_main]

mod clock;
mod mutate;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use clock::Clock;
use fuzz_targets::{Target, seeds};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

static TARGET: OnceLock<Target> = OnceLock::new();
static LAST_INPUT: OnceLock<File> = OnceLock::new();
/// The panics of the present input, caught or not.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static CLOCK: Mutex<Clock> = Mutex::new(Clock::new());

fuzz_target!(init: begin(), |data: &[u8]| {
    let Some(target) = TARGET.get() else {
        return;
    };
    if let Some(file) = LAST_INPUT.get() {
        // For a death that nothing can catch.
        let _ = file.set_len(data.len() as u64).and_then(|()| file.write_all_at(data, 0));
    }
    held(&PANICS).clear();
    let start = held(&CLOCK).start();
    if catch_unwind(AssertUnwindSafe(|| target.run(data))).is_err() {
        finding(&held(&PANICS).join("\n"));
    }
    if let Some(took) = held(&CLOCK).end(start) {
        finding(&format!("this input took {took:?} of the processor's time"));
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::mutate(data, size, max_size, seed)
});

fn begin() {
    // In place of libFuzzer's, which ends the process before a panic can be caught.
    set_hook(Box::new(|panic| held(&PANICS).push(panic.to_string())));
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let target = Target::named(&name)
        .unwrap_or_else(|| fail(&format!("FUZZ_TARGET is '{name}', which is no target")));
    TARGET.get_or_init(|| target);
    if let Some(file) = std::env::var_os("FUZZ_LAST") {
        let file = File::create(file).unwrap_or_else(|error| fail(&format!("FUZZ_LAST: {error}")));
        LAST_INPUT.get_or_init(|| file);
    }
    if let Some(dir) = std::env::var_os("FUZZ_SEEDS").map(PathBuf::from) {
        let seeds = seeds::seeds(target).into_iter();
        // libFuzzer would cut off what is longer than it makes inputs itself.
        for (at, seed) in seeds.filter(|it| it.len() <= 8192).enumerate() {
            let file = dir.join(format!("seed-{at}"));
            if let Err(error) = std::fs::write(&file, seed) {
                fail(&format!("{}: {error}", file.display()));
            }
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// libFuzzer keeps the input of a process that aborts.
fn finding(what: &str) -> ! {
    eprintln!("{what}");
    std::process::abort();
}

fn fail(problem: &str) -> ! {
    eprintln!("error: {problem}");
    std::process::exit(2);
}
