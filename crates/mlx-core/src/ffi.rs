//! The one place where a call into MLX becomes a `Result`.
//!
//! [`array_op!`] serves every operation that makes one array, [`check`] the rest. Both read the
//! message that mlx-sys's error handler kept for this thread. The macro names its operands apart
//! from the arguments because an operation's arguments are raw handles and pointers, and an error
//! shows shapes and dtypes.

use std::ffi::{CStr, c_int};
use std::ptr::null_mut;
use std::sync::OnceLock;

use mlx_sys::{Api, mlx_array, mlx_optional_dtype, mlx_optional_float, mlx_optional_int};
use mlx_sys::{mlx_string, mlx_vector_array};

use crate::device::require_open;
use crate::error::{Call, Error, Result};
use crate::{Array, Dtype};

static API: OnceLock<&'static Api> = OnceLock::new();

/// The loaded library's functions.
///
/// # Panics
/// Before [`set_api`]. There is no stream and no array before [`crate::device::open`], which calls
/// it; what needs neither asks [`crate::device::require_open`] first.
pub(crate) fn api() -> &'static Api {
    API.get()
        .expect("the native library is loaded before anything is called in it")
}

/// Keeps the loaded library's functions for [`api`].
pub(crate) fn set_api(api: &'static Api) {
    API.get_or_init(|| api);
}

/// The handle that mlx-c reads as "none" and fills as an output.
pub(crate) const EMPTY: mlx_array = mlx_array { ctx: null_mut() };

/// Calls `api().$call(&mut out, $args.., stream)` and gives the array it made.
///
/// `array_op!("name" [operands] "parameters {format}"; mlx_call(args))`, where the operands are
/// `&Array` or `Option<&Array>`.
macro_rules! array_op {
    ($op:tt [$($operand:expr),*] $($format:literal)?; $call:ident($($arg:expr),* $(,)?)) => {{
        let stream = $crate::stream::Stream::current($op)?;
        let mut out = $crate::ffi::EMPTY;
        // SAFETY: the operands are live handles and every pointer among the arguments is taken from
        // a slice or string borrowed for longer than this call, which copies what it keeps; `out`
        // is empty and becomes ours.
        let status = unsafe { $crate::ffi::api().$call(&mut out, $($arg,)* stream.raw()) };
        if status == 0 && !out.ctx.is_null() {
            Ok($crate::Array::from_raw(out))
        } else {
            let params = String::new() $(+ &format!($format))?;
            Err($crate::ffi::op_failure($op, &[$(&$operand),*], params))
        }
    }};
}
pub(crate) use array_op;

/// An array that an operation takes, perhaps.
pub(crate) trait AsOperand {
    fn operand(&self) -> Option<&Array>;
}

impl AsOperand for Array {
    fn operand(&self) -> Option<&Array> {
        Some(self)
    }
}

impl<T: AsOperand> AsOperand for &T {
    fn operand(&self) -> Option<&Array> {
        T::operand(self)
    }
}

impl<T: AsOperand> AsOperand for Option<T> {
    fn operand(&self) -> Option<&Array> {
        self.as_ref().and_then(T::operand)
    }
}

/// The error of a call that just failed, with its operands.
#[cold]
pub(crate) fn op_failure(op: &'static str, operands: &[&dyn AsOperand], params: String) -> Error {
    refusal(op, operands, params, take_message(op))
}

/// The error of a call that is not made, because MLX would not check it.
#[cold]
pub(crate) fn refusal(
    op: &'static str,
    operands: &[&dyn AsOperand],
    params: String,
    message: impl Into<String>,
) -> Error {
    let operands = operands.iter().filter_map(|o| o.operand());
    Error::Op {
        op,
        call: Call::new(operands, params),
        message: message.into(),
    }
}

/// The error of a call that just failed, with a list of operands.
#[cold]
pub(crate) fn list_failure(op: &'static str, operands: &[&Array], params: String) -> Error {
    Error::Op {
        op,
        call: Call::new(operands.iter().copied(), params),
        message: take_message(op),
    }
}

/// The error of a call without operands that just failed.
#[cold]
pub(crate) fn failure(op: &'static str) -> Error {
    op_failure(op, &[], String::new())
}

/// Turns the status of a call without operands into a result.
pub(crate) fn check(op: &'static str, status: c_int) -> Result<()> {
    if status == 0 {
        Ok(())
    } else {
        Err(failure(op))
    }
}

/// What MLX said about the failure on this thread, without the "[op] " that it often begins with.
fn take_message(op: &str) -> String {
    let Some(message) = mlx_sys::take_last_error() else {
        return "MLX gave no reason".to_owned();
    };
    match message
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
    {
        Some((tag, reason)) if tag == op => reason.to_owned(),
        _ => message,
    }
}

/// `None` as mlx-c's empty handle.
pub(crate) fn optional(array: Option<&Array>) -> mlx_array {
    array.map_or(EMPTY, Array::raw)
}

pub(crate) fn optional_int(value: i32) -> mlx_optional_int {
    mlx_optional_int {
        value,
        has_value: true,
    }
}

pub(crate) fn optional_float(value: Option<f32>) -> mlx_optional_float {
    mlx_optional_float {
        value: value.unwrap_or(0.0),
        has_value: value.is_some(),
    }
}

pub(crate) fn optional_dtype(value: Option<Dtype>) -> mlx_optional_dtype {
    let has_value = value.is_some();
    mlx_optional_dtype {
        value: value.unwrap_or(Dtype::Float32).to_raw(),
        has_value,
    }
}

/// An owned `mlx_vector_array`.
pub(crate) struct ArrayVec(mlx_vector_array);

impl ArrayVec {
    /// An empty handle, for MLX to fill.
    pub(crate) fn empty() -> ArrayVec {
        ArrayVec(mlx_vector_array { ctx: null_mut() })
    }

    /// A vector of references to `arrays`.
    pub(crate) fn new(op: &'static str, arrays: &[&Array]) -> Result<ArrayVec> {
        require_open(op)?;
        let handles: Vec<mlx_array> = arrays.iter().map(|a| a.raw()).collect();
        // SAFETY: `handles` are live handles, copied by the call.
        let vec = unsafe { api().mlx_vector_array_new_data(handles.as_ptr(), handles.len()) };
        if vec.ctx.is_null() {
            Err(failure(op))
        } else {
            Ok(ArrayVec(vec))
        }
    }

    pub(crate) fn raw(&self) -> mlx_vector_array {
        self.0
    }

    pub(crate) fn raw_mut(&mut self) -> &mut mlx_vector_array {
        &mut self.0
    }

    /// The arrays in it.
    pub(crate) fn to_vec(&self, op: &'static str) -> Result<Vec<Array>> {
        // SAFETY: the handle is alive; a null one is refused by mlx-c with an error and length 0.
        let len = unsafe { api().mlx_vector_array_size(self.0) };
        (0..len)
            .map(|i| {
                let mut out = EMPTY;
                // SAFETY: `i` is within the vector; `out` is empty and becomes ours.
                let status = unsafe { api().mlx_vector_array_get(&mut out, self.0, i) };
                if status == 0 {
                    Ok(Array::from_raw(out))
                } else {
                    Err(failure(op))
                }
            })
            .collect()
    }
}

impl Drop for ArrayVec {
    fn drop(&mut self) {
        // SAFETY: the handle, null or not, is owned here and freed once.
        unsafe { api().mlx_vector_array_free(self.0) };
    }
}

/// Calls `fill` with an empty `mlx_string` and gives the text.
pub(crate) fn string(
    op: &'static str,
    fill: impl FnOnce(&mut mlx_string) -> c_int,
) -> Result<String> {
    let mut raw = mlx_string { ctx: null_mut() };
    check(op, fill(&mut raw))?;
    // SAFETY: `fill` succeeded, so the handle holds a string; it is copied and then freed once.
    unsafe {
        let data = api().mlx_string_data(raw);
        let text = if data.is_null() {
            String::new()
        } else {
            CStr::from_ptr(data).to_string_lossy().into_owned()
        };
        api().mlx_string_free(raw);
        Ok(text)
    }
}
