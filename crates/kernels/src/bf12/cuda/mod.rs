//! On an NVIDIA GPU, for the decode kernel.
//!
//! A GPU has no look-up of sixteen exponents at the speed of its memory, but one operation puts bytes
//! of two words together and another masks and sets bits. So here a code is the exponent's distance from
//! the largest one of 128 neighbours in a row, of which sixteen have one, and the matrix lies in units as
//! the lanes of a warp read them (`unit.cuh`). Products of several rows unpack the matrix for the dense
//! product: an H200 takes 59 µs for 12288 by 4096 elements, moving 3 TB/s.

use mlx_core::cuda::{self, Architecture, Kernel, Launch, Scalar};
use mlx_core::{Array, Dtype, Result};

use crate::arrays::exactly;
use crate::cuda::Compiled;

/// CUDA C++ that needs no header, which begins as all sources here do.
macro_rules! source {
    ($file:literal) => {
        concat!(
            include_str!("unit.cuh"),
            include_str!("warp.cuh"),
            include_str!($file)
        )
    };
}

const ENCODE: &str = source!("encode.cu");
const UNPACK: &str = source!("unpack.cu");
const UNPACK_ROWS: &str = source!("unpack_rows.cu");
/// The kernels of [`Units`]. Each is a module, since MLX hashes a module whenever it is launched.
pub const SOURCES: [&str; 3] = [ENCODE, UNPACK, UNPACK_ROWS];

static COMPILED: Compiled<&str> = Compiled::new();

/// The kernel `name` of one of the sources.
fn kernel(name: &'static str, source: &str) -> Result<Kernel> {
    COMPILED.get(name, name, source, |_| Vec::new())
}

/// What `unit.cuh` says of a unit.
const UNIT_ROWS: usize = 8;
pub(crate) const UNIT_COLUMNS: usize = 128;
/// Bytes of a unit.
pub(crate) const UNIT_BYTES: usize = 1568;

/// Threads of a block, and units, one for each warp.
const THREADS: u32 = 256;
const AT_ONCE: u32 = THREADS / 32;

/// Further rare elements take one word for so many elements, at most: with more, a product is slower
/// than with the plain matrix.
const FURTHER: usize = 1024;

/// A matrix `[N, K]` in units.
#[derive(Clone)]
pub struct Units {
    rows: usize,
    columns: usize,
    /// Units, row by row, and then what they refer to by its address: so this buffer must not be
    /// copied, and no operation may take it over.
    words: Array,
}

impl Units {
    /// Encodes `w`, bfloat16 `[N, K]`. `None` on a GPU before sm_80, where K is no multiple of 32, and
    /// for matrices with infinite or NaN elements or with too many rare ones. Waits for `w`, which begins
    /// where MLX's memory does, or at another multiple of 16 bytes.
    pub(super) fn encode(w: &Array) -> Result<Option<Self>> {
        let &[rows, columns] = w.shape() else {
            return Ok(None);
        };
        let fits = w.dtype() == Dtype::Bfloat16 && rows > 0 && columns > 0 && columns % 32 == 0;
        if !fits || cuda::gpu()?.architecture < Architecture::new(8, 0) {
            return Ok(None);
        }
        let (n, k) = (rows as usize, columns as usize);
        let units = units(n, k);
        let Ok(count) = i32::try_from(units) else {
            return Ok(None);
        };
        let sizes = [count, rows, columns].map(Scalar::Int);
        let further_words = kernel("further_words", ENCODE)?;
        // SAFETY: the parameters are the kernel's; it reads `rows` times `columns` elements of `w`, and
        // writes a word a unit.
        let made = unsafe {
            let outputs = [(&[count][..], Dtype::Int32)];
            further_words.launch(&[w], &outputs, &sizes, a_warp_a_unit(units))
        }?;
        let [counts] = exactly(made);
        let Some((first, further)) = places(&counts.to_vec::<i32>()?) else {
            return Ok(None);
        };
        let words = i32::try_from(units * UNIT_BYTES / 4 + further);
        let (true, Ok(words)) = (further * FURTHER <= n * k, words) else {
            return Ok(None);
        };
        let first = Array::from_slice(&first, &[count])?;
        let encode = kernel("encode", ENCODE)?;
        // SAFETY: the parameters are the kernel's. It reads as the other one did, and writes UNIT_BYTES
        // a unit, and behind all units the `further` words that were counted on the same elements.
        let made = unsafe {
            let outputs = [(&[words][..], Dtype::Uint32)];
            encode.launch(&[w, &first], &outputs, &sizes, a_warp_a_unit(units))
        }?;
        let [words] = exactly(made);
        words.eval()?;
        Ok(Some(Self {
            rows: n,
            columns: k,
            words,
        }))
    }

    /// N.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// K.
    pub fn cols(&self) -> usize {
        self.columns
    }

    /// Bytes of memory.
    pub fn nbytes(&self) -> usize {
        self.words.nbytes()
    }

    /// Its buffer, whose address a kernel may be given that runs while `self` is there.
    pub(crate) fn buffer(&self) -> &Array {
        &self.words
    }

    /// All of it, bfloat16 `[N, K]`, bit for bit what was encoded.
    pub(super) fn unpacked(&self) -> Result<Array> {
        let units = units(self.rows, self.columns);
        let shape = [self.rows as i32, self.columns as i32];
        let sizes = [units as i32, shape[0], shape[1]].map(Scalar::Int);
        let outputs = [(&shape[..], Dtype::Bfloat16)];
        let launch = a_warp_a_unit(units);
        let unpack = kernel("unpack", UNPACK)?;
        // SAFETY: the parameters are the kernel's. It reads the units and what they refer to, all of it
        // in this buffer, and writes `rows` times `columns` elements.
        let made = unsafe { unpack.launch(&[&self.words], &outputs, &sizes, launch) }?;
        let [made] = exactly(made);
        Ok(made)
    }

    /// The rows at `ids`, int32 `[L]`, as bfloat16 `[L, K]`.
    pub(super) fn rows_at(&self, ids: &Array) -> Result<Array> {
        let shape = [ids.dim(0), self.columns as i32];
        let sizes = [self.rows as i32, shape[1]].map(Scalar::Int);
        let outputs = [(&shape[..], Dtype::Bfloat16)];
        let launch = Launch::new([shape[0].unsigned_abs(), 1, 1], [THREADS, 1, 1]);
        let unpack_rows = kernel("unpack_rows", UNPACK_ROWS)?;
        // SAFETY: the parameters are the kernel's. It reads as many ids as it has blocks, and of the
        // matrix rows that are there; it writes a row of `columns` elements a block.
        let made = unsafe { unpack_rows.launch(&[&self.words, ids], &outputs, &sizes, launch) }?;
        let [made] = exactly(made);
        Ok(made)
    }
}

/// Units of a matrix, whose rows of units are an even number.
fn units(rows: usize, columns: usize) -> usize {
    rows.div_ceil(2 * UNIT_ROWS) * 2 * columns.div_ceil(UNIT_COLUMNS)
}

/// Where each unit's further rare elements begin, in words, and how many words there are; `None` if one
/// of the counts says that its unit cannot be encoded.
fn places(counts: &[i32]) -> Option<(Vec<i32>, usize)> {
    let mut first = Vec::with_capacity(counts.len());
    let mut next = 0_i32;
    for &count in counts {
        first.push(next);
        next = next.checked_add(count).filter(|_| count >= 0)?;
    }
    Some((first, next as usize))
}

fn a_warp_a_unit(units: usize) -> Launch {
    let blocks = (units as u32).div_ceil(AT_ONCE);
    Launch::new([blocks, 1, 1], [THREADS, 1, 1])
}

#[cfg(test)]
mod tests {
    use super::places;

    #[test]
    fn lists_follow_one_another() {
        assert_eq!(places(&[0, 5, 0, 2]), Some((vec![0, 0, 5, 5], 7)));
        assert_eq!(places(&[3, -1]), None);
        assert_eq!(places(&[i32::MAX, 1]), None);
    }
}
