//! Many at once, those who go away, and those who dawdle.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{data, open, post};
use crate::{config, serve, shared, under_way, until};

/// An answer that takes as long as it may.
fn endless(stream: bool) -> Value {
    json!({
        "messages": [{"role": "user", "content": "hello"}], "ignore_eos": true, "temperature": 0, "stream": stream,
    })
}

#[test]
fn sixteen_at_once_get_each_their_own_answer() {
    let questions = include_str!("../../../../assets/models/heldout/questions.jsonl");
    let sums = questions
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let sums: Vec<_> = sums
        .filter(|question| question["task"] == "sum")
        .take(16)
        .collect();
    assert_eq!(sums.len(), 16);
    std::thread::scope(|scope| {
        for (at, question) in sums.iter().enumerate() {
            scope.spawn(move || {
                let stream = at % 2 == 0;
                let request = json!({
                    "messages": [{"role": "user", "content": question["prompt"]}], "temperature": 0, "stream": stream,
                });
                let said = match stream {
                    false => {
                        let answer = post(shared(), "/v1/chat/completions", &request).ok();
                        answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
                    }
                    true => {
                        let mut events = open(shared(), "/v1/chat/completions", &request).events();
                        events.pop();
                        let chunks = events.iter().map(|event| data(event));
                        let texts = chunks.map(|chunk| chunk["choices"][0]["delta"]["content"].clone());
                        texts.filter_map(|text| text.as_str().map(str::to_owned)).collect()
                    }
                };
                assert_eq!(said, question["answer"].as_str().unwrap(), "{question}");
            });
        }
    });
}

#[test]
fn who_goes_away_gives_the_place_back() {
    let address = serve(config()).address;
    for stream in [true, false] {
        // A stream is read a little; a whole answer is waited for in vain.
        let request = endless(stream);
        if stream {
            let mut answer = open(address, "/v1/chat/completions", &request);
            for _ in 0..3 {
                answer.event().unwrap();
            }
            assert_eq!(under_way(address), (1, 0));
            drop(answer);
        } else {
            let text = request.to_string();
            let mut half = std::net::TcpStream::connect(address).unwrap();
            let head = format!(
                "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{text}",
                text.len()
            );
            std::io::Write::write_all(&mut half, head.as_bytes()).unwrap();
            until("the answer", || under_way(address).0 == 1);
            drop(half);
        }
        let since = Instant::now();
        until("the place", || under_way(address) == (0, 0));
        // All of it takes far longer; a token does not.
        println!("free again after {:?}", since.elapsed());
        let metrics = crate::client::get(address, "/metrics").body;
        let broken = 1 + u64::from(!stream);
        assert!(
            metrics.contains(&format!("ml:requests_broken_off_total {broken}\n")),
            "{metrics}"
        );
    }
}

#[test]
fn who_reads_slowly_holds_up_nobody() {
    let address = serve(config()).address;
    let slow: Vec<_> = (0..3)
        .map(|_| open(address, "/v1/chat/completions", &endless(true)))
        .collect();
    let since = Instant::now();
    let quick = json!({"messages": [{"role": "user", "content": "17+9"}], "temperature": 0});
    let answer = post(address, "/v1/chat/completions", &quick).ok();
    assert_eq!(answer["choices"][0]["message"]["content"], "26");
    println!(
        "answered beside three who do not read after {:?}",
        since.elapsed()
    );
    // Nothing of theirs is lost.
    for mut answer in slow {
        std::thread::sleep(Duration::from_millis(50));
        let mut events = Vec::new();
        while let Some(event) = answer.event() {
            events.push(event);
        }
        assert_eq!(events.pop().as_deref(), Some("data: [DONE]\n\n"));
        let last = data(&events.pop().unwrap());
        assert_eq!(last["choices"][0]["finish_reason"], "length");
    }
}

#[test]
fn too_many_are_told_to_come_again() {
    let mut small = config();
    small.max_requests = 1;
    let address = serve(small).address;
    let mut first = open(address, "/v1/chat/completions", &endless(true));
    first.event().unwrap();
    let reply = post(address, "/v1/chat/completions", &endless(false));
    assert_eq!(reply.status, 429);
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(reply.json()["error"]["code"], "queue_full");
    drop(first);
    until("the place", || under_way(address) == (0, 0));
    let quick = json!({"messages": [{"role": "user", "content": "17+9"}], "temperature": 0});
    until("room", || {
        post(address, "/v1/chat/completions", &quick).status == 200
    });
}

#[test]
fn a_silent_stream_says_that_it_lives() {
    let mut chatty = config();
    chatty.ping = Duration::from_millis(1);
    let address = serve(chatty).address;
    let long = json!({
        "messages": [{"role": "user", "content": "hello ".repeat(150)}], "max_tokens": 1, "stream": true,
    });
    let mut answer = open(address, "/v1/chat/completions", &long);
    let first = answer.event().unwrap();
    assert!(first.starts_with(": "), "{first}");
    let mut request = long;
    request["max_tokens"] = 1.into();
    let mut answer = open(address, "/v1/messages", &request);
    answer.event().unwrap();
    assert_eq!(
        answer.event().unwrap(),
        "event: ping\ndata: {\"type\":\"ping\"}\n\n"
    );
}
