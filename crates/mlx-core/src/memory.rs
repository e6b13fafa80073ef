//! MLX's allocator: what it holds, and how much it may.
//!
//! A freed buffer goes to a cache for the next array of its size, so the process keeps *active*
//! plus *cache* bytes. The figures and limits are the process's, not a thread's. Bytes that belong
//! to the caller ([`crate::Array::from_owned_bytes`], where they are not copied) are not counted.

use crate::ffi::{api, check};
use crate::{DeviceKind, Error, Result, cuda, device, submit};

macro_rules! figures {
    ($($(#[$doc:meta])* $name:ident = $call:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name() -> Result<usize> {
            device::require_open(stringify!($name))?;
            let mut bytes = 0;
            // SAFETY: `bytes` is written by the call.
            check(stringify!($name), unsafe { api().$call(&mut bytes) })?;
            Ok(bytes)
        }
    )*};
}

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident = $call:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(bytes: usize) -> Result<usize> {
            device::require_open(stringify!($name))?;
            let mut previous = 0;
            // SAFETY: `previous` is written by the call.
            check(stringify!($name), unsafe { api().$call(&mut previous, bytes) })?;
            Ok(previous)
        }
    )*};
}

figures! {
    /// Bytes of live arrays.
    active = mlx_get_active_memory;
    /// The most that [`active`] has been since the start or [`reset_peak`].
    peak = mlx_get_peak_memory;
    /// Bytes of freed buffers kept for reuse.
    cache = mlx_get_cache_memory;
    /// The limit that [`set_memory_limit`] sets.
    memory_limit = mlx_get_memory_limit;
}

limits! {
    /// Keeps at most this many bytes of freed buffers; gives the limit there was.
    set_cache_limit = mlx_set_cache_limit;
    /// Above this many active bytes, evaluation waits for running work to free some before it
    /// submits more. It is a brake and not a wall: an allocation that nothing can make room for
    /// still happens. Gives the limit there was.
    set_memory_limit = mlx_set_memory_limit;
}

/// Starts [`peak`] again from zero.
pub fn reset_peak() -> Result<()> {
    device::require_open("reset_peak")?;
    // SAFETY: takes nothing.
    check("reset_peak", unsafe { api().mlx_reset_peak_memory() })
}

/// Gives the freed buffers back to the system, and lets go of lent bytes no longer in use.
///
/// On CUDA this waits for what was submitted: the driver keeps what MLX frees until then, and has nothing
/// for whoever asks it otherwise, such as a library that loads a kernel.
pub fn clear_cache() -> Result<()> {
    device::require_open("clear_cache")?;
    // SAFETY: take nothing.
    check("clear_cache", unsafe { api().mlxb_release_unused() })?;
    // SAFETY: as above.
    check("clear_cache", unsafe { api().mlx_clear_cache() })?;
    submit::release_freed()
}

/// Has the C library give back the memory that it holds free, where it is glibc; elsewhere nothing.
///
/// On a CPU MLX's buffers are from `malloc`. What [`clear_cache`] frees glibc keeps between blocks in use. (What
/// it keeps at the end of the heap of a thread, up to 64 MiB, stays.) It takes the time of looking through the
/// free blocks.
pub fn trim_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: glibc has this function, of this type; it may be called at any time by any thread.
        unsafe { malloc_trim(0) };
    }
}

/// What a GPU must have free beside what is asked for: its driver allocates too, as for a kernel that is
/// launched for the first time.
const DRIVERS_BYTES: u64 = 64 << 20;

/// Sees to it that `bytes` can be allocated on this thread's GPU, if need be by [`clear_cache`]. On a device
/// without memory of its own it does nothing.
///
/// Whoever allocates much asks first. MLX's allocation would fail, too, but where it has just room enough the
/// driver may fail behind it, in what MLX (0.32.2) does not look at.
///
/// # Errors
/// [`Error::OutOfMemory`] where they cannot.
pub fn make_room(bytes: u64) -> Result<()> {
    if device::current()? != DeviceKind::Cuda {
        return Ok(());
    }
    let needed = bytes.saturating_add(DRIVERS_BYTES);
    let lacks = || cuda::available_memory().filter(|available| *available < needed);
    if lacks().is_none() {
        return Ok(());
    }
    clear_cache()?;
    match lacks() {
        Some(available) => Err(Error::OutOfMemory { needed, available }),
        None => Ok(()),
    }
}

/// Keeps up to this many bytes resident for the GPU; gives the limit there was.
///
/// Only Metal (macOS 15 and later) has such a limit, elsewhere this is an `Err`. It may not exceed
/// [`device::DeviceInfo::recommended_working_set`]. Nothing sets it unasked: wired memory is taken
/// from every other program.
pub fn set_wired_limit(bytes: usize) -> Result<usize> {
    let kind = device::require_open("set_wired_limit")?;
    if device::stand_in::is_on_this_thread() {
        return Ok(device::stand_in::set_wired_limit(bytes));
    }
    if kind != DeviceKind::Metal {
        return Err(Error::Device {
            device: kind.name(),
            reason: "only Metal has a wired limit".to_owned(),
        });
    }
    let mut previous = 0;
    // SAFETY: `previous` is written by the call.
    check("set_wired_limit", unsafe {
        api().mlx_set_wired_limit(&mut previous, bytes)
    })?;
    Ok(previous)
}
