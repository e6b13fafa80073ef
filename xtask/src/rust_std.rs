//! Rust's standard library for a machine that is not this one.
//!
//! rustup has it for most targets (`rustup target add`), and then there is nothing to do. Where it
//! has not, the library is compiled from its source, with the compiler in use: from rustup's
//! component `rust-src`, else from the package of that name in one of Debian's suites, which must
//! be of the compiler's own version. All of it lies in `target/rust-std`, and nothing is installed.

mod debian;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::process::{cargo, root, run};

/// A target, and how cargo builds for it.
pub(crate) struct RustStd {
    target: &'static str,
    /// The folder that has the library, where the compiler's own has not.
    sysroot: Option<PathBuf>,
}

impl RustStd {
    /// Finds the library of `target`, or makes it.
    ///
    /// # Errors
    /// If there is neither the library nor its source: the line says how to get one of them.
    pub(crate) fn of(target: &'static str) -> Result<Self> {
        let toolchain = PathBuf::from(ask_rustc(&["--print", "sysroot"])?);
        let sysroot = if has_std(&toolchain, target) {
            None
        } else {
            Some(compiled(&toolchain, target)?)
        };
        Ok(Self { target, sysroot })
    }

    /// A cargo command for the target: `args` come before `--target`.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let mut command = cargo(args);
        command.args(["--target", self.target]);
        if let Some(sysroot) = &self.sysroot {
            // Flags are separated by this character, so that a path may have spaces. They are for
            // the target alone: cargo leaves them out of build scripts when it is given one.
            let mut flags = OsString::from("--sysroot\u{1f}");
            flags.push(sysroot);
            command.env("CARGO_ENCODED_RUSTFLAGS", flags);
        }
        command
    }
}

/// The first line that rustc prints.
fn ask_rustc(args: &[&str]) -> Result<String> {
    let output = Command::new("rustc")
        .args(args)
        .current_dir(root())
        .output();
    let output = output.context("cannot start rustc")?;
    ensure!(output.status.success(), "rustc {} failed", args.join(" "));
    let text = String::from_utf8(output.stdout).context("rustc did not print text")?;
    let line = text.lines().next().context("rustc printed nothing")?;
    Ok(line.to_owned())
}

/// The version of the compiler, such as 1.95.0.
fn version() -> Result<String> {
    let line = ask_rustc(&["--version"])?;
    let version = line.split_whitespace().nth(1);
    Ok(version.context("rustc did not say its version")?.to_owned())
}

fn libraries(sysroot: &Path, target: &str) -> PathBuf {
    sysroot.join("lib/rustlib").join(target).join("lib")
}

fn has_std(sysroot: &Path, target: &str) -> bool {
    let names = fs::read_dir(libraries(sysroot, target))
        .into_iter()
        .flatten();
    names.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    })
}

/// The sysroot in `target/rust-std`, in which the library of `target` is made unless it is there.
fn compiled(toolchain: &Path, target: &str) -> Result<PathBuf> {
    let version = version()?;
    let folder = root().join("target/rust-std").join(&version);
    let sysroot = folder.join("sysroot");
    if has_std(&sysroot, target) {
        return Ok(sysroot);
    }
    let source = source(toolchain, target, &version, &folder)?;
    let built = folder.join("build");
    let mut build = cargo(&["build", "--release", "--locked", "--package", "sysroot"]);
    build.args(["--features", "panic-unwind,backtrace", "--target", target]);
    build.arg("--target-dir").arg(&built);
    // The library is the one crate that stable compilers compile with unstable features; the flag
    // marks its dependencies as parts of it, so that programs do not take them for their own.
    build.env("RUSTC_BOOTSTRAP", "1");
    build.env("CARGO_ENCODED_RUSTFLAGS", "-Zforce-unstable-if-unmarked");
    run(build.current_dir(&source))?;

    let libraries = libraries(&sysroot, target);
    fs::create_dir_all(&libraries).with_context(|| cannot("create", &libraries))?;
    let made = built.join(target).join("release/deps");
    let mut last = None;
    for entry in fs::read_dir(&made).with_context(|| cannot("list", &made))? {
        let path = entry.with_context(|| cannot("list", &made))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.ends_with(".rlib") || name.starts_with("libsysroot-") {
            continue;
        }
        // It says that the library is there, so it comes when the others are.
        if name.starts_with("libstd-") {
            last = Some(path.clone());
        } else {
            copy(&path, &libraries)?;
        }
    }
    copy(&last.context("cargo did not make libstd")?, &libraries)?;
    Ok(sysroot)
}

fn copy(file: &Path, folder: &Path) -> Result<()> {
    let to = folder.join(file.file_name().unwrap_or_default());
    fs::copy(file, to).with_context(|| cannot("copy", file))?;
    Ok(())
}

fn cannot(what: &str, path: &Path) -> String {
    format!("cannot {what} {}", path.display())
}

/// A copy of the library's source that can be built here.
fn source(toolchain: &Path, target: &str, version: &str, folder: &Path) -> Result<PathBuf> {
    let copy = folder.join("library");
    if copy.is_dir() {
        return Ok(copy);
    }
    let component = toolchain.join("lib/rustlib/src/rust/library");
    let debian = folder.join("debian");
    let original = if component.join("Cargo.lock").is_file() {
        component
    } else {
        debian::rust_src(version, &debian).with_context(|| {
            format!(
                "needs the standard library of {target} for rustc {version}: `rustup target add \
                 {target}` or `rustup component add rust-src`; failing both, Debian's rust-src of \
                 that version, which is not to be had"
            )
        })?
    };
    let fresh = folder.join("library.fresh");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).with_context(|| cannot("remove", &fresh))?;
    }
    run(Command::new("cp").arg("-R").arg(&original).arg(&fresh))?;
    if debian.exists() {
        fs::remove_dir_all(&debian).with_context(|| cannot("remove", &debian))?;
    }
    // A shared library as well would need a linker for the target, and is of no use.
    let manifest = fresh.join("std/Cargo.toml");
    let text = fs::read_to_string(&manifest).with_context(|| cannot("read", &manifest))?;
    let (both, one) = (
        "crate-type = [\"dylib\", \"rlib\"]",
        "crate-type = [\"rlib\"]",
    );
    if !text.contains(both) {
        bail!("{} does not say `{both}`", manifest.display());
    }
    fs::write(&manifest, text.replace(both, one)).with_context(|| cannot("write", &manifest))?;
    fs::rename(&fresh, &copy).with_context(|| cannot("put in place", &copy))?;
    Ok(copy)
}
