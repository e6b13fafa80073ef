//! A conversation that goes on the next time.
//!
//!     cargo run --release -p ml-backend --example chat -- MODEL FILE
//!
//! Each line is a message. The conversation is kept in FILE: end the program, or kill it, and start it again.

use std::io::{BufRead, Write};
use std::path::Path;

use anyhow::Context;
use ml_backend::{AnswerEvent, MlxBackend, Options, Session};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().context("name a model's directory")?;
    let file = arguments
        .next()
        .context("name a file for the conversation")?;
    let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
    run(Path::new(&model), Path::new(&file), input, output)
}

pub(crate) fn run(
    model: &Path,
    file: &Path,
    input: impl BufRead,
    mut output: impl Write,
) -> anyhow::Result<()> {
    let backend = MlxBackend::load(model)?;
    let options = Options::new().temperature(0.0).max_tokens(512);
    let mut session = Session::open(&backend, options, file)?;
    for message in session.messages() {
        writeln!(output, "{}: {}", message.role.as_str(), message.content)?;
    }
    for line in input.lines() {
        let mut answer = session.stream(line?)?;
        for piece in &mut answer {
            for event in piece?.events {
                if let AnswerEvent::Text(text) = event {
                    write!(output, "{text}")?;
                    output.flush()?;
                }
            }
        }
        writeln!(output)?;
    }
    Ok(())
}
