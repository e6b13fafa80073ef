//! Two answers at the same time, in one task without a thread of its own: any executor will do, and this one is of a
//! dozen lines.
//!
//!     cargo run -p ml-backend --example async_stream -- MODEL "What is 17 + 25?" "Spell the word garden."

use std::future::{Future, poll_fn};
use std::io::Write;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use anyhow::Context as _;
use futures_core::Stream;
use ml_backend::{GenerationStream, Message, MlxBackend, Options};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().context("name a model's directory")?;
    run(&model, arguments, std::io::stdout().lock())
}

pub(crate) fn run(
    model: &str,
    questions: impl Iterator<Item = String>,
    mut output: impl Write,
) -> anyhow::Result<()> {
    let backend = MlxBackend::load(model)?;
    let options = Options::new().temperature(0.0).max_tokens(64);
    let answer = |question: String| backend.stream_chat(&[Message::user(question)], &options);
    let mut answers = questions.map(answer).collect::<Result<Vec<_>, _>>()?;
    block_on(async {
        while let Some((i, piece)) = next_of(&mut answers).await {
            writeln!(output, "{i}: {:?}", piece?.text)?;
        }
        anyhow::Ok(())
    })?;
    // Nobody waits until its memory is free.
    backend.close();
    Ok(())
}

/// The next piece of any of the answers, and which it is of; `None` when all have ended.
async fn next_of(
    answers: &mut [GenerationStream],
) -> Option<(usize, ml_backend::Result<ml_backend::Piece>)> {
    poll_fn(|context| {
        let mut all_ended = true;
        for (i, answer) in answers.iter_mut().enumerate() {
            match Pin::new(answer).poll_next(context) {
                Poll::Ready(Some(piece)) => return Poll::Ready(Some((i, piece))),
                Poll::Ready(None) => {}
                Poll::Pending => all_ended = false,
            }
        }
        if all_ended {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    })
    .await
}

struct Unparks(Thread);

impl Wake for Unparks {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unparks(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}
