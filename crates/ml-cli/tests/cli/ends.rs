//! Ends that nobody planned: a closed pipe, a full disk, Ctrl-C; and chats, which end with their input.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{feed, text, with_demo};

#[test]
fn a_closed_pipe_exits_0_quietly() {
    let mut ml = with_demo("generate");
    ml.args(["--prompt", "hello", "--ignore-eos", "--max-tokens", "50"]);
    let mut child = ml
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(!text(&output.stderr).contains("ml:"), "{output:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_failure() {
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = crate::output(
        with_demo("generate")
            .args(["--prompt", "hello"])
            .stdout(full),
    );
    assert_eq!(output.status.code(), Some(1));
    let last = text(&output.stderr).lines().last().unwrap_or_default();
    assert!(
        last.starts_with("ml: cannot write to standard output"),
        "{last}"
    );
}

/// Sends Ctrl-C.
fn interrupt(child: &Child) {
    let id = child.id().to_string();
    let status = Command::new("kill")
        .args(["-INT", &id])
        .status()
        .expect("kill runs");
    assert!(status.success());
}

#[test]
fn ctrl_c_prints_what_was_there_and_exits_130() {
    let mut ml = with_demo("generate");
    ml.args([
        "--prompt",
        "hello",
        "--raw",
        "--ignore-eos",
        "--temp",
        "2",
        "--max-tokens",
        "100000",
    ]);
    let mut child = ml
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut begin = [0];
    stdout.read_exact(&mut begin).unwrap();
    interrupt(&child);
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("ended by cancelled"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn ctrl_c_does_not_wait_for_a_long_prompt() {
    let ids = vec!["5"; 1000].join(",");
    let mut ml = with_demo("generate");
    // Without the kernels such a prompt takes 20 seconds.
    ml.args(["--tokens", &ids, "--print-ids", "--plain-mlx"]);
    let mut child = ml
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("loaded") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended early");
    }
    std::thread::sleep(Duration::from_millis(200));
    interrupt(&child);
    let start = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_chat_goes_over_a_pipe() {
    let lines = "What is 17 + 25?\n/reset\n/help\n\n/nonsense\nWhat is 17 + 25?\n/quit\nignored\n";
    let output = feed(with_demo("chat").args(["--temp", "0"]), lines.as_bytes());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let answers: Vec<&str> = text(&output.stdout).lines().collect();
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert!(answers[0].contains("42"), "{answers:?}");
    assert_eq!(answers[0], answers[1], "/reset forgot the first");
    let stderr = text(&output.stderr);
    assert!(stderr.contains("/reset  forget") && stderr.contains("no command /nonsense"));
}

#[test]
fn a_chat_ends_with_its_input_and_refuses_what_is_no_text() {
    let output = feed(&mut with_demo("chat"), b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = feed(&mut with_demo("chat"), b"\xff\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("ml: line 1 of standard input is not UTF-8"));
}
