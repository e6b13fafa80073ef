//! Streams of server-sent events.
//!
//! Headers go out as soon as the answer has a place in the queue. While a prompt is read, which may take minutes,
//! comments keep the connection alive. A stream that breaks says why, in an event of the API's form.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Response, header};
use futures_core::Stream;
use serde::Serialize;
use tokio::time::{Instant, Sleep};

use crate::errors::ApiError;
use crate::run::{Event, Run};

/// Writes an answer's events as an API has them.
pub(crate) trait Writer: Send + Unpin + 'static {
    /// What comes before all else.
    fn begin(&mut self, out: &mut String);
    /// An event of answer `index`.
    fn event(&mut self, index: usize, event: Event, out: &mut String);
    /// All answers have ended.
    fn end(&mut self, out: &mut String);
    /// The stream breaks off.
    fn error(&mut self, error: &ApiError, out: &mut String);
    /// What says that the connection lives.
    fn ping(&self) -> &'static str {
        ": waiting for the next token\n\n"
    }
}

/// Appends an event that is data alone.
pub(crate) fn data(out: &mut String, value: &impl Serialize) {
    out.push_str("data: ");
    out.push_str(&crate::json::text(value));
    out.push_str("\n\n");
}

/// Appends an event with a name.
pub(crate) fn named(out: &mut String, name: &str, value: &impl Serialize) {
    out.push_str("event: ");
    out.push_str(name);
    out.push('\n');
    data(out, value);
}

/// An answer that streams `run`.
pub(crate) fn response(run: Run, writer: impl Writer, ping: Duration) -> Response<Body> {
    let events = Events {
        run,
        writer,
        ping,
        silence: Box::pin(tokio::time::sleep(ping)),
        stage: Stage::Beginning,
    };
    let mut response = Response::new(Body::from_stream(events));
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies such as nginx hold answers back otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

#[derive(PartialEq, Eq)]
enum Stage {
    Beginning,
    Running,
    Over,
}

struct Events<W> {
    run: Run,
    writer: W,
    ping: Duration,
    silence: Pin<Box<Sleep>>,
    stage: Stage,
}

/// Bytes that are sent together at the most, where a reader was slow.
const AT_ONCE: usize = 16 << 10;

impl<W: Writer> Stream for Events<W> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let mut out = String::new();
        if this.stage == Stage::Beginning {
            this.stage = Stage::Running;
            this.writer.begin(&mut out);
        }
        while this.stage == Stage::Running && out.len() < AT_ONCE {
            match this.run.poll_event(context) {
                Poll::Ready(Some(Ok((index, event)))) => this.writer.event(index, event, &mut out),
                Poll::Ready(Some(Err(error))) => {
                    this.writer.error(&error, &mut out);
                    this.stage = Stage::Over;
                }
                Poll::Ready(None) => {
                    this.writer.end(&mut out);
                    this.stage = Stage::Over;
                }
                Poll::Pending => break,
            }
        }
        if out.is_empty() && this.stage == Stage::Over {
            return Poll::Ready(None);
        }
        if out.is_empty() {
            match this.silence.as_mut().poll(context) {
                Poll::Ready(()) => out.push_str(this.writer.ping()),
                Poll::Pending => return Poll::Pending,
            }
        }
        this.silence.as_mut().reset(Instant::now() + this.ping);
        Poll::Ready(Some(Ok(out.into())))
    }
}
