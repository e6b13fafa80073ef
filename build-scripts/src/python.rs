//! Finds a Python with pip: the package client that fetches and unpacks the wheels.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{self, capture, capture_while};
use crate::error::{Error, Result};
use crate::files;
use crate::pins::Wheel;

/// A Python 3 whose pip answers.
#[derive(Debug)]
pub(crate) struct Python {
    program: OsString,
}

impl Python {
    /// `$PYTHON`, else the first of `python3` and `python` that has pip.
    ///
    /// A machine often has several, and the one that comes first may be bare, so all are asked
    /// before giving up.
    pub(crate) fn find() -> Result<Self> {
        let candidates: Vec<OsString> = match env::var_os("PYTHON") {
            Some(chosen) => vec![chosen],
            None => vec!["python3".into(), "python".into()],
        };
        Self::first_usable(candidates)
    }

    /// The Python at `program`, unchecked.
    #[cfg(test)]
    pub(crate) fn at(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
        }
    }

    fn first_usable(candidates: Vec<OsString>) -> Result<Self> {
        let mut without_pip = None;
        for program in candidates {
            let three = "import sys; sys.exit(sys.version_info < (3, 8))";
            let runs = |args: &[&str]| {
                capture(Command::new(&program).args(args)).is_ok_and(|finished| finished.ok)
            };
            if !runs(&["-c", three]) {
                continue;
            }
            if runs(&["-m", "pip", "--version"]) {
                return Ok(Self { program });
            }
            without_pip.get_or_insert(program);
        }
        Err(match without_pip {
            Some(program) => Error::NoPip {
                python: program.to_string_lossy().into_owned(),
            },
            None => Error::NoPython,
        })
    }

    fn pip(&self, action: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args([
            "-m",
            "pip",
            action,
            "--quiet",
            "--disable-pip-version-check",
        ]);
        command.args(["--no-input", "--no-deps", "--only-binary=:all:"]);
        // Settings of the user's that would change which file pip takes, or where it puts it.
        for name in [
            "PIP_TARGET",
            "PIP_PREFIX",
            "PIP_USER",
            "PIP_REQUIRE_VIRTUALENV",
        ] {
            command.env_remove(name);
        }
        command.env("PIP_ROOT_USER_ACTION", "ignore");
        // Where there is no network, five tries take a minute to say so.
        command.args(["--retries", "2"]);
        command
    }

    /// Fetches one wheel into `folder` and says where it is; its bytes are not yet trusted.
    ///
    /// `arrived` is told now and then how many bytes are there.
    pub(crate) fn download(
        &self,
        wheel: &Wheel,
        folder: &Path,
        arrived: &dyn Fn(u64),
    ) -> Result<PathBuf, String> {
        let mut command = self.pip("download");
        // Wheels are kept in our own folder, and a gigabyte should not pass through a small /tmp.
        command
            .arg("--no-cache-dir")
            .arg("--dest")
            .arg(folder)
            .env("TMPDIR", folder);
        for platform in wheel.platforms() {
            command.args(["--platform", platform]);
        }
        command.arg(wheel.requirement());
        let finished = capture_while(&mut command, || arrived(files::size_below(folder)))
            .map_err(|e| e.to_string())?;
        let file = folder.join(&wheel.file);
        match (finished.ok, file.is_file()) {
            (true, true) => Ok(file),
            (true, false) => Err(format!(
                "pip found another build of {}",
                wheel.requirement()
            )),
            (false, _) => Err(pip_reason(&finished.stderr)),
        }
    }

    /// Unpacks verified wheels together into `target`, as pip lays them out.
    ///
    /// One call for all of them: they share top folders such as `nvidia/`, which a second call
    /// would leave alone.
    pub(crate) fn unpack(&self, wheels: &[(&Wheel, PathBuf)], target: &Path) -> Result<()> {
        files::create_dir(target)?;
        let mut command = self.pip("install");
        command
            .args([
                "--no-index",
                "--no-compile",
                "--ignore-installed",
                "--target",
            ])
            .arg(target);
        for platform in wheels.iter().flat_map(|(wheel, _)| wheel.platforms()) {
            command.args(["--platform", platform]);
        }
        let names = wheels
            .iter()
            .map(|(w, _)| w.file.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        let failed = |reason| Error::Step {
            step: format!("unpacking {names}"),
            reason,
            log: None,
        };
        let finished = capture(command.args(wheels.iter().map(|(_, path)| path)))
            .map_err(|e| failed(e.to_string()))?;
        if finished.ok {
            Ok(())
        } else {
            Err(failed(command::reason(
                &finished.stderr,
                "pip said nothing",
            )))
        }
    }
}

/// Why pip failed, in one line.
fn pip_reason(said: &str) -> String {
    // It reports every failed try and then, wrongly, that there is no such package.
    if said.contains("Retrying (") {
        return "the Python package index cannot be reached".to_owned();
    }
    let error = said.lines().find_map(|line| line.strip_prefix("ERROR: "));
    error.map_or_else(|| command::reason(said, "pip said nothing"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::make_program;

    /// A program that ends with the given status: of itself, and of `-m pip`.
    fn fake(folder: &Path, name: &str, itself: i32, pip: i32) -> OsString {
        let path = folder.join(name);
        let script = format!("#!/bin/sh\ntest \"$2\" = pip && exit {pip}\nexit {itself}\n");
        make_program(&path, &script);
        path.into()
    }

    #[test]
    fn the_first_python_that_has_pip_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let old = fake(folder.path(), "old", 1, 0);
        let bare = fake(folder.path(), "bare", 0, 1);
        let good = fake(folder.path(), "good", 0, 0);
        let missing = OsString::from(folder.path().join("missing"));
        let found = Python::first_usable(vec![
            missing.clone(),
            old.clone(),
            bare.clone(),
            good.clone(),
        ]);
        assert_eq!(found.unwrap().program, good);

        let error = Python::first_usable(vec![missing, old])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("Python 3 is needed") && error.contains("apt install"),
            "{error}"
        );
        let error = Python::first_usable(vec![bare]).unwrap_err().to_string();
        assert!(
            error.contains("bare has no pip") && error.contains("apt install"),
            "{error}"
        );
    }

    #[test]
    fn an_index_that_cannot_be_reached_is_not_reported_as_a_missing_package() {
        let said = "WARNING: Retrying (Retry(total=1)) after connection broken\n\
                    ERROR: No matching distribution found for mlx-cpu==0.32.2\n";
        assert_eq!(
            pip_reason(said),
            "the Python package index cannot be reached"
        );
        let said = "WARNING: something\nERROR: No space left on device\n";
        assert_eq!(pip_reason(said), "No space left on device");
    }
}
