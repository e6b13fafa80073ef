//! One repetition of an engine: a process that prints one JSON line and ends.
//!
//! A process a repetition gives each its own peak memory, and nothing of one engine is left when
//! the next one runs.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Runs `command` for at most `limit` and reads the line it prints last.
///
/// # Errors
/// When it fails (with the last line it complained in, all of it in `log`) or takes longer.
pub(crate) fn run(mut command: Command, limit: Duration, log: &Path) -> Result<Value> {
    let shown = format!("{command:?}").replace('"', "");
    let mut errors = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(log)
        .with_context(|| log.display().to_string())?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors.try_clone()?);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {shown}"))?;
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if began.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!("nothing within {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    // One line fits into the pipe, so the child did not wait for it to be read.
    let mut printed = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut printed)?;
    }
    if !status.success() {
        let mut complaint = String::new();
        errors.rewind()?;
        errors.read_to_string(&mut complaint)?;
        let last = complaint.lines().rfind(|line| !line.trim().is_empty());
        bail!("{} ({status})", last.unwrap_or("failed without a word"));
    }
    let line = printed.lines().last().unwrap_or_default();
    serde_json::from_str(line).with_context(|| format!("{shown} printed no JSON line: '{line}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Result<Value> {
        let log =
            std::env::temp_dir().join(format!("bench-{}-{}", std::process::id(), script.len()));
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let result = run(command, limit, &log);
        std::fs::remove_file(&log).unwrap();
        result
    }

    #[test]
    fn the_last_line_counts() {
        let line = sh(
            "echo loading; echo '{\"decode_tps\": 2.5}'",
            Duration::from_secs(60),
        );
        assert_eq!(line.unwrap()["decode_tps"], 2.5);
    }

    #[test]
    fn a_failure_is_told_in_the_engine_s_own_words() {
        let error = sh("echo no such model >&2; exit 3", Duration::from_secs(60)).unwrap_err();
        assert!(error.to_string().contains("no such model"), "{error}");
    }

    #[test]
    fn an_engine_that_does_not_end_is_ended() {
        let error = sh("exec sleep 1000", Duration::from_millis(200)).unwrap_err();
        assert!(error.to_string().contains("nothing within"), "{error}");
    }
}
