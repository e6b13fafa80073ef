//! The memory of a host operation's inputs and outputs.

use std::marker::PhantomData;
use std::slice;

use mlx_sys::mlxb_view;

use super::Failure;
use crate::{Dtype, Element};

/// An input, as it lies in memory.
#[derive(Clone, Copy)]
pub struct View<'a> {
    raw: &'a mlxb_view,
}

/// An output to write: dense, in row-major order.
pub struct ViewMut<'a> {
    raw: &'a mlxb_view,
    data: PhantomData<&'a mut [u8]>,
}

macro_rules! geometry {
    () => {
        /// The length of each axis.
        pub fn shape(&self) -> &'a [i32] {
            // SAFETY: `ndim` lengths lie there while the operation runs.
            unsafe { list(self.raw.shape, self.raw.ndim) }
        }

        /// The type of the elements.
        pub fn dtype(&self) -> Dtype {
            Dtype::from_raw(self.raw.dtype)
        }

        /// The number of elements.
        pub fn size(&self) -> usize {
            self.raw.size
        }
    };
}

impl<'a> View<'a> {
    pub(super) fn new(raw: &'a mlxb_view) -> View<'a> {
        View { raw }
    }

    geometry!();

    /// How many elements apart neighbours along each axis are; 0 along a broadcast axis.
    pub fn strides(&self) -> &'a [i64] {
        // SAFETY: `ndim` strides lie there while the operation runs.
        unsafe { list(self.raw.strides, self.raw.ndim) }
    }

    /// Whether the elements lie densely in row-major order.
    pub fn is_dense(&self) -> bool {
        self.raw.row_contiguous || self.raw.size == 0
    }

    /// The first element. With [`View::strides`], the way to read a strided input.
    pub fn as_ptr(&self) -> *const u8 {
        self.raw.data.cast_const().cast()
    }

    /// The bytes of a dense input; fails for a strided one.
    pub fn bytes(&self) -> Result<&'a [u8], Failure> {
        if !self.is_dense() {
            let (shape, strides) = (self.shape(), self.strides());
            return Err(format!("an input of shape {shape:?} has strides {strides:?}").into());
        }
        // SAFETY: a dense array's elements are computed and lie there in one piece; nothing writes
        // them while the operation runs.
        Ok(unsafe { list(self.as_ptr(), self.size() * self.dtype().size()) })
    }

    /// The elements of a dense input of dtype `T`; fails for another one.
    pub fn elements<T: Element>(&self) -> Result<&'a [T], Failure> {
        let bytes = self.bytes()?;
        typed::<T>(self.dtype(), bytes.as_ptr())?;
        // SAFETY: they are `size` elements of this dtype, aligned, as checked.
        Ok(unsafe { list(bytes.as_ptr().cast(), self.size()) })
    }

    /// Copies the elements, in row-major order, to an output of the same shape and dtype.
    pub(super) fn copy_to(&self, out: &mut ViewMut<'_>) {
        if let Ok(bytes) = self.bytes() {
            out.bytes_mut().copy_from_slice(bytes);
            return;
        }
        let width = self.dtype().size();
        let (shape, strides) = (self.shape(), self.strides());
        let mut index = vec![0; shape.len()];
        for to in out.bytes_mut().chunks_exact_mut(width) {
            let offset: i64 = index
                .iter()
                .zip(strides)
                .map(|(&i, s)| i64::from(i) * s)
                .sum();
            // SAFETY: `index` is within the shape, so the element is one of the array's.
            let from = unsafe {
                slice::from_raw_parts(
                    self.as_ptr().offset(offset as isize * width as isize),
                    width,
                )
            };
            to.copy_from_slice(from);
            for (i, &length) in index.iter_mut().zip(shape).rev() {
                *i += 1;
                if *i < length {
                    break;
                }
                *i = 0;
            }
        }
    }
}

impl<'a> ViewMut<'a> {
    /// # Safety
    /// Nothing else reads or writes the output while the view lives.
    pub(super) unsafe fn new(raw: &'a mlxb_view) -> ViewMut<'a> {
        ViewMut {
            raw,
            data: PhantomData,
        }
    }

    geometry!();

    /// The bytes to write. Before they are written they hold anything.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let len = self.size() * self.dtype().size();
        // SAFETY: outputs are dense and this view's alone (see `new`). The memory comes from a C++
        // allocator, so as far as Rust can tell it has been written before.
        unsafe { list_mut(self.raw.data.cast(), len) }
    }

    /// The elements to write; fails if `T` is not their dtype.
    pub fn elements_mut<T: Element>(&mut self) -> Result<&mut [T], Failure> {
        typed::<T>(self.dtype(), self.raw.data.cast_const().cast())?;
        if T::DTYPE == Dtype::Bool {
            // What is there before may be no bool.
            self.bytes_mut().fill(0);
        }
        // SAFETY: as `bytes_mut`; the dtype and alignment were checked.
        Ok(unsafe { list_mut(self.raw.data.cast(), self.size()) })
    }
}

/// Checks that elements at `data` can be referred to as `T`.
fn typed<T: Element>(dtype: Dtype, data: *const u8) -> Result<(), Failure> {
    if dtype != T::DTYPE {
        return Err(format!("an array is {dtype}, not {}", T::DTYPE).into());
    }
    if !data.cast::<T>().is_aligned() {
        return Err(format!("an array of {dtype} lies at {data:?}, which is not aligned").into());
    }
    Ok(())
}

/// A C array as a slice; the pointer of an empty one may be null.
///
/// # Safety
/// `len` readable values lie at `data`, unless `len` is 0, and live unchanged for `'a`.
pub(super) unsafe fn list<'a, T>(data: *const T, len: usize) -> &'a [T] {
    if len == 0 {
        return &[];
    }
    // SAFETY: vouched for by the caller.
    unsafe { slice::from_raw_parts(data, len) }
}

/// [`list`], to write.
///
/// # Safety
/// `len` values lie at `data`, unless `len` is 0, and are the caller's alone for `'a`.
unsafe fn list_mut<'a, T>(data: *mut T, len: usize) -> &'a mut [T] {
    if len == 0 {
        return &mut [];
    }
    // SAFETY: vouched for by the caller.
    unsafe { slice::from_raw_parts_mut(data, len) }
}
