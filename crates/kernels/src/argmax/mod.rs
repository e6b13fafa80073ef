//! The largest element of a vector: greedy decoding.

pub mod cuda;
pub(crate) mod drawn;
pub(crate) mod graph;

use crate::error::ensure;
use crate::isa::with_float;
use crate::isa::{Kernel, Simd, dispatch};
use crate::scratch::{Scratch, Shared};
use crate::vector::widen;
use crate::{Cpu, Result, View};

/// Elements that are looked at together, and the least that a thread takes.
const BLOCK: usize = 8 * 1024;

/// The index of the largest of `x`, a matrix of one row; of several, the first. `None` where one of them
/// is not a number, or the largest is not finite: nothing follows from such a row.
///
/// # Errors
/// When `x` is empty or has several rows.
pub fn argmax(cpu: &Cpu, x: View<'_>) -> Result<Option<usize>> {
    let shape = x.layout().shape();
    ensure!(
        "argmax",
        shape[..2] == [1, 1] && shape[2] > 0,
        "{shape:?} is not a row of elements"
    );
    let cols = shape[2];
    let mut found = Scratch::<f32>::take(cols.div_ceil(BLOCK));
    let maxima = Shared::new(found.as_mut_ptr());
    cpu.pool().run_ranges(cols.div_ceil(BLOCK), 1, |blocks| {
        for block in blocks {
            let range = block * BLOCK..cols.min((block + 1) * BLOCK);
            // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be
            // made; there is a place for every block, and this one is this thread's.
            unsafe { *maxima.get().add(block) = dispatch(cpu.isa(), Max { x, range }) };
        }
    });
    let mut best = (0, f32::NEG_INFINITY);
    for (block, &max) in found.as_slice().iter().enumerate() {
        if max > best.1 || max.is_nan() {
            best = (block, max);
        }
        if max.is_nan() {
            break;
        }
    }
    if !best.1.is_finite() {
        return Ok(None);
    }
    let range = best.0 * BLOCK..cols.min((best.0 + 1) * BLOCK);
    // SAFETY: as above.
    let within = unsafe {
        dispatch(
            cpu.isa(),
            Find {
                x,
                range: range.clone(),
                value: best.1,
            },
        )
    };
    Ok(Some(range.start + within))
}

/// The largest element of a range; not a number if one of them is none.
struct Max<'a> {
    x: View<'a>,
    range: std::ops::Range<usize>,
}

impl Kernel for Max<'_> {
    type Output = f32;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f32 {
        // SAFETY: run by `dispatch`; the range is within the row.
        let row = unsafe { load::<S>(&self.x, self.range) };
        // Several running maxima, so that one does not wait for the other.
        let mut lanes = [f32::NEG_INFINITY; 64];
        let mut unordered = [0_u32; 64];
        let mut chunks = row.as_slice().chunks_exact(lanes.len());
        for chunk in &mut chunks {
            for ((lane, none), &x) in lanes.iter_mut().zip(&mut unordered).zip(chunk) {
                *lane = if x > *lane { x } else { *lane };
                *none |= u32::from(x.is_nan());
            }
        }
        let rest = chunks.remainder();
        if unordered.iter().any(|&none| none != 0) || rest.iter().any(|x| x.is_nan()) {
            return f32::NAN;
        }
        let all = lanes.iter().chain(rest);
        all.fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max })
    }
}

/// Where a value is first found in a range, or 0.
struct Find<'a> {
    x: View<'a>,
    range: std::ops::Range<usize>,
    value: f32,
}

impl Kernel for Find<'_> {
    type Output = usize;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> usize {
        // SAFETY: run by `dispatch`; the range is within the row.
        let row = unsafe { load::<S>(&self.x, self.range) };
        let mut elements = row.as_slice().iter();
        elements.position(|&x| x == self.value).unwrap_or(0)
    }
}

/// Elements `range` of a row, as float32.
///
/// # Safety
/// [`Simd`]'s contract; the range is within the row.
#[inline(always)]
unsafe fn load<S: Simd>(x: &View<'_>, range: std::ops::Range<usize>) -> Scratch<f32> {
    let mut row = Scratch::<f32>::take(range.len());
    with_float!(x.layout().dtype, T => {
        // SAFETY: by this function's own contract.
        unsafe {
            let from = x.row(0, 0).cast::<T>().add(range.start);
            widen::<S, T>(from, row.as_mut_ptr(), range.len());
        }
    });
    row
}
