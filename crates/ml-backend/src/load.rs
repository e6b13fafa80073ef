//! From a directory to a running engine.
//!
//! What the files alone can tell (a missing file, a damaged checkpoint, an unknown architecture) is
//! found out first, on the caller's thread and without MLX: such an error comes in milliseconds,
//! and the same on a machine without the native library.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Instant;

use kernels::{Cpu, Isa, graph};
use mlx_core::device;
use mlx_core::memory;
use models::tokenizer::Tokenizer;
use models::{LoadOptions, LoadProgress, Model};

use crate::account::Share;
use crate::builder::{
    DEFAULT_QUEUE, MlxBackendBuilder, PREFIX_CACHE, PREFIX_DIR_MAX, PROMPT_TURN, Progress, Setup,
};
use crate::engine::Engine;
use crate::handle::MlxBackend;
use crate::loaded::{Loaded, LoadedModel};
use crate::memory::{Kept, check_room, megabytes, working_set};
use crate::mlx_model::MlxModel;
use crate::prefix::{Disk, PrefixDir, Prefixes};
use crate::request::ModelLimits;
use crate::scheduler::Service;
use crate::structure::Structures;
use crate::{Device, DeviceInfo, DeviceKind, Dtype, Error, MemoryLimits, ModelInfo, Result};

impl MlxBackend {
    /// Loads the model of `dir` on the best device there is; [`builder`](Self::builder) has more
    /// to choose from, and [its `load`](MlxBackendBuilder::load) says what must hold of the files meanwhile.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self> {
        Self::builder().load(dir)
    }

    /// Chooses device, dtype and memory limits before loading.
    pub fn builder<'a>() -> MlxBackendBuilder<'a> {
        MlxBackendBuilder::default()
    }
}

impl MlxBackendBuilder<'_> {
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
        let prefix_dir = self.prefix_dir.take().map(|dir| PrefixDir {
            dir,
            most: self.prefix_dir_max.unwrap_or(PREFIX_DIR_MAX),
        });
        let load = move |progress: &mut dyn FnMut(Progress)| {
            load(&path, setup, prefix_dir.as_ref(), progress)
        };
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
        let (format, recipe) = (OnceLock::new(), OnceLock::new());
        let loaded = Loaded {
            info,
            limits,
            tokenizer,
            format,
            recipe,
            structures: Structures::default(),
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
    prefix_dir: Option<&PrefixDir>,
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
    if !setup.ignore_room {
        check_room(&device, bytes, device::free_memory()?)?;
    }
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
    let for_prefixes = setup.prefix_cache;
    let for_prefixes = for_prefixes.unwrap_or(PREFIX_CACHE.min(limits.memory / 4));
    let mut prefixes = Prefixes::new(&model, for_prefixes);
    if let Some(to) = prefix_dir {
        prefixes.on_disk(open_prefix_dir(to, dir, &model, setup)?);
    }
    let model = MlxModel::new(model, kept, share, wired, limits.memory, prefixes);
    Ok((model, service, loaded))
}

/// The tier on disk, where the model's sequences can be written.
fn open_prefix_dir(
    to: &PrefixDir,
    dir: &Path,
    model: &Model,
    setup: Setup,
) -> Result<Option<Disk>> {
    let Some(states) = model.states().filter(|_| !model.info().bidirectional) else {
        tracing::warn!("prompts are kept on disk only where our kernels run a model on a CPU");
        return Ok(None);
    };
    let info = model.info();
    let how = format!(
        "{:?} {:?} {} {} {}",
        Isa::chosen().map_err(Error::of_kernels)?,
        info.dtype,
        // Whether bfloat16 is held in 12 bits.
        model.held_bytes(),
        setup.random_weights,
        states.layout()
    );
    let path = &to.dir;
    match Disk::open(to, dir, how) {
        Ok(disk) => Ok(Some(disk)),
        Err(source) => Err(Error::PrefixDir {
            path: path.clone(),
            source,
        }),
    }
}

/// The tokenizer, or `None` where the directory has none. A broken one is an error.
fn open_tokenizer(dir: &Path) -> Result<Option<Tokenizer>> {
    if !dir.join("tokenizer.json").exists() {
        return Ok(None);
    }
    Ok(Some(Tokenizer::from_dir(dir)?))
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

/// Bytes of memory that a model could take on `device` now: what no process holds of a GPU's own, what Metal
/// recommends to stay below, and for a CPU what Linux calls available. Of what cannot be asked, all that there is.
///
/// # Errors
/// A missing accelerator or native library.
pub fn free_memory(device: Device) -> Result<u64> {
    let device = device::open(device.choice())?;
    let free = match device.kind {
        mlx_core::DeviceKind::Cuda => device::free_memory()?,
        mlx_core::DeviceKind::Metal => Some(working_set(&device)),
        mlx_core::DeviceKind::Cpu => models::available_memory(),
    };
    Ok(free.map_or(device.memory_bytes, |free| free.min(device.memory_bytes)))
}
