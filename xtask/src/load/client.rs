//! HTTP/1.1 by hand: a request a connection, its answer in pieces as they come.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// An answer takes less, or is lost.
const PATIENCE: Duration = Duration::from_secs(120);

/// An answer whose head is there.
pub(super) struct Answer {
    pub(super) status: u16,
    length: Option<usize>,
    chunked: bool,
    pub(super) reader: BufReader<TcpStream>,
}

/// The JSON of a path.
pub(super) fn get(address: SocketAddr, path: &str) -> Result<Value> {
    let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    let text = head_of(send(address, head.as_bytes())?)?.whole()?;
    Ok(serde_json::from_str(&text)?)
}

/// Asks, and waits for the answer's head.
pub(super) fn post(address: SocketAddr, path: &str, body: &Value) -> Result<Answer> {
    head_of(send(address, request(address, path, body).as_bytes())?)
}

/// A request as it is on the wire.
pub(super) fn request(address: SocketAddr, path: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends bytes on a new connection.
pub(super) fn send(address: SocketAddr, bytes: &[u8]) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).context("the server does not listen")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(bytes)?;
    Ok(stream)
}

/// Reads an answer's head.
pub(super) fn head_of(stream: TcpStream) -> Result<Answer> {
    let mut answer = Answer {
        status: 0,
        length: None,
        chunked: false,
        reader: BufReader::new(stream),
    };
    let mut line = String::new();
    loop {
        line.clear();
        ensure!(
            answer.reader.read_line(&mut line)? > 0,
            "an answer ends in its head"
        );
        let text = line.trim_end().to_ascii_lowercase();
        if let Some(status) = text.strip_prefix("http/1.1 ") {
            answer.status = status.split(' ').next().unwrap_or_default().parse()?;
        } else if let Some(length) = text.strip_prefix("content-length: ") {
            answer.length = Some(length.parse()?);
        } else if text == "transfer-encoding: chunked" {
            answer.chunked = true;
        } else if text.is_empty() {
            return Ok(answer);
        }
    }
}

impl Answer {
    /// The next piece of the body, of a chunked one as it was sent; `None` at its end.
    pub(super) fn piece(&mut self) -> Result<Option<Vec<u8>>> {
        let size = match (self.chunked, self.length.take()) {
            (true, _) => {
                let mut line = String::new();
                ensure!(
                    self.reader.read_line(&mut line)? > 0,
                    "an answer breaks off"
                );
                usize::from_str_radix(line.trim(), 16).context("no size of a chunk")?
            }
            (false, Some(length)) => length,
            (false, None) => return Ok(None),
        };
        let mut bytes = vec![0; size + if self.chunked { 2 } else { 0 }];
        self.reader
            .read_exact(&mut bytes)
            .context("an answer breaks off")?;
        bytes.truncate(size);
        Ok((size > 0).then_some(bytes))
    }

    /// The whole body.
    pub(super) fn whole(mut self) -> Result<String> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece()? {
            body.extend(piece);
        }
        Ok(String::from_utf8(body)?)
    }
}

/// What an event of a stream says.
pub(super) enum Said {
    Text(String),
    /// How many tokens there were, where that was asked for.
    Tokens(u64),
    /// A comment, a role.
    Nothing,
    End,
}

/// Cuts a stream into its events.
#[derive(Default)]
pub(super) struct Events(String);

impl Events {
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<()> {
        self.0.push_str(std::str::from_utf8(piece)?);
        Ok(())
    }

    /// The next event that is whole.
    pub(super) fn next(&mut self) -> Result<Option<Said>> {
        let Some(end) = self.0.find("\n\n") else {
            return Ok(None);
        };
        let rest = self.0.split_off(end + 2);
        let event = std::mem::replace(&mut self.0, rest);
        let Some(data) = event.trim_end().strip_prefix("data: ") else {
            return Ok(Some(Said::Nothing));
        };
        if data == "[DONE]" {
            return Ok(Some(Said::End));
        }
        let data: Value = serde_json::from_str(data)?;
        if let Some(message) = data["error"]["message"].as_str() {
            bail!("an answer broke off: {message}");
        }
        if let Some(tokens) = data["usage"]["completion_tokens"].as_u64() {
            return Ok(Some(Said::Tokens(tokens)));
        }
        let choice = &data["choices"][0];
        let text = choice["delta"]["content"]
            .as_str()
            .or(choice["text"].as_str());
        Ok(Some(match text {
            Some(text) if !text.is_empty() => Said::Text(text.to_owned()),
            _ => Said::Nothing,
        }))
    }
}
