//! The clients, as their registries have them: pinned, and installed once for a set of pins.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::run;

/// Where the clients are installed.
pub(super) struct Installed {
    /// Of a virtual environment.
    pub(super) python: PathBuf,
    /// Has `node_modules`, and a copy of the scripts beside it: packages are looked for from where a script lies.
    pub(super) node: PathBuf,
}

/// Installs what `tools/clients` pins into `dir`, unless that has it.
///
/// # Errors
/// Where there is no Python, no npm, or no registry.
pub(super) fn install(python: &Path, sources: &Path, dir: &Path) -> Result<Installed> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    // Two at once would write into one environment.
    let lock = File::create(dir.join("lock"))?;
    lock.lock()
        .context("cannot lock the folder of the clients")?;
    let installed = Installed {
        python: dir.join("venv/bin/python"),
        node: dir.join("node"),
    };
    let pins = sources.join("python/requirements.txt");
    once(dir, "python", &[&pins], || {
        let venv = dir.join("venv");
        remove(&venv)?;
        run(Command::new(python).args(["-m", "venv"]).arg(&venv))?;
        let mut pip = Command::new(&installed.python);
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]);
        // The pins are all there is to install, and most of it is never imported.
        pip.args(["--no-deps", "--no-compile", "--requirement"]);
        run(pip.arg(&pins))
    })?;
    let node = sources.join("node");
    let (package, lock_file) = (node.join("package.json"), node.join("package-lock.json"));
    once(dir, "node", &[&package, &lock_file], || {
        std::fs::create_dir_all(&installed.node)?;
        for file in [&package, &lock_file] {
            copy(file, &installed.node)?;
        }
        let mut npm = Command::new("npm");
        npm.args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel",
            "error",
        ]);
        run(npm.current_dir(&installed.node))
    })?;
    for script in std::fs::read_dir(&node)? {
        let script = script?.path();
        if script.extension().is_some_and(|end| end == "mjs") {
            copy(&script, &installed.node)?;
        }
    }
    Ok(installed)
}

fn copy(file: &Path, into: &Path) -> Result<()> {
    let to = into.join(file.file_name().unwrap_or_default());
    std::fs::copy(file, to).with_context(|| file.display().to_string())?;
    Ok(())
}

fn remove(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Runs `install` unless it has ended well with the same pins.
fn once(
    dir: &Path,
    name: &str,
    pins: &[&Path],
    install: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let mut wanted = String::new();
    for pin in pins {
        wanted += &std::fs::read_to_string(pin).with_context(|| pin.display().to_string())?;
    }
    let stamp = dir.join(format!("{name}.installed"));
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    // What is half changed is neither.
    let _ = std::fs::remove_file(&stamp);
    install()?;
    std::fs::write(&stamp, wanted).with_context(|| stamp.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_installed_again_and_what_is_there_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let pins = dir.path().join("pins");
        std::fs::write(&pins, "a==1\n").unwrap();
        let mut runs = 0;
        let mut install = |fails: bool| {
            let _ = once(dir.path(), "x", &[&pins], || {
                runs += 1;
                anyhow::ensure!(!fails, "no network");
                Ok(())
            });
            runs
        };
        assert_eq!([install(true), install(false), install(false)], [1, 2, 2]);
        std::fs::write(&pins, "a==2\n").unwrap();
        assert_eq!([install(false), install(false)], [3, 3]);
    }
}
