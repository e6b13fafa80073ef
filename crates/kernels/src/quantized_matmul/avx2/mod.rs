//! Few rows of bfloat16 `x` by 4- or 8-bit weights, with AVX2's products of 16-bit integers.
//!
//! This is the decode step, and memory is its limit, which the float path does not reach: it takes
//! three instructions for eight weights, and a core of such a machine must unpack six weights in
//! a cycle. Here three do for sixteen:
//!
//! * Codes become 16-bit integers by a mask or a shift, in the order in which that leaves them.
//! * `x` becomes 16-bit integers, in that order, once a call: eight elements share a power of two,
//!   the largest one that loses none of the largest element. A bfloat16 has eight significant bits,
//!   so an element keeps all of them unless it is more than 128 times smaller than the largest of
//!   its eight; what it loses then is at most 2^-15 of that one, where rounding to bfloat16 may
//!   lose 2^-9 of itself. See [`arrange`].
//! * Sums of four products are exact integers; scales, powers of two and all further sums are
//!   float32.

mod arrange;
mod codes;
mod rows;
mod scales;

use super::format::lane_groups;
use super::{Mode, Part};
use crate::{Cpu, Dtype, View, stream};

use arrange::Arranged;
use codes::{Affine4, Affine8, Codes, Floats4};
use rows::Job;
use scales::{E4m3, E8m0, Plain, ScaleFormat};

/// `y = x · wᵀ` for each part, all of one kind; [`super::is_bf16_decode`] said yes, and the sizes fit.
pub(super) fn products(cpu: &Cpu, x: &View<'_>, parts: &[Part<'_>]) {
    use half::{bf16, f16};
    let (format, _, dtype) = parts[0].w.kind();
    match (format.bits(), dtype) {
        (4, Some(Dtype::F32)) => start::<Affine4, Plain<f32>>(cpu, x, parts),
        (4, Some(Dtype::F16)) => start::<Affine4, Plain<f16>>(cpu, x, parts),
        (4, Some(Dtype::Bf16)) => start::<Affine4, Plain<bf16>>(cpu, x, parts),
        (4, None) if format.mode() == Mode::Nvfp4 => start::<Floats4, E4m3>(cpu, x, parts),
        (4, None) => start::<Floats4, E8m0>(cpu, x, parts),
        (_, Some(Dtype::F32)) => start::<Affine8, Plain<f32>>(cpu, x, parts),
        (_, Some(Dtype::F16)) => start::<Affine8, Plain<f16>>(cpu, x, parts),
        _ => start::<Affine8, Plain<bf16>>(cpu, x, parts),
    }
}

/// Arranges `x` and shares the rows of the weights among the threads.
fn start<C: Codes, S: ScaleFormat>(cpu: &Cpu, x: &View<'_>, parts: &[Part<'_>]) {
    let format = parts[0].w.format();
    // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made.
    let arranged = unsafe { Arranged::new::<C>(x, format.group_size()) };
    let job = Job {
        order: lane_groups(format),
        format,
        arranged: &arranged,
        parts,
    };
    let rows = parts.iter().map(|part| part.w.rows());
    stream::share(cpu, parts[0].w.row_bytes(), rows, |part, range| {
        // SAFETY: as above; ranges are disjoint and within the rows, and the weights are of the
        // format that was matched.
        unsafe { job.columns::<C, S>(part, range) }
    });
}
