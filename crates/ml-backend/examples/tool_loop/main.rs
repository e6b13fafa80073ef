//! Lets a model call tools until it has an answer.
//!
//!     cargo run --release -p ml-backend --example tool_loop -- MODEL "What is 1234 * 5678?"
//!
//! The model is told of one tool, a calculator. Where it calls it, the result goes into the conversation and the
//! model is asked again. The demo models know no tools and answer at once.

use std::io::Write;

use anyhow::{Context, Result, bail};
use ml_backend::{
    Answer, AnswerEvent, Message, MlxBackend, Options, Session, SessionStream, ToolCall,
};
use serde_json::json;

/// Rounds of calls, of a model that never comes to an end.
const MOST_ROUNDS: usize = 8;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let demo = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../assets/models/qwen3-demo"
    );
    let model = args.next().unwrap_or_else(|| demo.to_owned());
    let question = args.next().unwrap_or_else(|| "What is 17 + 25?".to_owned());
    let backend = MlxBackend::load(&model)?;
    let options = Options::new().temperature(0.0).max_tokens(1024);
    run(&backend, options, &question, std::io::stdout().lock())
}

pub(crate) fn run(
    backend: &MlxBackend,
    options: Options,
    question: &str,
    mut output: impl Write,
) -> Result<()> {
    let mut options = options.tool(json!({
        "type": "function",
        "function": {
            "name": "calculate",
            "description": "Applies an operation to two numbers.",
            "parameters": {
                "type": "object",
                "properties": {
                    "a": { "type": "number" },
                    "operation": { "type": "string", "enum": ["+", "-", "*", "/"] },
                    "b": { "type": "number" }
                },
                "required": ["a", "operation", "b"]
            }
        }
    }));
    // A template that knows no tools refuses them.
    if let Err(error) = backend.render_chat(&[Message::user(question)], &options) {
        eprintln!("{error}");
        options.tools.clear();
    }
    let mut session = Session::new(backend, options);
    let mut answer = show(session.stream(question)?, &mut output)?;
    for _ in 0..MOST_ROUNDS {
        let calls = std::mem::take(&mut answer.tool_calls);
        if calls.is_empty() {
            writeln!(output)?;
            return Ok(());
        }
        for call in &calls {
            // What a tool says when it fails is for the model to read.
            let result = calculate(call).unwrap_or_else(|error| format!("error: {error}"));
            // Behind the last result it speaks again.
            if let Some(next) = session.stream_tool_result(call, result)? {
                answer = show(next, &mut output)?;
            }
        }
    }
    bail!("no answer after {MOST_ROUNDS} rounds of calls")
}

/// Prints an answer as it comes.
fn show(mut stream: SessionStream<'_>, output: &mut impl Write) -> Result<Answer> {
    for piece in &mut stream {
        for event in piece?.events {
            match event {
                AnswerEvent::Text(text) | AnswerEvent::ToolCallUndone { text, .. } => {
                    write!(output, "{text}")?;
                }
                AnswerEvent::ToolCallStart { name, .. } => write!(output, "[{name} ")?,
                AnswerEvent::ToolCallArguments { json, .. } => write!(output, "{json}")?,
                AnswerEvent::ToolCallEnd { .. } => writeln!(output, "]")?,
                _ => {}
            }
            output.flush()?;
        }
    }
    Ok(stream.answer().clone())
}

fn calculate(call: &ToolCall) -> Result<String> {
    if call.name != "calculate" {
        bail!("there is no tool {}", call.name);
    }
    let number = |name: &str| {
        call.arguments[name]
            .as_f64()
            .with_context(|| format!("{name} is no number"))
    };
    let (a, b) = (number("a")?, number("b")?);
    let result = match call.arguments["operation"].as_str() {
        Some("+") => a + b,
        Some("-") => a - b,
        Some("*") => a * b,
        Some("/") => a / b,
        _ => bail!("the operation is one of + - * /"),
    };
    Ok(result.to_string())
}
