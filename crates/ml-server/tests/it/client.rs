//! A client of HTTP/1.1 in plain sight: what it sends and reads is what is on the wire.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The JSON of an answer that has to be there.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let mut found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
    found.next().map(|(_, value)| value)
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Reply {
    send(address, "GET", path, &[], "").whole()
}

pub(crate) fn post(address: SocketAddr, path: &str, body: &Value) -> Reply {
    open(address, path, body).whole()
}

/// Sends a body of JSON and reads no more than the answer's head.
pub(crate) fn open(address: SocketAddr, path: &str, body: &Value) -> Answer {
    let json = [("content-type", "application/json")];
    send(address, "POST", path, &json, &body.to_string())
}

/// Sends a request with these headers beside those that it needs.
pub(crate) fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        text.push_str(&format!("host: {address}\r\n"));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    raw(address, &format!("{text}\r\n{body}"))
}

/// Sends bytes as they are.
pub(crate) fn raw(address: SocketAddr, text: &str) -> Answer {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(600)))
        .unwrap();
    // It may answer and close before it has read all.
    let _ = stream.write_all(text.as_bytes());
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = reader.read_line(&mut head).expect("a head");
        assert!(read > 0, "the answer ends in its head: {head:?}");
    }
    Answer {
        head,
        reader,
        text: String::new(),
    }
}

/// An answer whose head is there.
pub(crate) struct Answer {
    pub(crate) head: String,
    reader: BufReader<TcpStream>,
    /// Read and not handed out yet.
    text: String,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        let status = self.head.split(' ').nth(1).expect("a status");
        status.parse().expect("a number")
    }

    pub(crate) fn whole(mut self) -> Reply {
        let mut body = String::new();
        if header(&self.head, "transfer-encoding") == Some("chunked") {
            while self.chunk() {}
            body = std::mem::take(&mut self.text);
        } else {
            let length = header(&self.head, "content-length").map(|length| length.parse().unwrap());
            let mut bytes = vec![0; length.unwrap_or(0)];
            self.reader
                .read_exact(&mut bytes)
                .expect("the body that was announced");
            body.push_str(&String::from_utf8(bytes).expect("UTF-8"));
        }
        Reply {
            status: self.status(),
            head: self.head,
            body,
        }
    }

    /// The next event or comment of a stream, with its line ends; `None` at the stream's end.
    pub(crate) fn event(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let rest = self.text.split_off(end + 2);
                return Some(std::mem::replace(&mut self.text, rest));
            }
            if !self.chunk() {
                assert_eq!(self.text, "", "half an event");
                return None;
            }
        }
    }

    /// The events of a stream to its end, without comments.
    pub(crate) fn events(mut self) -> Vec<String> {
        assert_eq!(self.status(), 200, "{}", self.head);
        assert!(
            self.head.contains("content-type: text/event-stream"),
            "{}",
            self.head
        );
        let events = std::iter::from_fn(|| self.event());
        events.filter(|event| !event.starts_with(':')).collect()
    }

    fn chunk(&mut self) -> bool {
        let mut size = String::new();
        self.reader.read_line(&mut size).expect("a chunk's size");
        let size = usize::from_str_radix(size.trim(), 16).expect("a size in hexadecimal");
        let mut bytes = vec![0; size + 2];
        self.reader.read_exact(&mut bytes).expect("a chunk");
        bytes.truncate(size);
        self.text
            .push_str(&String::from_utf8(bytes).expect("whole characters"));
        size > 0
    }
}

/// The JSON of an event's data.
pub(crate) fn data(event: &str) -> Value {
    let line = event.lines().find_map(|line| line.strip_prefix("data: "));
    let line = line.unwrap_or_else(|| panic!("no data: {event:?}"));
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {event:?}"))
}
