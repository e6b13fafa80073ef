//! `cargo xtask fuzz TARGET`: libFuzzer on one of the targets in `crates/fuzz-targets`.
//!
//! Coverage is counted by LLVM's own pass, which the stable compiler has, so nothing needs to be
//! installed but a C++ compiler for libFuzzer itself. What must not happen is enforced from
//! outside: a process that takes more than 1 GiB of address space ends with a finding, and so does
//! one that takes two seconds of the processor's time for an input (`fuzz/src/clock.rs`), or ten
//! times that by the clock. Its stack is that of a thread, 2 MiB.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::builder::PossibleValuesParser;

use crate::process::{cargo, root, run};

/// What LLVM's pass is told: a counter on every edge, the places they belong to, and the operands
/// of comparisons. Folded branches would hide edges. The last one is the fuzzers' custom.
const COVERAGE: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Ccodegen-units=1",
    "--cfg fuzzing",
];

/// Names as in `crates/fuzz-targets`, with the longest input in bytes.
const TARGETS: [(&str, usize); 16] = [
    ("answer", 512),
    ("config", 4096),
    ("safetensors", 8192),
    ("tokenizer", 8192),
    ("template", 4096),
    ("stream", 96),
    ("request-chat", 4096),
    ("request-completions", 4096),
    ("request-infill", 4096),
    ("request-responses", 4096),
    ("request-messages", 4096),
    ("request-count", 4096),
    ("request-embeddings", 4096),
    ("request-rerank", 4096),
    ("request-tokenize", 4096),
    ("request-detokenize", 4096),
];

const MOST_SECONDS: u32 = 20;
const MOST_MEBIBYTES: u32 = 1024;
const STACK_KIBIBYTES: u32 = 2048;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to fuzz
    #[arg(value_parser = PossibleValuesParser::new(TARGETS.map(|(name, _)| name)))]
    target: String,
    /// Inputs to try; without, it goes on until it is stopped
    #[arg(long, value_name = "N")]
    runs: Option<u64>,
    /// Try this one input and no other, such as a finding
    #[arg(long, value_name = "FILE", conflicts_with = "runs")]
    input: Option<PathBuf>,
    /// Passed on to libFuzzer, such as -jobs=4 or -seed=1
    #[arg(last = true)]
    libfuzzer: Vec<String>,
}

pub(crate) fn run_task(args: &Args) -> Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("fuzzing limits memory as Linux does; run it there");
    }
    let input = args.input.as_ref().map(fs::canonicalize).transpose();
    let input = input.with_context(|| "the file of --input cannot be read")?;
    let program = build()?;
    let work = root().join("target/fuzz");
    let corpus = folder(work.join("corpus").join(&args.target))?;
    let findings = folder(work.join("findings").join(&args.target))?;
    // Every input becomes files again: in memory where that can be.
    let memory = Path::new("/dev/shm");
    let scratch = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    }?;

    let limited = format!(
        "ulimit -v {}; ulimit -s {STACK_KIBIBYTES}; exec \"$@\"",
        MOST_MEBIBYTES * 1024
    );
    let mut fuzzer = Command::new("sh");
    fuzzer.args(["-c", &limited, "fuzz"]).arg(program);
    fuzzer.current_dir(root());
    fuzzer
        .env("FUZZ_TARGET", &args.target)
        .env("TMPDIR", scratch.path());
    // One input, one thread: what is measured is this input.
    fuzzer
        .env("TOKENIZERS_PARALLELISM", "false")
        .env("RAYON_NUM_THREADS", "1");
    fuzzer.args([
        format!("-timeout={MOST_SECONDS}"),
        format!("-rss_limit_mb={MOST_MEBIBYTES}"),
        format!("-malloc_limit_mb={MOST_MEBIBYTES}"),
        format!("-artifact_prefix={}/", findings.display()),
    ]);
    fuzzer.args(&args.libfuzzer);
    match input {
        Some(input) => fuzzer.arg(input),
        None => {
            let (_, longest) = TARGETS
                .iter()
                .find(|it| it.0 == args.target)
                .context("target")?;
            // Requests share one.
            let name = args.target.split('-').next().unwrap_or_default();
            let dictionary = root().join("fuzz/dictionaries").join(name);
            if dictionary.is_file() {
                fuzzer.arg(format!("-dict={}", dictionary.display()));
            }
            fuzzer.arg(format!(
                "-runs={}",
                args.runs.map_or(-1, |n| n.min(i32::MAX as u64) as i64)
            ));
            fuzzer.args([format!("-max_len={longest}"), "-print_final_stats=1".into()]);
            fuzzer.env("FUZZ_SEEDS", &corpus);
            fuzzer
                .arg(corpus)
                .arg(root().join("fuzz/corpus").join(&args.target))
        }
    };
    let last = scratch.path().join("last-input");
    fuzzer.env("FUZZ_LAST", &last);
    run(&mut fuzzer).or_else(|error| {
        // A stack that overflows ends the process before libFuzzer can say with which input.
        let kept = findings.join("last-input");
        fs::copy(&last, &kept)?;
        let again = format!("cargo xtask fuzz {} --input FILE", args.target);
        Err(error.context(format!(
            "a finding: the last input is {}; `{again}` tries it again",
            kept.display()
        )))
    })
}

/// The fuzzer with counters of coverage in all of its Rust code.
fn build() -> Result<PathBuf> {
    let host = host()?;
    let target = root().join("target/fuzz");
    let mut build = cargo(&["build", "--locked", "--release", "--target", &host]);
    build.arg("--target-dir").arg(&target);
    build.env("RUSTFLAGS", COVERAGE.join(" "));
    run(build.current_dir(root().join("fuzz")))?;
    Ok(target.join(host).join("release/fuzz"))
}

/// The triple of this machine. Named as a target, flags are not for what runs while building.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let said = Command::new(rustc).arg("-vV").output()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host
        .context("rustc does not say what its host is")?
        .to_owned())
}

fn folder(path: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    Ok(path)
}
