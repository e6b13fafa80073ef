//! Answers a question with a model directory, piece by piece.
//!
//! ```console
//! $ cargo run                                    # the demo model of this repository
//! $ cargo run -- ~/models/Qwen3-0.6B "Who are you?"
//! ```

use std::io::Write;
use std::path::PathBuf;

use ml_backend::{Backend, Message, MlxBackend, Options, StreamingBackend};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let model = args.next().map_or_else(demo_model, PathBuf::from);
    let question = args.next().unwrap_or_else(|| "What is 17 + 25?".to_owned());

    let backend = MlxBackend::load(&model)?;
    let info = backend.info();
    eprintln!(
        "{} on {}: {} layers",
        backend.name(),
        info.device.name,
        info.model.layers
    );

    let options = Options::new().temperature(0.0).max_tokens(256);
    let answer = backend.chat_stream(&[Message::user(question)], &options, &mut |piece| {
        print!("{piece}");
        std::io::stdout().flush().map_err(Into::into)
    })?;
    println!();
    eprintln!(
        "{} tokens in {:.2?}",
        answer.metrics.generated_tokens, answer.metrics.total_time
    );
    Ok(())
}

fn demo_model() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../assets/models/qwen3-demo")
}
