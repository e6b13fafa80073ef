//! Running other programs: shown before they run, their failure one line after.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The root of this repository.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_owned()
}

/// The C++ bridge's sources.
pub(crate) fn csrc() -> PathBuf {
    root().join("crates/mlx-sys/csrc")
}

/// A cargo command at the root of this repository.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    // Set by the cargo that runs this task; another workspace would take it for its own.
    command.env_remove("CARGO_MANIFEST_DIR");
    command
}

/// Prints the command, runs it to its end, and fails if it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    eprintln!("+ {shown}");
    let status = command
        .status()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// The command as one would type it, with programs by their name.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program
        .file_stem()
        .unwrap_or(program.as_os_str())
        .to_string_lossy();
    let quoted = |arg: &std::ffi::OsStr| {
        let arg = arg.to_string_lossy();
        if arg.contains(' ') {
            format!("'{arg}'")
        } else {
            arg.into_owned()
        }
    };
    let args = command.get_args().map(quoted);
    std::iter::once(name.into_owned())
        .chain(args)
        .collect::<Vec<_>>()
        .join(" ")
}
