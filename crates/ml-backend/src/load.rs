//! From a directory to a running engine.
//!
//! What the files alone can tell (a missing file, a damaged checkpoint, an unknown architecture) is
//! found out first, on the caller's thread and without MLX: such an error comes in milliseconds,
//! and the same on a machine without the native library.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use kernels::{Cpu, Isa, graph};
use mlx_core::device;
use mlx_core::memory;
use models::tokenizer::{StreamDecoder, Tokenizer};
use models::{LoadOptions, LoadProgress, Model};

use crate::account::Share;
use crate::engine::Engine;
use crate::handle::{Loaded, MlxBackend};
use crate::memory::{Kept, WiredLimit, check_room, megabytes};
use crate::mlx_model::MlxModel;
use crate::plan::ModelLimits;
use crate::scheduler::Service;
use crate::text::{Decoder, Vocabulary};
use crate::{Device, DeviceInfo, DeviceKind, Dtype, Error, MemoryLimits, ModelInfo, Result};

/// How far loading has come.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Progress {
    /// The device is open.
    Device(DeviceInfo),
    /// All headers of the checkpoint were read and agree with its configuration.
    Opened {
        /// Weight files.
        files: usize,
        /// Bytes of the tensors that will be used.
        bytes: u64,
    },
    /// Another part of the model is in place.
    Weights {
        /// Bytes of the tensors in place.
        bytes: u64,
        /// Bytes of all tensors that will be used.
        total: u64,
    },
}

/// What was loaded, and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoadedModel {
    /// The directory.
    pub dir: PathBuf,
    /// The model: layers, bytes, quantization, context. Its `dtype` is the one in use.
    pub model: ModelInfo,
    /// Bytes of the weights as they are held, which on a CPU can be fewer than `model.weight_bytes`:
    /// bfloat16 matrices are held in 12 bits an element there, without loss.
    pub held_bytes: u64,
    /// What it runs on.
    pub device: DeviceInfo,
    /// The memory limits as they were set, none above what the device has.
    pub limits: MemoryLimits,
    /// How long loading took.
    pub load_time: Duration,
}

/// Chooses how [`MlxBackend`] loads a model. Made by [`MlxBackend::builder`].
#[derive(Default)]
pub struct MlxBackendBuilder<'a> {
    setup: Setup,
    progress: Option<Box<dyn FnMut(Progress) + 'a>>,
}

/// What the builder collects for the engine thread.
#[derive(Clone, Copy, Default)]
struct Setup {
    device: Device,
    dtype: Option<Dtype>,
    cache_limit: Option<u64>,
    memory_limit: Option<u64>,
    wired_limit: Option<WiredLimit>,
    threads: Option<usize>,
    plain_mlx: bool,
    random_weights: bool,
    encode_bf16: Option<bool>,
    copy_weights: bool,
    at_once: Option<usize>,
    prompt_turn: Option<Duration>,
    queue: Option<usize>,
}

/// See [`MlxBackendBuilder::prompt_turn`].
const PROMPT_TURN: Duration = Duration::from_millis(40);

/// Requests that may wait, unless told.
const DEFAULT_QUEUE: usize = 1024;

impl Setup {
    /// What was asked for, and for the rest what the device has by default, with `model` loaded and
    /// `active` bytes held by MLX.
    fn limits(
        &self,
        device: &device::DeviceInfo,
        model: &models::ModelInfo,
        active: u64,
    ) -> MemoryLimits {
        let usual = MemoryLimits::of(device);
        let asked = MemoryLimits {
            cache: self.cache_limit.unwrap_or(usual.cache),
            memory: self.memory_limit.unwrap_or(usual.memory),
            wired: self
                .wired_limit
                .and_then(|limit| limit.bytes(device, active, caches_to_come(model))),
        };
        asked.clamped_to(device)
    }
}

/// Bytes of the caches of a whole context; of [`USUAL_CONTEXT`] where the model names none.
fn caches_to_come(model: &models::ModelInfo) -> u64 {
    let tokens = model.context.unwrap_or(USUAL_CONTEXT);
    // MLX's own operations write two sets by turns.
    model.cache_bytes(tokens as u64).saturating_mul(2)
}

/// Tokens.
const USUAL_CONTEXT: usize = 8192;

impl<'a> MlxBackendBuilder<'a> {
    /// The device to run on; [`Device::Auto`] unless told.
    #[must_use]
    pub fn device(mut self, device: Device) -> Self {
        self.setup.device = device;
        self
    }

    /// Dtype of the activations, the caches and all weights that are not quantized. Unless told,
    /// what the checkpoint has.
    #[must_use]
    pub fn dtype(mut self, dtype: Option<Dtype>) -> Self {
        self.setup.dtype = dtype;
        self
    }

    /// Bytes of freed buffers that MLX may keep; 16 GiB unless told, never more than the device has.
    #[must_use]
    pub fn cache_limit(mut self, bytes: u64) -> Self {
        self.setup.cache_limit = Some(bytes);
        self
    }

    /// Bytes that evaluation should stay within; unless told, 24 GiB, on CUDA 19 twentieths of the GPU's
    /// memory, and on Metal the working set that it recommends. Never more than the device has.
    #[must_use]
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.setup.memory_limit = Some(bytes);
        self
    }

    /// Bytes that macOS shall keep resident for the GPU as long as a model is loaded. Not touched unless
    /// told, since it takes that memory from every other program; an error where the device is not Metal.
    #[must_use]
    pub fn wired_limit(mut self, bytes: u64) -> Self {
        self.setup.wired_limit = Some(WiredLimit::Bytes(bytes));
        self
    }

    /// As [`wired_limit`](Self::wired_limit), with what the model and the caches of a whole context take,
    /// at most what Metal recommends. Nothing is wired where that would leave less than 35 percent of the
    /// memory, or 8 GiB, to everything else, for a model of less than an eighth of the memory, and on other
    /// devices. It has not been tried on a Mac yet, so it is not the default.
    #[must_use]
    pub fn auto_wired_limit(mut self) -> Self {
        self.setup.wired_limit = Some(WiredLimit::Auto);
        self
    }

    /// Threads that compute on the CPU; unless told, one for each physical core. They are the
    /// process's: of two loaded models the later one's number counts.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.setup.threads = Some(threads);
        self
    }

    /// Whether to run MLX's own operations only, without this project's kernels: the reference
    /// that the kernels are compared with, and slow on a CPU.
    #[must_use]
    pub fn plain_mlx(mut self, plain: bool) -> Self {
        self.setup.plain_mlx = plain;
        self
    }

    /// Whether to hold bfloat16 matrices in 12 bits an element, without loss, where the device has
    /// kernels for it (NVIDIA GPUs, and CPUs with AVX2 or AVX-512). Unless told, where that makes decoding
    /// faster: on a GPU, whose prompts then pay for making them plain again, for large models. It also
    /// takes a quarter of a GPU's memory less.
    #[must_use]
    pub fn encode_bf16(mut self, encode: bool) -> Self {
        self.setup.encode_bf16 = Some(encode);
        self
    }

    /// Whether to draw the weights on the device instead of reading them, for benchmarks: of the
    /// files only the headers count.
    #[must_use]
    pub fn random_weights(mut self, random: bool) -> Self {
        self.setup.random_weights = random;
        self
    }

    /// Whether to copy the weights into memory of this process. Unless told, a CPU uses them where the system
    /// has mapped their files; other devices have copies in any case.
    ///
    /// A mapped file that somebody shortens in place ends the process (SIGBUS) at the next use of what is
    /// gone, and one that is overwritten in place changes the model. With copies, files may be changed as
    /// soon as `load` has returned. That costs as much memory as the weights take, which the system can
    /// neither drop nor share with other processes, and the time to read them all while loading.
    #[must_use]
    pub fn copy_weights(mut self, copy: bool) -> Self {
        self.setup.copy_weights = copy;
        self
    }

    /// How many requests are served at the same time; unless told, as many as decode in one pass: on a CPU 8,
    /// and 16 if all matrices are quantized; on CUDA 32 to 128, by how the weights are stored, or fewer where a GPU
    /// has little shared memory; one in float16, on Metal, and where a plan has slower steps
    /// ([`ModelInfo::plan`](crate::ModelInfo::plan)). More take turns.
    ///
    /// Each has caches of its own: one joins others only if there is room for them in the
    /// [memory limit](Self::memory_limit), else it waits. Where answers then grow beyond it, the request that came
    /// last is put aside: its caches are freed, and filled again by the same steps once there is memory, so that
    /// its text is the same ([`Metrics::put_aside`](crate::Metrics::put_aside)).
    #[must_use]
    pub fn at_once(mut self, requests: usize) -> Self {
        self.setup.at_once = Some(requests);
        self
    }

    /// How long answers that are under way wait for their next token, about, while a prompt is read: 40 milliseconds
    /// unless told. A chunk that would take longer pauses between two layers. The time of the answers' own step is
    /// part of it, and the few layers that a GPU has been given by then come on top, as do prompts of up to 256
    /// tokens beside the first one. Prompts are read faster, and answers more slowly, the longer it is; what either
    /// gives does not depend on it. On a CPU, where a chunk is one operation, it counts for nothing: there
    /// [`prefill_chunk`](crate::Options::prefill_chunk) says how long answers wait.
    #[must_use]
    pub fn prompt_turn(mut self, turn: Duration) -> Self {
        self.setup.prompt_turn = Some(turn);
        self
    }

    /// How many requests may wait to be taken up, 1024 unless told, and one at the least; what comes then is
    /// [`Error::QueueFull`]. A request waits until the engine has seen it, also if there is a place for it.
    #[must_use]
    pub fn queue(mut self, requests: usize) -> Self {
        self.setup.queue = Some(requests);
        self
    }

    /// Is told how far loading has come, on the calling thread.
    #[must_use]
    pub fn progress(mut self, progress: impl FnMut(Progress) + 'a) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }

    /// Loads the model of `dir` onto an engine thread.
    ///
    /// On a CPU the weights stay in their mapped files: replace these by renaming others over them, and do
    /// not write to them while the model is loaded, or ask for [`copy_weights`](Self::copy_weights).
    ///
    /// The first load of a process on CUDA sets environment variables of MLX's that are not set yet
    /// (`MLX_ENABLE_TF32`, `MLX_USE_CUDA_GRAPHS`, `MLX_ENABLE_CACHE_THRASHING_CHECK`). Where threads of
    /// foreign code may read the environment at that moment, call [`device_info`] before there are any, or set
    /// the variables from outside.
    ///
    /// # Errors
    /// A directory that is no model's or is damaged, an architecture that is not supported, a
    /// missing accelerator or native library, a GPU or a Mac with too little memory: each says what to do.
    pub fn load(mut self, dir: impl AsRef<Path>) -> Result<MlxBackend> {
        let started = Instant::now();
        let dir = dir.as_ref();
        let info = models::ModelInfo::read(dir)?;
        let tokenizer = open_tokenizer(dir)?;

        let (setup, path) = (self.setup, dir.to_owned());
        let plain_mlx = setup.plain_mlx;
        let load = move |progress: &mut dyn FnMut(Progress)| load(&path, setup, progress);
        let mut ignore = |_| ();
        let progress: &mut dyn FnMut(Progress) = match &mut self.progress {
            Some(progress) => &mut **progress,
            None => &mut ignore,
        };
        let most_waiting = self.setup.queue.unwrap_or(DEFAULT_QUEUE).max(1);
        let (engine, on_engine) = Engine::start(load, most_waiting, progress)?;

        let eos = tokenizer.as_ref().map(|t| t.eos_ids()).unwrap_or_default();
        let limits = ModelLimits::new(&info, eos, DeviceKind::of(on_engine.device.kind));
        let info = LoadedModel {
            dir: dir.to_owned(),
            model: ModelInfo::of(&on_engine.model),
            held_bytes: on_engine.held_bytes,
            device: DeviceInfo::of(&on_engine.device),
            limits: on_engine.limits,
            load_time: started.elapsed(),
        };
        log(&info, plain_mlx);
        let format = OnceLock::new();
        let loaded = Loaded {
            info,
            limits,
            tokenizer,
            format,
        };
        Ok(MlxBackend::new(engine, loaded))
    }
}

/// Says what was loaded, what is wrong with it, and, unless MLX's own operations were asked for, what runs it.
fn log(loaded: &LoadedModel, plain_mlx: bool) {
    let model_mb = megabytes(loaded.held_bytes);
    tracing::info!(
        layers = loaded.model.layers,
        mb = model_mb,
        device = %loaded.device.kind,
        seconds = loaded.load_time.as_secs_f64(),
        "loaded {}",
        loaded.dir.display()
    );
    for warning in &loaded.model.warnings {
        tracing::warn!("{warning}");
    }
    let plan = loaded.model.plan(loaded.device.kind);
    for step in plan.iter().filter(|_| !plain_mlx) {
        match step.slower {
            Some(_) => tracing::warn!("{step}"),
            None => tracing::info!("{step}"),
        }
    }
    if loaded.held_bytes > loaded.limits.memory {
        tracing::warn!(
            model_mb,
            limit_mb = megabytes(loaded.limits.memory),
            "the model is larger than the memory limit, which makes it slow; raise the limit"
        );
    }
}

/// What the engine thread tells when the model is loaded.
struct OnEngine {
    model: models::ModelInfo,
    held_bytes: u64,
    device: device::DeviceInfo,
    limits: MemoryLimits,
}

/// What happens on the engine thread before it serves.
fn load(
    dir: &Path,
    setup: Setup,
    progress: &mut dyn FnMut(Progress),
) -> Result<(MlxModel, Service, OnEngine)> {
    let device = device::open(setup.device.choice())?;
    Isa::chosen().map_err(Error::of_kernels)?;
    graph::force_mlx(setup.plain_mlx);
    if let Some(threads) = setup.threads {
        Cpu::shared().pool().set_threads(threads);
    }
    progress(Progress::Device(DeviceInfo::of(&device)));
    // What an earlier model left in MLX's own cache is not lost to this one.
    memory::clear_cache()?;
    let options = LoadOptions::new()
        .dtype(setup.dtype.map(Dtype::of_model))
        .random_weights(setup.random_weights)
        .encode(setup.encode_bf16)
        .copy_weights(setup.copy_weights);
    let bytes = Model::bytes_to_load(dir, &options)?;
    check_room(&device, bytes, device::free_memory()?)?;
    let mut share = Share::new(bytes);
    let before = memory::active()? as u64;
    let model = Model::load(dir, &options, &mut |step| {
        progress(match step {
            LoadProgress::Opened { files, bytes } => Progress::Opened { files, bytes },
            LoadProgress::Loaded { bytes, total } => Progress::Weights { bytes, total },
        });
    })?;
    // What the matrices were made from.
    memory::clear_cache()?;
    let active = memory::active()? as u64;
    // Mapped weights are not MLX's to count; weights cast to another dtype are larger than in the file.
    share.set(model.held_bytes().max(active.saturating_sub(before)));
    let limits = setup.limits(&device, model.info(), active);
    let wired = limits.apply()?;
    let kept = Kept::of(&device);
    let loaded = OnEngine {
        model: model.info().clone(),
        held_bytes: model.held_bytes(),
        device,
        limits,
    };
    let together = if setup.plain_mlx { 1 } else { model.together() };
    let service = Service {
        at_once: setup.at_once.unwrap_or(together),
        turn: setup.prompt_turn.unwrap_or(PROMPT_TURN),
    };
    let model = MlxModel::new(model, kept, share, wired, limits.memory);
    Ok((model, service, loaded))
}

/// The tokenizer, or `None` where the directory has none. A broken one is an error.
fn open_tokenizer(dir: &Path) -> Result<Option<Tokenizer>> {
    if !dir.join("tokenizer.json").exists() {
        return Ok(None);
    }
    Ok(Some(Tokenizer::from_dir(dir)?))
}

impl Vocabulary for Tokenizer {
    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(self.stream(true))
    }
}

impl Decoder for StreamDecoder {
    fn push(&mut self, id: u32) -> Result<String> {
        Ok(StreamDecoder::push(self, id)?.unwrap_or_default())
    }

    fn finish(self: Box<Self>) -> Result<String> {
        Ok(StreamDecoder::finish(*self)?.unwrap_or_default())
    }
}

/// Shares a tokenizer with the engine thread.
pub(crate) fn vocabulary(tokenizer: &Tokenizer) -> Arc<dyn Vocabulary> {
    Arc::new(tokenizer.clone())
}

/// Opens `device` and says what it is, without a model.
///
/// The first call of a process loads the native library, and on CUDA sets environment variables
/// ([`MlxBackendBuilder::load`]): a program with threads of foreign code does that before it starts them.
///
/// # Errors
/// A missing accelerator or native library.
pub fn device_info(device: Device) -> Result<DeviceInfo> {
    Ok(DeviceInfo::of(&device::open(device.choice())?))
}
