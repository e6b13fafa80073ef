//! `cargo xtask test-clients`: programs of others, unchanged and pinned, talk to `ml serve`.
//!
//! Nothing leaves the machine but what installs them: models are the demo ones and random weights, tokenizers are
//! files, and the clients' hubs are told to be offline. Where the clients cannot be installed, `cargo xtask test` says
//! so and goes on, but never in CI.
//!
//! No check depends on how fast the machine is: an answer that has to last does so because its model knows no end.

mod install;
mod server;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use self::install::Installed;
use self::server::Server;
use crate::process::{cargo, root, run};
use crate::random_model;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The Python that makes the virtual environment: 3.11 or newer
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// The `ml` to test [default: the one of this checkout, built as tests are]
    #[arg(long)]
    ml: Option<PathBuf>,
    /// Only these clients, such as openai-python; may be given several times
    #[arg(long, value_name = "CLIENT")]
    only: Vec<String>,
    /// Write what the clients sent into this folder, without their texts: see tools/clients/README.md
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
}

/// The clients, and the script that has each do its work.
const CLIENTS: &[(&str, &str)] = &[
    ("openai-python", "openai_client.py"),
    ("anthropic-python", "anthropic_client.py"),
    ("langchain-python", "langchain_client.py"),
    ("lm-eval", "lm_eval_client.py"),
    ("openai-node", "openai_client.mjs"),
    ("ai-node", "ai_client.mjs"),
];

pub(crate) fn run_task(args: &Args) -> Result<()> {
    let installed = installed(&args.python)?;
    let ml = match &args.ml {
        Some(ml) => std::path::absolute(ml)?,
        None => {
            run(&mut cargo(&["build", "--locked", "--package", "ml-cli"]))?;
            built()
        }
    };
    let chosen = |(name, _): &&(&str, &str)| {
        args.only.is_empty() || args.only.iter().any(|only| only == name)
    };
    let clients: Vec<_> = CLIENTS.iter().filter(chosen).collect();
    if clients.len() < args.only.len() {
        let known: Vec<_> = CLIENTS.iter().map(|(name, _)| *name).collect();
        bail!("--only: there are {}", known.join(", "));
    }
    test(&ml, &installed, &clients, args.record.as_deref())
}

/// Has all of them talk to the `ml` that `cargo test` has built, where they can be installed; where they cannot it says
/// so, which in CI is an error.
pub(crate) fn run_where_possible() -> Result<()> {
    match installed(Path::new("python3")) {
        Ok(installed) => test(
            &built(),
            &installed,
            &CLIENTS.iter().collect::<Vec<_>>(),
            None,
        ),
        Err(missing) if std::env::var_os("CI").is_none() => {
            eprintln!("clients of others were not tested: {missing:#}");
            Ok(())
        }
        Err(missing) => Err(missing),
    }
}

fn built() -> PathBuf {
    target().join("debug/ml")
}

fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    root().join(target)
}

fn sources() -> PathBuf {
    root().join("tools/clients")
}

fn installed(python: &Path) -> Result<Installed> {
    install::install(python, &sources(), &target().join("clients"))
}

fn test(
    ml: &Path,
    installed: &Installed,
    clients: &[&(&str, &str)],
    kept: Option<&Path>,
) -> Result<()> {
    let work = tempfile::tempdir().context("cannot make a temporary folder")?;
    let [random, endless, plain] =
        ["random", "endless", "plain"].map(|name| work.path().join(name));
    random_model::write(&random, 65_536)?;
    random_model::write_endless(&endless)?;
    let mut expand = Command::new(&installed.python);
    run(expand.arg(sources().join("lm_eval/expand.py")).arg(&plain))?;

    let demo = root().join("assets/models/qwen3-demo");
    let models = [
        ("qwen3-demo", demo.as_path()),
        ("endless", &endless),
        ("random", &random),
        ("plain", &plain),
    ];
    let server = Server::of_models(ml, &models, &["--test-force-tools"])?;
    // One that asks for a key and takes one answer at a time.
    let locked = ["--api-key", "secret", "--max-requests", "1"];
    let locked = Server::of_models(ml, &models[..2], &locked)?;
    for (name, script) in clients {
        let began = Instant::now();
        let recorder = match kept {
            None => None,
            Some(dir) => Some(record(installed, &server.url, dir, name)?),
        };
        let mut command = client(installed, script);
        command
            .env("ML_URL", &recorder.as_ref().unwrap_or(&server).url)
            .env("ML_LOCKED_URL", &locked.url)
            .env("ML_WORK", work.path());
        run(&mut command)?;
        eprintln!("{name}: {:.1} s", began.elapsed().as_secs_f64());
    }
    Ok(())
}

/// The command that has a client do its work, and keeps it from all else.
fn client(installed: &Installed, script: &str) -> Command {
    let mut command = match script.ends_with(".py") {
        true => {
            let mut command = Command::new(&installed.python);
            command.arg(sources().join("python").join(script));
            command
        }
        false => {
            let mut command = Command::new("node");
            command.arg(installed.node.join(script));
            command
        }
    };
    for name in [
        "HF_HUB_OFFLINE",
        "HF_DATASETS_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "DO_NOT_TRACK",
    ] {
        command.env(name, "1");
    }
    for name in [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ] {
        command.env_remove(name);
    }
    // Beside the packages, which are many: what is compiled once is not again, and nothing lies among the sources.
    command.env("PYTHONPYCACHEPREFIX", target().join("clients/pycache"));
    command
}

/// What stands between a client and the server, and keeps what is asked.
fn record(installed: &Installed, server: &str, dir: &Path, name: &str) -> Result<Server> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let mut recorder = Command::new(&installed.python);
    recorder.arg(sources().join("recorder.py"));
    recorder.args(["--server", server, "--to"]);
    recorder.arg(dir.join(name).with_extension("jsonl"));
    Server::start(recorder)
}
