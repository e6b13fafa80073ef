//! How a server ends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{data, open};
use crate::{config, serve};

#[test]
fn running_answers_end_and_new_ones_are_refused() {
    let running = serve(config());
    let request = json!({
        "messages": [{"role": "user", "content": "hello"}], "ignore_eos": true, "max_tokens": 100, "stream": true,
    });
    let mut answer = open(running.address, "/v1/chat/completions", &request);
    answer.event().unwrap();
    // A connection that waits between two requests.
    let mut idle = TcpStream::connect(running.address).unwrap();
    idle.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .unwrap();
    assert!(idle.read(&mut [0; 1000]).unwrap() > 0);
    running.stopper.stop();
    assert_eq!(
        idle.read_to_end(&mut Vec::new()).unwrap_or(0),
        0,
        "it is closed"
    );
    let events = answer.events();
    assert_eq!(events.last().map(String::as_str), Some("data: [DONE]\n\n"));
    running.thread.join().unwrap();
    assert!(
        TcpStream::connect(running.address).is_err(),
        "nobody listens any more"
    );
}

#[test]
fn what_takes_too_long_is_told_so() {
    let mut hasty = config();
    hasty.grace = Duration::from_millis(50);
    let running = serve(hasty);
    let endless = json!({
        "messages": [{"role": "user", "content": "hello"}], "ignore_eos": true, "stream": true, "max_tokens": 1000,
    });
    let mut answer = open(running.address, "/v1/chat/completions", &endless);
    answer.event().unwrap();
    let mut whole = endless.clone();
    whole["stream"] = false.into();
    let address = running.address;
    let waiting =
        std::thread::spawn(move || crate::client::post(address, "/v1/chat/completions", &whole));
    crate::until("both", || crate::under_way(address).0 == 2);
    let since = Instant::now();
    running.stopper.stop();
    let mut events = answer.events();
    assert_eq!(events.pop().as_deref(), Some("data: [DONE]\n\n"));
    let error = data(&events.pop().unwrap());
    assert_eq!(error["error"]["code"], "shutting_down");
    let reply = waiting.join().unwrap();
    assert_eq!(
        (reply.status, reply.header("retry-after")),
        (503, Some("5"))
    );
    running.thread.join().unwrap();
    assert!(since.elapsed() < Duration::from_secs(20));
}
