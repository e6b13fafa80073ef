//! Small steps that operations share.

use crate::error::ensure;
use crate::isa::{Float, Kernel, Simd, dispatch, with_float};
use crate::scratch::{Scratch, Shared};
use crate::view::Rows;
use crate::{Cpu, Result, View, ViewMut};

/// The dot product of two vectors of `n` floats.
///
/// # Safety
/// [`Simd`]'s contract; both pointers lead to `n` floats.
#[inline(always)]
pub(crate) unsafe fn dot<S: Simd>(a: *const f32, b: *const f32, n: usize) -> f32 {
    // SAFETY: by this function's own contract.
    unsafe {
        let mut acc = [S::zero(); 4];
        let step = 4 * S::LANES;
        let mut i = 0;
        while i + step <= n {
            // By index: an iterator is not always unrolled, and then registers become memory.
            for j in 0..4 {
                let at = i + j * S::LANES;
                acc[j] = S::mul_add(S::load_f32(a.add(at)), S::load_f32(b.add(at)), acc[j]);
            }
            i += step;
        }
        while i + S::LANES <= n {
            acc[0] = S::mul_add(S::load_f32(a.add(i)), S::load_f32(b.add(i)), acc[0]);
            i += S::LANES;
        }
        if i < n {
            let a = f32::load_first::<S>(a.add(i), n - i);
            let b = f32::load_first::<S>(b.add(i), n - i);
            acc[1] = S::mul_add(a, b, acc[1]);
        }
        S::sum(S::add(S::add(acc[0], acc[1]), S::add(acc[2], acc[3])))
    }
}

/// `n` elements as float32.
///
/// # Safety
/// [`Simd`]'s contract; the pointers lead to `n` elements, and to room for as many.
#[inline(always)]
pub(crate) unsafe fn widen<S: Simd, T: Float>(from: *const T, to: *mut f32, n: usize) {
    // SAFETY: by this function's own contract.
    unsafe {
        let mut i = 0;
        while i + S::LANES <= n {
            S::store_f32(to.add(i), T::load::<S>(from.add(i)));
            i += S::LANES;
        }
        if i < n {
            f32::store_first::<S>(to.add(i), T::load_first::<S>(from.add(i), n - i), n - i);
        }
    }
}

/// `n` floats as another type.
///
/// # Safety
/// [`Simd`]'s contract; the pointers lead to `n` floats, and to room for as many elements.
#[inline(always)]
pub(crate) unsafe fn narrow<S: Simd, T: Float>(from: *const f32, to: *mut T, n: usize) {
    // SAFETY: by this function's own contract.
    unsafe {
        let mut i = 0;
        while i + S::LANES <= n {
            T::store::<S>(to.add(i), S::load_f32(from.add(i)));
            i += S::LANES;
        }
        if i < n {
            T::store_first::<S>(to.add(i), f32::load_first::<S>(from.add(i), n - i), n - i);
        }
    }
}

/// Stores `results` as `y[row, first..]`.
///
/// # Safety
/// [`Simd`]'s contract; these elements are within `y` and this thread's.
#[inline(always)]
pub(crate) unsafe fn store_results<S: Simd>(
    y: Rows<'_>,
    row: usize,
    first: usize,
    results: &[f32],
) {
    with_float!(y.layout().dtype, T => {
        // SAFETY: by this function's own contract.
        unsafe {
            let to = y.row(0, row).cast::<T>().add(first);
            narrow::<S, T>(results.as_ptr(), to, results.len());
        }
    });
}

/// A row of a view as float32.
///
/// # Safety
/// [`Simd`]'s contract; the row exists, and `to` has room for it.
#[inline(always)]
pub(crate) unsafe fn load_row<S: Simd>(x: &View<'_>, plane: usize, row: usize, to: *mut f32) {
    with_float!(x.layout().dtype, T => {
        // SAFETY: by this function's own contract.
        unsafe { widen::<S, T>(x.row(plane, row).cast(), to, x.layout().cols) }
    });
}

/// A row of a view from float32.
///
/// # Safety
/// [`Simd`]'s contract; the row exists and is this thread's, and `from` leads to its elements.
#[inline(always)]
pub(crate) unsafe fn store_row<S: Simd>(y: Rows<'_>, plane: usize, row: usize, from: *const f32) {
    with_float!(y.layout().dtype, T => {
        // SAFETY: by this function's own contract.
        unsafe { narrow::<S, T>(from, y.row(plane, row).cast(), y.layout().cols) }
    });
}

/// A row that was stored, as it was kept.
///
/// # Safety
/// As [`store_row`]; the row was stored.
#[inline(always)]
pub(crate) unsafe fn reload_row<S: Simd>(y: Rows<'_>, plane: usize, row: usize, to: *mut f32) {
    with_float!(y.layout().dtype, T => {
        // SAFETY: by this function's own contract.
        unsafe { widen::<S, T>(y.row(plane, row).cast_const().cast(), to, y.layout().cols) }
    });
}

/// Multiplies `n` floats, and what follows them up to a whole vector.
///
/// # Safety
/// [`Simd`]'s contract; `x` leads to `n` floats rounded up to whole vectors.
#[inline(always)]
pub(crate) unsafe fn scale<S: Simd>(x: *mut f32, n: usize, factor: f32) {
    for i in (0..n).step_by(S::LANES) {
        // SAFETY: by this function's own contract.
        unsafe { S::store_f32(x.add(i), S::mul(S::load_f32(x.add(i)), S::splat(factor))) };
    }
}

/// Rows of `cols` elements that a thread takes at least, of an operation that does little with
/// each: enough to be worth a fork.
pub(crate) fn grain(cols: usize) -> usize {
    (16 * 1024 / cols.max(1)).max(1)
}

/// The rows of a matrix as float32, without gaps.
pub(crate) fn to_f32(cpu: &Cpu, x: &View<'_>) -> Scratch<f32> {
    struct Widen<'a>(&'a View<'a>, Shared<f32>, std::ops::Range<usize>);
    impl Kernel for Widen<'_> {
        type Output = ();
        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            let cols = self.0.layout().cols;
            for row in self.2 {
                // SAFETY: run by `dispatch`; the caller made room for every row.
                unsafe { load_row::<S>(self.0, 0, row, self.1.get().add(row * cols)) }
            }
        }
    }
    let (rows, cols) = (x.layout().rows, x.layout().cols);
    let mut out = Scratch::take(rows * cols);
    let to = Shared::new(out.as_mut_ptr());
    cpu.pool().run_ranges(rows, grain(cols), |range| {
        // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made;
        // ranges are disjoint, and `out` has room for every row.
        unsafe { dispatch(cpu.isa(), Widen(x, to, range)) }
    });
    out
}

/// Copies the rows of `x` to those of `y`, of the same sizes and element type. Row by row, then plane
/// by plane: planes are the heads of a token, which usually lie side by side.
pub(crate) fn copy(cpu: &Cpu, x: View<'_>, mut y: ViewMut<'_>) -> Result<()> {
    let (from, to) = (*x.layout(), *y.layout());
    ensure!(
        "copy",
        from.shape() == to.shape() && from.dtype == to.dtype,
        "{from:?} is copied to {to:?}"
    );
    let y = y.rows();
    let bytes = from.cols * from.dtype.size();
    cpu.pool()
        .run_ranges(from.planes * from.rows, grain(from.cols), |range| {
            for i in range {
                let (row, plane) = (i / from.planes, i % from.planes);
                // SAFETY: both rows exist and have so many bytes; the one written is this thread's.
                unsafe { y.row(plane, row).copy_from(x.row(plane, row), bytes) }
            }
        });
    Ok(())
}
