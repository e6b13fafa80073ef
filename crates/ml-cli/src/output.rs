//! Writing to the two standard streams, and what becomes of errors.

use std::error::Error;
use std::io::{self, IsTerminal, Write};

use tracing::Level;

/// Sends log events to standard error: warnings, and with `verbose` the rest.
pub(crate) fn log_to_stderr(verbose: bool) {
    tracing_subscriber::fmt()
        .with_max_level(if verbose { Level::DEBUG } else { Level::WARN })
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .init();
}

/// Standard output could not be written.
#[derive(Debug)]
struct StdoutError(io::Error);

impl std::fmt::Display for StdoutError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cannot write to standard output")
    }
}

impl Error for StdoutError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// Writes to standard output, now: a reader sees each piece as it comes.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|e| StdoutError(e).into())
}

/// Writes a line to standard error. That it cannot be written is no reason to stop.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether the reader of standard output has gone.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let stdout = error.downcast_ref::<StdoutError>();
    stdout.is_some_and(|StdoutError(cause)| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// Says on one line what failed.
pub(crate) fn report(error: &anyhow::Error) {
    note(&format!("ml: {}", one_line(error.chain())));
}

/// An error and its causes, a cause that the text before it tells already left out.
fn one_line<'a>(chain: impl Iterator<Item = &'a (dyn Error + 'static)>) -> String {
    let mut line = String::new();
    for cause in chain {
        let text = cause
            .to_string()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        if line.contains(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_each_cause_once() {
        let error = anyhow::anyhow!("no such\n  tensor")
            .context("a.safetensors: no such tensor")
            .context("cannot load");
        assert_eq!(
            one_line(error.chain()),
            "cannot load: a.safetensors: no such tensor"
        );
    }

    #[test]
    fn only_a_closed_standard_output_is_a_closed_pipe() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_closed_pipe(&StdoutError(broken()).into()));
        assert!(!is_closed_pipe(&anyhow::Error::from(broken())));
        assert!(!is_closed_pipe(
            &StdoutError(io::Error::other("disk full")).into()
        ));
    }
}
