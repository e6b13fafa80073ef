//! The memory budget: what MLX may hold, and when it holds too much.
//!
//! MLX keeps freed buffers for reuse and, left alone, may keep as much as the machine has. Two
//! limits are set after loading; a third, wired memory, changes how the whole machine behaves and
//! is set only when asked for. The limits are MLX's own and so belong to the process: of two loaded
//! models the later one's count.

use mlx_core::device::DeviceInfo;
use mlx_core::{DeviceKind, memory};

use crate::account::Share;
use crate::language_model::{LanguageModel, MemoryUse, SequenceId};
use crate::{Error, Result};

mod wired;
pub(crate) use wired::{Wired, WiredLimit};

/// Bytes that MLX may hold. A limit above what the device has is lowered to that.
///
/// Above `memory` MLX waits after every operation, so a GPU with memory of its own is given nearly all
/// of it unless told, and an Apple GPU what Metal recommends; the machine's memory is shared with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryLimits {
    /// Freed buffers that are kept for reuse. 16 GiB unless told.
    pub cache: u64,
    /// All that evaluation should stay within. Unless told, 24 GiB, on CUDA 19 twentieths of the GPU's
    /// memory, and on Metal the working set that it recommends.
    pub memory: u64,
    /// Memory that macOS shall keep resident for the GPU while a model is loaded; not touched unless told.
    pub wired: Option<u64>,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self {
            cache: 16 << 30,
            memory: 24 << 30,
            wired: None,
        }
    }
}

impl MemoryLimits {
    /// The limits of a device, where nobody tells others.
    pub(crate) fn of(device: &DeviceInfo) -> Self {
        let limits = Self::default();
        match device.kind {
            DeviceKind::Cuda => Self {
                memory: device.memory_bytes / 20 * 19,
                ..limits
            },
            DeviceKind::Metal => Self {
                memory: working_set(device),
                ..limits
            },
            DeviceKind::Cpu => limits,
        }
    }

    /// These limits, none above what the device has.
    pub(crate) fn clamped_to(self, device: &DeviceInfo) -> Self {
        let all = device.memory_bytes;
        let wirable = device.recommended_working_set.unwrap_or(all);
        Self {
            cache: self.cache.min(all),
            memory: self.memory.min(all),
            wired: self.wired.map(|bytes| bytes.min(wirable)),
        }
    }

    /// Hands the limits to MLX. What is given keeps memory wired, if any is to be.
    pub(crate) fn apply(self) -> Result<Option<Wired>> {
        memory::set_cache_limit(bytes(self.cache))?;
        memory::set_memory_limit(bytes(self.memory))?;
        self.wired.map(Wired::new).transpose()
    }
}

/// Bytes that this process holds for its models, of all of them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryHeld {
    /// Weights and caches, by our own count.
    pub models: u64,
    /// MLX's arrays: on a GPU weights, caches and activations; on a CPU less, where weights are lent to MLX.
    pub active: u64,
    /// Buffers that MLX has freed and keeps for the next array.
    pub cache: u64,
}

impl MemoryHeld {
    /// What is held now; `None` before a model was loaded.
    pub fn now() -> Option<Self> {
        Some(Self {
            models: Share::total(),
            active: memory::active().ok()? as u64,
            cache: memory::cache().ok()? as u64,
        })
    }
}

/// What Metal recommends to stay below; where it says nothing, three quarters of the machine.
pub(crate) fn working_set(device: &DeviceInfo) -> u64 {
    let usual = device.memory_bytes / 4 * 3;
    device.recommended_working_set.unwrap_or(usual)
}

fn bytes(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// Bytes of a GPU's memory that a model needs besides its weights: what the libraries allocate, the
/// caches and the activations of a short generation.
const WORKING_BYTES: u64 = 512 << 20;

/// Refuses a model whose weights do not fit into what is free of a GPU's own memory, which cannot
/// be swapped, or not into a Mac at all, whose GPU has copies of them. A model above what Metal recommends
/// is warned of.
///
/// # Errors
/// [`Error::TooLittleMemory`] with the bytes needed and those free; [`Error::LargerThanTheMachine`].
pub(crate) fn check_room(device: &DeviceInfo, weights: u64, free: Option<u64>) -> Result<()> {
    let needed = weights.saturating_add(WORKING_BYTES);
    if device.kind == DeviceKind::Metal {
        if needed > device.memory_bytes {
            return Err(Error::LargerThanTheMachine {
                device: device.name.clone(),
                needed,
                weights,
                memory: device.memory_bytes,
            });
        }
        if needed > working_set(device) {
            tracing::warn!(
                needed_mb = megabytes(needed),
                recommended_mb = megabytes(working_set(device)),
                "the model is larger than what Metal recommends to use of this machine, so it may be \
                 slow; a smaller or a quantized model is not"
            );
        }
    }
    match free {
        Some(free) if needed > free => Err(Error::TooLittleMemory {
            device: device.name.clone(),
            needed,
            weights,
            free,
        }),
        _ => Ok(()),
    }
}

/// What of the buffers that a generation frees stays in MLX's cache for the next one.
///
/// A system gets them back. On CUDA mapping memory again takes milliseconds, a fifth of a short prompt's
/// time, and Metal makes each buffer anew, so there a part of the GPU's memory stays while there is enough
/// of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Bytes of freed buffers at most.
    most: u64,
    /// Bytes of all buffers at most.
    in_all: u64,
}

impl Kept {
    /// The most that is worth it: the activations of some long chunks.
    const WORTH: u64 = 4 << 30;

    pub(crate) fn of(device: &DeviceInfo) -> Self {
        let memory = match device.kind {
            DeviceKind::Cuda => device.memory_bytes,
            DeviceKind::Metal => working_set(device),
            DeviceKind::Cpu => 0,
        };
        Self {
            most: (memory / 16).min(Self::WORTH),
            in_all: memory / 4 * 3,
        }
    }

    /// Whether so many bytes of freed buffers may stay beside `active` ones.
    pub(crate) fn allows(self, freed: u64, active: u64) -> bool {
        freed <= self.most && freed.saturating_add(active) <= self.in_all
    }
}

/// Active memory of more than this many times what the process's models and caches take is taken for a
/// leak.
const SUSPICIOUS_TIMES: u64 = 3;

/// Gives MLX's buffer cache back, and says so when a generation holds more than it should.
#[derive(Default)]
pub(crate) struct MemoryWatch {
    warned: bool,
}

impl MemoryWatch {
    /// Called now and then: clears the buffer cache, and warns at most once a generation.
    pub(crate) fn tidy<M: LanguageModel>(&mut self, model: &mut M) -> Result<()> {
        model.release_buffers()?;
        let held = model.memory()?;
        if held.active > held.accounted.saturating_mul(SUSPICIOUS_TIMES) && !self.warned {
            self.warned = true;
            tracing::warn!(
                active_mb = megabytes(held.active),
                models_mb = megabytes(held.accounted),
                peak_mb = megabytes(held.peak),
                "active memory is more than {SUSPICIOUS_TIMES} times what the models and their caches take"
            );
        }
        Ok(())
    }

    /// Called at the end: as [`tidy`](Self::tidy), and drops the KV caches of a generation that
    /// held too much.
    pub(crate) fn finish<M: LanguageModel>(
        &mut self,
        model: &mut M,
        sequence: Option<SequenceId>,
    ) -> Result<MemoryUse> {
        self.tidy(model)?;
        let held = model.memory()?;
        if self.warned {
            model.drop_caches(sequence)?;
            model.release_buffers()?;
        }
        Ok(held)
    }
}

/// Bytes as whole megabytes (10⁶ bytes), rounded.
pub(crate) fn megabytes(bytes: u64) -> u64 {
    (bytes + 500_000) / 1_000_000
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::testing::{Call, Script};

    fn mac(memory_bytes: u64, recommended: u64) -> DeviceInfo {
        DeviceInfo {
            kind: DeviceKind::Metal,
            ..device(memory_bytes, Some(recommended))
        }
    }

    fn device(memory_bytes: u64, recommended_working_set: Option<u64>) -> DeviceInfo {
        DeviceInfo {
            kind: DeviceKind::Cpu,
            name: "test".to_owned(),
            memory_bytes,
            recommended_working_set,
            mlx_version: "0".to_owned(),
            library: "none".into(),
        }
    }

    #[test]
    fn the_limits_are_16_and_24_gib_on_a_large_machine() {
        let limits = MemoryLimits::default().clamped_to(&device(64 << 30, None));
        assert_eq!(
            (limits.cache, limits.memory, limits.wired),
            (16 << 30, 24 << 30, None)
        );
    }

    #[test]
    fn a_gpu_with_memory_of_its_own_may_be_filled() {
        let mut gpu = device(80 << 30, None);
        assert_eq!(MemoryLimits::of(&gpu), MemoryLimits::default());
        gpu.kind = DeviceKind::Cuda;
        assert_eq!(MemoryLimits::of(&gpu).memory, 76 << 30);
        assert_eq!(MemoryLimits::of(&gpu).cache, 16 << 30);
    }

    #[test]
    fn an_apple_gpu_may_fill_its_recommended_working_set() {
        // A Mac with 128 GiB, of which Metal recommends three quarters.
        let large = mac(128 << 30, 96 << 30);
        assert_eq!(MemoryLimits::of(&large).memory, 96 << 30);
        assert_eq!(MemoryLimits::of(&large).wired, None);
        let mut silent = large.clone();
        silent.recommended_working_set = None;
        assert_eq!(MemoryLimits::of(&silent).memory, 96 << 30);
        let small = mac(8 << 30, 5 << 30);
        let limits = MemoryLimits::of(&small).clamped_to(&small);
        assert_eq!((limits.cache, limits.memory), (8 << 30, 5 << 30));
    }

    #[test]
    fn a_model_larger_than_a_mac_is_refused_and_one_above_the_working_set_warned_of() {
        let mac = mac(32 << 30, 24 << 30);
        let above = (32 << 30) - WORKING_BYTES + 1;
        let text = check_room(&mac, above, None).unwrap_err().to_string();
        for bytes in [above, above + WORKING_BYTES, 32 << 30] {
            assert!(text.contains(&bytes.to_string()), "{text}");
        }
        assert!(!text.contains('\n'), "{text}");
        let log = logged(|| check_room(&mac, above - 1, None).unwrap());
        assert_eq!(log.matches("WARN").count(), 1, "{log}");
        assert!(log.contains("recommended_mb=25770"), "{log}");
        let fits = (24 << 30) - WORKING_BYTES;
        assert_eq!(logged(|| check_room(&mac, fits, None).unwrap()), "");
    }

    #[test]
    fn no_limit_is_above_what_the_machine_has() {
        let asked = MemoryLimits {
            wired: Some(u64::MAX),
            ..MemoryLimits::default()
        };
        let limits = asked.clamped_to(&device(8 << 30, Some(6 << 30)));
        assert_eq!((limits.cache, limits.memory), (8 << 30, 8 << 30));
        assert_eq!(limits.wired, Some(6 << 30));
    }

    #[test]
    fn only_a_gpu_with_memory_to_spare_keeps_freed_buffers() {
        let cpu = Kept::of(&device(64 << 30, None));
        assert!(!cpu.allows(1, 0));
        let mut gpu = device(16 << 30, None);
        gpu.kind = DeviceKind::Cuda;
        let small = Kept::of(&gpu);
        assert!(small.allows(1 << 30, 11 << 30));
        assert!(!small.allows((1 << 30) + 1, 0), "more than a sixteenth");
        assert!(
            !small.allows(1 << 30, (11 << 30) + 1),
            "the GPU is nearly full"
        );
        let mac = Kept::of(&mac(64 << 30, 48 << 30));
        assert!(mac.allows(3 << 30, 33 << 30));
        assert!(!mac.allows((3 << 30) + 1, 0), "more than a sixteenth");
        assert!(
            !mac.allows(3 << 30, (33 << 30) + 1),
            "the Mac is nearly full"
        );
        gpu.memory_bytes = 140 << 30;
        let large = Kept::of(&gpu);
        assert!(large.allows(4 << 30, 20 << 30));
        assert!(!large.allows((4 << 30) + 1, 0));
    }

    #[test]
    fn a_gpu_with_too_little_memory_is_told_the_bytes_needed() {
        let gpu = device(8 << 30, None);
        let needed = (6 << 30) + WORKING_BYTES;
        let error = check_room(&gpu, 6 << 30, Some(needed - 1)).unwrap_err();
        let text = error.to_string();
        for bytes in [needed, 6 << 30, needed - 1] {
            assert!(text.contains(&bytes.to_string()), "{text}");
        }
        assert!(!text.contains('\n'), "{text}");
        assert!(check_room(&gpu, 6 << 30, Some(needed)).is_ok());
        assert!(check_room(&gpu, u64::MAX, None).is_ok());
    }

    /// What was logged while `work` ran.
    fn logged(work: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Log(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Log {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, work);
        String::from_utf8(log.0.lock().unwrap().clone()).unwrap()
    }

    fn holding(active: u64) -> Script {
        let mut model = Script::new("");
        model.held = MemoryUse {
            active,
            peak: 900_000_000,
            accounted: 100_000_000,
        };
        model
    }

    #[test]
    fn more_than_three_times_the_models_is_warned_of_once_and_cleaned_up() {
        let mut model = holding(300_000_001);
        let log = logged(|| {
            let mut watch = MemoryWatch::default();
            watch.tidy(&mut model).unwrap();
            watch.finish(&mut model, None).unwrap();
        });
        assert_eq!(log.matches("WARN").count(), 1, "{log}");
        for figure in ["active_mb=300", "models_mb=100", "peak_mb=900"] {
            assert!(log.contains(figure), "{log}");
        }
        assert_eq!(
            model.calls,
            [
                Call::Release,
                Call::Release,
                Call::DropCaches,
                Call::Release
            ]
        );
    }

    #[test]
    fn three_times_the_models_is_nothing_to_worry_about() {
        let mut model = holding(300_000_000);
        let log = logged(|| {
            let mut watch = MemoryWatch::default();
            assert_eq!(watch.finish(&mut model, None).unwrap().peak, 900_000_000);
        });
        assert_eq!(log, "");
        assert_eq!(
            model.calls,
            [Call::Release],
            "the buffer cache is given back either way"
        );
    }
}
