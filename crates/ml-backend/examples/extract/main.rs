//! Takes facts out of a text, as a value of a Rust type.
//!
//!     extract [MODEL] [TEXT]
//!
//! The type's JSON schema is what the model is held to, so what it answers is always such a value; whether it is
//! right is the model's part.

use std::error::Error;
use std::io::Write;

use ml_backend::{Backend, FinishReason, Message, MlxBackend, Options, Structure};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// An order as a customer writes it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Order {
    /// Which fruit.
    fruit: Fruit,
    /// How many pieces.
    #[schemars(range(min = 1, max = 100))]
    pieces: u32,
    /// When it is to arrive, if that was said.
    delivery: Option<Delivery>,
}

#[derive(Debug, Deserialize, JsonSchema)]
enum Fruit {
    Apple,
    Banana,
    Pear,
}

/// One of several kinds, told apart by its tag.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum Delivery {
    Today,
    Later {
        #[schemars(range(min = 1, max = 14))]
        days: u8,
    },
}

/// What the model reads out of `text`.
fn extract<T: DeserializeOwned + JsonSchema>(
    backend: &MlxBackend,
    text: &str,
) -> Result<T, Box<dyn Error>> {
    let schema = schemars::schema_for!(T);
    let options = Options::new()
        .temperature(0.0)
        .max_tokens(256)
        .structure(Structure::JsonSchema(schema.to_value()));
    let answer = backend.chat(&[Message::user(text)], &options)?;
    if answer.finish_reason != FinishReason::Stop {
        return Err(format!("no end after {} tokens", answer.token_ids.len()).into());
    }
    Ok(serde_json::from_str(&answer.text)?)
}

/// The demo model knows no fruit; it answers in the form all the same.
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let demo = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../assets/models/qwen3-demo"
    );
    let model = arguments.next().unwrap_or_else(|| demo.to_owned());
    let text = arguments
        .next()
        .unwrap_or_else(|| "Three pears for tomorrow, please.".to_owned());
    run(&model, &text, std::io::stdout().lock())
}

pub(crate) fn run(model: &str, text: &str, mut output: impl Write) -> Result<(), Box<dyn Error>> {
    let backend = MlxBackend::load(model)?;
    let order: Order = extract(&backend, text)?;
    writeln!(
        output,
        "{} of {:?}, {:?}",
        order.pieces, order.fruit, order.delivery
    )?;
    if let Some(Delivery::Later { days }) = order.delivery {
        writeln!(output, "in {days} days")?;
    }
    Ok(())
}
