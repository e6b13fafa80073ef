//! What tests share.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Makes a program of `script` at `path`.
///
/// Another process writes it: one that a test starts at this moment would inherit a file that we have
/// open for writing, and such a file cannot be run ("Text file busy").
pub(crate) fn make_program(path: &Path, script: &str) {
    let text = path.with_extension("text");
    fs::write(&text, script).unwrap();
    let mut sh = Command::new("sh");
    let make = r#"cp "$0" "$1" && chmod 755 "$1" && rm "$0""#;
    let status = sh.args(["-c", make]).args([&text, path]).status();
    assert!(status.unwrap().success());
}
