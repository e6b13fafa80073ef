//! `cargo xtask bench`: this project's speed, next to the machine's limit and to other engines.
//!
//! Machines are noisy, so engines run in turn, round after round, and medians are compared; the
//! memory's read bandwidth, which bounds decoding, is measured in every round too. Every
//! repetition is a process of its own. What is made on the way (random weights, the peers) stays
//! under `target/bench`.

mod engine;
mod machine;
mod peers;
mod random_model;
mod report;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bench_shapes::{Shape, Tensor, Weights};
use build_scripts::Backend;
use serde_json::{Value, json};

use self::machine::{Machine, check_memory, output};
use self::peers::{Installed, Peer};
use self::report::{Failure, Kind, Needed, OURS, Run, median};
use crate::process::{cargo, root, run};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Random weights of these published dimensions: qwen3-0.6b, qwen3-1.7b, qwen3-4b, qwen3-8b,
    /// gemma3-270m, gemma3-1b or gemma3-4b
    #[arg(long, default_value = "qwen3-0.6b", conflicts_with = "model")]
    shape: Shape,
    /// A model directory instead; it has the weights that it has
    #[arg(long, conflicts_with = "weights")]
    model: Option<PathBuf>,
    /// Types of the weights, a row each
    #[arg(long, value_delimiter = ',', default_value = "q4,q8,bf16")]
    weights: Vec<Weights>,
    /// Tokens of the prompt
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    prompt: u32,
    /// Tokens generated after the first
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    r#gen: u32,
    /// What to run on
    #[arg(long, default_value = "auto", value_parser = ["auto", "cpu", "cuda", "metal"])]
    device: String,
    /// Threads on the CPU [default: one a physical core]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// Rounds, of which medians are taken
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Requests at the same time, a row each: the rates are those of all together
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    streams: Vec<u32>,
    /// Engines to time beside this project; installed at first
    #[arg(long, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Keeps every run, with hardware, versions and the command
    #[arg(long)]
    json: Option<PathBuf>,
}

impl Args {
    /// Whether memory is a GPU's and not this machine's.
    fn on_gpu(&self) -> bool {
        self.device == "cuda"
    }
}

/// The weights of one row.
struct Work {
    shape: Shape,
    kind: Kind,
    tensors: Vec<Tensor>,
    /// `None` until they are written.
    dir: Option<PathBuf>,
}

pub(crate) fn run_task(args: &Args) -> Result<()> {
    let works = works(args)?;
    let tokens = u64::from(args.prompt) + u64::from(args.r#gen) + 1;
    // What a GPU has room for, the run itself finds out.
    for work in works.iter().filter(|_| !args.on_gpu()) {
        let what = format!("{} in {}", work.shape.name, work.kind);
        check_memory(
            &what,
            bench_shapes::total_bytes(&work.tensors),
            u64::from(work.kind.streams) * work.shape.cache_bytes(tokens),
        )?;
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root().join("target"), PathBuf::from);
    let bench = Bench::prepare(args, root().join(target))?;
    bench.run(works)
}

/// What is to be timed, from the arguments alone and the headers of files.
fn works(args: &Args) -> Result<Vec<Work>> {
    if let Some(dir) = &args.model {
        let tensors = bench_shapes::read_dir(dir)?;
        let (shape, weights) = Shape::read(dir, bench_shapes::is_tied(&tensors))?;
        let dir = Some(std::path::absolute(dir)?);
        let work = |streams: &u32| Work {
            shape: shape.clone(),
            kind: Kind {
                weights,
                streams: *streams,
            },
            tensors: tensors.clone(),
            dir: dir.clone(),
        };
        return Ok(args.streams.iter().map(work).collect());
    }
    let work = |weights: Weights, streams: u32| Work {
        shape: args.shape.clone(),
        kind: Kind { weights, streams },
        tensors: args.shape.tensors(weights),
        dir: None,
    };
    let rows = args.weights.iter().flat_map(|weights| {
        let streams = args.streams.iter();
        streams.map(move |streams| work(*weights, *streams))
    });
    Ok(rows.collect())
}

/// How fast memory was read in one round of a row.
#[derive(serde::Serialize)]
struct Bandwidth {
    #[serde(flatten)]
    kind: Kind,
    /// Whose memory.
    device: String,
    bytes_per_second: f64,
    /// Of a processor.
    bytes_per_second_one_thread: Option<f64>,
}

/// What every round needs.
struct Bench<'a> {
    args: &'a Args,
    folder: PathBuf,
    runner: PathBuf,
    peers: Vec<Result<Installed, (Peer, String)>>,
    threads: u64,
    /// The instruction set of our kernels; `None` on a GPU.
    isa: Option<String>,
}

impl<'a> Bench<'a> {
    fn prepare(args: &'a Args, target: PathBuf) -> Result<Self> {
        if args.device == "cuda" {
            crate::build::run(&crate::build::Args {
                backend: Some(Backend::Cuda),
            })?;
        }
        run(&mut cargo(&[
            "build",
            "--release",
            "--package",
            "ml-backend",
            "--example",
            "bench_run",
        ]))?;
        let folder = target.join("bench");
        std::fs::create_dir_all(folder.join("models"))
            .with_context(|| folder.display().to_string())?;
        let mut bench = Self {
            args,
            runner: target.join("release/examples/bench_run"),
            peers: Vec::new(),
            folder,
            threads: 0,
            isa: None,
        };
        let memory = bench.read_memory()?;
        bench.threads = memory["threads"].as_u64().unwrap_or(1);
        bench.isa = memory["isa"].as_str().map(str::to_owned);
        let restricted = bench
            .isa
            .as_deref()
            .filter(|isa| memory["best_isa"] != *isa);
        let install = |peer: &Peer| {
            peers::install(*peer, restricted, &bench.folder).map_err(|error| {
                eprintln!("{}: {error:#}", peer.name());
                (*peer, format!("{error:#}"))
            })
        };
        bench.peers = args.peers.iter().map(install).collect();
        Ok(bench)
    }

    fn run(&self, mut works: Vec<Work>) -> Result<()> {
        let (mut runs, mut rows) = (Vec::new(), Vec::new());
        let mut bandwidths = Vec::new();
        let mut failures = Vec::new();
        for work in &mut works {
            self.rounds(work, &mut runs, &mut bandwidths, &mut failures)?;
        }
        for work in &works {
            let half = u64::from(self.args.prompt) + u64::from(self.args.r#gen) / 2;
            let needed = Needed {
                weights: bench_shapes::decode_bytes(&work.tensors, work.shape.vocab()),
                caches: work.shape.cache_bytes(half),
            };
            // The rounds of this row alone: a shared machine's memory is not equally fast for long.
            // And on a GPU the memory of the host does not count.
            let ran_on = |device: &str| {
                let mine = |run: &&Run| run.engine == OURS && run.kind == work.kind;
                runs.iter()
                    .filter(mine)
                    .all(|run| run.line["device"] == device)
            };
            let own = bandwidths
                .iter()
                .filter(|b| b.kind == work.kind && ran_on(&b.device));
            let limit = median(own.map(|b| b.bytes_per_second).collect());
            let (peers, kind) = (&self.args.peers, work.kind);
            rows.push(report::row(kind, needed, limit, &runs, peers, &failures));
        }
        let rate =
            |of: fn(&Bandwidth) -> Option<f64>| median(bandwidths.iter().filter_map(of).collect());
        let machine = Machine::current();
        let device = runs
            .iter()
            .find_map(|run| run.line["device_name"].as_str())
            .filter(|_| self.args.on_gpu());
        let one_thread = rate(|b| b.bytes_per_second_one_thread).map_or(String::new(), |rate| {
            format!(" ({} with one thread)", gigabytes(Some(rate)))
        });
        let name = works.first().map_or("", |work| &work.shape.name);
        let isa = (self.isa.as_ref()).map_or(String::new(), |isa| format!(" with {isa}"));
        println!(
            "{name}, prompt {}, {} generated, {} threads, medians of {}; {}{isa}, which reads {} GB/s{one_thread}\n",
            self.args.prompt,
            self.args.r#gen,
            self.threads,
            self.args.repeat,
            device.unwrap_or(&machine.cpu),
            gigabytes(rate(|b| Some(b.bytes_per_second))),
        );
        print!("{}", report::table(&rows));
        if let Some(path) = &self.args.json {
            let versions = self.peers.iter().flatten().flat_map(|peer| &peer.versions);
            let file = json!({
                "command": command_line(),
                "commit": output("git", &["-C", &root().to_string_lossy(), "rev-parse", "HEAD"]),
                "rustc": output("rustc", &["--version"]),
                "peers": versions.collect::<Vec<_>>(),
                "machine": machine,
                "threads": self.threads,
                "isa": self.isa,
                "shape": works.first().map(|work| &work.shape),
                "bandwidth": bandwidths,
                "rows": rows,
                "runs": runs,
            });
            let text = serde_json::to_string_pretty(&file)? + "\n";
            std::fs::write(path, text)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// All rounds of one row: the bandwidth, ours, each peer, and again.
    fn rounds(
        &self,
        work: &mut Work,
        runs: &mut Vec<Run>,
        bandwidths: &mut Vec<Bandwidth>,
        failures: &mut Vec<Failure>,
    ) -> Result<()> {
        let models = self.folder.join("models");
        let (kind, weights) = (work.kind, work.kind.weights);
        // On a GPU ours draws its weights there; a peer needs them in files.
        let drawn = self.args.on_gpu() && work.dir.is_none();
        let dir = match &work.dir {
            Some(dir) => dir.clone(),
            None if drawn && self.peers.is_empty() => PathBuf::new(),
            None => random_model::ensure(&work.shape, weights, &models)?,
        };
        let mut engines = Vec::new();
        for installed in &self.peers {
            let ready = match installed {
                Ok(installed) => installed
                    .variants(work, &dir, &models)
                    .map_err(|e| (installed.peer, format!("{e:#}"))),
                Err((peer, reason)) => Err((*peer, reason.clone())),
            };
            match ready {
                Ok(ready) => engines.extend(ready),
                Err((peer, reason)) => failures.push(Failure { peer, kind, reason }),
            }
        }
        for round in 0..self.args.repeat as usize {
            bandwidths.push(self.bandwidth(kind)?);
            let mut ours = Command::new(&self.runner);
            ours.args(["--device", &self.args.device]);
            if drawn {
                let weights = weights.to_string();
                ours.args(["--shape", &work.shape.name, "--weights", &weights]);
            } else {
                ours.arg(&dir);
            }
            let line = self.repetition(ours, OURS, None, kind, Duration::MAX)?;
            let device = line["device"].as_str().unwrap_or("cpu").to_owned();
            runs.push(Run {
                engine: OURS,
                kind,
                variant: weights.to_string(),
                round,
                line,
            });
            let mut broken = Vec::new();
            for (i, (installed, variant, path)) in engines.iter().enumerate() {
                let peer = installed.peer;
                let command = installed.command(path, &device);
                match self.repetition(
                    command,
                    peer.name(),
                    Some((&work.shape.name, variant)),
                    kind,
                    peer.limit(),
                ) {
                    Ok(line) => runs.push(Run {
                        engine: peer.name(),
                        kind,
                        variant: (*variant).to_owned(),
                        round,
                        line,
                    }),
                    Err(error) => {
                        let reason = format!("{variant}: {error:#}");
                        eprintln!("{}: {reason}", peer.name());
                        failures.push(Failure { peer, kind, reason });
                        broken.push(i);
                    }
                }
            }
            // What failed once is not waited for again.
            for i in broken.into_iter().rev() {
                engines.remove(i);
            }
        }
        Ok(())
    }

    /// Runs one repetition; a peer is told what to call its shape and weights in its line.
    fn repetition(
        &self,
        mut command: Command,
        engine: &str,
        labels: Option<(&str, &str)>,
        kind: Kind,
        limit: Duration,
    ) -> Result<Value> {
        command.args(["--prompt", &self.args.prompt.to_string()]);
        command.args(["--gen", &self.args.r#gen.to_string()]);
        command.args(["--threads", &self.threads.to_string()]);
        if kind.streams > 1 {
            command.args(["--streams", &kind.streams.to_string()]);
        }
        if let Some((shape, variant)) = labels {
            command.args(["--shape", shape, "--weights", variant]);
        }
        let line = engine::run(command, limit, &self.log(engine))?;
        let variant = labels.map_or(kind.weights.to_string(), |(_, variant)| variant.to_owned());
        let variant = Kind::named(&variant, kind.streams);
        let rate = |key: &str| line[key].as_f64().unwrap_or(f64::NAN);
        let (prefill, decode) = (rate("prefill_tps"), rate("decode_tps"));
        eprintln!(
            "{engine:>10} {variant:>10}: prefill {prefill:.1} tok/s, decode {decode:.1} tok/s"
        );
        Ok(line)
    }

    fn bandwidth(&self, kind: Kind) -> Result<Bandwidth> {
        let line = self.read_memory()?;
        let all = line["bytes_per_second"].as_f64().context("no rate")?;
        eprintln!("    memory: {:.1} GB/s", all / 1e9);
        Ok(Bandwidth {
            kind,
            device: line["device"].as_str().context("no device")?.to_owned(),
            bytes_per_second: all,
            bytes_per_second_one_thread: line["bytes_per_second_one_thread"].as_f64(),
        })
    }

    fn read_memory(&self) -> Result<Value> {
        let mut command = Command::new(&self.runner);
        command.args(["--bandwidth", "--threads", &self.args.threads.to_string()]);
        command.args(["--device", &self.args.device]);
        engine::run(command, Duration::MAX, &self.log("bandwidth"))
    }

    fn log(&self, engine: &str) -> PathBuf {
        self.folder.join(format!("{engine}.log"))
    }
}

impl Installed {
    /// Every variant of these weights, ready to run.
    fn variants(
        &self,
        work: &Work,
        ours: &Path,
        models: &Path,
    ) -> Result<Vec<(&Self, &'static str, PathBuf)>> {
        ensure!(
            work.kind.streams == 1 || self.peer.has_streams(),
            "it is timed with one request only"
        );
        let ready = |variant: &&'static str| {
            Ok((
                self,
                *variant,
                self.weights(&work.shape, variant, ours, models)?,
            ))
        };
        self.peer
            .variants(work.kind.weights)
            .iter()
            .map(ready)
            .collect()
    }
}

fn gigabytes(rate: Option<f64>) -> String {
    rate.map_or("-".to_owned(), |rate| format!("{:.1}", rate / 1e9))
}

/// The command as one types it.
fn command_line() -> String {
    let args = std::env::args().skip(1).collect::<Vec<_>>();
    format!("cargo xtask {}", args.join(" "))
}
