//! Few rows of bfloat16 `x` by bytes.
//!
//! One row waits for memory, and sixteen for instructions: of these, the dot products are to be most. Three
//! decisions:
//!
//! * A byte is one bfloat16, exactly, and so half as many products as two nibbles take: see [`unpack`].
//! * What a line of weights has for one row of `x` does not fill a vector of sums that a scale is worth: two
//!   products would be followed by a third multiplication. So a vector has the sums of four rows, each in four
//!   parts: see [`rows`]. They are rows of `x`, or of the weights where `x` has one or two. A sum is the same in
//!   both, and so a sequence gives the same alone and among others.
//! * All rows of `x` meet a line when it has been unpacked.

mod alone;
mod arrange;
mod fours;
mod rows;
mod unpack;

use super::super::format::{MAX_VECTORS, lane_groups};
use super::super::{Format, Part};
use super::scales::{Bf16, F16, F32, ScaleFormat};
use crate::{Cpu, Dtype, View, stream};

use arrange::Arranged;
use rows::Job;

/// As many rows of `x` come alone; more come in fours.
const PAIR: usize = 2;

/// `y = x · wᵀ` for each part, all of one kind, of affine bytes; `x` is bfloat16, and the sizes fit.
pub(super) fn products(cpu: &Cpu, x: &View<'_>, parts: &[Part<'_>]) {
    let (format, _, dtype) = parts[0].w.kind();
    // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made.
    let arranged = unsafe { Arranged::new(x, format.group_size()) };
    let job = Job {
        format,
        order: lane_groups(format, 4),
        places: places(format),
        arranged: &arranged,
        parts,
    };
    match dtype {
        Some(Dtype::F32) => start::<F32>(cpu, &job),
        Some(Dtype::F16) => start::<F16>(cpu, &job),
        _ => start::<Bf16>(cpu, &job),
    }
}

/// For each line of a block of 16 groups, where the scales of its first half and of its second one are among those
/// of four rows that were [transposed](arrange::transposed).
fn places(format: Format) -> [[usize; 2]; MAX_VECTORS] {
    lane_groups::<2>(format, 32).map(|halves| {
        halves.map(|group| {
            let group = group as usize;
            group % 4 * 16 + group / 4 * 4
        })
    })
}

/// Shares the rows of the weights among the threads.
fn start<S: ScaleFormat>(cpu: &Cpu, job: &Job<'_>) {
    let rows = job.parts.iter().map(|part| part.w.rows());
    stream::share(cpu, job.parts[0].w.row_bytes(), rows, |part, range| {
        // SAFETY: the machine has the instruction set (see `products`), ranges are disjoint and
        // within the rows, and the weights are of the format that was matched.
        unsafe { job.columns::<S>(part, range) }
    });
}
