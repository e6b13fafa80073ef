//! `ml generate`: one prompt, one answer.

use std::io::Read;
use std::process::ExitCode;

use anyhow::{Context, bail};
use ml_backend::{
    Error, FinishReason, Generation, GenerationStream, Message, MlxBackend, Options, Piece,
};
use serde_json::json;

use crate::answer::follow;
use crate::args::GenerateArgs;
use crate::output::{note, print};
use crate::session::{self, figures};
use crate::signals::{self, Interruptible};

/// What to continue.
enum Input {
    Chat(Vec<Message>),
    Raw(String),
    Ids(Vec<u32>),
    /// What stands between two texts is wanted.
    Between(String, String),
}

pub(crate) fn run(args: &GenerateArgs) -> anyhow::Result<ExitCode> {
    let input = input(args)?;
    signals::install()?;
    let backend = session::open_with(&args.model, &args.prefixes)?;
    if matches!(input, Input::Ids(_)) && !args.print_ids && !args.json && !backend.has_tokenizer() {
        let dir = args.model.model.display();
        bail!("{dir} has no tokenizer.json, so there is no text; add --print-ids to get token ids");
    }
    let answer = Interruptible::new();
    let mut options = args.sampling.options().cancel(answer.token());
    options.logprobs = args.logprobs;
    options.prompt_logprobs = args.prompt_logprobs;

    for (i, stream) in start(&backend, &input, &options, args.n)?
        .into_iter()
        .enumerate()
    {
        let mut printer = Printer::new(args);
        if i > 0 && !args.json && !args.print_ids {
            print("\n")?;
        }
        let generation = match follow(stream, |piece| printer.show(piece))? {
            Ok(generation) => generation,
            Err(Error::Cancelled { partial }) => *partial,
            Err(error) => {
                printer.end_line()?;
                return Err(error.into());
            }
        };
        printer.finish(&generation, &backend)?;
        if !args.json {
            tell_probabilities(&generation, &backend);
        }
        note(&figures(
            &generation.metrics,
            generation.finish_reason.as_str(),
        ));
        if generation.finish_reason == FinishReason::Cancelled {
            signals::exit();
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A line a token: its text, the logarithm of its probability, and those of the others.
fn tell_probabilities(generation: &Generation, backend: &MlxBackend) {
    let prompt = generation.prompt_logprobs.iter();
    for token in prompt.chain(&generation.logprobs) {
        let one = |id, logprob| match token_text(backend, id) {
            Some(text) => format!("{text:?} {logprob:.4}"),
            None => format!("{id} {logprob:.4}"),
        };
        let mut line = one(token.id, token.logprob);
        for other in &token.top {
            line += &format!("  {}", one(other.id, other.logprob));
        }
        note(&line);
    }
}

/// What a token is by itself; nothing without a tokenizer.
fn token_text(backend: &MlxBackend, id: u32) -> Option<String> {
    let has_text = backend.has_tokenizer();
    has_text.then(|| backend.decode(&[id]).ok()).flatten()
}

fn input(args: &GenerateArgs) -> anyhow::Result<Input> {
    if let Some(ids) = &args.input.tokens {
        return Ok(Input::Ids(ids.0.clone()));
    }
    let prompt = match args.input.prompt.as_deref() {
        Some("-") => read_stdin()?,
        prompt => prompt.unwrap_or_default().to_owned(),
    };
    // A file may begin with what is wanted.
    if let Some(suffix) = &args.suffix {
        return Ok(Input::Between(prompt, suffix.clone()));
    }
    if prompt.is_empty() {
        return Err(Error::EmptyPrompt.into());
    }
    if args.raw {
        return Ok(Input::Raw(prompt));
    }
    let system = args.system.iter().map(Message::system);
    Ok(Input::Chat(system.chain([Message::user(prompt)]).collect()))
}

/// All of standard input, less one final line end, which `echo` adds and nobody means.
fn read_stdin() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .read_to_end(&mut bytes)
        .context("cannot read standard input")?;
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        anyhow::anyhow!("standard input is not UTF-8 text (byte {at}); convert it first")
    })?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

fn start(
    backend: &MlxBackend,
    input: &Input,
    options: &Options,
    n: usize,
) -> Result<Vec<GenerationStream>, Error> {
    match input {
        Input::Chat(messages) => backend.stream_chat_n(messages, options, n),
        Input::Raw(prompt) => backend.stream_n(prompt, options, n),
        Input::Ids(ids) => backend.stream_ids_n(ids, options, n),
        Input::Between(prefix, suffix) => {
            backend.stream_fill_in_the_middle(prefix, suffix, options, n)
        }
    }
}

/// Shows an answer as text, as ids, or, when all is there, as JSON.
struct Printer<'a> {
    args: &'a GenerateArgs,
    /// Token ids that were printed.
    ids: usize,
    /// Whether the cursor is behind some output of an unfinished line.
    in_line: bool,
}

impl<'a> Printer<'a> {
    fn new(args: &'a GenerateArgs) -> Self {
        Self {
            args,
            ids: 0,
            in_line: false,
        }
    }

    fn show(&mut self, piece: &Piece) -> anyhow::Result<()> {
        if self.args.print_ids {
            self.print_ids(&piece.token_ids)
        } else if self.args.json {
            Ok(())
        } else {
            self.print_text(&piece.text)
        }
    }

    fn print_text(&mut self, text: &str) -> anyhow::Result<()> {
        self.in_line = !text.ends_with('\n');
        print(text)
    }

    fn print_ids(&mut self, ids: &[u32]) -> anyhow::Result<()> {
        for id in ids {
            let separator = if self.ids == 0 { "" } else { "," };
            print(&format!("{separator}{id}"))?;
            self.ids += 1;
            self.in_line = true;
        }
        Ok(())
    }

    /// What can only be printed at the end.
    fn finish(&mut self, generation: &Generation, backend: &MlxBackend) -> anyhow::Result<()> {
        if self.args.json {
            return print(&format!("{}\n", as_json(generation, backend)?));
        }
        if self.args.print_ids {
            self.print_ids(&generation.token_ids[self.ids..])?;
            // An empty line is the list of no ids.
            self.in_line = true;
        }
        self.end_line()
    }

    fn end_line(&mut self) -> anyhow::Result<()> {
        if std::mem::take(&mut self.in_line) {
            print("\n")
        } else {
            Ok(())
        }
    }
}

/// Adds its text to a token's object.
fn add_text(token: &mut serde_json::Value, backend: &MlxBackend) {
    let id = token["id"].as_u64().and_then(|id| u32::try_from(id).ok());
    token["text"] = json!(id.and_then(|id| token_text(backend, id)));
}

fn as_json(generation: &Generation, backend: &MlxBackend) -> anyhow::Result<serde_json::Value> {
    let mut object = serde_json::to_value(generation).context("cannot write JSON")?;
    for list in ["logprobs", "prompt_logprobs"] {
        let tokens = object.get_mut(list).and_then(|list| list.as_array_mut());
        for token in tokens.into_iter().flatten() {
            add_text(token, backend);
            let others = token["top"].as_array_mut();
            others
                .into_iter()
                .flatten()
                .for_each(|other| add_text(other, backend));
        }
    }
    let info = backend.info();
    object["model"] = json!(info.dir.display().to_string());
    object["device"] = json!(info.device.kind.to_string());
    object["mlx_version"] = json!(info.device.mlx_version);
    Ok(object)
}
