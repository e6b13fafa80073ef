//! `cargo xtask check-mac`: the Rust side for Macs, on a machine that is none.
//!
//! All crates and targets are type-checked and linted, which needs no linker and no SDK. Then `ml`
//! is linked, by zig, which has what macOS's own libraries export, and read as dyld would. Nothing
//! runs: that it starts, and what it computes, only a Mac can tell. The native library beside it is
//! the matter of `cargo xtask check-metal`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use build_scripts::Version;

use crate::check_metal::macho::Library;
use crate::process::{root, run};
use crate::rust_std::RustStd;

const TARGET: &str = "aarch64-apple-darwin";

/// The oldest macOS that MLX runs on, and so `ml`.
const OLDEST: Version = Version(14, 0);

pub(crate) fn run_task() -> Result<()> {
    ensure!(
        cfg!(target_os = "linux"),
        "check-mac is for Linux; on a Mac `cargo xtask test` says more"
    );
    let std = RustStd::of(TARGET)?;
    let mut clippy = std.cargo(&["clippy", "--locked", "--workspace", "--all-targets"]);
    run(clippy.args(["--", "-D", "warnings"]))?;

    let linker = build_scripts::mac_linker(&|line| eprintln!("{line}"))?;
    let mut build = std.cargo(&["build", "--locked", "--package", "ml-cli"]);
    build.env("CARGO_TARGET_AARCH64_APPLE_DARWIN_LINKER", &linker);
    build.env("MACOSX_DEPLOYMENT_TARGET", OLDEST.to_string());
    // Without it rustc looks for Xcode and warns; zig needs no SDK.
    build.env(
        "SDKROOT",
        linker.parent().context("the linker lies in a folder")?,
    );
    run(&mut build)?;
    let program = root().join("target").join(TARGET).join("debug/ml");
    let imports = check(&program).with_context(|| program.display().to_string())?;
    println!("check-mac: no warnings; ml is linked, its {imports} imports are macOS's");
    Ok(())
}

/// Checks the program; returns how many symbols it takes from the libraries of macOS.
fn check(program: &Path) -> Result<usize> {
    let bytes = std::fs::read(program).context("cannot read it")?;
    let program = Library::program(&bytes)?;
    let minimum = program.minimum()?;
    ensure!(minimum == OLDEST, "is for macOS {minimum} and newer");
    ensure!(program.is_signed()?, "is not signed");
    for loaded in program.loads()? {
        let of_macos = ["/usr/lib/", "/System/Library/"];
        ensure!(
            of_macos.iter().any(|folder| loaded.starts_with(folder)),
            "loads {loaded}, which no Mac has"
        );
    }
    let imports = program.imports()?;
    for import in &imports {
        let bound = !import.from.is_empty() || import.everywhere;
        ensure!(bound, "undefined symbol {}", import.name);
    }
    ensure!(!imports.is_empty(), "takes nothing from macOS");
    Ok(imports.len())
}
