//! Working memory that outlives a call.
//!
//! A kernel needs some tens or hundreds of kilobytes to rearrange its operands in. Taken from the
//! allocator each time, such a block is mapped and faulted in page by page at every call; so each
//! thread keeps the blocks that it has used, and takes the smallest sufficient one again.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::mem;

/// A cache line, which is also the widest vector.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line([u8; 64]);

thread_local! {
    static KEPT: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Types for which any bytes are a value.
///
/// # Safety
/// They are, and the type needs no more alignment than a cache line has.
pub(crate) unsafe trait Plain: Copy + Send + Sync + 'static {}
// SAFETY: every pattern of bits is a number.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for f32 {}

/// A block of this thread's, aligned to 64 bytes and given back when dropped.
///
/// It holds whatever it held before, and one cache line more than asked for, so that a vector
/// load at the last element stays inside.
pub(crate) struct Scratch<T: Plain> {
    lines: Vec<Line>,
    len: usize,
    kind: PhantomData<T>,
}

impl<T: Plain> Scratch<T> {
    /// Room for `len` elements.
    pub(crate) fn take(len: usize) -> Self {
        let wanted = (len * size_of::<T>()).div_ceil(size_of::<Line>()) + 1;
        let kept = KEPT.with_borrow_mut(|kept| {
            let sizes = kept.iter().map(Vec::len).enumerate();
            let (best, _) = sizes
                .filter(|(_, len)| *len >= wanted)
                .min_by_key(|(_, len)| *len)?;
            Some(kept.swap_remove(best))
        });
        let lines = kept.unwrap_or_else(|| vec![Line([0; 64]); wanted.next_power_of_two()]);
        Self {
            lines,
            len,
            kind: PhantomData,
        }
    }

    pub(crate) fn as_ptr(&self) -> *const T {
        self.lines.as_ptr().cast()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.lines.as_mut_ptr().cast()
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        // SAFETY: `take` made room for `len` elements, initialised, of a type that any bytes are.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as in `as_slice`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), self.len) }
    }
}

impl<T: Plain> Drop for Scratch<T> {
    fn drop(&mut self) {
        let lines = mem::take(&mut self.lines);
        // A thread that is ending has nowhere to keep it.
        let _ = KEPT.try_with(|kept| kept.borrow_mut().push(lines));
    }
}

/// An address that threads share, each for a part of its own.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(*mut T);

// SAFETY: it is an address; using it is the (unsafe) business of a kernel that gives each
// element to one thread.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) const fn new(p: *mut T) -> Self {
        Self(p)
    }

    pub(crate) const fn get(self) -> *mut T {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_reused_and_aligned() {
        let mut a = Scratch::<f32>::take(1000);
        a.as_mut_slice().fill(1.5);
        let first = a.as_ptr();
        assert_eq!(first as usize % 64, 0);
        let b = Scratch::<u16>::take(10);
        assert_ne!(b.as_ptr().cast(), first);
        drop(a);
        let again = Scratch::<f32>::take(900);
        assert_eq!(again.as_ptr(), first);
        assert!(again.as_slice().iter().all(|&x| x == 1.5));
    }
}
