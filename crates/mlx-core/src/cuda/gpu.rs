//! What kernels want to know of the GPU, asked of its driver.
//!
//! MLX knows neither the number of multiprocessors nor how much shared memory a block may have. The
//! driver's library is there wherever the device is open: MLX loaded it.

use std::ffi::{c_int, c_void};
use std::fmt;
use std::sync::OnceLock;

use crate::{DeviceKind, Error, Result};

/// What a GPU executes: its compute capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Architecture {
    /// 9 for Hopper.
    pub major: u32,
    /// 0 for Hopper.
    pub minor: u32,
}

impl Architecture {
    /// The architecture of a compute capability.
    pub const fn new(major: u32, minor: u32) -> Architecture {
        Architecture { major, minor }
    }
}

impl fmt::Display for Architecture {
    /// As compilers name it: `sm_80`, or `sm_90a` with the instructions of that generation alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = if self.major >= 9 { "a" } else { "" };
        write!(f, "sm_{}{}{own}", self.major, self.minor)
    }
}

/// The figures of a GPU that decide how a kernel is launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gpu {
    /// What it executes.
    pub architecture: Architecture,
    /// The number of its multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of shared memory that a block may ask for, at most.
    pub shared_memory_per_block: u32,
    /// Bytes of shared memory of a multiprocessor.
    pub shared_memory_per_multiprocessor: u32,
    /// Bytes of its level-2 cache.
    pub l2_bytes: u32,
}

/// The GPU that MLX computes on.
///
/// # Errors
/// [`Error::Device`] where there is no NVIDIA driver or no GPU.
pub fn gpu() -> Result<Gpu> {
    static GPU: OnceLock<Result<Gpu, String>> = OnceLock::new();
    GPU.get_or_init(ask)
        .clone()
        .map_err(|reason| Error::Device {
            device: DeviceKind::Cuda.name(),
            reason,
        })
}

/// Waits for everything that was submitted to the GPU, by whichever thread. Fails with the driver's
/// status.
pub(crate) fn synchronize() -> Result<(), i32> {
    let driver = Driver::get().ok_or(UNKNOWN)?;
    let mut context = std::ptr::null_mut();
    // SAFETY: MLX computes on device 0, in its primary context, which lives as long as the process:
    // one more reference to it changes nothing, and it is what a thread that uses MLX has as current.
    let status = unsafe {
        match (driver.retain)(&mut context, 0) {
            0 => match (driver.set_current)(context) {
                0 => (driver.synchronize)(),
                failed => failed,
            },
            failed => failed,
        }
    };
    if status == 0 { Ok(()) } else { Err(status) }
}

/// Has the driver give back what MLX freed and nothing submitted uses any more. What it refuses stays as
/// it is.
pub(crate) fn release_freed() {
    if let Some((driver, pool)) = Driver::with_pool() {
        // SAFETY: the pool lives as long as the process; only what is free in it goes.
        unsafe { (driver.trim_pool)(pool, 0) };
    }
}

/// Bytes that MLX can allocate: those that the driver has free, and those that it holds for MLX and MLX does
/// not use. Asked on a thread that uses MLX.
pub(crate) fn available_memory() -> Option<u64> {
    let (driver, pool) = Driver::with_pool()?;
    let (mut free, mut total) = (0, 0);
    // SAFETY: both figures are written by the call; MLX has made its context the thread's.
    if unsafe { (driver.memory)(&mut free, &mut total) } != 0 {
        return None;
    }
    let figure = |number: c_int| {
        let mut bytes = 0u64;
        // SAFETY: the pool lives as long as the process; the figure is 64 bits wide, and written by the call.
        match unsafe { (driver.pool_attribute)(pool, number, (&raw mut bytes).cast()) } {
            0 => bytes,
            _ => 0,
        }
    };
    // CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT and CU_MEMPOOL_ATTR_USED_MEM_CURRENT.
    Some(free as u64 + figure(5).saturating_sub(figure(7)))
}

const UNKNOWN: i32 = 999; // CUDA_ERROR_UNKNOWN

/// What is asked of the driver again and again.
struct Driver {
    retain: unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int,
    set_current: unsafe extern "C" fn(*mut c_void) -> c_int,
    synchronize: unsafe extern "C" fn() -> c_int,
    default_pool: unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int,
    trim_pool: unsafe extern "C" fn(*mut c_void, usize) -> c_int,
    memory: unsafe extern "C" fn(*mut usize, *mut usize) -> c_int,
    pool_attribute: unsafe extern "C" fn(*mut c_void, c_int, *mut c_void) -> c_int,
}

impl Driver {
    fn get() -> Option<&'static Driver> {
        static DRIVER: OnceLock<Option<Driver>> = OnceLock::new();
        let driver = DRIVER.get_or_init(|| {
            // SAFETY: as in `ask`; the functions have these types since CUDA 11.2.
            unsafe {
                let driver = libloading::Library::new("libcuda.so.1").ok()?;
                let driver = std::mem::ManuallyDrop::new(driver);
                Some(Driver {
                    retain: *driver.get(b"cuDevicePrimaryCtxRetain\0").ok()?,
                    set_current: *driver.get(b"cuCtxSetCurrent\0").ok()?,
                    synchronize: *driver.get(b"cuCtxSynchronize\0").ok()?,
                    default_pool: *driver.get(b"cuDeviceGetDefaultMemPool\0").ok()?,
                    trim_pool: *driver.get(b"cuMemPoolTrimTo\0").ok()?,
                    memory: *driver.get(b"cuMemGetInfo_v2\0").ok()?,
                    pool_attribute: *driver.get(b"cuMemPoolGetAttribute\0").ok()?,
                })
            }
        });
        driver.as_ref()
    }

    /// With the pool that MLX allocates from, the default one of device 0.
    fn with_pool() -> Option<(&'static Driver, *mut c_void)> {
        let driver = Driver::get()?;
        let mut pool = std::ptr::null_mut();
        // SAFETY: MLX has initialised the driver; `pool` is written by the call.
        let status = unsafe { (driver.default_pool)(&mut pool, 0) };
        (status == 0 && !pool.is_null()).then_some((driver, pool))
    }
}

type CuInit = unsafe extern "C" fn(u32) -> c_int;
type CuDeviceGet = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
type CuDeviceGetAttribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int;

fn ask() -> Result<Gpu, String> {
    // SAFETY: the driver's library does nothing at load but set up its own state, and `cuInit` may
    // be called again. It is never closed.
    let driver = unsafe { libloading::Library::new("libcuda.so.1") }
        .map_err(|error| format!("the NVIDIA driver is not installed ({error})"))?;
    let driver = std::mem::ManuallyDrop::new(driver);
    let lacks = |error| format!("the NVIDIA driver is not usable ({error})");
    // SAFETY: the three functions have these types since CUDA 2.
    let (init, get, attribute) = unsafe {
        (
            *driver.get::<CuInit>(b"cuInit\0").map_err(lacks)?,
            *driver.get::<CuDeviceGet>(b"cuDeviceGet\0").map_err(lacks)?,
            *driver
                .get::<CuDeviceGetAttribute>(b"cuDeviceGetAttribute\0")
                .map_err(lacks)?,
        )
    };
    let mut device = 0;
    // SAFETY: may be called from any thread, in this order; `device` is written by the call.
    let status = unsafe {
        match init(0) {
            0 => get(&mut device, 0),
            failed => failed,
        }
    };
    if status != 0 {
        return Err(format!("no NVIDIA GPU is visible (CUDA error {status})"));
    }
    // The numbers are those of CUdevice_attribute in cuda.h.
    let ask = |number: c_int| {
        let mut value = 0;
        // SAFETY: the driver is initialised, `device` is one of its, `value` is written by the call.
        let status = unsafe { attribute(&mut value, number, device) };
        match (status, u32::try_from(value)) {
            (0, Ok(value)) => Ok(value),
            _ => Err(format!(
                "the NVIDIA driver does not know attribute {number}"
            )),
        }
    };
    Ok(Gpu {
        architecture: Architecture::new(ask(75)?, ask(76)?),
        multiprocessors: ask(16)?,
        shared_memory_per_block: ask(97)?,
        shared_memory_per_multiprocessor: ask(81)?,
        l2_bytes: ask(38)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_hopper_on_the_target_has_the_instructions_of_its_generation_alone() {
        assert_eq!(Architecture::new(8, 0).to_string(), "sm_80");
        assert_eq!(Architecture::new(9, 0).to_string(), "sm_90a");
        assert_eq!(Architecture::new(12, 0).to_string(), "sm_120a");
    }
}
