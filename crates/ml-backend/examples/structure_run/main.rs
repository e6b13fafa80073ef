//! Answers of a model of random weights under many schemas: `tools/structure` says where they come from.
//!
//!     structure_run MODEL --schemas FILE [--count 500]      # how many end by themselves, and are valid
//!     structure_run MODEL --cost                            # tokens a second with a form and without, by turns
//!     structure_run MODEL --cost --shape qwen3-0.6b --weights q4    # of these dimensions, with MODEL's tokenizer

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use bench_shapes::{Shape, Weights, checkpoint};
use clap::Parser;
use ml_backend::{FinishReason, Generation, MlxBackend, Options, Structure};
use serde_json::{Value, json};

/// Answers that decode together.
const TOGETHER: usize = 16;

#[derive(Parser)]
struct Args {
    /// A directory with config.json and tokenizer.json; its weights are drawn
    model: PathBuf,
    #[arg(long, required_unless_present = "cost")]
    schemas: Option<PathBuf>,
    /// Schemas to answer under, of those that compile
    #[arg(long, default_value_t = 500)]
    count: usize,
    #[arg(long, default_value_t = 1024)]
    max_tokens: usize,
    /// Time answers instead
    #[arg(long)]
    cost: bool,
    /// Repetitions, behind one that warms up
    #[arg(long, default_value_t = 7, requires = "cost")]
    repeat: usize,
    /// These published dimensions instead of MODEL's config.json
    #[arg(long)]
    shape: Option<Shape>,
    /// Types of their weights
    #[arg(long, default_value = "q4", requires = "shape")]
    weights: Weights,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let hollow = tempfile::tempdir()?;
    let dir = match &args.shape {
        None => args.model.as_path(),
        Some(shape) => {
            checkpoint::write_hollow(hollow.path(), shape, args.weights)?;
            for name in ["tokenizer.json", "tokenizer_config.json"] {
                std::fs::copy(args.model.join(name), hollow.path().join(name))?;
            }
            hollow.path()
        }
    };
    let builder = MlxBackend::builder().random_weights(true).at_once(TOGETHER);
    let backend = builder.load(dir)?;
    match args.cost {
        true => cost(&backend, &args),
        false => gate(&backend, &args),
    }
}

fn options(args: &Args, seed: u64) -> Options {
    Options::new()
        .no_advice(true)
        .temperature(1.0)
        .max_tokens(args.max_tokens)
        .seed(seed)
}

fn prompt(seed: u64) -> Vec<u32> {
    (0..4 + seed as u32 % 5)
        .map(|i| 20 + (i * 7 + seed as u32) % 200)
        .collect()
}

/// What is asked under one schema.
struct Question {
    schema: Value,
    validator: jsonschema::Validator,
    prompt: Vec<u32>,
    options: Options,
}

fn gate(backend: &MlxBackend, args: &Args) -> Result<()> {
    let path = args.schemas.as_ref().context("no schemas were given")?;
    let schemas: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let (mut refused, mut unread) = (0, 0);
    let mut questions = Vec::new();
    for (schema, seed) in schemas.into_iter().zip(0..) {
        if questions.len() == args.count {
            break;
        }
        let read = jsonschema::options()
            .should_validate_formats(true)
            .build(&schema);
        let Ok(validator) = read else {
            unread += 1;
            continue;
        };
        let options = options(args, seed).structure(Structure::JsonSchema(schema.clone()));
        // A refusal comes before anything runs.
        if let Err(error) = backend.generate_ids(&prompt(seed), &options.clone().max_tokens(1)) {
            println!("refused: {error}");
            refused += 1;
            continue;
        }
        questions.push(Question {
            schema,
            validator,
            prompt: prompt(seed),
            options,
        });
    }
    println!(
        "{} schemas, {refused} refused, {unread} are none",
        questions.len()
    );
    let mut wrong = 0;
    let mut ended = [0, 0];
    let mut tokens = 0;
    for some in questions.chunks(TOGETHER) {
        let mut alone = Vec::new();
        for one in some {
            alone.push(backend.generate_ids(&one.prompt, &one.options)?);
        }
        let started = some
            .iter()
            .map(|one| backend.stream_ids(&one.prompt, &one.options));
        let streams = started.collect::<Result<Vec<_>, _>>()?;
        for ((one, alone), mut stream) in some.iter().zip(alone).zip(streams) {
            for piece in &mut stream {
                piece?;
            }
            let together = stream.generation().context("no answer")?;
            for (i, answer) in [&alone, together].into_iter().enumerate() {
                tokens += answer.token_ids.len();
                ended[i] += usize::from(answer.finish_reason == FinishReason::Stop);
                if !holds(one, answer) {
                    wrong += 1;
                    println!("wrong under {}: {}", one.schema, answer.text);
                }
            }
            if alone.token_ids != together.token_ids {
                wrong += 1;
                println!("other tokens beside others under {}", one.schema);
            }
        }
    }
    let all = questions.len();
    println!(
        "{} alone and {} beside others ended of {all}; {wrong} wrong; {tokens} tokens",
        ended[0], ended[1]
    );
    ensure!(wrong == 0, "{wrong} answers are wrong");
    ensure!(
        ended.iter().all(|ended| ended * 5 >= all * 4),
        "fewer than 80% ended by themselves"
    );
    Ok(())
}

/// Whether an answer that ended is valid.
fn holds(question: &Question, answer: &Generation) -> bool {
    if answer.finish_reason != FinishReason::Stop {
        return true;
    }
    let value = serde_json::from_str(&answer.text);
    value.is_ok_and(|value: Value| question.validator.is_valid(&value))
}

/// Medians of runs by turns: what the machine does beside them meets both.
fn cost(backend: &MlxBackend, args: &Args) -> Result<()> {
    // A list that ends late, so that as many tokens are drawn in both.
    let schema = json!({ "type": "array", "minItems": 1000, "maxItems": 1001, "items": {
        "type": "object", "additionalProperties": false, "required": ["name", "year"],
        "properties": { "name": { "type": "string", "minLength": 4, "maxLength": 12 }, "year": { "type": "integer" } },
    } });
    let free = options(args, 1).ignore_eos(true);
    let held = options(args, 1).structure(Structure::JsonSchema(schema));
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..=args.repeat {
        for (i, options) in [&free, &held].into_iter().enumerate() {
            let answer = backend.generate_ids(&prompt(3), options)?;
            let rate = answer.metrics.decode_tokens_per_second;
            rates[i].push(rate.context("one token has no rate")?);
        }
    }
    // The first of each warms up.
    let median = |of: &[f64]| {
        let mut of = of[1..].to_vec();
        of.sort_by(f64::total_cmp);
        of[of.len() / 2]
    };
    let [free, held] = rates.map(|of| median(&of));
    let share = 100.0 * (free / held - 1.0);
    println!("{free:.2} tokens/s free, {held:.2} with a form: {share:.1}% more time");
    Ok(())
}
