//! Graph nodes whose work is a Rust closure.
//!
//! MLX's graph decides when an operation runs and owns its memory; [`call`] and [`update`] put a
//! closure into that graph. The closure runs on the worker of this thread's CPU stream, after its
//! inputs are computed, and sees plain memory: [`View`]s of the inputs as they lie (perhaps
//! strided) and dense [`ViewMut`]s to write. On a GPU device it still runs on the CPU, and MLX moves
//! the data.
//!
//! The closure must not use MLX: its arrays belong to other threads, and the worker it would wait
//! for is the one it runs on. It says so in its type: it is `Send`, so it can hold no [`Array`].
//!
//! An `Err` of the closure, or a panic, becomes the `Err` of whoever waits for an output. The
//! outputs are then undefined: drop them.

mod pinned;
mod room;
mod view;

use std::any::Any;
use std::ffi::{CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use mlx_sys::{mlxb_output, mlxb_view};

pub use pinned::Pinned;
pub use room::Room;
use view::list;
pub use view::{View, ViewMut};

use crate::ffi::{ArrayVec, api, list_failure};
use crate::stream::Stream;
use crate::{Array, Dtype, Error, Result};

/// Why a closure could not do its work; shown to whoever evaluates its outputs.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// New arrays of the given shapes and dtypes, written by `work(inputs, outputs)`.
///
/// What `work` does not write is undefined.
pub fn call<F>(
    name: &'static str,
    inputs: &[&Array],
    outputs: &[(&[i32], Dtype)],
    mut work: F,
) -> Result<Vec<Array>>
where
    F: FnMut(&[View<'_>], &mut [ViewMut<'_>]) -> Result<(), Failure> + Send + 'static,
{
    submit(name, inputs, outputs, -1, move |inputs, outputs| {
        let inputs: Vec<View<'_>> = inputs.iter().map(View::new).collect();
        // SAFETY: the bridge made each output's memory for this call alone.
        let mut outputs: Vec<_> = outputs.iter().map(|o| unsafe { ViewMut::new(o) }).collect();
        work(&inputs, &mut outputs)
    })
}

/// One new array, written by `work(inputs, output)`: [`call`] for the usual case.
pub fn single<F>(
    name: &'static str,
    inputs: &[&Array],
    shape: &[i32],
    dtype: Dtype,
    mut work: F,
) -> Result<Array>
where
    F: FnMut(&[View<'_>], &mut ViewMut<'_>) -> Result<(), Failure> + Send + 'static,
{
    let outputs = call(name, inputs, &[(shape, dtype)], move |inputs, outputs| {
        let [output] = outputs else {
            return Err("no output".into());
        };
        work(inputs, output)
    })?;
    first(outputs, name, inputs)
}

/// `target` changed by `work(inputs, target)`, in place where nothing else refers to its buffer and
/// in a copy otherwise.
pub fn update<F>(
    name: &'static str,
    target: &Array,
    inputs: &[&Array],
    mut work: F,
) -> Result<Array>
where
    F: FnMut(&[View<'_>], &mut ViewMut<'_>) -> Result<(), Failure> + Send + 'static,
{
    let all: Vec<&Array> = std::iter::once(target)
        .chain(inputs.iter().copied())
        .collect();
    let outputs = [(target.shape(), target.dtype())];
    let made = submit(name, &all, &outputs, 0, move |inputs, outputs| {
        let [target, inputs @ ..] = inputs else {
            return Err("no target".into());
        };
        let [output] = outputs else {
            return Err("no output".into());
        };
        if target.data != output.data {
            // SAFETY: the bridge made the output's memory for this call alone.
            View::new(target).copy_to(&mut unsafe { ViewMut::new(output) });
        }
        let inputs: Vec<View<'_>> = inputs.iter().map(View::new).collect();
        // SAFETY: as above, or it is the target's, which MLX gave up because nothing else, no
        // other input either, refers to it, and which is not shown as an input.
        work(&inputs, &mut unsafe { ViewMut::new(output) })
    })?;
    first(made, name, &all)
}

fn first(made: Vec<Array>, name: &'static str, inputs: &[&Array]) -> Result<Array> {
    made.into_iter()
        .next()
        .ok_or_else(|| list_failure(name, inputs, String::new()))
}

fn submit<W>(
    name: &'static str,
    inputs: &[&Array],
    outputs: &[(&[i32], Dtype)],
    donate: c_int,
    work: W,
) -> Result<Vec<Array>>
where
    W: FnMut(&[mlxb_view], &[mlxb_view]) -> Result<(), Failure> + Send + 'static,
{
    let stream = Stream::cpu(name)?;
    let c_name = CString::new(name).map_err(|_| Error::Name {
        what: "host operation",
        given: name.to_owned(),
        expected: "a name without NUL",
    })?;
    let specs: Vec<mlxb_output> = outputs
        .iter()
        .map(|(shape, dtype)| mlxb_output {
            shape: shape.as_ptr(),
            ndim: shape.len(),
            dtype: dtype.to_raw(),
        })
        .collect();
    let vec = ArrayVec::new(name, inputs)?;
    let mut made = ArrayVec::empty();
    let payload = Box::into_raw(Box::new(Payload {
        work,
        panicked: false,
    }));
    // SAFETY: the handles, the name and the specs are alive and copied by the call; the payload is
    // a `Payload<W>`, as `run::<W>` and `free::<W>` expect, and may move between threads because
    // `W` is `Send`. The bridge frees it once, also if the call fails.
    let status = unsafe {
        api().mlxb_host_op(
            made.raw_mut(),
            c_name.as_ptr(),
            vec.raw(),
            specs.as_ptr(),
            specs.len(),
            Some(run::<W>),
            payload.cast::<c_void>(),
            Some(free::<W>),
            donate,
            stream.raw(),
        )
    };
    if status == 0 {
        made.to_vec(name)
    } else {
        Err(list_failure(name, inputs, String::new()))
    }
}

struct Payload<W> {
    work: W,
    panicked: bool,
}

/// What the bridge calls: returns 0, or 1 after writing why not to `message`.
unsafe extern "C" fn run<W>(
    payload: *mut c_void,
    inputs: *const mlxb_view,
    n_inputs: usize,
    outputs: *const mlxb_view,
    n_outputs: usize,
    message: *mut c_char,
    message_size: usize,
) -> c_int
where
    W: FnMut(&[mlxb_view], &[mlxb_view]) -> Result<(), Failure>,
{
    let result = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the payload is the one made in `submit::<W>`, still owned by the bridge, which
        // never runs it twice at a time.
        let payload = unsafe { &mut *payload.cast::<Payload<W>>() };
        if payload.panicked {
            return Err("its closure panicked before".into());
        }
        payload.panicked = true;
        // SAFETY: the bridge gives arrays of these lengths, alive for this call.
        let (inputs, outputs) = unsafe { (list(inputs, n_inputs), list(outputs, n_outputs)) };
        let result = (payload.work)(inputs, outputs);
        payload.panicked = false;
        result.map_err(|failure| failure.to_string())
    }));
    let reason = match result {
        Ok(Ok(())) => return 0,
        Ok(Err(reason)) => reason,
        Err(panic) => format!("its closure panicked: {}", panic_message(&*panic)),
    };
    // SAFETY: the bridge gives `message_size` writable bytes at `message`.
    unsafe { write_message(&reason, message.cast(), message_size) };
    1
}

unsafe extern "C" fn free<W>(payload: *mut c_void) {
    // SAFETY: the bridge calls this once, with the payload made in `submit::<W>`.
    let payload = unsafe { Box::from_raw(payload.cast::<Payload<W>>()) };
    // A panic of something the closure holds must not unwind into C++.
    let _ = catch_unwind(AssertUnwindSafe(move || drop(payload)));
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// Writes as much of `reason` as fits, whole characters only, and a NUL.
///
/// # Safety
/// `size` bytes at `to` are writable.
unsafe fn write_message(reason: &str, to: *mut u8, size: usize) {
    if size == 0 {
        return;
    }
    let len = reason.floor_char_boundary(size - 1);
    // SAFETY: `len < size`.
    unsafe {
        to.copy_from_nonoverlapping(reason.as_ptr(), len);
        to.add(len).write(0);
    }
}
