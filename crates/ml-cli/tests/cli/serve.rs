//! `ml serve`: what it says, what it refuses, and how signals end it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{demo, failure, with_demo};

/// A server and its port.
fn serve(arguments: &[&str]) -> (Child, u16) {
    let mut ml = with_demo("serve");
    ml.args(["--port", "0"]).args(arguments);
    start(ml)
}

fn start(mut ml: Command) -> (Child, u16) {
    let mut child = ml.stderr(Stdio::piped()).spawn().expect("ml starts");
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let told = lines.find_map(|line| {
        let line = line.expect("UTF-8");
        line.strip_prefix("serving on http://127.0.0.1:")
            .map(|port| port.parse().expect("a port"))
    });
    // Nobody reads on; the pipe has room for the few lines that come.
    std::mem::forget(lines);
    (child, told.expect("it says where it serves"))
}

fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    let status = Command::new("kill").args([name, &id]).status();
    assert!(status.expect("kill runs").success());
}

/// Starts an answer that takes as long as it may, and reads its beginning.
fn endless(port: u16) -> TcpStream {
    let body = r#"{"messages": [{"role": "user", "content": "hello"}], "ignore_eos": true, "stream": true}"#;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let head =
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json";
    write!(
        stream,
        "{head}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("it reads");
    let mut byte = [0];
    stream.read_exact(&mut byte).expect("it answers");
    stream
}

#[test]
fn a_first_signal_lets_answers_end_and_the_exit_code_is_0() {
    for name in ["-TERM", "-INT"] {
        let (mut child, port) = serve(&["--grace", "0"]);
        let mut answer = endless(port);
        signal(&child, name);
        let mut rest = String::new();
        answer.read_to_string(&mut rest).expect("all of it");
        assert!(
            rest.contains("shutting_down") && rest.contains("data: [DONE]"),
            "{rest}"
        );
        assert_eq!(child.wait().expect("it ends").code(), Some(0));
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (mut child, port) = serve(&["--grace", "600"]);
    let answers: Vec<_> = (0..4).map(|_| endless(port)).collect();
    signal(&child, "-TERM");
    // Signals that come together are one.
    std::thread::sleep(Duration::from_millis(100));
    let since = Instant::now();
    if child.try_wait().expect("a status").is_none() {
        signal(&child, "-TERM");
        let code = child.wait().expect("it ends").code();
        // The answers may have ended by themselves just then.
        assert!(matches!(code, Some(143 | 0)), "{code:?}");
    }
    assert!(since.elapsed() < Duration::from_secs(10));
    drop(answers);
}

#[test]
fn what_cannot_be_served_is_one_line() {
    let none = failure(crate::ml().args([
        "serve", "--model", "nowhere", "--device", "cpu", "--port", "0",
    ]));
    assert!(none.contains("nowhere"), "{none}");
    let path = demo().display().to_string();
    let twice = failure(with_demo("serve").args(["--model", &path, "--port", "0"]));
    assert!(twice.contains("two models are called"), "{twice}");
    let keys = failure(with_demo("serve").args(["--api-key-file", "/nowhere/keys"]));
    for origin in ["chat.example", "https://chat.example/page", "https://"] {
        let wrong = crate::output(with_demo("serve").args(["--allow-origin", origin]));
        assert_eq!(wrong.status.code(), Some(2), "{origin}");
    }
    assert!(keys.contains("cannot read the keys"), "{keys}");
    let (mut child, port) = serve(&[]);
    let taken = failure(with_demo("serve").args(["--port", &port.to_string()]));
    assert!(taken.contains("cannot listen on 127.0.0.1"), "{taken}");
    child.kill().expect("it runs");
    let _ = child.wait();
}

/// Asks for `/health` on a connection that stays open.
fn health(mut stream: &TcpStream) -> String {
    stream
        .write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .expect("it reads");
    let mut reply = Vec::new();
    while !reply.ends_with(b"}}") {
        let mut bytes = [0; 2048];
        let read = stream.read(&mut bytes).expect("it answers");
        assert!(read > 0, "the connection was closed");
        reply.extend_from_slice(&bytes[..read]);
    }
    String::from_utf8(reply).expect("UTF-8")
}

#[test]
fn two_thousand_who_say_nothing_hold_up_nobody() {
    let files = rlimit::increase_nofile_limit(2200).expect("a limit");
    assert!(files >= 2200, "`ulimit -Hn` has to be 2200 or more here");
    // It raises its own limit.
    let ml = with_demo("serve");
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -Sn 256; exec \"$0\" \"$@\" --port 0"]);
    limited.arg(ml.get_program()).args(ml.get_args());
    let (mut child, port) = start(limited);
    let open = || TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    // Half of them have asked something before they fall silent.
    let idle: Vec<_> = (0..2000).map(|_| open()).collect();
    for stream in &idle[..1000] {
        health(stream);
    }
    let mut stream = open();
    let body =
        r#"{"messages": [{"role": "user", "content": "What is 17 + 25?"}], "temperature": 0}"#;
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close";
    write!(
        stream,
        "{head}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("it reads");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("it answers");
    assert!(reply.contains(r#""content":"42""#), "{reply}");
    // Those who are there are served as before.
    for stream in [&idle[0], &idle[999], &idle[1999]] {
        assert!(health(stream).starts_with("HTTP/1.1 200"));
    }
    child.kill().expect("it runs");
    let _ = child.wait();
}

#[test]
fn a_certificate_needs_its_key() {
    let alone = crate::output(with_demo("serve").args(["--tls-cert", "cert.pem"]));
    assert_eq!(alone.status.code(), Some(2));
    let none = failure(with_demo("serve").args(["--tls-cert", "no.pem", "--tls-key", "no.pem"]));
    assert!(none.contains("cannot read no.pem"), "{none}");
}

#[test]
fn a_model_that_does_not_fit_is_refused_unless_forced() {
    let tight = ["--model-memory", "0.0001", "--port", "0"];
    let refused = failure(with_demo("serve").args(tight));
    assert!(refused.contains("are there for models"), "{refused}");
    let (mut child, _) = serve(&["--model-memory", "0.0001", "--force", "--keep-alive", "-1"]);
    child.kill().expect("it runs");
    let _ = child.wait();
    let wrong = crate::output(with_demo("serve").args(["--keep-alive", "soon"]));
    assert_eq!(wrong.status.code(), Some(2));
}
