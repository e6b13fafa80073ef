//! The driver's pool of device memory, from which MLX allocates.

use std::ffi::{c_int, c_void};

use crate::{DeviceKind, Error, Result};

type GetPool = unsafe extern "C" fn(*mut *mut c_void, c_int) -> c_int;
type Attribute = unsafe extern "C" fn(*mut c_void, c_int, *mut u64) -> c_int;

// Of CUmemPool_attribute in cuda.h.
const RELEASE_THRESHOLD: c_int = 4;
const USED_MEM_CURRENT: c_int = 7;

/// Lets this process keep up to `bytes` of device memory beyond what is in use now, for its next
/// allocations.
///
/// By default the driver gives freed memory back to the system as soon as somebody waits for the GPU.
/// To map it again takes milliseconds, which each prefill would pay for its activations.
///
/// # Errors
/// [`Error::Device`] where there is no NVIDIA driver, or no pool on this GPU.
pub fn keep_freed(bytes: u64) -> Result<()> {
    super::gpu()?;
    set(bytes).map_err(|reason| Error::Device {
        device: DeviceKind::Cuda.name(),
        reason,
    })
}

fn set(bytes: u64) -> Result<(), String> {
    // SAFETY: the driver's library does nothing at load but set up its own state. It is never closed.
    let driver = unsafe { libloading::Library::new("libcuda.so.1") }.map_err(|e| e.to_string())?;
    let driver = std::mem::ManuallyDrop::new(driver);
    let lacks = |error| format!("the NVIDIA driver has no pools of memory ({error})");
    // SAFETY: the three functions have these types since CUDA 11.2.
    let (pool_of, get, set) = unsafe {
        (
            *driver
                .get::<GetPool>(b"cuDeviceGetDefaultMemPool\0")
                .map_err(lacks)?,
            *driver
                .get::<Attribute>(b"cuMemPoolGetAttribute\0")
                .map_err(lacks)?,
            *driver
                .get::<Attribute>(b"cuMemPoolSetAttribute\0")
                .map_err(lacks)?,
        )
    };
    let done = |status: c_int| match status {
        0 => Ok(()),
        failed => Err(format!(
            "the pool of memory is not usable (CUDA error {failed})"
        )),
    };
    let (mut pool, mut used) = (std::ptr::null_mut(), 0);
    // SAFETY: `gpu` has initialised the driver; `pool` is written by the call.
    done(unsafe { pool_of(&mut pool, 0) })?;
    // SAFETY: the pool is device 0's, which MLX computes on; both attributes are words of 64 bits, which
    // the calls write and read.
    done(unsafe { get(pool, USED_MEM_CURRENT, &mut used) })?;
    let mut threshold = used.saturating_add(bytes);
    // SAFETY: as above.
    done(unsafe { set(pool, RELEASE_THRESHOLD, &mut threshold) })
}
