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

use crate::cuda::{self, exit};
use crate::device::cuda_is_open;
use crate::ffi::{ArrayVec, api, refusal};
use crate::stream::Stream;
use crate::{DeviceKind, Result};

/// Who submitted last.
static SUBMITTING: Mutex<Option<ThreadId>> = Mutex::new(None);
static ONE_AT_A_TIME: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// How often something failed on this thread; see [`wait`].
    static FAILURES: Cell<u64> = const { Cell::new(0) };
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

/// While this is held no thread records anything on CUDA: for calls of the driver's outside of an evaluation,
/// which would break what another one records.
pub(crate) fn undisturbed() -> Option<Turn> {
    cuda_is_open().then(|| SUBMITTING.lock().unwrap_or_else(PoisonError::into_inner))
}

/// This thread's turn, where turns are taken. Fails when the GPU does not finish what it has, and
/// when the process ends.
fn turn() -> std::result::Result<Option<Turn>, i32> {
    let Some(mut last) = undisturbed() else {
        return Ok(None);
    };
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
    if !cuda_is_open() {
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

/// How often something has failed on this thread that it asked of a GPU through CUDA, for want of memory
/// say. MLX goes on, but its own waits on this thread may fail from the first time on, whatever they wait
/// for; and an operation that was made before the last time may be the one that failed.
pub fn failures() -> u64 {
    FAILURES.get()
}

/// Counts a failure on CUDA.
pub(crate) fn noted(status: i32) -> i32 {
    if status != 0 && cuda_is_open() {
        FAILURES.set(FAILURES.get() + 1);
    }
    status
}

/// Waits for everything that this thread submitted, on CUDA for that of others too.
pub(crate) fn finish_all() -> Result<()> {
    let stream = Stream::current("synchronize")?;
    match stream.kind() {
        DeviceKind::Cuda => gpu_finished().map(drop),
        DeviceKind::Cpu | DeviceKind::Metal => stream.synchronize(),
    }
}

/// Waits for everything that was submitted to CUDA, where it is open, and has the driver give back what
/// nothing uses any more.
pub(crate) fn release_freed() -> Result<()> {
    if let Some(_turn) = gpu_finished()? {
        cuda::release_freed();
    }
    Ok(())
}

/// The turn, once the GPU has done everything; `None` where CUDA is not open.
fn gpu_finished() -> Result<Option<Turn>> {
    let finished = turn().and_then(|turn| match turn {
        Some(turn) => cuda::synchronize().map(|()| Some(turn)),
        None => Ok(None),
    });
    finished.map_err(|status| {
        let message = format!("CUDA error {status}");
        refusal("synchronize", &[], String::new(), message)
    })
}

/// Whether the array is computed.
///
/// # Safety
/// The handle is alive.
pub(crate) unsafe fn is_there(array: mlx_array) -> std::result::Result<bool, i32> {
    let mut there = false;
    // SAFETY: the caller vouches for the handle; `there` is written by the call.
    match unsafe { api()._mlx_array_is_available(&mut there, array) } {
        0 => Ok(there),
        failed => Err(failed),
    }
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
    while FAILURES.get() > 0 {
        // SAFETY: the caller vouches for the handle.
        match unsafe { is_there(array) } {
            Ok(true) => break,
            Ok(false) => {}
            Err(status) => return status,
        }
        if begun.elapsed() > PATIENCE {
            // The driver, which has no last error. Behind this everything submitted has run.
            if synchronized || finish_all().is_err() {
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
        FAILURES.set(1);
        // SAFETY: the handle is alive.
        assert_eq!(unsafe { wait(y.raw()) }, 0);
        // SAFETY: as above.
        assert_eq!(unsafe { is_there(y.raw()) }, Ok(true));
        assert_eq!(y.to_vec::<f32>().unwrap(), vec![64.0; 256 * 256]);
    }

    #[test]
    fn only_what_is_submitted_can_be_waited_for() {
        device::open(Choice::Cpu).unwrap();
        let x = Array::full(&[64, 64], 0.5, Dtype::Float32).unwrap();
        let y = ops::matmul(&x, &x).unwrap();
        let error = y.wait().unwrap_err().to_string();
        assert!(error.contains("not submitted"), "{error}");
        crate::async_eval(&[&y]).unwrap();
        y.wait().unwrap();
        // SAFETY: the handle is alive.
        assert_eq!(unsafe { is_there(y.raw()) }, Ok(true));
    }
}
