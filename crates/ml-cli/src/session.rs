//! Opening a model, with its story on standard error: the device, progress, and what was loaded.

use std::io::{IsTerminal, Write, stderr};
use std::path::Path;
use std::time::{Duration, Instant};

use ml_backend::{DeviceInfo, Metrics, MlxBackend, MlxBackendBuilder, Progress};

use crate::args::{LoadArgs, ModelArgs, WiredLimit};
use crate::models;
use crate::output::note;
use crate::prefix_args::PrefixArgs;

/// Loads the model that `args` names.
pub(crate) fn open(args: &ModelArgs) -> anyhow::Result<MlxBackend> {
    Ok(load(
        &args.load,
        &models::folder(&args.model)?,
        &mut |_| (),
        |it| it,
    )?)
}

/// The same, and keeps what its prompts make.
pub(crate) fn open_with(args: &ModelArgs, prefixes: &PrefixArgs) -> anyhow::Result<MlxBackend> {
    let folder = models::folder(&args.model)?;
    Ok(load(&args.load, &folder, &mut |_| (), |it| {
        prefixes.add_to(it)
    })?)
}

/// Loads the model of a directory, as `args` and `more` say; `progress` is told too how far that is.
pub(crate) fn load(
    args: &LoadArgs,
    dir: &Path,
    progress: &mut dyn FnMut(Progress),
    more: impl for<'a> Fn(MlxBackendBuilder<'a>) -> MlxBackendBuilder<'a>,
) -> ml_backend::Result<MlxBackend> {
    let mut meter = Meter::new();
    let mut builder = MlxBackend::builder()
        .device(args.device())
        .dtype(args.dtype())
        .plain_mlx(args.plain_mlx)
        .progress(|step| {
            match &step {
                Progress::Device(device) => note(&device_line(device)),
                Progress::Weights { bytes, total } => meter.show(*bytes, *total),
                _ => {}
            }
            progress(step);
        });
    if let Some(threads) = args.threads {
        builder = builder.threads(threads.into());
    }
    if let Some(bytes) = args.cache_limit {
        builder = builder.cache_limit(bytes);
    }
    if let Some(bytes) = args.memory_limit {
        builder = builder.memory_limit(bytes);
    }
    builder = match args.wired_limit {
        None => builder,
        Some(WiredLimit::Auto) => builder.auto_wired_limit(),
        Some(WiredLimit::Bytes(bytes)) => builder.wired_limit(bytes),
    };
    let backend = more(builder).load(dir)?;
    let info = backend.info();
    note(&format!(
        "loaded {}: {} layers, {}, {:.1} s",
        dir.display(),
        info.model.layers,
        megabytes(info.held_bytes),
        info.load_time.as_secs_f64(),
    ));
    Ok(backend)
}

/// The first line on standard error.
pub(crate) fn device_line(device: &DeviceInfo) -> String {
    format!(
        "device {} ({}), MLX {}",
        device.kind, device.name, device.mlx_version
    )
}

/// One line with the figures of a run.
pub(crate) fn figures(metrics: &Metrics, reason: &str) -> String {
    let rate = |tokens, rate: Option<f64>| match rate {
        Some(rate) => format!("{tokens} tokens at {rate:.1} a second"),
        None => format!("{tokens} tokens"),
    };
    let first = metrics.time_to_first_token.unwrap_or_default();
    let known = match metrics.reused_tokens {
        0 => String::new(),
        reused => format!(" after {reused} known ones"),
    };
    format!(
        "prompt {}{known}; generated {}; first token after {:.2} s; peak memory {}; ended by {reason}",
        rate(
            metrics.prompt_tokens - metrics.reused_tokens,
            metrics.prefill_tokens_per_second
        ),
        rate(metrics.generated_tokens, metrics.decode_tokens_per_second),
        first.as_secs_f64(),
        megabytes(metrics.peak_memory_bytes),
    )
}

/// Bytes in units of 10⁶ bytes.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// A line that overwrites itself, on a terminal, once loading takes long enough to wonder.
struct Meter {
    enabled: bool,
    shown: Instant,
    visible: bool,
}

impl Meter {
    fn new() -> Self {
        Self {
            enabled: stderr().is_terminal(),
            shown: Instant::now(),
            visible: false,
        }
    }

    fn show(&mut self, bytes: u64, total: u64) {
        const PAUSE: Duration = Duration::from_millis(200);
        if !self.enabled || self.shown.elapsed() < PAUSE {
            return;
        }
        self.shown = Instant::now();
        self.visible = true;
        self.write(&format!(
            "loading {} of {}",
            megabytes(bytes),
            megabytes(total)
        ));
    }

    fn write(&self, text: &str) {
        let mut out = stderr().lock();
        // To the line's start, and clear it.
        let _ = write!(out, "\r\x1b[K{text}").and_then(|()| out.flush());
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if self.visible {
            self.write("");
        }
    }
}
