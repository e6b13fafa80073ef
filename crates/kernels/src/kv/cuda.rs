//! Making buffers of keys and values with CUDA kernels.

use std::ops::Range;

use mlx_core::cuda::{Launch, Scalar};
use mlx_core::{Array, Dtype, Result};

use super::{Heads, KvBuffers};
use crate::cuda::{Compiled, serves};
use crate::graph::exactly;

/// CUDA C++ that needs no header.
pub const ZEROS: &str = include_str!("zeros.cu");
/// As [`ZEROS`].
pub const REARRANGED: &str = include_str!("rearranged.cu");

/// Threads of a block.
const THREADS: u32 = 256;
/// Bytes that a thread copies.
const PIECE: usize = 16;
/// Ranges of tokens that one launch moves.
const RANGES: usize = 3;

/// What the sources are compiled with.
pub fn options() -> Vec<String> {
    vec![format!("-DTHREADS={THREADS}")]
}

static COMPILED: Compiled<&str> = Compiled::new();

/// Buffers of zeros but for the first `count` tokens, which are undefined; `None` for what the kernel
/// lacks.
pub(super) fn zeros_behind(count: i32, heads: Heads, capacity: i32) -> Result<Option<[Array; 2]>> {
    let fits = capacity > 0 && (0..=capacity).contains(&count);
    let Some(room) = Room::of(heads, capacity, capacity - count)?.filter(|_| fits) else {
        return Ok(None);
    };
    let kernel = COMPILED.get("kv_zeros", "kv_zeros", ZEROS, |_| options())?;
    // SAFETY: the parameters are the kernel's; it writes pieces of both outputs, up to so many a head.
    let made = unsafe {
        let scalars = [room.pieces * count, room.pieces * capacity].map(Scalar::Int);
        kernel.launch(&[], &room.outputs(), &scalars, room.launch)
    }?;
    Ok(Some(exactly(made)))
}

/// Buffers that begin with the tokens of `ranges` of `old`; `None` for what the kernel lacks.
pub(super) fn rearranged(
    old: &KvBuffers,
    ranges: &[Range<i32>],
    capacity: i32,
) -> Result<Option<[Array; 2]>> {
    let held: i32 = ranges.iter().map(|range| range.end - range.start).sum();
    let fits = ranges.len() <= RANGES && held <= capacity && capacity > 0;
    let Some(room) = Room::of(old.heads(), capacity, capacity)?.filter(|_| fits) else {
        return Ok(None);
    };
    let kernel = COMPILED.get("kv_rearranged", "kv_rearranged", REARRANGED, |_| options())?;
    let mut scalars = vec![room.pieces, old.capacity(), capacity];
    let nothing = 0..0;
    for i in 0..RANGES {
        let range = ranges.get(i).unwrap_or(&nothing);
        scalars.extend([range.start, range.end]);
    }
    let scalars: Vec<Scalar> = scalars.into_iter().map(Scalar::Int).collect();
    let after = old.written.result.as_ref().unwrap_or(&old.keys);
    let inputs = [&old.keys, &old.values, after];
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
    /// For buffers of which `written` tokens are written. `None` where the kernels do not run, and for
    /// tokens that are not whole pieces.
    fn of(heads: Heads, capacity: i32, written: i32) -> Result<Option<Self>> {
        let bytes = heads.dim.max(0) as usize * heads.dtype.size();
        let pieces = bytes / PIECE;
        let all = pieces as u64 * u64::from(capacity.max(0).unsigned_abs());
        let fits = bytes.is_multiple_of(PIECE)
            && pieces > 0
            && heads.count > 0
            && i32::try_from(all).is_ok();
        if !fits || !serves()? {
            return Ok(None);
        }
        let written = pieces as u32 * written.max(1).unsigned_abs();
        let blocks = written.div_ceil(THREADS);
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
