//! Runs a tool, keeps what it said, and turns a failure into one line.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Error, IoContext, Result};

/// What a tool said and how it ended.
pub(crate) struct Finished {
    pub(crate) ok: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a command to its end, quietly.
pub(crate) fn capture(command: &mut Command) -> io::Result<Finished> {
    let output = command.stdin(Stdio::null()).output()?;
    Ok(Finished {
        ok: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs a build step: its lines go to `log`, and those that `show` picks to `progress`.
pub(crate) fn step(
    name: &str,
    command: &mut Command,
    log: &Path,
    mut show: impl FnMut(&str),
) -> Result<()> {
    let mut file = std::fs::File::create(log).at("cannot write", log)?;
    let errors = file.try_clone().at("cannot write", log)?;
    let failed = |reason: String| Error::Step {
        step: name.to_owned(),
        reason,
        log: Some(log.to_owned()),
    };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .map_err(|e| failed(format!("cannot start {:?}: {e}", command.get_program())))?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(io::Result::ok) {
            writeln!(file, "{line}").at("cannot write", log)?;
            show(&line);
        }
    }
    let status = child.wait().map_err(|e| failed(e.to_string()))?;
    if status.success() {
        return Ok(());
    }
    let text = std::fs::read(log).at("cannot read", log)?;
    Err(failed(reason(
        &String::from_utf8_lossy(&text),
        &status.to_string(),
    )))
}

/// The line of a tool's output that says what went wrong.
pub(crate) fn reason(output: &str, otherwise: &str) -> String {
    let lines = || output.lines().map(str::trim).filter(|l| !l.is_empty());
    let tells = |l: &&str| {
        let l = l.to_ascii_lowercase();
        l.contains("error") || l.contains("fatal")
    };
    lines()
        .find(tells)
        .or_else(|| lines().next_back())
        .unwrap_or(otherwise)
        .to_owned()
}

/// Where PATH has a program of this name.
pub(crate) fn on_path(name: impl AsRef<OsStr>) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name.as_ref()))
        .find(|file| is_program(file))
}

#[cfg(unix)]
fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(file: &Path) -> bool {
    file.is_file()
}
