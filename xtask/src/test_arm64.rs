//! `cargo xtask test-arm64`: arm64 Linux, built, linted and tested on another machine.
//!
//! A cross compiler links, and qemu runs what was linked one instruction after another: it takes
//! many times as long as a processor, so this is no part of `cargo xtask test` but run before a
//! release. qemu has every instruction that the kernels use. What it tells nothing of is speed, and
//! what only a real machine has: a memory order as weak as arm64's may be.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process::{root, run};
use crate::rust_std::RustStd;

const TARGET: &str = "aarch64-unknown-linux-gnu";

/// Where Debian puts the C library of the target.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";

/// What must be on PATH, and in which of Debian's packages it is.
const NEEDED: [(&str, &str); 3] = [
    ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
    ("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu"),
    ("qemu-aarch64", "qemu-user"),
];

/// Where the kernel says that it has qemu start programs for arm64 by itself.
const BY_ITSELF: &str = "/proc/sys/fs/binfmt_misc/qemu-aarch64";

/// Tests that start their own program again, which only works where the kernel does that.
const STARTS_PROGRAMS: [&str; 3] = ["refused", "exit", "soak"];

/// A part of the name of tests that look at what the process holds, which is qemu's.
const OF_MEMORY: &str = "leave_no_memory_behind";

/// The crates whose tests are run.
const PACKAGES: [&str; 5] = ["kernels", "mlx-sys", "mlx-core", "models", "ml-backend"];

/// Options of `cargo xtask test-arm64`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run the tests of this crate only, and no lints; may be given several times
    #[arg(long, short, value_name = "CRATE")]
    package: Vec<String>,
    /// Arguments of the test programs, such as a part of a test's name
    #[arg(last = true)]
    tests: Vec<String>,
}

pub(crate) fn run_task(args: &Args) -> Result<()> {
    ensure!(
        cfg!(target_os = "linux"),
        "test-arm64 needs Linux; on a Mac `cargo xtask test` tests arm64 itself"
    );
    ensure!(
        cfg!(not(target_arch = "aarch64")),
        "this machine is arm64: `cargo xtask test` tests it, faster and better"
    );
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|(program, _)| !on_path(program))
        .collect();
    ensure!(
        missing.is_empty(),
        "test-arm64 needs {}; on Debian: `apt-get install --no-install-recommends {}`",
        words(missing.iter().map(|(program, _)| *program), " and "),
        words(missing.iter().map(|(_, package)| *package), " ")
    );
    let std = RustStd::of(TARGET)?;
    let packages: Vec<_> = match &args.package[..] {
        [] => PACKAGES.to_vec(),
        chosen => chosen.iter().map(String::as_str).collect(),
    };
    if args.package.is_empty() {
        let mut clippy = cargo(
            &std,
            &["clippy", "--locked", "--workspace", "--all-targets"],
        );
        run(clippy.args(["--", "-D", "warnings"]))?;
    }
    // Not `--tests`, which would include all; nor examples in documents, which have no runner.
    let mut test = cargo(&std, &["test", "--locked", "--no-fail-fast", "--lib"]);
    for package in packages {
        test.args(["--package", package]);
        for name in tests(package)? {
            test.args(["--test", &name]);
        }
    }
    run(test.args(["--", "--skip", OF_MEMORY]).args(&args.tests))
}

/// The names of a crate's test programs, but for those that cannot run here, of which it tells.
fn tests(package: &str) -> Result<BTreeSet<String>> {
    let folder = root().join("crates").join(package).join("tests");
    let mut found = BTreeSet::new();
    let listed = fs::read_dir(&folder).with_context(|| format!("no tests in {}", folder.display()));
    for entry in listed? {
        let path = entry?.path();
        let is_one = path.extension().is_some_and(|extension| extension == "rs")
            || path.join("main.rs").is_file();
        let Some(name) = path.file_stem().filter(|_| is_one) else {
            continue;
        };
        let name = name.to_string_lossy().into_owned();
        if STARTS_PROGRAMS.contains(&&*name) && !Path::new(BY_ITSELF).exists() {
            eprintln!("left out: {package}'s {name}, which starts programs: needs {BY_ITSELF}");
        } else {
            found.insert(name);
        }
    }
    Ok(found)
}

fn cargo(std: &RustStd, args: &[&str]) -> Command {
    let mut command = std.cargo(args);
    let prefix = "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU";
    command.env(format!("{prefix}_LINKER"), NEEDED[0].0);
    command.env(format!("{prefix}_RUNNER"), NEEDED[2].0);
    command.env("QEMU_LD_PREFIX", LIBRARIES);
    command
}

fn on_path(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

fn words<'a>(all: impl Iterator<Item = &'a str>, between: &str) -> String {
    all.collect::<Vec<_>>().join(between)
}
