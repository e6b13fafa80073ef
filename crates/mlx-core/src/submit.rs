//! Handing work to the device and waiting for it; by one thread at a time on CUDA.
//!
//! There threads take turns in submitting ([`turn`]); waiting for results they do together.

use std::cell::Cell;
use std::sync::Once;
use std::thread;
use std::time::{Duration, Instant};

use mlx_sys::mlx_array;

use crate::device::cuda_is_open;
use crate::ffi::{ArrayVec, api, refusal};
use crate::stream::Stream;
use crate::turn::{self, Turn};
use crate::{DeviceKind, Error, Result, cuda, device, exit};

thread_local! {
    /// How often something failed on this thread; see [`wait`].
    static FAILURES: Cell<u64> = const { Cell::new(0) };
}

/// When MLX has made what it makes for its first work.
static COMPUTED: Once = Once::new();

/// Submits the arrays of `vec` and does not wait. Gives MLX's status.
pub(crate) fn submit(vec: &ArrayVec) -> i32 {
    let (_using, _turn) = match exit::using().and_then(|using| Ok((using, turn::to_submit()?))) {
        Ok(both) => both,
        Err(status) => return status,
    };
    // SAFETY: the vector holds live arrays.
    let status = unsafe { api().mlx_async_eval(vec.raw()) };
    exit::prepare(&COMPUTED);
    noted(status)
}

/// Computes the arrays of `vec`, whose handles `each` has. Gives MLX's status.
pub(crate) fn compute(vec: &ArrayVec, each: impl Iterator<Item = mlx_array>) -> i32 {
    if !cuda_is_open() {
        let _using = match exit::using() {
            Ok(using) => using,
            Err(status) => return status,
        };
        // SAFETY: the vector holds live arrays.
        let status = unsafe { api().mlx_eval(vec.raw()) };
        exit::prepare(&COMPUTED);
        return status;
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
        DeviceKind::Cpu | DeviceKind::Metal => {
            stream.synchronize()?;
            // With CUDA's library a processor's thread says through the GPU that it is done.
            match device::library_is_cudas() {
                true => cuda::synchronize().map_err(synchronize_failure),
                false => Ok(()),
            }
        }
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
    let finished = turn::to_submit().and_then(|turn| match turn {
        Some(turn) => cuda::synchronize().map(|()| Some(turn)),
        None => Ok(None),
    });
    finished.map_err(synchronize_failure)
}

fn synchronize_failure(status: i32) -> Error {
    let message = format!("CUDA error {status}");
    refusal("synchronize", &[], String::new(), message)
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
