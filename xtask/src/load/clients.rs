//! What clients do: most read their answers, some go away, some dawdle, some send what is no request.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::client::{Events, Said, head_of, post, request, send};
use super::figures::{Figures, Outcome};
use super::questions::{Question, said};

/// How a client is, for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// Reads all of each answer.
    Reads,
    /// Goes away at some point of each.
    Leaves,
    /// Reads a byte a second for a while.
    Dawdles,
    /// Sends what is no request.
    Malformed,
}

impl Behaviour {
    /// That of client `number`: a third leave, a sixteenth each dawdle and send nonsense.
    pub(super) fn of(number: usize) -> Self {
        match number % 48 {
            n if n % 3 == 0 => Self::Leaves,
            1 | 17 | 32 => Self::Dawdles,
            2 | 19 | 35 => Self::Malformed,
            _ => Self::Reads,
        }
    }
}

pub(super) struct Client<'a> {
    pub(super) address: SocketAddr,
    pub(super) questions: &'a [Question],
    pub(super) behaviour: Behaviour,
    pub(super) seed: u64,
}

impl Client<'_> {
    /// Asks until `end`.
    pub(super) fn run(&self, end: Instant, figures: &Mutex<Figures>) {
        let mut dice = Dice(self.seed);
        while Instant::now() < end {
            let Some(question) = self.questions.get(dice.below(self.questions.len())) else {
                return;
            };
            let outcome = match self.behaviour {
                Behaviour::Reads if dice.below(3) == 0 => self.waits(question),
                Behaviour::Reads => self.streams(question),
                Behaviour::Leaves => self.leaves(question, &mut dice),
                Behaviour::Dawdles => self.dawdles(question, end),
                Behaviour::Malformed => self.malformed(question, &mut dice),
            };
            let outcome = outcome.unwrap_or_else(|error| Outcome::Lost(format!("{error:#}")));
            let mut figures = figures.lock().unwrap_or_else(PoisonError::into_inner);
            figures.add(outcome);
        }
    }

    fn waits(&self, question: &Question) -> Result<Outcome> {
        let answer = post(self.address, question.path, &question.body)?;
        if answer.status == 429 {
            return Ok(come_again());
        }
        let status = answer.status;
        let text = answer.whole()?;
        ensure!(status == 200, "{status} {text}");
        let text = said(&serde_json::from_str(&text)?)?;
        Ok(Outcome::of(question, &text, None, Vec::new()))
    }

    fn streams(&self, question: &Question) -> Result<Outcome> {
        let asked = Instant::now();
        let mut answer = post(self.address, question.path, &streamed(question))?;
        if answer.status == 429 {
            return Ok(come_again());
        }
        ensure!(answer.status == 200, "status {}", answer.status);
        let (mut events, mut text, mut ended) = (Events::default(), String::new(), false);
        let (mut first, mut last, mut gaps) = (None, None, Vec::new());
        while let Some(piece) = answer.piece()? {
            events.push(&piece)?;
            while let Some(said) = events.next()? {
                match said {
                    Said::Text(more) => {
                        text.push_str(&more);
                        let now = Instant::now();
                        first.get_or_insert(now - asked);
                        gaps.extend(last.replace(now).map(|last| now - last));
                    }
                    Said::Nothing | Said::Tokens(_) => {}
                    Said::End => ended = true,
                }
            }
        }
        ensure!(ended, "a stream without its end");
        Ok(Outcome::of(question, &text, first, gaps))
    }

    fn leaves(&self, question: &Question, dice: &mut Dice) -> Result<Outcome> {
        let text = request(self.address, question.path, &streamed(question));
        // Some go before all is sent, some before there is an answer, some in its middle.
        if dice.below(4) == 0 {
            send(self.address, &text.as_bytes()[..dice.below(text.len())])?;
            return Ok(Outcome::Left);
        }
        let stream = send(self.address, text.as_bytes())?;
        if dice.below(3) > 0 {
            let mut answer = head_of(stream)?;
            for _ in 0..dice.below(8) {
                if answer.piece()?.is_none() {
                    break;
                }
            }
        } else {
            std::thread::sleep(Duration::from_millis(dice.below(100) as u64));
        }
        Ok(Outcome::Left)
    }

    /// A byte a second for some seconds, and then all the rest, which must be there.
    fn dawdles(&self, question: &Question, end: Instant) -> Result<Outcome> {
        let mut stream = send(
            self.address,
            request(self.address, question.path, &streamed(question)).as_bytes(),
        )?;
        let mut bytes = Vec::new();
        for _ in 0..20 {
            if Instant::now() >= end {
                break;
            }
            std::thread::sleep(Duration::from_secs(1));
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            bytes.extend(byte);
        }
        stream.read_to_end(&mut bytes)?;
        let text = String::from_utf8(bytes)?;
        if text.starts_with("HTTP/1.1 429") {
            return Ok(come_again());
        }
        ensure!(text.starts_with("HTTP/1.1 200"), "{text}");
        // Chunks and events have line breaks where the answer's text has none.
        let (mut events, mut all) = (Events::default(), String::new());
        for line in text.lines().filter(|line| line.starts_with("data: ")) {
            events.push(format!("{line}\n\n").as_bytes())?;
            if let Some(Said::Text(more)) = events.next()? {
                all.push_str(&more);
            }
        }
        ensure!(text.contains("data: [DONE]"), "a stream without its end");
        Ok(Outcome::of(question, &all, None, Vec::new()))
    }

    /// What must be refused, or may be cut off.
    fn malformed(&self, question: &Question, dice: &mut Dice) -> Result<Outcome> {
        // They are refused at once; without a pause these few clients would send most requests of all.
        std::thread::sleep(Duration::from_millis(50));
        let good = request(self.address, question.path, &question.body);
        let bad = match dice.below(6) {
            0 => good.replacen("{", "", 1),
            1 => good.replacen("temperature", "temprature", 1),
            2 => good.replacen("content-length: ", "content-length: x", 1),
            3 => good.replacen("HTTP/1.1", "HTTP/9.9", 1),
            4 => "\u{0}\u{1}\u{2}\r\n\r\n".to_owned(),
            _ => good.replacen("host: ", "host: evil.example", 1),
        };
        let mut stream = send(self.address, bad.as_bytes())?;
        let _ = stream.flush();
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut reply = Vec::new();
        // A server that closes before it has read all resets the connection.
        let _ = stream.read_to_end(&mut reply);
        let reply = String::from_utf8_lossy(&reply);
        ensure!(
            reply.is_empty() || reply.starts_with("HTTP/1.1 4"),
            "nonsense was answered: {reply}"
        );
        Ok(Outcome::Refused)
    }
}

fn streamed(question: &Question) -> serde_json::Value {
    let mut body = question.body.clone();
    body["stream"] = true.into();
    body
}

fn come_again() -> Outcome {
    std::thread::sleep(Duration::from_millis(200));
    Outcome::Busy
}

/// Random numbers that are the same each time.
struct Dice(u64);

impl Dice {
    /// Below `n`, or 0.
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % n.max(1) as u64) as usize
    }
}
