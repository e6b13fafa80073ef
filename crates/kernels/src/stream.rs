//! Few rows of `x`: weights are read once, and memory is the limit.
//!
//! What dense and quantized products have in common then: how rows of weights are shared among
//! threads, in what order they meet the rows of `x`, and how results are stored. What a row of
//! weights is and how it is multiplied, a [`Stream`] says.

use std::ops::Range;

use crate::Cpu;
use crate::isa::Simd;
use crate::vector::store_results;
use crate::view::Rows;

/// Bytes of weights that a range of rows has at least, and that are kept in cache while further
/// rows of `x` meet them: enough to outweigh drawing the range and the wait for its first lines.
const BLOCK_BYTES: usize = 32 * 1024;

/// Bytes of `x` that are met by each row of weights at a time, at most, where that may be decided: they stay in the
/// nearest cache, beside the weights.
const NEAR_BYTES: usize = 24 * 1024;

/// Results that are collected before they are converted and stored.
pub(crate) const BATCH: usize = 32;

/// Rows of weights with some rows of `x`, `[R, M]`.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Which of the matrices that share `x`.
    pub(crate) part: usize,
    /// The first row of weights.
    pub(crate) row: usize,
    /// How many rows further lie the weights that are to be asked for: a multiple of R.
    pub(crate) ahead: usize,
    /// The first row of `x`.
    pub(crate) m: usize,
}

/// Matrices of weights, of one kind and with rows of one length, that are multiplied with one `x`.
pub(crate) trait Stream: Sync {
    /// For storing results.
    type Simd: Simd;
    /// Whether registers hold four rows of weights at a time, or two.
    const TALL: bool;
    /// Whether one row of weights meets four rows of `x` at a time, and eight where they stay in cache, rather than two
    /// rows four.
    const WIDE: bool = false;
    /// Whether two rows of weights lie in one vector: then they meet four rows of `x` at a time, or eight.
    const PAIRED: bool = false;
    /// How far ahead of its use a line of weights is asked for, at least. A load takes some 500 cycles
    /// to come from memory, and at full bandwidth a line arrives every 5 to 10 of them. (At the end of a
    /// range nothing is asked for, so where lines are used more slowly than they arrive, less is better.)
    const AHEAD_BYTES: usize = 8 * 1024;

    /// Rows of `x`.
    fn x_rows(&self) -> usize;
    /// Bytes of a row of `x`, as it is read.
    fn x_row_bytes(&self) -> usize {
        0
    }
    /// Bytes of a row of weights.
    fn row_bytes(&self) -> usize;
    /// Where the products with a part go.
    fn y(&self, part: usize) -> Rows<'_>;

    /// The products of `R` rows of weights and `M` of `x`, which become `results[..][at..at + R]`.
    ///
    /// # Safety
    /// [`Simd`]'s contract; the rows exist.
    unsafe fn sums<const R: usize, const M: usize>(
        &self,
        place: Place,
        results: &mut [[f32; BATCH]; M],
        at: usize,
    );
}

/// Shares parts of so many rows, laid end to end, among the threads: `run(part, range)`.
pub(crate) fn share(
    cpu: &Cpu,
    row_bytes: usize,
    rows: impl Iterator<Item = usize> + Clone + Sync,
    run: impl Fn(usize, Range<usize>) + Sync,
) {
    cpu.pool()
        .run_ranges(rows.clone().sum(), block_rows(row_bytes), |range| {
            let mut first = 0;
            for (part, rows) in rows.clone().enumerate() {
                let begin = range.start.max(first) - first;
                let end = range.end.min(first + rows).saturating_sub(first);
                if begin < end {
                    run(part, begin..end);
                }
                first += rows;
            }
        });
}

/// Rows of weights of a block.
fn block_rows(row_bytes: usize) -> usize {
    (BLOCK_BYTES / row_bytes.max(1)).next_multiple_of(8).max(8)
}

/// Computes columns `range` of a part's product: block after block of weights, each of which
/// stays in cache until all rows of `x` met it.
///
/// # Safety
/// [`Simd`]'s contract; no other thread has these columns, which exist.
#[inline(always)]
pub(crate) unsafe fn blocks<K: Stream>(stream: &K, part: usize, range: Range<usize>) {
    let (size, rows) = (block_rows(stream.row_bytes()), stream.x_rows());
    for first in range.clone().step_by(size) {
        let block = first..range.end.min(first + size);
        let mut m = 0;
        while m < rows {
            // SAFETY: by this function's own contract; so many rows of `x` are left.
            unsafe {
                m += match (rows - m, K::TALL) {
                    (8.., _) if K::PAIRED && 8 * stream.x_row_bytes() <= NEAR_BYTES => {
                        some::<K, 2, 8>(stream, part, m, &block, range.end)
                    }
                    (4.., _) if K::PAIRED => some::<K, 2, 4>(stream, part, m, &block, range.end),
                    (2.., _) if K::PAIRED => some::<K, 4, 2>(stream, part, m, &block, range.end),
                    (_, _) if K::PAIRED => some::<K, 4, 1>(stream, part, m, &block, range.end),
                    (8.., _) if K::WIDE && 8 * stream.x_row_bytes() <= NEAR_BYTES => {
                        some::<K, 1, 8>(stream, part, m, &block, range.end)
                    }
                    (4.., _) if K::WIDE => some::<K, 1, 4>(stream, part, m, &block, range.end),
                    (4.., true) => some::<K, 2, 4>(stream, part, m, &block, range.end),
                    (4.., false) => some::<K, 1, 4>(stream, part, m, &block, range.end),
                    (2.., true) => some::<K, 4, 2>(stream, part, m, &block, range.end),
                    (2.., false) => some::<K, 2, 2>(stream, part, m, &block, range.end),
                    (_, true) => some::<K, 4, 1>(stream, part, m, &block, range.end),
                    (_, false) => some::<K, 2, 1>(stream, part, m, &block, range.end),
                };
            }
        }
    }
}

/// `y[m..m + M, block]`, `R` rows of weights at a time, without what is beyond the last row of `x`. Gives back
/// `M`. The thread will go on to row `end` of the weights.
///
/// # Safety
/// As [`blocks`].
#[inline(always)]
pub(crate) unsafe fn some<K: Stream, const R: usize, const M: usize>(
    stream: &K,
    part: usize,
    m: usize,
    block: &Range<usize>,
    end: usize,
) -> usize {
    let far = K::AHEAD_BYTES
        .div_ceil(stream.row_bytes().max(1))
        .next_multiple_of(R);
    let y = stream.y(part);
    let rows = M.min(stream.x_rows() - m);
    let mut results = [[0.0; BATCH]; M];
    for first in block.clone().step_by(BATCH) {
        let count = BATCH.min(block.end - first);
        let whole = count / R * R;
        // SAFETY: by this function's own contract.
        unsafe {
            for i in (0..whole).step_by(R) {
                let row = first + i;
                // Another thread may be reading what follows this range.
                let ahead = if row + far + R <= end { far } else { 0 };
                stream.sums::<R, M>(
                    Place {
                        part,
                        row,
                        ahead,
                        m,
                    },
                    &mut results,
                    i,
                );
            }
            for i in whole..count {
                let place = Place {
                    part,
                    row: first + i,
                    ahead: 0,
                    m,
                };
                stream.sums::<1, M>(place, &mut results, i);
            }
            for (i, results) in results[..rows].iter().enumerate() {
                store_results::<K::Simd>(y, m + i, first, &results[..count]);
            }
        }
    }
    M
}

/// The sums of the lanes of `R` rows of accumulators, into `results[..][at..at + R]`.
///
/// Lanes are added in one order whatever `R` is, so that a result does not depend on which rows a
/// thread happened to draw.
///
/// # Safety
/// [`Simd`]'s contract.
#[inline(always)]
pub(crate) unsafe fn sum_lanes<S: Simd, const R: usize, const M: usize>(
    sums: &[[S::V; M]; R],
    results: &mut [[f32; BATCH]; M],
    at: usize,
) {
    // SAFETY: by this function's own contract.
    unsafe {
        for i in 0..M {
            let mut four = [S::zero(); 4];
            for r in 0..R {
                four[r] = sums[r][i];
            }
            results[i][at..at + R].copy_from_slice(&S::sum_four(four)[..R]);
        }
    }
}
