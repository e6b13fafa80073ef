//! The innermost product: a tile of sums that stays in registers.

use super::arith::Arith;
use crate::isa::{Float, Simd, with_float};
use crate::vector::store_results;
use crate::view::Rows;

/// A rectangle of `y`, of at most two vectors' columns.
pub(crate) struct Tile<'a> {
    pub(crate) y: Rows<'a>,
    /// The first row.
    pub(crate) row: usize,
    /// The first column.
    pub(crate) col: usize,
    /// Columns.
    pub(crate) count: usize,
}

/// `by_height!(height, most, H => body)`: `body` with `H` a constant of that value, which is one to
/// the constant `most`. Heights beyond that cost nothing: their branches are known to be dead.
macro_rules! by_height {
    ($height:expr, $most:expr, $H:ident => $body:expr) => {
        $crate::gemm::by_height!(
            @ $height, $most, $H => $body; 12 11 10 9 8 7 6 5 4 3 2 1)
    };
    (@ $height:expr, $most:expr, $H:ident => $body:expr; $($value:literal)*) => {
        match $height {
            $($value if $value <= $most => {
                const $H: usize = $value;
                $body
            })*
            height => debug_assert!(false, "a tile of {height} rows"),
        }
    };
}
pub(crate) use by_height;

/// How many words ahead of its use a line of the panel is brought from the second-level cache: with
/// AVX-512 this makes a product of 512 rows 1% faster.
pub(crate) const AHEAD: usize = 512;

/// The sums of a tile: row `i` of `x` times two vectors of columns of a packed panel, over `words`
/// steps. Word `k` of row `i` of `x` is at `i * ROW + k * STEP`.
///
/// # Safety
/// [`Simd`]'s contract for `A`; `x` and `w` lead to as many words as that takes.
#[inline(always)]
pub(crate) unsafe fn sums<A: Arith, const HEIGHT: usize, const ROW: usize, const STEP: usize>(
    words: usize,
    x: *const u32,
    w: *const u32,
) -> [[<A::Simd as Simd>::V; 2]; HEIGHT] {
    let lanes = A::Simd::LANES;
    let (mut x, mut w) = (x, w);
    // SAFETY: by this function's own contract.
    unsafe {
        let mut sums = [[A::Simd::zero(); 2]; HEIGHT];
        for _ in 0..words {
            A::Simd::prefetch(w.wrapping_add(AHEAD).cast());
            if lanes == 16 {
                // Half as many are a line together.
                A::Simd::prefetch(w.wrapping_add(AHEAD + lanes).cast());
            }
            let (left, right) = (A::load(w), A::load(w.add(lanes)));
            for i in 0..HEIGHT {
                let word = A::broadcast(x.add(i * ROW));
                sums[i][0] = A::add_products(word, left, sums[i][0]);
                sums[i][1] = A::add_products(word, right, sums[i][1]);
            }
            x = x.add(STEP);
            w = w.add(2 * lanes);
        }
        sums
    }
}

impl Tile<'_> {
    /// Computes `height` rows from a packed tile of `x` and a packed panel of `w`, of `words` steps each.
    ///
    /// # Safety
    /// [`Simd`]'s contract for `A`. `height` is at most `A::HEIGHT`, and `count` at most the width
    /// of a panel; `x` and `w` lead to as many words as that takes; the elements are within `y`
    /// and this thread's.
    #[inline(always)]
    pub(super) unsafe fn product<A: Arith>(
        &self,
        height: usize,
        words: usize,
        x: *const u32,
        w: *const u32,
    ) {
        by_height!(height, A::HEIGHT, H => {
            // SAFETY: by this function's own contract.
            unsafe {
                let sums = sums::<A, H, 1, H>(words, x, w);
                self.store::<A::Simd>(&sums);
            }
        });
    }

    /// Stores its rows of sums.
    ///
    /// # Safety
    /// [`Simd`]'s contract; the elements are within `y` and this thread's.
    #[inline(always)]
    pub(crate) unsafe fn store<S: Simd>(&self, sums: &[[S::V; 2]]) {
        // SAFETY: by this function's own contract.
        unsafe {
            if self.count == 2 * S::LANES {
                self.store_whole::<S>(sums);
            } else {
                self.store_some::<S>(sums);
            }
        }
    }

    /// Stores the sums of a tile of full width.
    ///
    /// # Safety
    /// As [`Tile::store`].
    #[inline(always)]
    unsafe fn store_whole<S: Simd>(&self, sums: &[[S::V; 2]]) {
        with_float!(self.y.layout().dtype, T => {
            for i in 0..sums.len() {
                // SAFETY: by this function's own contract.
                unsafe {
                    let to = self.y.row(0, self.row + i).cast::<T>().add(self.col);
                    T::store::<S>(to, sums[i][0]);
                    T::store::<S>(to.add(S::LANES), sums[i][1]);
                }
            }
        });
    }

    /// Stores the sums of the first `count` columns.
    ///
    /// # Safety
    /// As [`Tile::store`].
    #[inline(always)]
    unsafe fn store_some<S: Simd>(&self, sums: &[[S::V; 2]]) {
        let mut results = [0.0; 32];
        for (i, sums) in sums.iter().enumerate() {
            // SAFETY: by this function's own contract; `results` holds two vectors.
            unsafe {
                S::store_f32(results.as_mut_ptr(), sums[0]);
                S::store_f32(results.as_mut_ptr().add(S::LANES), sums[1]);
                let results = &results[..self.count];
                store_results::<S>(self.y, self.row + i, self.col, results);
            }
        }
    }
}
