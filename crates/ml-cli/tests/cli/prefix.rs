//! `--prefix-dir`: what is on disk is right or not there, whenever a process ends.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{failure, output, stdout, text, with_demo};

/// A prompt of more than three pages, whose answer are ids.
fn generate(kind: usize, dir: Option<&Path>) -> std::process::Command {
    let id = |place: usize| (5 + (place * place * 7 + place * kind) % 50).to_string();
    let ids: Vec<String> = (0..900).map(id).collect();
    let mut ml = with_demo("generate");
    ml.args([
        "--print-ids",
        "--ignore-eos",
        "--temp",
        "0",
        "--max-tokens",
        "6",
        "--tokens",
    ]);
    ml.arg(ids.join(","));
    if let Some(dir) = dir {
        ml.arg("--prefix-dir").arg(dir);
    }
    ml
}

fn files(dir: &Path) -> usize {
    let folders = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let inside = folders.map(|folder| {
        std::fs::read_dir(folder.path())
            .into_iter()
            .flatten()
            .count()
    });
    inside.sum()
}

/// A dozen times; `ML_PREFIX_KILLS` says how often by hand.
#[test]
#[cfg(unix)]
fn a_process_that_is_killed_leaves_nothing_wrong() {
    let kills = std::env::var("ML_PREFIX_KILLS").map_or(12, |n| n.parse().unwrap());
    let wanted = [1, 2].map(|kind| stdout(&mut generate(kind, None)));
    let first = TempDir::new().unwrap();
    let began = Instant::now();
    assert_eq!(stdout(&mut generate(1, Some(first.path()))), wanted[0]);
    let whole = began.elapsed();
    assert!(files(first.path()) > 3, "it was written");

    let mut dir = TempDir::new().unwrap();
    let mut written = 0;
    for i in 0..kills {
        let mut killed = generate(1 + i % 2, Some(dir.path()));
        let killed = killed.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut killed = killed.unwrap();
        // Somewhere in it, and mostly where it reads its prompt and writes.
        std::thread::sleep(whole.mul_f64((i * 7 % 13) as f64 / 13.0) + Duration::from_millis(1));
        killed.kill().unwrap();
        killed.wait().unwrap();
        written += files(dir.path());
        if i % 4 == 3 {
            let kind = i / 4 % 2;
            assert_eq!(
                stdout(&mut generate(1 + kind, Some(dir.path()))),
                wanted[kind]
            );
        }
        if i % 12 == 11 {
            // From there, and to the end.
            let found = output(&mut generate(2, Some(dir.path())));
            assert_eq!(text(&found.stdout), wanted[1]);
            dir = TempDir::new().unwrap();
        }
    }
    assert!(written > 0);
    let found = output(&mut generate(1, Some(first.path())));
    assert_eq!(text(&found.stdout), wanted[0]);
    let said = text(&found.stderr);
    assert!(said.contains("after 768 known ones"), "{said}");
}

#[test]
fn a_folder_that_is_a_file_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let line = failure(&mut generate(1, Some(file.path())));
    assert!(line.contains("cannot keep prompts in"), "{line}");
    let mut alone = with_demo("generate");
    alone.args(["--prompt", "x", "--prefix-dir-max", "1"]);
    let refused = output(&mut alone);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
}
