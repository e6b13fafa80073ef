//! New arrays: from Rust values, filled, or over bytes that somebody else owns.

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::sync::Arc;

use half::{bf16, f16};

use crate::device::require_open;
use crate::ffi::{EMPTY, api, array_op, op_failure, refusal};
use crate::{Array, Dtype, Element, Error, Result, submit};

/// Bytes that an array can be made over, such as a memory-mapped file.
pub type Bytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

impl Array {
    /// A copy of `data`, which holds the elements in row-major order.
    ///
    /// Fails if their number is not that of the shape.
    pub fn from_slice<T: Element>(data: &[T], shape: &[i32]) -> Result<Array> {
        if element_count(shape) != Some(data.len()) {
            return Err(mismatch(
                "from_slice",
                shape,
                T::DTYPE,
                data.len(),
                "elements",
            ));
        }
        // SAFETY: `data` holds as many elements of this dtype as the shape has.
        unsafe { copy_of(data.as_ptr().cast(), "from_slice", shape, T::DTYPE) }
    }

    /// A scalar of `T`'s dtype. Mixed with an array of another dtype it promotes that array: see
    /// [`Array::scalar_of`].
    pub fn scalar<T: Element>(value: T) -> Result<Array> {
        Array::from_slice(&[value], &[])
    }

    /// A scalar of the dtype of the array it will meet, so that the array keeps its own.
    ///
    /// Rounds to the nearest value of a floating dtype (beyond its range, an infinity). Fails for
    /// an integer dtype that does not hold `value`.
    pub fn scalar_of(value: f64, dtype: Dtype) -> Result<Array> {
        macro_rules! integer {
            ($t:ty) => {{
                let cast = value as $t;
                // A cast saturates and truncates: what comes back is `value` only if it fitted.
                if cast as f64 != value {
                    return Err(Error::Value { value, dtype });
                }
                Array::scalar(cast)
            }};
        }
        match dtype {
            Dtype::Bool => Array::scalar(value != 0.0),
            Dtype::Uint8 => integer!(u8),
            Dtype::Uint16 => integer!(u16),
            Dtype::Uint32 => integer!(u32),
            Dtype::Uint64 => integer!(u64),
            Dtype::Int8 => integer!(i8),
            Dtype::Int16 => integer!(i16),
            Dtype::Int32 => integer!(i32),
            Dtype::Int64 => integer!(i64),
            Dtype::Float16 => Array::scalar(f16::from_f64(value)),
            Dtype::Bfloat16 => Array::scalar(bf16::from_f64(value)),
            Dtype::Float32 => Array::scalar(value as f32),
            Dtype::Float64 => Array::scalar(value),
            Dtype::Complex64 => Array::scalar(value as f32)?.cast(Dtype::Complex64),
        }
    }

    /// All zeros.
    pub fn zeros(shape: &[i32], dtype: Dtype) -> Result<Array> {
        check_shape("zeros", shape, dtype)?;
        array_op!("zeros" [] "{dtype}{shape:?}";
            mlx_zeros(shape.as_ptr(), shape.len(), dtype.to_raw()))
    }

    /// All ones.
    pub fn ones(shape: &[i32], dtype: Dtype) -> Result<Array> {
        check_shape("ones", shape, dtype)?;
        array_op!("ones" [] "{dtype}{shape:?}";
            mlx_ones(shape.as_ptr(), shape.len(), dtype.to_raw()))
    }

    /// One value everywhere; the value is rounded as [`Array::scalar_of`] does.
    pub fn full(shape: &[i32], value: f64, dtype: Dtype) -> Result<Array> {
        check_shape("full", shape, dtype)?;
        let value = Array::scalar_of(value, dtype)?;
        array_op!("full" [&value] "{shape:?}";
            mlx_full(shape.as_ptr(), shape.len(), value.raw(), dtype.to_raw()))
    }

    /// `start`, `start + step`, … up to and without `stop`.
    pub fn arange(start: f64, stop: f64, step: f64, dtype: Dtype) -> Result<Array> {
        array_op!("arange" [] "{start}, {stop}, step {step}, {dtype}";
            mlx_arange(start, stop, step, dtype.to_raw()))
    }

    /// An array over `owner`'s bytes in `range`: the elements of `shape` in row-major order.
    ///
    /// The bytes are used where they lie if the device can: on the CPU if they are aligned to 8
    /// bytes and not the first 8 of the owner's, on Metal if they are whole pages. MLX then never
    /// writes to them, and `owner` is dropped at the first [`crate::memory::clear_cache`] or
    /// `from_owned_bytes` after the last use. On CUDA, and where the bytes lie badly, they are
    /// copied and `owner` is dropped at once.
    ///
    /// The drop happens once, perhaps on another thread. Fails if the range is not within the bytes
    /// or not of the size that shape and dtype have.
    pub fn from_owned_bytes(
        owner: Bytes,
        range: Range<usize>,
        shape: &[i32],
        dtype: Dtype,
    ) -> Result<Array> {
        const OP: &str = "from_owned_bytes";
        require_open(OP)?;
        let bytes = (*owner).as_ref();
        let total = bytes.len();
        let Some(bytes) = bytes.get(range.clone()) else {
            let message = format!("bytes {range:?} are not within the {total} there are");
            return Err(refusal(OP, &[], described(shape, dtype), message));
        };
        if element_count(shape).and_then(|n| n.checked_mul(dtype.size())) != Some(bytes.len()) {
            return Err(mismatch(OP, shape, dtype, bytes.len(), "bytes"));
        }
        let data = bytes.as_ptr().cast_mut().cast::<c_void>();
        let payload = Box::into_raw(Box::new(owner)).cast::<c_void>();
        let mut out = EMPTY;
        // SAFETY: `data` has the bytes of this shape and dtype, and `range.start` more before it,
        // until `owner` is dropped; the bridge does not write to them and calls `drop_owner` once,
        // also if it fails. `out` is empty and becomes ours.
        let status = unsafe {
            api().mlxb_array_over(
                &mut out,
                data,
                range.start,
                shape.as_ptr(),
                shape.len(),
                dtype.to_raw(),
                payload,
                Some(drop_owner),
            )
        };
        // A copy to a GPU is computed there and then.
        if submit::noted(status) == 0 {
            Ok(Array::from_raw(out))
        } else {
            Err(op_failure(OP, &[], described(shape, dtype)))
        }
    }
}

/// Drops the `Box<Bytes>` that `payload` is.
///
/// # Safety
/// `payload` is one made by `from_owned_bytes`, and this is the only call with it.
unsafe extern "C" fn drop_owner(payload: *mut c_void) {
    // SAFETY: vouched for by the caller.
    let owner = unsafe { Box::from_raw(payload.cast::<Bytes>()) };
    // A panic of the owner's destructor must not unwind into C++.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || drop(owner)));
}

/// The array of `shape` whose elements are copied from `data`.
///
/// # Safety
/// `data` points at as many elements of `dtype` as `shape` has.
unsafe fn copy_of(
    data: *const c_void,
    op: &'static str,
    shape: &[i32],
    dtype: Dtype,
) -> Result<Array> {
    require_open(op)?;
    // SAFETY: the caller vouches for `data`, which is copied.
    let raw = unsafe {
        api().mlx_array_new_data(data, shape.as_ptr(), shape.len() as c_int, dtype.to_raw())
    };
    if raw.ctx.is_null() {
        return Err(op_failure(op, &[], described(shape, dtype)));
    }
    Ok(Array::from_raw(raw))
}

/// The number of elements of a shape; `None` if an axis is negative or the number overflows.
fn element_count(shape: &[i32]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &axis| {
        n.checked_mul(usize::try_from(axis).ok()?)
    })
}

/// Refuses a shape that MLX would multiply out unchecked.
pub(crate) fn check_shape(op: &'static str, shape: &[i32], dtype: Dtype) -> Result<()> {
    match element_count(shape).and_then(|n| n.checked_mul(dtype.size())) {
        Some(bytes) if bytes <= isize::MAX as usize => Ok(()),
        _ => {
            let message = "an axis is negative or the array is too large to address";
            Err(refusal(op, &[], described(shape, dtype), message))
        }
    }
}

fn mismatch(op: &'static str, shape: &[i32], dtype: Dtype, found: usize, unit: &str) -> Error {
    let message = format!("{found} {unit} do not fill this shape");
    refusal(op, &[], described(shape, dtype), message)
}

/// An array to be made, as errors show it.
fn described(shape: &[i32], dtype: Dtype) -> String {
    format!("{dtype}{shape:?}")
}
