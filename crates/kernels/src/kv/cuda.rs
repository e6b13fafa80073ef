//! New buffers of keys and values from old ones, as a CUDA kernel.

use std::ops::Range;

use mlx_core::cuda::{Launch, Scalar};
use mlx_core::{Array, Dtype, Result};

use super::Heads;
use crate::arrays::exactly;
use crate::cuda::{Compiled, has_kernels};

/// CUDA C++ that needs no header.
pub const SOURCE: &str = include_str!("rearranged.cu");

/// Threads of a block.
const THREADS: u32 = 256;
/// Bytes that a thread copies.
const PIECE: usize = 16;
/// Ranges of tokens that one launch moves.
const RANGES: usize = 3;

/// What the source is compiled with.
pub fn options() -> Vec<String> {
    vec![format!("-DTHREADS={THREADS}")]
}

/// What there is.
pub(super) struct Old<'a> {
    /// Keys and values.
    pub(super) buffers: &'a [Array; 2],
    pub(super) heads: Heads,
    pub(super) capacity: i32,
    /// A result of the operation that wrote them in place.
    pub(super) after: Option<Array>,
}

/// Buffers that begin with the tokens of `ranges` of `old`; `None` for what the kernel lacks.
pub(super) fn rearranged(
    old: &Old<'_>,
    ranges: &[Range<i32>],
    capacity: i32,
) -> Result<Option<[Array; 2]>> {
    let held: i32 = ranges.iter().map(|range| range.end - range.start).sum();
    let fits = ranges.len() <= RANGES && held <= capacity && capacity > 0;
    let Some(room) = Room::of(old.heads, capacity)?.filter(|_| fits) else {
        return Ok(None);
    };
    static COMPILED: Compiled<()> = Compiled::new();
    let kernel = COMPILED.get((), "kv_rearranged", SOURCE, |()| options())?;
    let mut scalars = vec![room.pieces, old.capacity, capacity];
    let nothing = 0..0;
    for i in 0..RANGES {
        let range = ranges.get(i).unwrap_or(&nothing);
        scalars.extend([range.start, range.end]);
    }
    let scalars: Vec<Scalar> = scalars.into_iter().map(Scalar::Int).collect();
    let [keys, values] = old.buffers;
    let inputs = [keys, values, old.after.as_ref().unwrap_or(keys)];
    // SAFETY: the parameters are the kernel's; it reads tokens of the ranges, which are in the old
    // buffers, and writes `capacity` tokens a head of both outputs. It depends on the last writer.
    let made = unsafe { kernel.launch(&inputs, &room.outputs(), &scalars, room.launch) }?;
    Ok(Some(exactly(made)))
}

/// What is to be made.
struct Room {
    shape: [i32; 4],
    dtype: Dtype,
    /// Pieces of a token.
    pieces: i32,
    launch: Launch,
}

impl Room {
    /// `None` where the kernel does not run, and for tokens that are not whole pieces.
    fn of(heads: Heads, capacity: i32) -> Result<Option<Self>> {
        let bytes = heads.dim.max(0) as usize * heads.dtype.size();
        let pieces = bytes / PIECE;
        let all = pieces as u64 * u64::from(capacity.max(0).unsigned_abs());
        let fits = bytes.is_multiple_of(PIECE)
            && pieces > 0
            && heads.count > 0
            && i32::try_from(all).is_ok();
        if !fits || !has_kernels()? {
            return Ok(None);
        }
        let blocks = (all as u32).div_ceil(THREADS);
        Ok(Some(Self {
            shape: [1, heads.count, capacity, heads.dim],
            dtype: heads.dtype,
            pieces: pieces as i32,
            launch: Launch {
                // The old buffers may be written by an earlier launch: a copy could come before it.
                copy_strided: false,
                ..Launch::new([blocks, heads.count.unsigned_abs(), 2], [THREADS, 1, 1])
            },
        }))
    }

    /// Keys and values.
    fn outputs(&self) -> [(&[i32], Dtype); 2] {
        [(&self.shape, self.dtype); 2]
    }
}
