//! Other engines: installed from pinned versions under `target/bench/peers`, run as processes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::machine::check_disk;
use crate::process::root;
use bench_shapes::{Shape, Weights, total_bytes};

/// Another engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    #[value(name = "llama.cpp")]
    LlamaCpp,
    #[value(name = "mlx-lm")]
    MlxLm,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LlamaCpp => "llama.cpp",
            Self::MlxLm => "mlx-lm",
        }
    }

    /// Its types for these weights. With several, each figure is compared with the best.
    pub(crate) fn variants(self, weights: Weights) -> &'static [&'static str] {
        match (self, weights) {
            (Self::LlamaCpp, Weights::Q4) => &["q4_0", "q4_k_m"],
            (Self::LlamaCpp, Weights::Q8) => &["q8_0"],
            (Self::LlamaCpp, Weights::Bf16) => &["bf16"],
            (Self::MlxLm, Weights::Q4) => &["q4"],
            (Self::MlxLm, Weights::Q8) => &["q8"],
            (Self::MlxLm, Weights::Bf16) => &["bf16"],
        }
    }

    /// The name of its folder, and how it is built: for the machine, unless our kernels are restricted to an
    /// instruction set.
    ///
    /// # Errors
    /// When it is not built for that one alone.
    fn build(self, restricted: Option<&str>) -> Result<(&'static str, &'static str)> {
        Ok(match (self, restricted) {
            (Self::LlamaCpp, Some("avx2")) => (
                "llama.cpp-avx2",
                "-DGGML_NATIVE=OFF -DGGML_SSE42=ON -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON \
                 -DGGML_F16C=ON -DGGML_BMI2=ON",
            ),
            (Self::LlamaCpp, None) => ("llama.cpp", "-DGGML_NATIVE=ON"),
            (Self::LlamaCpp, Some(isa)) => bail!("it is not built here for {isa} alone"),
            (Self::MlxLm, _) => ("mlx-lm", ""),
        })
    }

    /// Whether several requests at the same time are timed.
    pub(crate) fn has_streams(self) -> bool {
        self == Self::LlamaCpp
    }

    /// How long one repetition may take. mlx-lm does not finish in minutes on most processors.
    pub(crate) fn limit(self) -> Duration {
        match self {
            Self::LlamaCpp => Duration::from_secs(3600),
            Self::MlxLm => Duration::from_secs(180),
        }
    }
}

/// A peer that is ready to run.
pub(crate) struct Installed {
    pub(crate) peer: Peer,
    python: PathBuf,
    pub(crate) versions: Vec<String>,
}

fn scripts() -> PathBuf {
    root().join("tools/peers")
}

/// Makes the virtual environment of `peer`, for kernels that may be restricted to an instruction set, if it is
/// not there, or its pins or how it is built changed.
///
/// # Errors
/// When there is no Python, the index cannot be reached or the engine does not compile; the log's
/// path is in the error.
pub(crate) fn install(peer: Peer, restricted: Option<&str>, bench: &Path) -> Result<Installed> {
    let (name, cmake) = peer.build(restricted)?;
    let pins = scripts().join(format!("{}.txt", peer.name()));
    let versions = std::fs::read_to_string(&pins).with_context(|| pins.display().to_string())?;
    let wanted = format!("{versions}{cmake}\n");
    let dir = bench.join("peers").join(name);
    let python = dir.join("bin/python");
    let stamp = dir.join("installed.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(Installed::new(peer, python, &versions));
    }
    std::fs::create_dir_all(bench.join("peers"))?;
    let log = bench.join("peers").join(format!("{name}.log"));
    eprintln!(
        "installing {name}, which may take minutes; log: {}",
        log.display()
    );
    let out = File::create(&log).with_context(|| log.display().to_string())?;
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(&dir);
    let mut pip = Command::new(&python);
    // What pip built before may be for other instructions, which it does not look at.
    pip.args(["-m", "pip", "install", "--disable-pip-version-check"])
        .args(["--no-cache-dir", "-r"])
        .arg(&pins);
    pip.env("CMAKE_ARGS", cmake);
    for mut step in [venv, pip] {
        step.stdout(out.try_clone()?).stderr(out.try_clone()?);
        let status = step.status().context("cannot start python3")?;
        if !status.success() {
            bail!(
                "{name} cannot be installed ({status}); see {}",
                log.display()
            );
        }
    }
    std::fs::write(&stamp, &wanted)?;
    Ok(Installed::new(peer, python, &versions))
}

impl Installed {
    fn new(peer: Peer, python: PathBuf, pins: &str) -> Self {
        let versions = pins.lines().map(str::to_owned).collect();
        Self {
            peer,
            python,
            versions,
        }
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(&self.python);
        command
            .arg(scripts().join(name))
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// The weights that a variant runs on: our own directory, or a GGUF file that is made here if
    /// it is not there.
    pub(crate) fn weights(
        &self,
        shape: &Shape,
        variant: &str,
        ours: &Path,
        models: &Path,
    ) -> Result<PathBuf> {
        if self.peer == Peer::MlxLm {
            return Ok(ours.to_owned());
        }
        let path = models.join(format!("{}-{variant}.gguf", shape.name));
        if path.exists() {
            return Ok(path);
        }
        // The float16 that llama.cpp quantizes from, and at most as much again.
        check_disk(models, 2 * total_bytes(&shape.tensors(Weights::Bf16)))?;
        eprintln!("writing random weights: {}", path.display());
        let log = models.join("make_gguf.log");
        let out = File::create(&log)?;
        let mut make = self.script("make_gguf.py");
        make.arg(serde_json::to_string(shape)?)
            .arg(variant)
            .arg(&path);
        make.stdout(out.try_clone()?).stderr(out);
        if !make
            .status()
            .context("cannot start the peer's Python")?
            .success()
        {
            bail!("{} cannot be made; see {}", path.display(), log.display());
        }
        Ok(path)
    }

    /// The command of one repetition.
    pub(crate) fn command(&self, weights: &Path, device: &str) -> Command {
        match self.peer {
            Peer::LlamaCpp => {
                let mut command = self.script("llama_cpp_run.py");
                command.arg(weights);
                command
            }
            Peer::MlxLm => {
                let mut command = self.script("mlx_lm_run.py");
                let device = if device == "cpu" { "cpu" } else { "gpu" };
                command.arg(weights).args(["--device", device]);
                command
            }
        }
    }
}
