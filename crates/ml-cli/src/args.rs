//! What can be asked on the command line.
//!
//! Values are checked here as far as they can be without a model, so that wrong use ends with exit
//! code 2 before anything is loaded.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ml_backend::{Device, Dtype, Options, ToolChoice};

use crate::prefix_args::PrefixArgs;
use crate::stage_args::StageArgs;
use crate::structure::StructureArgs;

/// What a person who has just met the program can type.
const EXAMPLES: &str = "\
Examples:
  ml pull Qwen3-0.6B-4bit
  ml info --model DIR
  ml generate --model DIR --prompt \"What is 17 + 25?\"
  ml chat --model DIR --system \"Answer briefly.\"

DIR is a folder as it is downloaded: config.json, tokenizer.json and *.safetensors; or the name
of a model that was pulled.
Answers go to standard output, everything else to standard error.";

/// Run Gemma, Qwen, Llama and Mistral checkpoints on MLX.
#[derive(Parser, Debug)]
#[command(name = "ml", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Say on standard error what happens inside.
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Answer one prompt and end.
    Generate(GenerateArgs),
    /// Talk with the model, turn by turn.
    Chat(ChatArgs),
    /// Show what a model directory holds, and the device.
    Info(InfoArgs),
    /// Write the logits of given token ids to a safetensors file.
    Logits(LogitsArgs),
    /// Write the embeddings of texts, or of token ids, to a safetensors file.
    Embed(EmbedArgs),
    /// Score how well documents fit a query, with a model such as Qwen3-Reranker.
    Rerank(RerankArgs),
    /// Fetch a model from the hub by its name.
    Pull(PullArgs),
    /// List the models that were fetched.
    List(ListArgs),
    /// Remove models that were fetched.
    Rm(RmArgs),
    /// Serve models over HTTP, by OpenAI's and Anthropic's APIs.
    #[cfg(feature = "serve")]
    Serve(crate::serve::ServeArgs),
}

#[derive(Args, Debug)]
pub(crate) struct PullArgs {
    /// NAME, OWNER/NAME, or either with @REVISION; a bare name is one of mlx-community's.
    #[arg(value_name = "NAME[@REV]")]
    pub(crate) name: hub::Name,
    /// Fetch nothing, but say what the model takes on disk and in memory.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print that as one JSON object.
    #[arg(long, requires = "dry_run")]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Print a JSON list.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RmArgs {
    /// The models; with @REVISION only that one.
    #[arg(value_name = "NAME[@REV]", required = true)]
    pub(crate) name: Vec<hub::Name>,
}

#[derive(Args, Debug)]
pub(crate) struct GenerateArgs {
    #[command(flatten, next_help_heading = MODEL)]
    pub(crate) model: ModelArgs,
    #[command(flatten, next_help_heading = PROMPT)]
    pub(crate) input: InputArgs,
    /// A system message before the prompt.
    #[arg(long, help_heading = PROMPT, value_name = "TEXT", allow_hyphen_values = true, conflicts_with_all = ["raw", "tokens"])]
    pub(crate) system: Option<String>,
    /// Continue the prompt as it is, without a chat template.
    #[arg(long, help_heading = PROMPT, conflicts_with = "tokens")]
    pub(crate) raw: bool,
    /// The text behind what is wanted: the model fills in what stands between the prompt and it. Needs a model that
    /// was trained for it, such as Qwen2.5-Coder.
    #[arg(long, help_heading = PROMPT, value_name = "TEXT", allow_hyphen_values = true, conflicts_with_all = ["system", "tokens"])]
    pub(crate) suffix: Option<String>,
    /// Print token ids on one line instead of text.
    #[arg(long, help_heading = OUTPUT)]
    pub(crate) print_ids: bool,
    /// Print one JSON object with the text, the ids and the figures; of several answers one a line.
    #[arg(long, help_heading = OUTPUT, conflicts_with = "print_ids")]
    pub(crate) json: bool,
    /// Give N answers, with a seed of their own each: the one asked for, and those that follow it. The prompt is read
    /// once, where that can be.
    #[arg(long, help_heading = OUTPUT, value_name = "N", default_value = "1", value_parser = at_least_one)]
    pub(crate) n: usize,
    /// Tell how probable the model itself found each token, before all options of sampling, and the N most probable
    /// ones of its place, from 0 to 20: in the JSON object, else on standard error behind the answer.
    #[arg(long, help_heading = OUTPUT, value_name = "N", value_parser = up_to_20)]
    pub(crate) logprobs: Option<usize>,
    /// The same of the prompt's tokens, of all but the first.
    #[arg(long, help_heading = OUTPUT, value_name = "N", value_parser = up_to_20)]
    pub(crate) prompt_logprobs: Option<usize>,
    #[command(flatten, next_help_heading = PREFIXES)]
    pub(crate) prefixes: PrefixArgs,
    #[command(flatten, next_help_heading = SAMPLING)]
    pub(crate) sampling: SamplingArgs,
}

/// Groups of options.
const MODEL: &str = "Model and device";
const PROMPT: &str = "Prompt";
const OUTPUT: &str = "Output";
pub(crate) const PREFIXES: &str = "Prompts that were read";
const ANSWER: &str = "Length and end of the answer";
const SAMPLING: &str = "Sampling";
const STAGES: &str = "Penalties, biases and further filters";

#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct InputArgs {
    /// The prompt; `-` reads it from standard input, without its last line end.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) prompt: Option<String>,
    /// Token ids instead of text, such as `1,2,3`. Needs no tokenizer with `--print-ids`.
    #[arg(long, value_name = "IDS", value_parser = token_ids)]
    pub(crate) tokens: Option<TokenIds>,
}

#[derive(Args, Debug)]
pub(crate) struct ChatArgs {
    #[command(flatten, next_help_heading = MODEL)]
    pub(crate) model: ModelArgs,
    /// A system message at the start of the conversation.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) system: Option<String>,
    /// Keep the conversation in this file, and go on where it ended; a file that is not there is begun.
    #[arg(long, value_name = "FILE")]
    pub(crate) session: Option<PathBuf>,
    /// Whether to print what the model thinks before it answers: dimmed on a terminal [default: show on a terminal,
    /// else hide].
    #[arg(
        long,
        value_enum,
        value_name = "show|hide",
        hide_possible_values = true
    )]
    pub(crate) reasoning: Option<Reasoning>,
    #[command(flatten, next_help_heading = PREFIXES)]
    pub(crate) prefixes: PrefixArgs,
    #[command(flatten, next_help_heading = SAMPLING)]
    pub(crate) sampling: SamplingArgs,
}

/// What to do with reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reasoning {
    Show,
    Hide,
}

#[derive(Args, Debug)]
pub(crate) struct InfoArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// Print one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct LogitsArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// The token ids, such as `1,2,3`.
    #[arg(long, value_name = "IDS", value_parser = token_ids)]
    pub(crate) tokens: TokenIds,
    /// The file to write: tensor `logits`, float32, shape [L, V].
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Print one JSON object about the file.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct EmbedArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// A text; may be given several times.
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        required_unless_present = "tokens"
    )]
    pub(crate) text: Vec<String>,
    /// Token ids instead of texts, such as `1,2,3`, as they are. Needs no tokenizer.
    #[arg(long, value_name = "IDS", value_parser = token_ids, conflicts_with_all = ["text", "prompt_name"])]
    pub(crate) tokens: Option<TokenIds>,
    /// Which of the directory's prompts stands before each text [default: the directory's default, mostly none].
    #[arg(long, value_name = "NAME")]
    pub(crate) prompt_name: Option<String>,
    /// Keep the first N features, of models that were trained for it.
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) dimensions: Option<usize>,
    /// The file to write: tensor `embedding`, float32, shape [texts, features].
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Print one JSON object about the file.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RerankArgs {
    #[command(flatten)]
    pub(crate) model: ModelArgs,
    /// What is looked for.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) query: String,
    /// A document; may be given several times.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, required = true)]
    pub(crate) document: Vec<String>,
    /// What makes a document fit a query [default: that it answers a web search].
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) instruction: Option<String>,
    /// Print one JSON object with the scores instead of one score a line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which model, on what.
#[derive(Args, Debug)]
pub(crate) struct ModelArgs {
    /// The model: a directory with config.json, tokenizer.json, *.safetensors, or the name of one that was pulled.
    #[arg(long, value_name = "DIR|NAME")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
}

/// On what a model runs, and what it may take there.
#[derive(Args, Debug)]
pub(crate) struct LoadArgs {
    /// The device to run on.
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = DEVICES)]
    device: String,
    /// Dtype of activations, caches and weights that are not quantized; auto is the checkpoint's.
    #[arg(long, value_enum, value_name = "NAME", default_value_t = DtypeArg::Auto)]
    dtype: DtypeArg,
    /// Threads that compute on the CPU [default: one for each physical core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Run MLX's own operations only, without this project's kernels.
    #[arg(long)]
    pub(crate) plain_mlx: bool,
    /// GiB of freed memory that MLX may keep for reuse [default: 16, or what the device has].
    #[arg(long, value_name = "GIB", value_parser = gibibytes)]
    pub(crate) cache_limit: Option<u64>,
    /// GiB that MLX should stay within [default: 24, on a GPU what it may be filled with].
    #[arg(long, value_name = "GIB", value_parser = gibibytes)]
    pub(crate) memory_limit: Option<u64>,
    /// GiB that macOS shall keep resident for the GPU; auto is what the model needs, if the Mac can spare
    /// it [default: not touched].
    #[arg(long, value_name = "GIB|auto", value_parser = wired_limit)]
    pub(crate) wired_limit: Option<WiredLimit>,
}

/// How much is to be wired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WiredLimit {
    Auto,
    Bytes(u64),
}

const DEVICES: [&str; 4] = ["auto", "metal", "cuda", "cpu"];

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DtypeArg {
    Auto,
    F32,
    Bf16,
    F16,
}

impl LoadArgs {
    pub(crate) fn device(&self) -> Device {
        match self.device.as_str() {
            "metal" => Device::Metal,
            "cuda" => Device::Cuda,
            "cpu" => Device::Cpu,
            _ => Device::Auto,
        }
    }

    pub(crate) fn dtype(&self) -> Option<Dtype> {
        match self.dtype {
            DtypeArg::Auto => None,
            DtypeArg::F32 => Some(Dtype::Float32),
            DtypeArg::Bf16 => Some(Dtype::Bfloat16),
            DtypeArg::F16 => Some(Dtype::Float16),
        }
    }
}

/// How to generate.
#[derive(Args, Debug)]
pub(crate) struct SamplingArgs {
    /// The most tokens to generate [default: 2048].
    #[arg(long, help_heading = ANSWER, value_name = "N", value_parser = at_least_one)]
    max_tokens: Option<usize>,
    /// Sampling temperature; 0 always takes the most probable token [default: the model's advice, else
    /// 0.1].
    #[arg(long, value_name = "T", value_parser = temperature)]
    temp: Option<f32>,
    /// Seed of the random numbers [default: another one each time].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Draw only from the K most probable tokens [default: the model's advice, else all].
    #[arg(long, value_name = "K", value_parser = at_least_one)]
    top_k: Option<usize>,
    /// Draw only from the most probable tokens that together reach P, above 0 and at most 1 [default: the
    /// model's advice, else 1].
    #[arg(long, value_name = "P", value_parser = top_p)]
    top_p: Option<f32>,
    /// Draw only from tokens at least P times as probable as the most probable, from 0 to 1 [default: the
    /// model's advice, else 0].
    #[arg(long, value_name = "P", value_parser = share)]
    min_p: Option<f32>,
    /// Divide the logits of the last 20 tokens by X, so that they come again less often; 1 does nothing
    /// [default: the model's advice, else 1].
    #[arg(long, value_name = "X", value_parser = above_zero)]
    repetition_penalty: Option<f32>,
    /// Leave out what the model's generation_config.json advises (`ml info` shows it).
    #[arg(long)]
    no_advice: bool,
    /// End the answer before this text; may be given several times.
    #[arg(long, help_heading = ANSWER, value_name = "TEXT", allow_hyphen_values = true, value_parser = not_empty)]
    stop: Vec<String>,
    /// End the answer before this token; may be given several times.
    #[arg(long, help_heading = ANSWER, value_name = "ID")]
    stop_id: Vec<u32>,
    /// Go on after an end-of-sequence token.
    #[arg(long, help_heading = ANSWER)]
    ignore_eos: bool,
    /// Prompt tokens to run at once, at most 8192: fewer need less memory [default: 512 on a CPU, else 2048].
    #[arg(long, help_heading = PROMPT, value_name = "N", value_parser = at_least_one)]
    prefill_chunk: Option<usize>,
    /// Whether a model that can reason before it answers does so [default: its template's].
    #[arg(long, help_heading = PROMPT, value_enum, value_name = "ON|OFF")]
    thinking: Option<OnOff>,
    /// Let the model think for N tokens at most, then have it answer [default: as long as it likes].
    #[arg(long, help_heading = PROMPT, value_name = "N")]
    reasoning_budget: Option<usize>,
    /// Tools that the model may call: a file with a JSON list of them, as chat APIs write them. `ml chat` prints a
    /// call as a line of JSON and takes the next line as what the tool gave; of `ml generate` it is part of the text.
    #[arg(long, help_heading = PROMPT, value_name = "FILE", value_parser = tools)]
    tools: Option<Tools>,
    /// Whether the model calls one of them: auto leaves it to the model, none keeps it from them, with required it has
    /// to, and with a tool's name it has to call that one [default: auto].
    #[arg(long, help_heading = PROMPT, value_name = "auto|none|required|NAME", value_parser = tool_choice, requires = "tools")]
    tool_choice: Option<ToolChoice>,
    #[command(flatten, next_help_heading = ANSWER)]
    structure: StructureArgs,
    #[command(flatten, next_help_heading = STAGES)]
    stages: StageArgs,
}

/// Objects for a chat template.
#[derive(Clone, Debug)]
struct Tools(Vec<serde_json::Value>);

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnOff {
    On,
    Off,
}

impl SamplingArgs {
    pub(crate) fn options(&self) -> Options {
        let mut options = Options::new()
            .ignore_eos(self.ignore_eos)
            .no_advice(self.no_advice);
        options.max_tokens = self.max_tokens;
        options.temperature = self.temp;
        options.seed = self.seed;
        options.top_k = self.top_k;
        options.top_p = self.top_p;
        options.min_p = self.min_p;
        options.repetition_penalty = self.repetition_penalty;
        options.stop = self.stop.clone();
        options.stop_ids = self.stop_id.clone();
        self.stages.add_to(&mut options);
        options.prefill_chunk = self.prefill_chunk;
        options.enable_thinking = self.thinking.map(|thinking| matches!(thinking, OnOff::On));
        options.reasoning_budget = self.reasoning_budget;
        options.tools = self.tools.clone().map(|tools| tools.0).unwrap_or_default();
        options.tool_choice = self.tool_choice.clone().unwrap_or_default();
        self.structure.apply(&mut options);
        options
    }
}

/// At least one token id.
#[derive(Clone, Debug)]
pub(crate) struct TokenIds(pub(crate) Vec<u32>);

fn token_ids(text: &str) -> Result<TokenIds, String> {
    let id = |part: &str| {
        let part = part.trim();
        part.parse()
            .map_err(|_| format!("{part:?} is no token id; give ids such as 1,2,3"))
    };
    text.split(',')
        .map(id)
        .collect::<Result<_, _>>()
        .map(TokenIds)
}

fn tools(path: &str) -> Result<Tools, String> {
    let text = std::fs::read_to_string(path).map_err(|cause| cause.to_string())?;
    let tools: Vec<serde_json::Value> =
        serde_json::from_str(&text).map_err(|cause| format!("no JSON list: {cause}"))?;
    match tools.iter().find(|tool| !tool.is_object()) {
        Some(other) => Err(format!("a tool is an object, not {other}")),
        None => Ok(Tools(tools)),
    }
}

fn tool_choice(text: &str) -> Result<ToolChoice, String> {
    Ok(match text {
        "auto" => ToolChoice::Auto,
        "none" => ToolChoice::None,
        "required" => ToolChoice::Required,
        "" => return Err("must not be empty".to_owned()),
        name => ToolChoice::Tool(name.to_owned()),
    })
}

fn up_to_20(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number <= 20 => Ok(number),
        _ => Err("must be a whole number from 0 to 20".to_owned()),
    }
}

pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("must be a whole number, 1 or more".to_owned()),
    }
}

fn temperature(text: &str) -> Result<f32, String> {
    number(text, |t| t >= 0.0, "must be a number, 0 or more")
}

pub(crate) fn top_p(text: &str) -> Result<f32, String> {
    number(
        text,
        |p| p > 0.0 && p <= 1.0,
        "must be above 0 and at most 1",
    )
}

pub(crate) fn share(text: &str) -> Result<f32, String> {
    number(text, |p| (0.0..=1.0).contains(&p), "must be from 0 to 1")
}

pub(crate) fn above_zero(text: &str) -> Result<f32, String> {
    number(text, |x| x > 0.0, "must be a number above 0")
}

fn wired_limit(text: &str) -> Result<WiredLimit, String> {
    match text {
        "auto" => Ok(WiredLimit::Auto),
        _ => match gibibytes(text) {
            Ok(bytes) => Ok(WiredLimit::Bytes(bytes)),
            Err(_) => Err("must be auto or a number of GiB, 0 or more".to_owned()),
        },
    }
}

pub(crate) fn gibibytes(text: &str) -> Result<u64, String> {
    let gib = number(text, |gib| gib >= 0.0, "must be a number of GiB, 0 or more")?;
    Ok((f64::from(gib) * f64::from(1 << 30)) as u64)
}

pub(crate) fn number(
    text: &str,
    good: impl Fn(f32) -> bool,
    expected: &str,
) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(number) if number.is_finite() && good(number) => Ok(number),
        _ => Err(expected.to_owned()),
    }
}

pub(crate) fn not_empty(text: &str) -> Result<String, String> {
    if text.is_empty() {
        Err("must not be empty".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_prompt_may_look_like_a_flag_or_a_dash() {
        for prompt in ["-", "-5 + 3?", "--temp"] {
            let cli = Cli::try_parse_from(["ml", "generate", "--model", "d", "--prompt", prompt])
                .unwrap();
            let Command::Generate(args) = cli.command else {
                panic!("{cli:?}")
            };
            assert_eq!(args.input.prompt.as_deref(), Some(prompt));
        }
    }

    #[test]
    fn token_ids_may_have_spaces_and_nothing_else() {
        assert_eq!(token_ids("1, 2,3").unwrap().0, [1, 2, 3]);
        for wrong in ["", "1,,2", "1,x", "-1", "1.5", "99999999999"] {
            assert!(token_ids(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn wired_memory_is_a_number_or_left_to_the_program() {
        assert_eq!(wired_limit("auto"), Ok(WiredLimit::Auto));
        assert_eq!(wired_limit("1.5"), Ok(WiredLimit::Bytes(3 << 29)));
        let error = wired_limit("all").unwrap_err();
        assert_eq!(error, "must be auto or a number of GiB, 0 or more");
    }
}
