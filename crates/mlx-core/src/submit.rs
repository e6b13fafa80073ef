//! Handing work to the device, by one thread at a time on CUDA.
//!
//! MLX records a product as a captured CUDA graph. While one thread captures, another that has the
//! driver load a kernel for the first time breaks the capture, and MLX then ends the process. So
//! there threads take turns in submitting; waiting for results they do together.

use std::sync::{Mutex, MutexGuard, PoisonError};

use mlx_sys::mlx_array;

use crate::DeviceKind;
use crate::device::opened_first;
use crate::ffi::{ArrayVec, api};

static SUBMITTING: Mutex<()> = Mutex::new(());

/// This thread's turn, where turns are taken.
fn turn() -> Option<MutexGuard<'static, ()>> {
    let cuda = opened_first() == Some(DeviceKind::Cuda);
    cuda.then(|| SUBMITTING.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Submits the arrays of `vec` and does not wait. Gives MLX's status.
pub(crate) fn submit(vec: &ArrayVec) -> i32 {
    let _turn = turn();
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
