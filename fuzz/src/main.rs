//! libFuzzer calls the target that `FUZZ_TARGET` names. `cargo xtask fuzz` builds and starts this.
//!
//! The project turns panics of its dependencies into errors, so only a panic that leaves a target
//! is a finding.

#![no_main]

mod mutate;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};

use fuzz_targets::{Target, seeds};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

static TARGET: OnceLock<Target> = OnceLock::new();
static LAST_INPUT: OnceLock<File> = OnceLock::new();
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

fuzz_target!(init: begin(), |data: &[u8]| {
    let Some(target) = TARGET.get() else {
        return;
    };
    if let Some(file) = LAST_INPUT.get() {
        // For a death that nothing can catch.
        let _ = file.set_len(data.len() as u64).and_then(|()| file.write_all_at(data, 0));
    }
    if catch_unwind(AssertUnwindSafe(|| target.run(data))).is_err() {
        let panic = LAST_PANIC.lock().unwrap_or_else(|it| it.into_inner());
        eprintln!("{panic}");
        std::process::abort();
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::mutate(data, size, max_size, seed)
});

fn begin() {
    // In place of libFuzzer's, which ends the process before a panic can be caught.
    set_hook(Box::new(|panic| {
        let mut last = LAST_PANIC.lock().unwrap_or_else(|it| it.into_inner());
        *last = panic.to_string();
    }));
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

fn fail(problem: &str) -> ! {
    eprintln!("error: {problem}");
    std::process::exit(2);
}
