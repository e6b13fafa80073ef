//! Choosing a device, and what is known about it.
//!
//! [`open`] loads the native library of the chosen backend, once for the process, and makes the
//! device this thread's. Threads that do not open one use the first that was opened.

mod host_memory;
#[doc(hidden)]
pub mod stand_in;

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::ptr::null;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Once, OnceLock};

use mlx_sys::mlx_device_info;

use crate::ffi::{self, api, check, string};
use crate::stream::{Device, Stream};
use crate::{Error, Result, exit};

/// What an array can be computed on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DeviceKind {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
    /// An Apple GPU.
    Metal,
}

impl DeviceKind {
    /// Its name on the command line and in errors.
    pub fn name(self) -> &'static str {
        match self {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Cuda => "cuda",
            DeviceKind::Metal => "metal",
        }
    }
}

impl std::fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// What a user asks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Choice {
    /// The best there is.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
    /// An Apple GPU.
    Metal,
}

impl FromStr for Choice {
    type Err = Error;

    /// Reads `auto`, `cpu`, `cuda` or `metal`.
    fn from_str(name: &str) -> Result<Choice> {
        match name {
            "auto" => Ok(Choice::Auto),
            "cpu" => Ok(Choice::Cpu),
            "cuda" => Ok(Choice::Cuda),
            "metal" => Ok(Choice::Metal),
            _ => Err(Error::Name {
                what: "device",
                given: name.to_owned(),
                expected: "auto, cpu, cuda, metal",
            }),
        }
    }
}

/// An opened device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceInfo {
    /// What it is.
    pub kind: DeviceKind,
    /// The maker's name for it.
    pub name: String,
    /// Bytes of RAM that this process may use, or of the GPU's own memory.
    pub memory_bytes: u64,
    /// The bytes that Metal recommends to stay below.
    pub recommended_working_set: Option<u64>,
    /// The version of MLX that was loaded, such as `0.32.2`.
    pub mlx_version: String,
    /// The native library that was loaded.
    pub library: PathBuf,
}

static FIRST: OnceLock<DeviceKind> = OnceLock::new();
static CUDA_IS_OPEN: AtomicBool = AtomicBool::new(false);

/// Loads the native library for `choice` and makes the device this thread's.
///
/// Opening the same device again only makes it this thread's too. One process loads one library:
/// once the CPU's is loaded, CUDA is an `Err`.
///
/// # Errors
/// [`Error::Device`] where the accelerator asked for is missing, and says what is;
/// [`Error::Native`] where the library is.
pub fn open(choice: Choice) -> Result<DeviceInfo> {
    if let (Choice::Metal, Some(mac)) = (choice, stand_in::mac()) {
        let cpu = open_real(Choice::Cpu)?;
        stand_in::set_on_this_thread(true);
        return Ok(DeviceInfo {
            kind: DeviceKind::Metal,
            name: "a CPU in place of an Apple GPU".to_owned(),
            memory_bytes: mac.memory_bytes,
            recommended_working_set: Some(mac.recommended_working_set),
            ..cpu
        });
    }
    let opened = open_real(choice)?;
    stand_in::set_on_this_thread(false);
    Ok(opened)
}

fn open_real(choice: Choice) -> Result<DeviceInfo> {
    let loaded = load(choice)?;
    ffi::set_api(&loaded.api);
    let kind = kind_of(choice, loaded.backend, gpu_count, why_no_gpu)?;
    let device = Device::new(kind)?;
    // MLX has a default of its own, for the process, that it uses where it makes an array itself.
    // SAFETY: the handle is alive and copied.
    check("open", unsafe {
        api().mlx_set_default_device(device.raw())
    })?;
    Stream::switch_to(kind)?;
    let info = describe(kind, &device, loaded.path.clone())?;
    FIRST.get_or_init(|| kind);
    if kind == DeviceKind::Cuda {
        CUDA_IS_OPEN.store(true, Ordering::Relaxed);
    }
    static OPENED: Once = Once::new();
    exit::prepare(&OPENED);
    Ok(info)
}

/// Loads the library for `choice`, or finds it loaded.
fn load(choice: Choice) -> Result<&'static mlx_sys::Loaded> {
    let wanted = match choice {
        Choice::Auto => mlx_sys::Choice::Auto,
        Choice::Cpu => mlx_sys::Choice::Cpu,
        Choice::Cuda if cfg!(target_os = "macos") => {
            return Err(missing(DeviceKind::Cuda, "needs Linux and an NVIDIA GPU"));
        }
        Choice::Cuda => mlx_sys::Choice::Cuda,
        Choice::Metal if !cfg!(target_os = "macos") => {
            return Err(missing(DeviceKind::Metal, "needs a Mac with Apple silicon"));
        }
        Choice::Metal => mlx_sys::Choice::Metal,
    };
    match mlx_sys::init(wanted) {
        // Every library computes on the processor too.
        Err(mlx_sys::LoadError::AlreadyLoaded { .. }) if choice == Choice::Cpu => {}
        Err(error) => return Err(Error::Native(error.to_string())),
        Ok(()) => {}
    }
    mlx_sys::loaded().map_err(|error| match choice {
        // Then that is what is wrong, whatever else is missing.
        Choice::Cuda if !has_nvidia_driver() => missing(
            DeviceKind::Cuda,
            "this machine has no NVIDIA GPU, or its driver is not installed",
        ),
        _ => Error::Native(error.to_string()),
    })
}

/// The device that `choice` means with a library for `backend`, on a machine with so many GPUs; `reason`
/// says why there are none.
fn kind_of(
    choice: Choice,
    backend: mlx_sys::Choice,
    gpu_count: impl FnOnce() -> Result<i32>,
    reason: impl FnOnce() -> String,
) -> Result<DeviceKind> {
    let wanted = match choice {
        Choice::Cpu => return Ok(DeviceKind::Cpu),
        Choice::Auto => None,
        Choice::Cuda => Some(DeviceKind::Cuda),
        Choice::Metal => Some(DeviceKind::Metal),
    };
    let built_for = match backend {
        mlx_sys::Choice::Cuda => Some(DeviceKind::Cuda),
        mlx_sys::Choice::Metal => Some(DeviceKind::Metal),
        mlx_sys::Choice::Cpu | mlx_sys::Choice::Auto => None,
    };
    match (wanted, built_for) {
        (None, None) => Ok(DeviceKind::Cpu),
        (Some(wanted), built) if built != Some(wanted) => Err(missing(
            wanted,
            &format!(
                "the native library that was loaded is not for it; `cargo xtask build --backend \
                 {wanted}` makes one that is"
            ),
        )),
        (_, Some(kind)) if gpu_count()? > 0 => Ok(kind),
        // Neither library does without: both allocate on the GPU, whatever the device.
        (_, Some(DeviceKind::Metal)) => Err(missing(
            DeviceKind::Metal,
            &format!(
                "Metal does not start: {}; MLX for the Mac needs it on every device, the CPU's too",
                reason()
            ),
        )),
        _ => Err(missing(
            DeviceKind::Cuda,
            "no NVIDIA GPU is visible; choose the device cpu",
        )),
    }
}

/// Why MLX finds no GPU. Counting them it keeps the reason to itself; asked what the first one is, it
/// tells.
fn why_no_gpu() -> String {
    let asked = Device::new(DeviceKind::Metal).and_then(|device| Properties::of(&device));
    match asked {
        Err(Error::Op { message, .. }) => message.replace('\n', " "),
        Err(error) => error.to_string(),
        Ok(_) => "MLX finds no Apple GPU; a virtual machine may have none".to_owned(),
    }
}

/// How many GPUs MLX can use.
fn gpu_count() -> Result<i32> {
    let mut count = 0;
    // SAFETY: `count` is written by the call.
    check("device_count", unsafe {
        api().mlx_device_count(&mut count, mlx_sys::MLX_GPU)
    })?;
    Ok(count)
}

/// Whether the files of an NVIDIA driver are there: Linux's, or WSL's.
fn has_nvidia_driver() -> bool {
    ["/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/dxg"]
        .iter()
        .any(|path| Path::new(path).exists())
}

fn missing(kind: DeviceKind, reason: &str) -> Error {
    Error::Device {
        device: kind.name(),
        reason: reason.to_owned(),
    }
}

fn describe(kind: DeviceKind, device: &Device, library: PathBuf) -> Result<DeviceInfo> {
    let properties = Properties::of(device)?;
    let memory = match kind {
        DeviceKind::Cpu => host_memory::total_bytes(),
        DeviceKind::Cuda => properties.number(c"total_memory"),
        DeviceKind::Metal => properties.number(c"memory_size"),
    };
    Ok(DeviceInfo {
        kind,
        name: properties
            .text(c"device_name")
            .unwrap_or_else(|| kind.name().to_owned()),
        memory_bytes: memory
            .ok_or_else(|| missing(kind, "the size of its memory could not be found out"))?,
        recommended_working_set: properties.number(c"max_recommended_working_set_size"),
        // SAFETY: the handle is given empty to the call, which fills it.
        mlx_version: string("version", |raw| unsafe { api().mlx_version(raw) })?,
        library,
    })
}

/// Bytes of the GPU's own memory that no process holds now; `None` on a device without any.
pub fn free_memory() -> Result<Option<u64>> {
    match require_open("free_memory")? {
        DeviceKind::Cuda => {
            let device = Device::new(DeviceKind::Cuda)?;
            Ok(Properties::of(&device)?.number(c"free_memory"))
        }
        DeviceKind::Cpu | DeviceKind::Metal => Ok(None),
    }
}

/// Whether a thread of this process has opened CUDA.
pub(crate) fn cuda_is_open() -> bool {
    CUDA_IS_OPEN.load(Ordering::Relaxed)
}

/// Whether the library that was loaded is the one for CUDA, which the processor may be used with as well.
pub(crate) fn library_is_cudas() -> bool {
    mlx_sys::loaded().is_ok_and(|loaded| loaded.backend == mlx_sys::Choice::Cuda)
}

/// The device that the process opened first, or the error of `op` that there is none.
pub(crate) fn require_open(op: &'static str) -> Result<DeviceKind> {
    FIRST.get().copied().ok_or(Error::NotOpen { op })
}

/// The device that this thread's operations run on.
pub fn current() -> Result<DeviceKind> {
    let kind = Stream::current("device")?.kind();
    Ok(match stand_in::is_on_this_thread() {
        true => DeviceKind::Metal,
        false => kind,
    })
}

/// Waits until everything this thread submitted is done.
pub fn synchronize() -> Result<()> {
    Stream::current("synchronize")?.synchronize()
}

/// An owned `mlx_device_info`: what MLX knows of a device, by key.
struct Properties(mlx_device_info);

impl Properties {
    fn of(device: &Device) -> Result<Properties> {
        // SAFETY: takes nothing.
        let mut properties = Properties(unsafe { api().mlx_device_info_new() });
        // SAFETY: both handles are alive.
        check("device_info", unsafe {
            api().mlx_device_info_get(&mut properties.0, device.raw())
        })?;
        Ok(properties)
    }

    fn has(&self, key: &CStr) -> bool {
        let mut exists = false;
        // SAFETY: the handle and the key are alive.
        let status = unsafe { api().mlx_device_info_has_key(&mut exists, self.0, key.as_ptr()) };
        status == 0 && exists
    }

    /// A property that is text.
    fn text(&self, key: &CStr) -> Option<String> {
        if !self.has(key) {
            return None;
        }
        let mut value = null();
        // SAFETY: the handle and the key are alive.
        let status = unsafe { api().mlx_device_info_get_string(&mut value, self.0, key.as_ptr()) };
        if status != 0 || value.is_null() {
            return None;
        }
        // SAFETY: on success the value is NUL-terminated and lives as long as the handle.
        Some(
            unsafe { CStr::from_ptr(value) }
                .to_string_lossy()
                .into_owned(),
        )
    }

    /// A property that is a number.
    fn number(&self, key: &CStr) -> Option<u64> {
        if !self.has(key) {
            return None;
        }
        let mut value = 0;
        // SAFETY: the handle and the key are alive.
        let status = unsafe { api().mlx_device_info_get_size(&mut value, self.0, key.as_ptr()) };
        (status == 0).then_some(value as u64)
    }
}

impl Drop for Properties {
    fn drop(&mut self) {
        // SAFETY: the handle is owned here and freed once.
        unsafe { api().mlx_device_info_free(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `choice` means with Metal's library, on a machine with so many GPUs.
    fn on_mac(choice: Choice, gpus: i32) -> std::result::Result<DeviceKind, String> {
        let reason = || "[metal::load_device] Failed to load mlx.metallib".to_owned();
        let kind = kind_of(choice, mlx_sys::Choice::Metal, || Ok(gpus), reason);
        kind.map_err(|error| error.to_string())
    }

    #[test]
    fn a_mac_on_which_metal_does_not_start_is_told_why() {
        for choice in [Choice::Auto, Choice::Metal] {
            assert_eq!(on_mac(choice, 1), Ok(DeviceKind::Metal));
            let error = on_mac(choice, 0).unwrap_err();
            assert!(error.starts_with("metal: "), "{error}");
            assert!(error.contains("Failed to load mlx.metallib"), "{error}");
        }
        let error = on_mac(Choice::Cuda, 1).unwrap_err();
        assert!(error.contains("not for it"), "{error}");
    }

    #[test]
    fn mlx_tells_why_it_has_no_gpu() {
        open(Choice::Cpu).unwrap();
        // The library of this machine, if it is the CPU's, was built without any.
        if gpu_count().unwrap() == 0 {
            let reason = why_no_gpu();
            assert!(!reason.is_empty() && !reason.contains('\n'), "{reason}");
        }
    }
}
