//! [`MlxBackendBuilder`]: how a model shall be loaded.

use std::path::PathBuf;
use std::time::Duration;

use mlx_core::device;

use crate::memory::WiredLimit;
use crate::{Device, DeviceInfo, Dtype, MemoryLimits};

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

/// Chooses how [`MlxBackend`] loads a model. Made by [`MlxBackend::builder`].
#[derive(Default)]
pub struct MlxBackendBuilder<'a> {
    pub(crate) setup: Setup,
    pub(crate) prefix_dir: Option<PathBuf>,
    pub(crate) prefix_dir_max: Option<u64>,
    pub(crate) progress: Option<Box<dyn FnMut(Progress) + 'a>>,
}

/// What the builder collects for the engine thread.
#[derive(Clone, Copy, Default)]
pub(crate) struct Setup {
    pub(crate) device: Device,
    pub(crate) dtype: Option<Dtype>,
    pub(crate) cache_limit: Option<u64>,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) wired_limit: Option<WiredLimit>,
    pub(crate) threads: Option<usize>,
    pub(crate) plain_mlx: bool,
    pub(crate) random_weights: bool,
    pub(crate) encode_bf16: Option<bool>,
    pub(crate) copy_weights: bool,
    pub(crate) at_once: Option<usize>,
    pub(crate) prompt_turn: Option<Duration>,
    pub(crate) queue: Option<usize>,
    pub(crate) ignore_room: bool,
    pub(crate) prefix_cache: Option<u64>,
}

/// See [`MlxBackendBuilder::prompt_turn`].
pub(crate) const PROMPT_TURN: Duration = Duration::from_millis(40);

/// See [`MlxBackendBuilder::prefix_dir_max`].
pub(crate) const PREFIX_DIR_MAX: u64 = 16 << 30;

/// See [`MlxBackendBuilder::prefix_cache`].
pub(crate) const PREFIX_CACHE: u64 = 4 << 30;

/// Requests that may wait, unless told.
pub(crate) const DEFAULT_QUEUE: usize = 1024;

impl Setup {
    /// What was asked for, and for the rest what the device has by default, with `model` loaded and
    /// `active` bytes held by MLX.
    pub(crate) fn limits(
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

    /// Whether to load a model too that does not fit into what is free of a GPU's memory, or into a Mac at all. What
    /// then becomes of it the system decides; left out, it is an error before any work.
    #[must_use]
    pub fn ignore_room(mut self, ignore: bool) -> Self {
        self.setup.ignore_room = ignore;
        self
    }

    /// Bytes of what prompts made that are kept for prompts that begin alike; 0 is none. Unless told, 4 GiB, and at
    /// most a quarter of the [memory limit](Self::memory_limit).
    ///
    /// A prompt is read once: what it made stays, and a later request goes on behind the longest beginning of its
    /// prompt that is there, whoever asked for it ([`Metrics::reused_tokens`](crate::Metrics::reused_tokens)). Its
    /// text is the same, to the bit, as without. What was used longest ago goes first, and all of it before a request
    /// waits for memory or is put aside. On a CPU sequences are in pages, which they share; elsewhere a request has a
    /// copy, of whole chunks.
    #[must_use]
    pub fn prefix_cache(mut self, bytes: u64) -> Self {
        self.setup.prefix_cache = Some(bytes);
        self
    }

    /// A folder in which what prompts made is kept for later processes too; made if it is not there, and only for its
    /// owner to look into, since it says what was written to the model. Unless told, nothing is written.
    ///
    /// Files are written in the background, as prompts are read, whole pages of 256 tokens each; what a process that
    /// is killed was writing is lost. Each is found only by the same program, model, processor and
    /// [`prefill_chunk`](crate::Options::prefill_chunk), and checked when it is read. A prompt comes from there where
    /// that is faster than reading it: on a CPU, if the disk is no slower than that. Elsewhere nothing is kept.
    #[must_use]
    pub fn prefix_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.prefix_dir = Some(dir.into());
        self
    }

    /// Bytes that the files in [`prefix_dir`](Self::prefix_dir) may take, those of other models among them; 16 GiB
    /// unless told. What was used longest ago is removed.
    #[must_use]
    pub fn prefix_dir_max(mut self, bytes: u64) -> Self {
        self.prefix_dir_max = Some(bytes);
        self
    }

    /// Is told how far loading has come, on the calling thread.
    #[must_use]
    pub fn progress(mut self, progress: impl FnMut(Progress) + 'a) -> Self {
        self.progress = Some(Box::new(progress));
        self
    }
}
