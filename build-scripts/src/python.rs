//! Finds a Python with pip: the package client that fetches and unpacks the wheels.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{self, capture};
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
    pub(crate) fn download(&self, wheel: &Wheel, folder: &Path) -> Result<PathBuf, String> {
        let mut command = self.pip("download");
        command.arg("--dest").arg(folder);
        for platform in wheel.platforms() {
            command.args(["--platform", platform]);
        }
        let finished = capture(command.arg(wheel.requirement())).map_err(|e| e.to_string())?;
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
