//! Borrowed views of arrays: an address, an element type, sizes and strides.
//!
//! The address needs no alignment: tensors of a safetensors file may begin at any byte. Only the
//! last axis is contiguous. A checked constructor takes bytes; a caller that has an address from
//! elsewhere (MLX's arrays) vouches for it once, through the unsafe one.

use std::marker::PhantomData;
use std::ops::Range;

use crate::scratch::Shared;
use crate::{Dtype, Error, Result};

/// A read-only view `[planes, rows, cols]`, strides in elements. A matrix is one plane.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    raw: Raw,
    life: PhantomData<&'a [u8]>,
}

/// A view `[planes, rows, cols]` to write to, strides in elements. Rows do not overlap.
#[derive(Debug)]
pub struct ViewMut<'a> {
    raw: Raw,
    life: PhantomData<&'a mut [u8]>,
}

/// Sizes and strides of a view `[planes, rows, cols]`; the last axis has stride 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Elements' type.
    pub dtype: Dtype,
    /// First axis: heads, or 1.
    pub planes: usize,
    /// Second axis.
    pub rows: usize,
    /// Last axis, contiguous.
    pub cols: usize,
    /// Elements from one plane to the next.
    pub plane_stride: usize,
    /// Elements from one row to the next.
    pub row_stride: usize,
}

#[derive(Clone, Copy, Debug)]
struct Raw {
    data: *mut u8,
    layout: Layout,
}

// SAFETY: a `View` is a shared borrow of plain bytes, a `ViewMut` an exclusive one.
unsafe impl Send for View<'_> {}
// SAFETY: as above.
unsafe impl Sync for View<'_> {}
// SAFETY: as above.
unsafe impl Send for ViewMut<'_> {}
// SAFETY: as above; `&ViewMut` hands out sizes only.
unsafe impl Sync for ViewMut<'_> {}

impl Layout {
    /// A contiguous matrix.
    pub const fn matrix(dtype: Dtype, rows: usize, cols: usize) -> Self {
        Self {
            dtype,
            planes: 1,
            rows,
            cols,
            plane_stride: rows * cols,
            row_stride: cols,
        }
    }

    /// A matrix with `stride` elements from row to row.
    pub const fn strided(dtype: Dtype, rows: usize, cols: usize, stride: usize) -> Self {
        Self {
            dtype,
            planes: 1,
            rows,
            cols,
            plane_stride: rows * stride,
            row_stride: stride,
        }
    }

    /// Planes, rows and columns.
    pub const fn shape(&self) -> [usize; 3] {
        [self.planes, self.rows, self.cols]
    }

    /// Bytes from the first element to the end of the last; nothing when it is too much to count.
    pub fn bytes(&self) -> Option<usize> {
        if self.planes == 0 || self.rows == 0 || self.cols == 0 {
            return Some(0);
        }
        let planes = (self.planes - 1).checked_mul(self.plane_stride)?;
        let rows = (self.rows - 1).checked_mul(self.row_stride)?;
        planes
            .checked_add(rows)?
            .checked_add(self.cols)?
            .checked_mul(self.dtype.size())
    }

    /// The rows `range` of every plane, and the elements that lie before them.
    fn slice_rows(mut self, range: Range<usize>) -> Result<(Self, usize)> {
        crate::error::ensure!(
            "view",
            range.start <= range.end && range.end <= self.rows,
            "rows {range:?} of {self:?}"
        );
        self.rows = range.len();
        Ok((self, range.start * self.row_stride))
    }

    /// The columns `range` of every row, and the elements that lie before them.
    fn slice_cols(mut self, range: Range<usize>) -> Result<(Self, usize)> {
        crate::error::ensure!(
            "view",
            range.start <= range.end && range.end <= self.cols,
            "columns {range:?} of {self:?}"
        );
        self.cols = range.len();
        Ok((self, range.start))
    }

    /// A matrix of rows `[heads · D]` as planes of heads.
    fn heads(mut self, heads: usize) -> Result<Self> {
        crate::error::ensure!(
            "view",
            self.planes == 1 && heads > 0 && self.cols.is_multiple_of(heads),
            "{heads} heads in rows of {self:?}"
        );
        (self.planes, self.cols) = (heads, self.cols / heads);
        self.plane_stride = self.cols;
        Ok(self)
    }

    /// Whether no two elements share an address, whichever of the two axes is the outer one.
    fn is_injective(&self) -> bool {
        let span = |n: usize, stride: usize, inner: usize| {
            if n <= 1 {
                Some(inner)
            } else {
                (stride >= inner).then_some((n - 1) * stride + inner)
            }
        };
        let planes_outside = span(self.rows, self.row_stride, self.cols)
            .and_then(|inner| span(self.planes, self.plane_stride, inner));
        let rows_outside = span(self.planes, self.plane_stride, self.cols)
            .and_then(|inner| span(self.rows, self.row_stride, inner));
        planes_outside.or(rows_outside).is_some()
    }

    fn check(&self, given: usize) -> Result<()> {
        let needed = self.bytes().unwrap_or(usize::MAX);
        if needed > given {
            Err(Error::TooShort { needed, given })
        } else {
            Ok(())
        }
    }
}

impl<'a> View<'a> {
    /// A view of `bytes`.
    ///
    /// # Errors
    /// When it would reach beyond them.
    pub fn new(bytes: &'a [u8], layout: Layout) -> Result<Self> {
        layout.check(bytes.len())?;
        Ok(Self {
            raw: Raw {
                data: bytes.as_ptr().cast_mut(),
                layout,
            },
            life: PhantomData,
        })
    }

    /// A view of memory at `data`, which needs no alignment.
    ///
    /// # Safety
    /// Every element lies in memory that stays readable and unwritten for `'a`.
    pub const unsafe fn from_raw(data: *const u8, layout: Layout) -> Self {
        Self {
            raw: Raw {
                data: data.cast_mut(),
                layout,
            },
            life: PhantomData,
        }
    }

    /// Sizes and strides.
    pub const fn layout(&self) -> &Layout {
        &self.raw.layout
    }

    /// The address of the first element.
    pub(crate) const fn address(&self) -> Shared<u8> {
        Shared::new(self.raw.data)
    }

    /// Rows `range` of every plane.
    ///
    /// # Errors
    /// When there are not so many.
    pub fn slice_rows(self, range: Range<usize>) -> Result<Self> {
        let raw = self.raw.slice_rows(range)?;
        Ok(Self { raw, ..self })
    }

    /// Columns `range` of every row.
    ///
    /// # Errors
    /// When there are not so many.
    pub fn slice_cols(self, range: Range<usize>) -> Result<Self> {
        let raw = self.raw.slice_cols(range)?;
        Ok(Self { raw, ..self })
    }

    /// A matrix of rows `[heads · D]` as `[heads, rows, D]`.
    ///
    /// # Errors
    /// When the columns are no multiple of `heads`.
    pub fn heads(self, heads: usize) -> Result<Self> {
        let raw = self.raw.heads(heads)?;
        Ok(Self { raw, ..self })
    }

    /// The address of a row's first element.
    #[inline(always)]
    pub(crate) fn row(&self, plane: usize, row: usize) -> *const u8 {
        self.raw.row(plane, row)
    }
}

impl<'a> ViewMut<'a> {
    /// A view of `bytes`.
    ///
    /// # Errors
    /// When it would reach beyond them, or two rows overlap.
    pub fn new(bytes: &'a mut [u8], layout: Layout) -> Result<Self> {
        layout.check(bytes.len())?;
        crate::error::ensure!("view", layout.is_injective(), "rows overlap in {layout:?}");
        Ok(Self {
            raw: Raw {
                data: bytes.as_mut_ptr(),
                layout,
            },
            life: PhantomData,
        })
    }

    /// A view of memory at `data`, which needs no alignment.
    ///
    /// # Safety
    /// Every element lies in memory that for `'a` may be written, and that nothing else touches;
    /// no two elements share an address. The memory need not be initialised.
    pub const unsafe fn from_raw(data: *mut u8, layout: Layout) -> Self {
        Self {
            raw: Raw { data, layout },
            life: PhantomData,
        }
    }

    /// Sizes and strides.
    pub const fn layout(&self) -> &Layout {
        &self.raw.layout
    }

    /// The same memory, for a shorter time.
    pub const fn reborrow(&mut self) -> ViewMut<'_> {
        ViewMut {
            raw: self.raw,
            life: PhantomData,
        }
    }

    /// The same memory, to read.
    pub const fn as_view(&self) -> View<'_> {
        View {
            raw: self.raw,
            life: PhantomData,
        }
    }

    /// Rows `range` of every plane, for a shorter time.
    ///
    /// # Errors
    /// When there are not so many.
    pub fn slice_rows(&mut self, range: Range<usize>) -> Result<ViewMut<'_>> {
        let raw = self.raw.slice_rows(range)?;
        Ok(ViewMut {
            raw,
            life: PhantomData,
        })
    }

    /// Rows before `at` of every plane, and those from it on.
    ///
    /// # Errors
    /// When there are not so many.
    pub fn split_rows(self, at: usize) -> Result<(Self, Self)> {
        let (raw, life) = (self.raw, self.life);
        let rows = raw.layout.rows;
        // No element is in both: a view to be written has an address for each.
        let (before, behind) = (raw.slice_rows(0..at)?, raw.slice_rows(at..rows)?);
        Ok((Self { raw: before, life }, Self { raw: behind, life }))
    }

    /// A matrix of rows `[heads · D]` as `[heads, rows, D]`.
    ///
    /// # Errors
    /// When the columns are no multiple of `heads`.
    pub fn heads(self, heads: usize) -> Result<Self> {
        let raw = self.raw.heads(heads)?;
        Ok(Self { raw, ..self })
    }

    /// The rows, for threads to share: each row may be written by one of them.
    pub(crate) const fn rows(&mut self) -> Rows<'_> {
        Rows {
            raw: self.raw,
            life: PhantomData,
        }
    }
}

/// The rows of a [`ViewMut`], shared by threads that write different ones.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    raw: Raw,
    life: PhantomData<&'a mut [u8]>,
}

// SAFETY: it only computes addresses; writing through them is the (unsafe) business of a kernel
// that gives each element to one thread.
unsafe impl Send for Rows<'_> {}
// SAFETY: as above.
unsafe impl Sync for Rows<'_> {}

impl Rows<'_> {
    pub(crate) const fn layout(&self) -> &Layout {
        &self.raw.layout
    }

    /// The address of a row's first element.
    #[inline(always)]
    pub(crate) fn row(&self, plane: usize, row: usize) -> *mut u8 {
        self.raw.row(plane, row)
    }
}

impl Raw {
    fn slice_rows(self, range: Range<usize>) -> Result<Self> {
        let (layout, before) = self.layout.slice_rows(range)?;
        // The rows are some of this view's, so their address is within it.
        let data = self.data.wrapping_add(before * layout.dtype.size());
        Ok(Self { data, layout })
    }

    fn slice_cols(self, range: Range<usize>) -> Result<Self> {
        let (layout, before) = self.layout.slice_cols(range)?;
        // So are the columns.
        let data = self.data.wrapping_add(before * layout.dtype.size());
        Ok(Self { data, layout })
    }

    fn heads(self, heads: usize) -> Result<Self> {
        let layout = self.layout.heads(heads)?;
        Ok(Self { layout, ..self })
    }

    #[inline(always)]
    fn row(&self, plane: usize, row: usize) -> *mut u8 {
        let l = &self.layout;
        debug_assert!(
            plane < l.planes && row < l.rows,
            "row {plane}, {row} of {l:?}"
        );
        // The address is in bounds by the constructors' contracts; wrapping arithmetic keeps
        // this function safe to call.
        self.data
            .wrapping_add((plane * l.plane_stride + row * l.row_stride) * l.dtype.size())
    }
}
