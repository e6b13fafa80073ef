//! Handing work to the device and waiting for it; by one thread at a time on CUDA.
//!
//! MLX records a product as a captured CUDA graph. While one thread captures, another that has the
//! driver load a kernel for the first time breaks the capture, and MLX then ends the process. So
//! there threads take turns in submitting; waiting for results they do together.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use mlx_sys::mlx_array;

use crate::DeviceKind;
use crate::cuda::{self, exit};
use crate::device::opened_first;
use crate::ffi::{ArrayVec, api};

/// Who submitted last.
static SUBMITTING: Mutex<Option<ThreadId>> = Mutex::new(None);
static ONE_AT_A_TIME: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Whether something failed on this thread; see [`wait`].
    static FAILED: Cell<bool> = const { Cell::new(false) };
}

/// A thread's turn to submit.
pub(crate) type Turn = MutexGuard<'static, Option<ThreadId>>;

/// From now on a thread that submits to the GPU first waits for what another one has submitted.
pub(crate) fn one_thread_at_a_time() {
    ONE_AT_A_TIME.store(true, Ordering::Relaxed);
}

/// The turn, if it can be had within `time`.
pub(crate) fn turn_within(time: Duration) -> Option<Turn> {
    let begun = Instant::now();
    loop {
        match SUBMITTING.try_lock() {
            Ok(turn) => return Some(turn),
            Err(TryLockError::Poisoned(turn)) => return Some(turn.into_inner()),
            Err(TryLockError::WouldBlock) if begun.elapsed() > time => return None,
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// This thread's turn, where turns are taken. Fails when the GPU does not finish what it has, and
/// when the process ends.
fn turn() -> Result<Option<Turn>, i32> {
    if opened_first() != Some(DeviceKind::Cuda) {
        return Ok(None);
    }
    let mut last = SUBMITTING.lock().unwrap_or_else(PoisonError::into_inner);
    if exit::has_begun() {
        drop(last);
        return Err(exit::hold());
    }
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
    noted(unsafe { api().mlx_async_eval(vec.raw()) })
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
        // SAFETY: the handle is alive, and its array was submitted.
        status = noted(unsafe { wait(array) });
    }
    status
}

/// Whether something has failed on this thread that it asked of a GPU through CUDA, for want of memory say.
/// MLX goes on, but its own waits on this thread may fail from then on, whatever they wait for.
pub fn has_failed() -> bool {
    FAILED.get()
}

/// Remembers a failure on CUDA.
pub(crate) fn noted(status: i32) -> i32 {
    if status != 0 && opened_first() == Some(DeviceKind::Cuda) {
        FAILED.set(true);
    }
    status
}

/// Waits for an array that was submitted. Gives MLX's status.
///
/// MLX's own wait also fails if the last error of CUDA's runtime on this thread is one. That stays
/// "out of memory" once an allocation has failed, only MLX could reset it, and nothing would ever be
/// computed on this thread again. MLX does not wait for what is there already; so after a failure it
/// is asked until it is.
///
/// # Safety
/// The handle is alive.
unsafe fn wait(array: mlx_array) -> i32 {
    /// How often is asked: a token takes ten times as long.
    const EACH: Duration = Duration::from_micros(50);
    /// After so long the GPU is asked as well: work that failed there is never done.
    const PATIENCE: Duration = Duration::from_secs(1);
    let (mut begun, mut synchronized) = (Instant::now(), false);
    while FAILED.get() {
        let mut there = false;
        // SAFETY: the caller vouches for the handle; `there` is written by the call.
        let status = unsafe { api()._mlx_array_is_available(&mut there, array) };
        if status != 0 {
            return status;
        }
        if there {
            break;
        }
        if begun.elapsed() > PATIENCE {
            // The driver, which has no last error. Behind this everything submitted has run.
            if synchronized || cuda::synchronize().is_err() {
                return 1;
            }
            (begun, synchronized) = (Instant::now(), true);
        }
        thread::sleep(EACH);
    }
    // SAFETY: the caller vouches for the handle.
    unsafe { api().mlx_array_eval(array) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{self, Choice};
    use crate::{Array, Dtype, ops};

    #[test]
    fn what_is_submitted_is_waited_for_after_a_failure_too() {
        device::open(Choice::Cpu).unwrap();
        // Long enough that it is not there at once.
        let x = Array::full(&[256, 256], 0.5, Dtype::Float32).unwrap();
        let y = ops::matmul(&x, &x).unwrap();
        let vec = ArrayVec::new("eval", &[&y]).unwrap();
        assert_eq!(submit(&vec), 0);
        FAILED.set(true);
        // SAFETY: the handle is alive.
        assert_eq!(unsafe { wait(y.raw()) }, 0);
        let mut there = false;
        // SAFETY: as above.
        unsafe { api()._mlx_array_is_available(&mut there, y.raw()) };
        assert!(there);
        assert_eq!(y.to_vec::<f32>().unwrap(), vec![64.0; 256 * 256]);
    }
}
