//! The binary as a user meets it: real processes, in temporary folders, with the demo models.

mod answers;
mod ends;
mod prefix;
mod refusals;
#[cfg(all(unix, feature = "serve"))]
mod serve;
mod sessions;
mod structure;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

fn ml() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ml"));
    command.stdin(Stdio::null()).env_remove("XDG_STATE_HOME");
    command
}

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/models/qwen3-demo")
}

/// A command of `ml` for the demo model on the CPU.
fn with_demo(command: &str) -> Command {
    let mut ml = ml();
    ml.arg(command)
        .arg("--model")
        .arg(demo())
        .args(["--device", "cpu"]);
    ml
}

fn output(command: &mut Command) -> Output {
    command.output().expect("ml starts")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("ml writes UTF-8")
}

/// Standard output of a command that has to succeed.
fn stdout(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout).to_owned()
}

/// The one line that a command which has to fail says; nothing may be on standard output.
fn failure(command: &mut Command) -> String {
    let output = output(command);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{command:?}: {stderr}");
    assert_eq!(text(&output.stdout), "", "{command:?}");
    let lines: Vec<&str> = stderr
        .lines()
        .filter(|line| line.starts_with("ml: "))
        .collect();
    let [line] = lines[..] else {
        panic!("{command:?}: not one line: {stderr}")
    };
    assert_eq!(
        stderr.lines().last(),
        Some(line),
        "the error is the last line"
    );
    line.to_owned()
}

/// Runs a command with `input` on its standard input.
fn feed(command: &mut Command, input: &[u8]) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("ml starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    // It may end before it has read everything.
    let _ = stdin.write_all(input);
    drop(stdin);
    child.wait_with_output().expect("ml ends")
}

fn without_tokenizer() -> TempDir {
    let dir = TempDir::new().expect("a temporary folder");
    for file in fs::read_dir(demo()).expect("the demo model is there") {
        let file = file.expect("it can be listed");
        let name = file.file_name().into_string().expect("a plain name");
        if !name.starts_with("tokenizer") && !name.starts_with("chat_template") {
            fs::copy(file.path(), dir.path().join(name)).expect("it can be copied");
        }
    }
    dir
}
