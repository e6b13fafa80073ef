//! `ml chat --session`: a conversation that goes on, whatever became of the program.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::{feed, output, text, with_demo};

fn chat(file: &Path) -> Command {
    let mut command = with_demo("chat");
    command.args(["--temp", "0", "--session"]).arg(file);
    command
}

fn say(file: &Path, lines: &str) -> Output {
    let output = feed(&mut chat(file), lines.as_bytes());
    assert!(output.status.success(), "{}", text(&output.stderr));
    output
}

/// The messages of a file, roles and contents.
fn messages(file: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(file).expect("the file is there");
    let lines = text.lines().skip(1);
    let field = |message: &Value, name: &str| message[name].as_str().expect("a text").to_owned();
    lines
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .map(|message| (field(&message, "role"), field(&message, "content")))
        .collect()
}

#[test]
fn a_chat_goes_on_where_it_ended() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("chat.jsonl");
    let first = say(&file, "What is 17 + 25?\n");
    assert!(text(&first.stderr).contains("the conversation is kept in "));
    let second = say(&file, "Spell the word garden.\n");
    assert!(text(&second.stderr).contains("chat.jsonl goes on after 1 question\n"));
    // One conversation in two programs is that of one.
    let both = feed(
        with_demo("chat").args(["--temp", "0"]),
        b"What is 17 + 25?\nSpell the word garden.\n",
    );
    let two = [first.stdout, second.stdout].concat();
    assert_eq!(text(&two), text(&both.stdout));

    let third = say(&file, "/undo\n/undo\n/undo\n");
    let told = text(&third.stderr);
    assert!(told.contains("goes on after 2 questions"), "{told}");
    assert!(
        told.contains("taken back: Spell the word garden."),
        "{told}"
    );
    assert!(told.contains("there is nothing to take back"), "{told}");
    assert_eq!(messages(&file), []);
    say(&file, "What is 17 + 25?\n/reset\nWhat is 17 + 25?\n");
    assert_eq!(messages(&file).len(), 2);
    // Nothing else was left in the folder.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn instructions_may_change_between_two_programs() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("chat.jsonl");
    for system in ["Answer.", "Answer briefly."] {
        let output = feed(
            chat(&file).args(["--system", system]),
            b"What is 17 + 25?\n",
        );
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(messages(&file)[0], ("system".to_owned(), system.to_owned()));
    }
    let roles: Vec<String> = messages(&file).into_iter().map(|(role, _)| role).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user", "assistant"]);
}

#[test]
fn a_file_that_is_no_session_is_refused_before_a_model_is_loaded() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("diary.txt");
    fs::write(&file, "Dear diary\n").unwrap();
    for file in [&file, dir.path(), &dir.path().join("no/folder.jsonl")] {
        let output = output(&mut chat(file));
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        let [line] = told.lines().collect::<Vec<_>>()[..] else {
            panic!("not one line: {told}")
        };
        assert!(line.starts_with("ml: "), "{line}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "Dear diary\n");
}

/// A chat whose answer has no end.
fn endless(file: &Path) -> Child {
    let mut command = chat(file);
    command.args(["--ignore-eos", "--max-tokens", "900"]);
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ml starts");
    let question = b"Spell the word garden.\n";
    let mut stdin = child.stdin.as_ref().expect("it is piped");
    stdin.write_all(question).expect("it reads");
    child
}

#[test]
fn two_programs_do_not_undo_each_other() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("chat.jsonl");
    let mut child = endless(&file);
    // It has its file before it loads the model.
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("the conversation") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0);
    }
    let other = output(&mut chat(&file));
    assert_eq!(other.status.code(), Some(1));
    let told = text(&other.stderr);
    assert!(told.contains("is in use by another session"), "{told}");
    child.kill().unwrap();
    child.wait().unwrap();
    say(&file, "What is 17 + 25?\n");
}

#[test]
fn a_killed_chat_loses_no_more_than_the_answer_under_way() {
    let dir = TempDir::new().unwrap();
    let first = dir.path().join("first.jsonl");
    say(&first, "What is 17 + 25?\n");
    let known = messages(&first);
    for at in 0..4 {
        let file = dir.path().join(format!("{at}.jsonl"));
        fs::copy(&first, &file).expect("it can be copied");
        let mut child = endless(&file);
        if at > 0 {
            // Its answer has begun.
            let mut stdout = BufReader::new(child.stdout.take().unwrap());
            assert!(!stdout.fill_buf().unwrap().is_empty());
            std::thread::sleep(Duration::from_millis(7 * at));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let left = messages(&file);
        assert!(left.starts_with(&known), "{left:?}");
        assert!(left.len() <= known.len() + 2, "{left:?}");
        if at > 0 {
            assert_eq!(left[known.len()].1, "Spell the word garden.");
        }
        let next = say(&file, "");
        if left.len() == known.len() + 1 {
            // The question has its answer now.
            assert!(text(&next.stderr).contains("has no answer yet"));
            assert_eq!(messages(&file).len(), known.len() + 2);
            assert_eq!(text(&next.stdout).trim_end(), messages(&file)[3].1);
        }
    }
}
