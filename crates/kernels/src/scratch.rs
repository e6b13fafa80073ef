//! Working memory that outlives a call.
//!
//! A kernel needs some tens or hundreds of kilobytes to rearrange its operands in. Taken from the
//! allocator each time, such a block is mapped and faulted in page by page at every call; so each
//! thread keeps the blocks that it has used, and takes the smallest sufficient one again.
//!
//! There are as many blocks as a thread ever used at a time: a new one replaces one that was too small.
//! A long prompt needs large ones, of hundreds of megabytes in all; whoever is done with it gives them
//! back by [`release`].

use std::marker::PhantomData;
use std::mem;

use crate::kept::{List, Lists};

/// A cache line, which is also the widest vector.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line([u8; 64]);

const LINE: usize = size_of::<Line>();

static ALL: Lists<Block> = Lists::new();

thread_local! {
    static KEPT: List<Block> = ALL.join();
}

/// Frees the blocks of more than `largest` bytes that threads keep, those of all threads. What is in use
/// stays.
pub(crate) fn release(largest: usize) {
    ALL.retain(|block| block.len() <= largest);
}

/// Bytes of whole lines that begin at a multiple of [`LINE`].
///
/// Bytes and not lines: only then does the allocator know that they are to be zeros, and a large block
/// takes no memory before it is touched.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    start: usize,
}

impl Block {
    /// Room for `lines` lines, and up to an eighth more, so that a request that is a little larger than
    /// the last one needs no other block.
    fn new(lines: usize) -> Self {
        let step = (lines.next_power_of_two() / 16).max(1);
        let bytes = vec![0; (lines.next_multiple_of(step) + 1) * LINE];
        let start = bytes.as_ptr().align_offset(LINE).min(LINE);
        Self { bytes, start }
    }

    /// Without what lies before the first whole line and behind the last.
    fn len(&self) -> usize {
        self.bytes.len() - LINE
    }
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
unsafe impl Plain for i16 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// A block of this thread's, aligned to 64 bytes and given back when dropped.
///
/// It holds whatever it held before, and one cache line more than asked for, so that a vector
/// load at the last element stays inside.
pub(crate) struct Scratch<T: Plain> {
    block: Block,
    len: usize,
    kind: PhantomData<T>,
}

impl<T: Plain> Scratch<T> {
    /// Room for `len` elements.
    pub(crate) fn take(len: usize) -> Self {
        let lines = (len * size_of::<T>()).div_ceil(LINE) + 1;
        let (kept, too_small) = KEPT.with(|kept| {
            let mut kept = kept.lock();
            let sizes = kept.iter().map(Block::len).enumerate();
            let best = sizes.clone().filter(|(_, len)| *len >= lines * LINE);
            match best.min_by_key(|(_, len)| *len) {
                Some((best, _)) => (Some(kept.swap_remove(best)), None),
                None => {
                    let largest = sizes.max_by_key(|(_, len)| *len);
                    (None, largest.map(|(largest, _)| kept.swap_remove(largest)))
                }
            }
        });
        drop(too_small);
        Self {
            block: kept.unwrap_or_else(|| Block::new(lines)),
            len,
            kind: PhantomData,
        }
    }

    pub(crate) fn as_ptr(&self) -> *const T {
        self.block.bytes[self.block.start..].as_ptr().cast()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.block.bytes[self.block.start..].as_mut_ptr().cast()
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        // SAFETY: `take` made room for `len` elements behind the first whole line, initialised, of a
        // type that any bytes are.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as in `as_slice`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), self.len) }
    }
}

impl<T: Plain> Drop for Scratch<T> {
    fn drop(&mut self) {
        let block = mem::take(&mut self.block);
        // A thread that is ending has nowhere to keep it.
        let _ = KEPT.try_with(|kept| kept.lock().push(block));
    }
}

/// An address that threads share, each for a part of its own.
#[derive(Clone, Copy, Debug)]
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

    #[test]
    fn a_block_takes_no_more_than_an_eighth_above_what_was_asked_for() {
        for lines in (1..4000).chain([1 << 20, (1 << 20) + 1, (1 << 21) - 1]) {
            let len = Block::new(lines).len();
            assert!(len >= lines * LINE, "{lines} lines in {len} bytes");
            assert!(len <= lines * LINE * 9 / 8, "{lines} lines in {len} bytes");
        }
    }

    /// Prompts of a thousand lengths must not leave a thousand blocks.
    #[test]
    fn a_thread_keeps_as_many_blocks_as_it_used_at_a_time() {
        let lens = || KEPT.with(|kept| kept.lock().iter().map(Block::len).collect::<Vec<_>>());
        for len in 1..1000 {
            let a = Scratch::<f32>::take(len * 997 % 1000 * 64);
            let b = Scratch::<u8>::take(len);
            drop((a, b));
        }
        assert_eq!(lens().len(), 2, "{:?}", lens());
    }

    #[test]
    fn large_blocks_of_another_thread_are_freed_and_small_ones_are_not() {
        let (to_worker, orders) = std::sync::mpsc::channel();
        let (answer, answers) = std::sync::mpsc::channel();
        let worker = std::thread::spawn(move || {
            let (large, small) = (Scratch::<u8>::take(9 << 20), Scratch::<u8>::take(1000));
            let mut small = Some(small);
            drop(large);
            while orders.recv().is_ok() {
                small = None;
                let lens = KEPT.with(|kept| kept.lock().iter().map(Block::len).collect::<Vec<_>>());
                answer.send(lens).unwrap();
            }
            drop(small);
        });
        to_worker.send(()).unwrap();
        let before: Vec<usize> = answers.recv().unwrap();
        assert_eq!(before.len(), 2, "{before:?}");
        release(8 << 20);
        to_worker.send(()).unwrap();
        let after: Vec<usize> = answers.recv().unwrap();
        assert_eq!(after, [*before.iter().min().unwrap()]);
        drop(to_worker);
        worker.join().unwrap();
    }
}
