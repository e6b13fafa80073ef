//! Handing work to the device, by one thread at a time on CUDA.
//!
//! MLX records a product as a captured CUDA graph. While one thread captures, another that has the
//! driver load a kernel for the first time breaks the capture, and MLX then ends the process. So
//! there threads take turns in submitting; waiting for results they do together.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use mlx_sys::mlx_array;

use crate::device::opened_first;
use crate::ffi::{ArrayVec, api};
use crate::{DeviceKind, cuda};

/// Who submitted last.
static SUBMITTING: Mutex<Option<ThreadId>> = Mutex::new(None);
static ONE_AT_A_TIME: AtomicBool = AtomicBool::new(false);

/// From now on a thread that submits to the GPU first waits for what another one has submitted.
pub(crate) fn one_thread_at_a_time() {
    ONE_AT_A_TIME.store(true, Ordering::Relaxed);
}

/// This thread's turn, where turns are taken. Fails when the GPU does not finish what it has.
fn turn() -> Result<Option<MutexGuard<'static, Option<ThreadId>>>, i32> {
    if opened_first() != Some(DeviceKind::Cuda) {
        return Ok(None);
    }
    let mut last = SUBMITTING.lock().unwrap_or_else(PoisonError::into_inner);
    let this = thread::current().id();
    let other = last.replace(this).is_some_and(|last| last != this);
    if other && ONE_AT_A_TIME.load(Ordering::Relaxed) {
        cuda::synchronize()?;
    }
    Ok(Some(last))
}

/// Submits the arrays of `vec` and does not wait. Gives MLX's status.
pub(crate) fn submit(vec: &ArrayVec) -> i32 {
    let _turn = match turn() {
        Ok(turn) => turn,
        Err(status) => return status,
    };
    // SAFETY: the vector holds live arrays.
    unsafe { api().mlx_async_eval(vec.raw()) }
}

/// Computes the arrays of `vec`, whose handles `each` has. Gives MLX's status.
pub(crate) fn compute(vec: &ArrayVec, each: impl Iterator<Item = mlx_array>) -> i32 {
    if opened_first() != Some(DeviceKind::Cuda) {
        // SAFETY: the vector holds live arrays.
        return unsafe { api().mlx_eval(vec.raw()) };
    }
    let mut status = submit(vec);
    for array in each {
        if status != 0 {
            break;
        }
        // SAFETY: the handle is alive. It was submitted, so this only waits.
        status = unsafe { api().mlx_array_eval(array) };
    }
    status
}
