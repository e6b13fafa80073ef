//! From bfloat16 to codes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{BLOCK, BLOCK_LINES, Bf12, LINE, Rare, byte_of};
use crate::scratch::{Line, Shared};
use crate::{Cpu, Dtype, View};

/// One element of so many may be rare.
const RARE: usize = 256;

/// Rows that the choice of codes looks at; they are as good as all.
const SAMPLE: usize = 256;

/// Rows that a task encodes.
const ROWS: usize = 64;

/// See [`Bf12::encode`].
pub(super) fn encode(cpu: &Cpu, w: &View<'_>) -> Option<Bf12> {
    let layout = w.layout();
    let (rows, cols) = (layout.rows, layout.cols);
    let fits = layout.dtype == Dtype::Bf16 && layout.planes == 1 && rows > 0;
    if !fits || cols == 0 || !cols.is_multiple_of(BLOCK) || u32::try_from(cols).is_err() {
        return None;
    }
    let high = frequent(w);
    let codes = Codes::new(&high);
    let row_lines = cols / BLOCK * BLOCK_LINES;
    let mut lines = Vec::<Line>::with_capacity(rows * row_lines);
    let to = Shared::new(lines.as_mut_ptr());
    let found: Mutex<Vec<(usize, Vec<Vec<Rare>>)>> = Mutex::default();
    let (limit, count) = (rows * cols / RARE, AtomicUsize::new(0));
    cpu.pool().run(rows.div_ceil(ROWS), |task| {
        let range = task * ROWS..rows.min((task + 1) * ROWS);
        let mut rare = Vec::with_capacity(range.len());
        for row in range.clone() {
            // Of a matrix that will be refused, the rare elements would take the most memory.
            if count.load(Ordering::Relaxed) > limit {
                return;
            }
            // SAFETY: the row has `cols` elements, and its lines are this task's.
            let of_row = unsafe {
                let to = to.get().add(row * row_lines).cast();
                codes.row(w.row(0, row).cast(), cols, to)
            };
            count.fetch_add(of_row.len(), Ordering::Relaxed);
            rare.push(of_row);
        }
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        found.push((range.start, rare));
    });
    let count = count.into_inner();
    if count > limit || u32::try_from(count).is_err() {
        return None;
    }
    // SAFETY: there is room for so many, and the tasks, none of which gave up, have written every
    // row's.
    unsafe { lines.set_len(rows * row_lines) };
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_unstable_by_key(|(first, _)| *first);
    let mut starts = Vec::with_capacity(rows + 1);
    let mut rare = Vec::with_capacity(count);
    for of_row in found.iter().flat_map(|(_, rare)| rare) {
        starts.push(rare.len() as u32);
        rare.extend_from_slice(of_row);
    }
    starts.push(rare.len() as u32);
    Some(Bf12 {
        rows,
        cols,
        high,
        lines,
        starts,
        rare,
    })
}

/// Zero and the fifteen most frequent high bytes beside it.
fn frequent(w: &View<'_>) -> [u8; 16] {
    let (rows, cols) = (w.layout().rows, w.layout().cols);
    let mut counts = [0_u32; 256];
    for row in (0..rows).step_by(rows.div_ceil(SAMPLE)) {
        let from = w.row(0, row).cast::<u16>();
        for col in 0..cols {
            // SAFETY: the element exists.
            let bits = unsafe { from.add(col).read_unaligned() };
            counts[usize::from(bits >> 8)] += 1;
        }
    }
    let mut order: Vec<u8> = (1..=255).collect();
    order.sort_by_key(|&high| std::cmp::Reverse(counts[usize::from(high)]));
    let mut high = [0; 16];
    high[1..].copy_from_slice(&order[..15]);
    high
}

/// The code of each high byte; [`Codes::NONE`] where it has none.
struct Codes([u8; 256]);

impl Codes {
    const NONE: u8 = 16;

    fn new(high: &[u8; 16]) -> Self {
        let mut codes = [Self::NONE; 256];
        for (code, high) in high.iter().enumerate() {
            codes[usize::from(*high)] = code as u8;
        }
        Self(codes)
    }

    /// Encodes a row of `cols` elements to bytes at `to`. Gives back the rare ones.
    ///
    /// # Safety
    /// `from` leads to `cols` elements, which may lie at any address, and `to` to room for their
    /// blocks.
    unsafe fn row(&self, from: *const u16, cols: usize, to: *mut u8) -> Vec<Rare> {
        let mut rare = Vec::new();
        for block in 0..cols / BLOCK {
            let mut elements = [0; BLOCK];
            let mut codes = [0_u8; BLOCK];
            // SAFETY: by this function's own contract; a block has so many elements.
            unsafe {
                let from = from.add(block * BLOCK).cast::<u8>();
                std::ptr::copy_nonoverlapping(from, elements.as_mut_ptr().cast(), 2 * BLOCK);
            }
            let mut any = 0;
            for (code, bits) in codes.iter_mut().zip(&elements) {
                *code = self.0[usize::from(bits >> 8)];
                any |= *code;
            }
            if any & Self::NONE != 0 {
                self.set_aside(block * BLOCK, &mut elements, &mut codes, &mut rare);
            }
            let bytes = block_bytes(&elements, &codes);
            // SAFETY: by this function's own contract.
            unsafe {
                let to = to.add(block * bytes.len());
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
            }
        }
        rare
    }

    /// Makes the block's rare elements zeros and lists them. The block begins at column `first`.
    #[cold]
    fn set_aside(
        &self,
        first: usize,
        elements: &mut [u16; BLOCK],
        codes: &mut [u8; BLOCK],
        rare: &mut Vec<Rare>,
    ) {
        let all = elements.iter_mut().zip(codes).enumerate();
        for (i, (bits, code)) in all.filter(|(_, (_, code))| **code == Self::NONE) {
            let col = (first + i) as u32;
            rare.push(Rare { col, bits: *bits });
            (*bits, *code) = (0, 0);
        }
    }
}

/// The bytes of a block's three lines.
fn block_bytes(elements: &[u16; BLOCK], codes: &[u8; BLOCK]) -> [u8; BLOCK_LINES * LINE] {
    let mut bytes = [0; BLOCK_LINES * LINE];
    for i in 0..LINE {
        let at = byte_of(i);
        bytes[at] = elements[i] as u8;
        bytes[LINE + at] = elements[LINE + i] as u8;
        bytes[2 * LINE + at] = codes[i] | codes[LINE + i] << 4;
    }
    bytes
}
