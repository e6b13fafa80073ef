//! Bfloat16 matrices in 12 bits an element, without loss.
//!
//! The high byte of a bfloat16 is its sign and all of its exponent but the last bit, and the elements of
//! a trained matrix have few different ones: of normally distributed numbers, all but one of some
//! thousands have one of fifteen. So the low byte stays as it is, and the high byte becomes a code of
//! four bits: one of the fifteen most frequent of the matrix, or zero. An element with another one is
//! *rare*: it is coded as zero, and listed with its bits. What comes out is what went in, bit for bit,
//! and a decode step, whose time is that of reading the weights, reads three quarters of them.
//!
//! A block of 128 elements is three lines of 64 bytes. The first has the low bytes of the first 64
//! elements, the second those of the others, and byte `i` of the third the codes of the elements whose
//! low bytes are bytes `i` of these, that in the first line lowest. Bytes are in an order ([`byte_of`])
//! in which a vector of low bytes and one of high bytes, interleaved as all of x86's wider vectors do it,
//! 16 bytes by 16, yield elements in their own order.
//!
//! This is for CPUs; what an NVIDIA GPU reads well is another layout, in [`cuda`].

pub mod cuda;
mod decode;
mod encode;
pub(crate) mod graph;
#[cfg(target_arch = "x86_64")]
mod lines;
#[cfg(target_arch = "x86_64")]
mod rows;

use crate::error::ensure;
use crate::gemm::{PackedX, Source, Word, is_bf16};
use crate::isa::Simd;
use crate::scratch::{Line, Scratch};
use crate::vector::widen;
use crate::view::Rows;
use crate::{Cpu, Dtype, Isa, Result, View, ViewMut};

/// The most rows of `x` for which weights are decoded in registers; their results do not depend on how many
/// they are.
pub(crate) const FEW: usize = 8;

/// Elements of a block, and its lines.
const BLOCK: usize = 128;
const BLOCK_LINES: usize = 3;

/// Bytes of a line.
const LINE: usize = 64;

/// Where in its line is the low byte of element `i` of a line's 64.
const fn byte_of(i: usize) -> usize {
    i % 32 / 8 * 16 + i / 32 * 8 + i % 8
}

/// A matrix `[N, K]`.
pub struct Bf12 {
    rows: usize,
    cols: usize,
    /// The high byte that each code stands for; the first is zero.
    high: [u8; 16],
    /// Blocks, row by row.
    lines: Vec<Line>,
    /// For each row, where its rare elements begin; then where those of the last row end.
    starts: Vec<u32>,
    rare: Vec<Rare>,
}

/// An element whose high byte has no code.
#[derive(Clone, Copy)]
struct Rare {
    col: u32,
    bits: u16,
}

impl Bf12 {
    /// Encodes `w`, `[N, K]`. `None` for another type than bfloat16, rows that are no whole blocks of
    /// 128, and matrices in which more than one element of 256 is rare.
    pub fn encode(cpu: &Cpu, w: View<'_>) -> Option<Self> {
        encode::encode(cpu, &w)
    }

    /// N.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// K.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Whether products of few rows are faster with such a matrix than with a plain one.
    pub fn pays(isa: Isa) -> bool {
        matches!(isa, Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16)
    }

    /// Bytes of memory.
    pub fn nbytes(&self) -> usize {
        size_of_val(&self.lines[..]) + size_of_val(&self.starts[..]) + size_of_val(&self.rare[..])
    }

    /// Lines of a row.
    fn row_lines(&self) -> usize {
        self.cols / BLOCK * BLOCK_LINES
    }

    /// The address of row `row`, which exists.
    #[inline(always)]
    fn row(&self, row: usize) -> *const Line {
        // In a product's innermost loops, so it goes without the check of a slice.
        self.lines.as_ptr().wrapping_add(row * self.row_lines())
    }

    /// The rare elements of row `row`.
    #[inline(always)]
    fn rare(&self, row: usize) -> &[Rare] {
        &self.rare[self.starts[row] as usize..self.starts[row + 1] as usize]
    }
}

impl std::fmt::Debug for Bf12 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bf12")
            .field("rows", &self.rows)
            .field("cols", &self.cols)
            .field("rare", &self.rare.len())
            .finish()
    }
}

/// `y = x · wᵀ` for each part `(w, y)`: `x` is `[M, K]`, a `w` `[N, K]`, its `y` `[M, N]`. The element
/// types of `x` and `y` are free. The products are those of the bfloat16 matrix, see
/// [`crate::matmul::matmul`], as long as `x` is finite: a rare element meets it as zero first.
///
/// # Errors
/// When the sizes disagree. No part is computed then.
pub fn bf12_matmuls(cpu: &Cpu, x: View<'_>, parts: &mut [(&Bf12, ViewMut<'_>)]) -> Result<()> {
    let a = *x.layout();
    for (w, y) in &*parts {
        let b = y.layout();
        ensure!(
            "bf12_matmul",
            [a.planes, a.cols, a.rows] == [1, w.cols, b.rows] && [b.planes, b.cols] == [1, w.rows],
            "x {:?} times w [{}, {}] transposed does not give y {:?}",
            a.shape(),
            w.rows,
            w.cols,
            b.shape()
        );
    }
    let parts: Vec<(&Bf12, Rows<'_>)> = parts.iter_mut().map(|(w, y)| (*w, y.rows())).collect();
    if a.rows == 0 || parts.is_empty() {
        return Ok(());
    }
    #[cfg(target_arch = "x86_64")]
    if a.rows <= FEW && is_bf16(&x) && Bf12::pays(cpu.isa()) {
        rows::products(cpu, &x, &parts);
        return Ok(());
    }
    let x = PackedX::new(cpu, Word::choose(cpu, is_bf16(&x)), &x);
    for (w, y) in parts {
        let isa = cpu.isa();
        x.times(cpu, &Decoded { w, isa }, y);
    }
    Ok(())
}

/// `y[i] = w[rows[i]]`: an embedding. `y` is `[rows.len(), K]` and bfloat16.
///
/// # Errors
/// When the sizes disagree, or there is no such row.
pub fn bf12_rows(cpu: &Cpu, w: &Bf12, rows: &[usize], mut y: ViewMut<'_>) -> Result<()> {
    let to = *y.layout();
    ensure!(
        "bf12_rows",
        to.shape() == [1, rows.len(), w.cols] && to.dtype == Dtype::Bf16,
        "{} rows of {} bfloat16 do not fit y {to:?}",
        rows.len(),
        w.cols
    );
    for &row in rows {
        ensure!("bf12_rows", row < w.rows, "there is no row {row} in {w:?}");
    }
    let y = y.rows();
    cpu.pool().run_ranges(rows.len(), 16, |range| {
        for i in range {
            // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be
            // made; the row exists, and row `i` of `y` is this thread's.
            unsafe { decode::row(cpu.isa(), w, rows[i], y.row(0, i).cast()) };
        }
    });
    Ok(())
}

/// The rows of a matrix, decoded one at a time.
struct Decoded<'a> {
    w: &'a Bf12,
    /// An instruction set that the machine has.
    isa: Isa,
}

impl Source for Decoded<'_> {
    fn rows(&self) -> usize {
        self.w.rows
    }

    fn cols(&self) -> usize {
        self.w.cols
    }

    #[inline(always)]
    unsafe fn words<S: Simd>(&self, word: Word, row: usize, scratch: *mut u32) -> *const u32 {
        // SAFETY: by the trait's contract; a word has room for two bfloat16, or for one as float32.
        unsafe {
            match word {
                Word::Bf16Pair => decode::row(self.isa, self.w, row, scratch.cast()),
                Word::F32 => {
                    let mut narrow = Scratch::<u16>::take(self.w.cols);
                    decode::row(self.isa, self.w, row, narrow.as_mut_ptr());
                    let narrow = narrow.as_ptr().cast::<half::bf16>();
                    widen::<S, half::bf16>(narrow, scratch.cast(), self.w.cols);
                }
            }
        }
        scratch
    }
}
