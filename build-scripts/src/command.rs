//! Runs a tool, keeps what it said, and turns a failure into one line.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, IoContext, Result};

const SECOND: Duration = Duration::from_secs(1);

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

/// Like [`capture`], calling `tick` once a second until it ends.
pub(crate) fn capture_while(command: &mut Command, mut tick: impl FnMut()) -> io::Result<Finished> {
    // Files and not pipes: nobody empties a pipe here, and a full one would stop the program.
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?);
    let mut child = command.spawn()?;
    let mut next = Instant::now() + SECOND;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= next {
            next += SECOND;
            tick();
        }
        thread::sleep(SECOND / 50);
    };
    let read = |file: &mut File| -> io::Result<String> {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(Finished {
        ok: status.success(),
        stdout: read(&mut stdout)?,
        stderr: read(&mut stderr)?,
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
///
/// Compilers, linkers, pip and cargo write `error:` in it. cmake writes where, and what on the
/// lines below.
pub(crate) fn reason(output: &str, otherwise: &str) -> String {
    let lines: Vec<&str> = output
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    let tells = |line: &&str| {
        let line = line.to_ascii_lowercase();
        [
            "error:",
            "error at",
            "undefined reference",
            "undefined symbol",
        ]
        .iter()
        .any(|word| line.contains(word))
    };
    let Some(at) = lines.iter().position(tells) else {
        return lines.last().copied().unwrap_or(otherwise).to_owned();
    };
    match lines.get(at + 1) {
        Some(next) if lines[at].ends_with(':') => format!("{} {next}", lines[at]),
        _ => lines[at].to_owned(),
    }
}

/// Where PATH has a program of this name.
pub(crate) fn on_path(name: impl AsRef<OsStr>) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name.as_ref()))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_says_why_is_found() {
        let linker = "[8/32] Building CXX object m.dir/error.cpp.o\n\
                      FAILED: libmlxbridge.dylib\n\
                      error: undefined symbol: _mlxb_is_nowhere\n\
                          note: referenced by mlxb.cpp.o\nninja: build stopped.\n";
        assert_eq!(
            reason(linker, ""),
            "error: undefined symbol: _mlxb_is_nowhere"
        );
        let cmake =
            "CMake Error at CMakeLists.txt:9 (message):\n  MLX_C_DIR is not set\n\n-- end\n";
        assert_eq!(
            reason(cmake, ""),
            "CMake Error at CMakeLists.txt:9 (message): MLX_C_DIR is not set"
        );
        assert_eq!(reason("one\ntwo\n\n", "nothing"), "two");
        assert_eq!(reason("", "nothing"), "nothing");
    }
}
