//! Lets a model call tools until it has an answer.
//!
//!     cargo run --release -p ml-backend --example tool_loop -- MODEL "What is 1234 * 5678?"
//!
//! The model is told of one tool, a calculator. Where it calls it, the result goes into the conversation and the
//! model is asked again. The demo models know no tools and answer at once.

use std::io::Write;

use anyhow::{Context, Result, bail};
use ml_backend::{AnswerEvent, Message, MlxBackend, Options, ToolCall};
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
    let mut options = Options::new()
        .temperature(0.0)
        .max_tokens(1024)
        .tool(json!({
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
    let mut messages = vec![Message::user(question)];
    // A template that knows no tools refuses them.
    if let Err(error) = backend.render_chat(&messages, &options) {
        eprintln!("{error}");
        options.tools.clear();
    }
    for _ in 0..MOST_ROUNDS {
        let mut stream = backend.stream_answer(&messages, &options)?;
        for piece in &mut stream {
            for event in piece?.events {
                match event {
                    AnswerEvent::Text(text) | AnswerEvent::ToolCallUndone { text, .. } => {
                        print!("{text}")
                    }
                    AnswerEvent::ToolCallStart { name, .. } => eprint!("[{name} "),
                    AnswerEvent::ToolCallArguments { json, .. } => eprint!("{json}"),
                    AnswerEvent::ToolCallEnd { .. } => eprintln!("]"),
                    _ => {}
                }
                std::io::stdout().flush()?;
            }
        }
        let answer = stream.answer();
        if answer.tool_calls.is_empty() {
            println!();
            return Ok(());
        }
        messages.push(answer.to_message());
        for call in &answer.tool_calls {
            // What a tool says when it fails is for the model to read.
            let result = calculate(call).unwrap_or_else(|error| format!("error: {error}"));
            messages.push(Message::tool(call, result));
        }
    }
    bail!("no answer after {MOST_ROUNDS} rounds of calls")
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
